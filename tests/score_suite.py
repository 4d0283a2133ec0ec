"""Scores on which binned areas go wrong, for tests and benchmarks.

Each case is labels and scores of so many rows, hard in its own way.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

Random = np.random.Generator


class Scores(NamedTuple):
    """Labels, scores, weights if there are any, and whether scores are logits."""

    y_true: np.ndarray
    y_pred: np.ndarray
    weight: np.ndarray | None = None
    logits: bool = False


def labels(random: Random, rows: int, share: float) -> np.ndarray:
    """So many positives, and both kinds in any case."""
    true = random.random(rows) < share
    true[:2] = True, False
    return true


def powers(random: Random, rows: int, share: float = 0.3) -> Scores:
    """Scores all over [0, 1], positives higher."""
    true = labels(random, rows, share)
    return Scores(true, random.random(rows) ** np.where(true, 0.6, 1.3))


def ordinary(random: Random, rows: int) -> Scores:
    """What a fair classifier says."""
    true = labels(random, rows, 0.3)
    a, b = np.where(true, 5, 2), np.where(true, 2, 5)
    return Scores(true, random.beta(a, b))


def within(low: float, high: float, share: float) -> Callable[[Random, int], Scores]:
    """Scores in a part of [0, 1]."""

    def make(random: Random, rows: int) -> Scores:
        true, score, *_ = powers(random, rows, share)
        return Scores(true, low + (high - low) * score)

    return make


def crowded(random: Random, rows: int) -> Scores:
    """A bell in [0.5, 0.501], far narrower than the spaces of any usual grid."""
    true = labels(random, rows, 0.3)
    score = 0.5005 + 0.00012 * (random.standard_normal(rows) + true)
    return Scores(true, np.clip(score, 0.5, 0.501))


def clicks(random: Random, rows: int) -> Scores:
    """Rates of about a percent, a percent of them positive."""
    true = labels(random, rows, 0.01)
    return Scores(
        true, np.exp(0.8 * random.standard_normal(rows) - 5 + true).clip(0, 1)
    )


def saturated(random: Random, rows: int) -> Scores:
    """Scores next to 0 and next to 1."""
    true = labels(random, rows, 0.3)
    logit = random.standard_normal(rows) * 5 + np.where(true, 8, -8)
    return Scores(true, 1 / (1 + np.exp(-logit)))


def decades(random: Random, rows: int) -> Scores:
    """Scores from 1e-30 to 1."""
    true = labels(random, rows, 0.3)
    return Scores(true, 10 ** (-30 * random.random(rows) ** np.where(true, 1.5, 1)))


def logits(random: Random, rows: int) -> Scores:
    """Logits from -100 to 100."""
    true = labels(random, rows, 0.3)
    score = 80 * (2 * random.random(rows) - 1) + np.where(true, 20, -20)
    return Scores(true, score, logits=True)


def near_zero(random: Random, rows: int) -> Scores:
    """Logits of a model that has hardly learnt, a bell of width 5e-4."""
    true = labels(random, rows, 0.3)
    return Scores(true, 5e-4 * (random.standard_normal(rows) + true), logits=True)


def constant(random: Random, rows: int) -> Scores:
    """One score for all."""
    return Scores(labels(random, rows, 0.3), np.full(rows, 0.3))


def rounded(steps: int, share: float = 0.3) -> Callable[[Random, int], Scores]:
    """Multiples of 1 / steps."""

    def make(random: Random, rows: int) -> Scores:
        true, score, *_ = powers(random, rows, share)
        return Scores(true, np.round(score * steps) / steps)

    return make


def weighted(random: Random, rows: int) -> Scores:
    """Weights over six decades."""
    weight = 10 ** random.uniform(-6, 0, rows)
    return powers(random, rows)._replace(weight=np.float32(weight))


def halves(random: Random, rows: int) -> Scores:
    """float16 scores."""
    scores = powers(random, rows)
    return scores._replace(y_pred=scores.y_pred.astype(np.float16))


SUITE: dict[str, Callable[[Random, int], Scores]] = {
    "ordinary": ordinary,
    "all over [0, 1]": powers,
    "[0, 0.02]": within(0, 0.02, 0.05),
    "click rates": clicks,
    "[0.5, 0.501]": crowded,
    "[0.5, 0.501], steep": within(0.5, 0.501, 0.3),
    "saturated": saturated,
    "30 decades": decades,
    "logits to 100": logits,
    "logits near 0": near_zero,
    "a constant": constant,
    "101 values": rounded(100),
    "21 values": rounded(20),
    "prevalence 1e-4": lambda random, rows: powers(random, rows, 1e-4),
    "weights over 6 decades": weighted,
    "float16": halves,
}


def make(name: str, rows: int, seed: int = 0) -> Scores:
    """A case, in float32 unless it is float16."""
    scores = SUITE[name](np.random.default_rng(seed), rows)
    kind = np.float16 if scores.y_pred.dtype == np.float16 else np.float32
    return scores._replace(y_pred=scores.y_pred.astype(kind))
