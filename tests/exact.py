"""References for metrics of scores, in float64, from their definitions.

They look at every pair or every distinct score; no code of the package is used.
"""

from collections.abc import Callable
from typing import Any

import numpy as np


def auroc(true: np.ndarray, score: np.ndarray, weight: np.ndarray) -> float:
    """How often a positive is above a negative, ties counting one half."""
    score = np.float64(score)
    higher, equal = score[:, None] > score, score[:, None] == score
    pairs = np.outer(weight * true, weight * (1 - true))
    return over_nan(np.sum(pairs * (higher + equal / 2)), np.sum(pairs))


def average_precision(true: np.ndarray, score: np.ndarray, weight: np.ndarray) -> float:
    """The mean of the precision at the score of each positive."""
    at_least = score >= score[:, None]
    hits = at_least @ (weight * true)
    precision = hits / np.maximum(at_least @ weight, 1e-300)
    return over_nan(np.sum(weight * true * precision), np.sum(weight * true))


def roc_points(
    true: np.ndarray, score: np.ndarray, weight: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """False and true positive rates, from nothing to everything."""
    cuts = np.concatenate([[np.inf], np.unique(score)[::-1]])
    called = score >= cuts[:, None]
    negative = weight * (1 - true)
    return called @ negative / negative.sum(), called @ (weight * true) / np.sum(
        weight * true
    )


def partial_auroc(max_fpr: float, *, standardized: bool = True) -> Callable[..., float]:
    """The area under straight lines between the points, up to a rate."""

    def reference(true: np.ndarray, score: np.ndarray, weight: np.ndarray) -> float:
        x, y = roc_points(true, score, weight)
        i = np.searchsorted(x, max_fpr, side="right")
        if i < len(x):
            end = y[i - 1] + (y[i] - y[i - 1]) * (max_fpr - x[i - 1]) / (
                x[i] - x[i - 1]
            )
            x, y = np.append(x[:i], max_fpr), np.append(y[:i], end)
        area = np.trapezoid(y, x)
        coin = max_fpr**2 / 2
        return (1 + (area - coin) / (max_fpr - coin)) / 2 if standardized else area

    return reference


def over_nan(top: float, bottom: float) -> float:
    """A ratio that does not exist without a denominator."""
    return top / bottom if bottom else np.nan


def scored(of: Callable[..., Any], *, average: str | None = None) -> Callable[..., Any]:
    """A statistic of all entries as one problem, or of each class, averaged."""

    def reference(*, y_true: Any, y_pred: Any, weight: Any) -> Any:
        weight = np.broadcast_to(np.float64(weight), y_true.T.shape).T
        true = np.float64(y_true)
        if true.ndim == 1 or average == "micro":
            return of(true.ravel(), y_pred.ravel(), weight.ravel())
        columns = range(true.shape[1])
        values = np.asarray(
            [of(true[:, i], y_pred[:, i], weight[:, i]) for i in columns]
        )
        if average == "none":
            return np.asarray(values)
        positives = np.sum(weight * true, axis=0)
        return np.average(values, weights=positives if average == "weighted" else None)

    return reference


def ranks(cells: int) -> Callable[..., Any]:
    """Sums by cell and above it, for scores of which no two share a cell."""

    def reference(*, y_true: Any, y_pred: Any, weight: Any) -> Any:
        weight = np.broadcast_to(np.float64(weight), y_true.shape)
        cell = [cell_of(float(s), cells - 2) + 1 for s in y_pred]
        sums = np.zeros((2, cells))
        np.add.at(sums, (np.int32(y_true), cell), weight)
        above = np.cumsum(sums[:, ::-1], axis=1)[:, ::-1] - sums
        return {
            "positives": sums[1],
            "negatives": sums[0],
            "positives_above": above[1],
            "negatives_above": above[0],
            "shift": np.zeros(cells),
            "bend": np.zeros(cells),
            "tied": np.ones(cells),
        }

    return reference


def cell_of(score: float, cells: int) -> int:
    """Even steps and steps of octaves, in 256ths of a cell.

    An octave is cut into even steps: those of s and of 1 - s down to 2^-17, of
    |s - 1/2| down to 2^-14; and with a sixteenth of the cells of s to 2^-104.
    """
    each = 2.0 ** np.floor(np.log2((cells + 2) / 255)) * 256

    def octaves(x: float) -> float:
        exponent = np.floor(np.log2(x))
        return float(exponent + (x / 2**exponent - 1))

    def steps(s: float) -> int:
        ends = octaves(s + 2**-17) - octaves(1 - s + 2**-17)
        above = octaves(max(s - 0.5, 0) + 2**-14)
        below = octaves(max(0.5 - s, 0) + 2**-14)
        far = (octaves(s + 2.0**-104) + 127) / 16  # from the least float32 on
        return int(np.floor((ends + above - below + far) * each))

    even = (cells - 1) * 256 - (steps(1.0) - steps(0.0))
    level = int(np.float32(score) * np.float32(even)) + steps(score) - steps(0.0)
    return level // 256
