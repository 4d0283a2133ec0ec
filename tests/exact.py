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
            "tied": np.ones(cells),
        }

    return reference


def cell_of(score: float, cells: int) -> int:
    """Even steps, steps of octaves of s, and of octaves of 1 - s, in 256ths of a cell.

    An octave is cut into even steps; 126 octaves of s, and 25 of 1 - s, have about a
    quarter of the cells.
    """
    each = 2.0 ** min(np.floor(np.log2(cells / 4 / 126)), 3) * 256

    def octaves(x: float, number: int) -> int:
        if x <= 0:
            return 0
        exponent = np.floor(np.log2(x))
        steps = number + exponent + (x / 2**exponent - 1)
        return int(max(steps, 0) * each)

    even = (cells - 1) * 256 - int(126 * each) - int(25 * each)
    level = int(np.float32(score) * np.float32(even))
    level += octaves(score, 126) + int(25 * each) - octaves(1 - score, 25)
    return level // 256
