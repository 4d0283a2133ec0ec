"""Best and equal points of curves, and what the highest scores hold.

All read `ScoreHistogram` unless they are given a number of thresholds, so they share
the state of `AUROC`. At its thresholds counts are exact; what lies between two of them
is not looked at, or taken to be spread evenly. Where many scores crowd there, the best
point may be missed: `AUROC().error_bound` of the same state is large then.
"""

from dataclasses import KW_ONLY
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxmetrics import checks
from jaxmetrics.checks import Mismatch
from jaxmetrics.grids import GridReadout, Optimum, even_grid, with_ends
from jaxmetrics.numerics import divide
from jaxmetrics.ratios import false_negative_rate, false_positive_rate, recall
from jaxmetrics.totals import Counts

__all__ = [
    "BestFBetaScore",
    "EqualErrorRate",
    "Gain",
    "KolmogorovSmirnov",
    "Lift",
    "YoudenIndex",
]

_ROUNDING = 2.0**-21  # below which differences of rates are none


class _OverScores(GridReadout):
    """Over all scores, unless a number of even thresholds is given."""

    _: KW_ONLY
    num_thresholds: int | None = None
    class_id: int | None = None

    @property
    def grid(self) -> Any:
        """The even grid if it is asked for."""
        return even_grid(self.num_thresholds, 2)


def _lowest_best(value: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The highest value, and the first threshold that has it, but for rounding."""
    top = jnp.max(value, axis=-1)
    return top, jnp.argmax(value >= top - _ROUNDING, axis=-1)


class BestFBetaScore(_OverScores, Optimum):
    """The best F score over all thresholds.

    `max over t of (1 + b^2) TP / ((1 + b^2) TP + b^2 FN + FP)`, in [0, 1]; higher is
    better. 0, as undefined, without positives. `operating_threshold` is the metric of
    the threshold, the lowest of equally good ones.

    Args:
      beta: How many times as important recall is as precision.
      num_thresholds: Evenly spaced thresholds instead of those of all scores.
      class_id: Reads this entry of the last axis alone.
      from_logits: Scores are any real numbers, and so is the threshold.
      num_cells: How many cells (see `ScoreHistogram`).
      weighted: False takes no `sample_weight`.
      name: What errors call the metric.
      dtype: A float dtype for the result.

    Example:
      >>> import jaxmetrics as jm
      >>> best = jm.BestFBetaScore()
      >>> batch = dict(y_true=[0, 0, 1, 1], y_pred=[0.1, 0.4, 0.35, 0.8])
      >>> print(f"{best(**batch):.2f}", best.operating_threshold(**batch) > 0.1)
      0.80 True

    References:
      van Rijsbergen (1979), Information retrieval.
    """

    beta: float = 1.0

    def checked(self) -> dict[str, Any]:
        """Checks beta."""
        beta = checks.number(self.beta, "beta")
        if not 0 < beta < np.inf:
            raise Mismatch(f"beta must be a positive number; got {self.beta!r}.")
        return {**super().checked(), "beta": beta}

    def best(self, c: Counts) -> tuple[jax.Array, jax.Array]:
        """The best score."""
        square = self.beta**2
        hits = (1 + square) * c.true_positives
        misses = square * c.false_negatives + c.false_positives
        return _lowest_best(divide(hits, hits + misses))


class YoudenIndex(_OverScores, Optimum):
    """The best of sensitivity and specificity together: Youden's J.

    `max over t of TP / P - FP / N`, in [0, 1]; higher is better; 0 is a coin. 0, as
    undefined, without positives or without negatives. `operating_threshold` is the
    metric of the threshold, the lowest of equally good ones.

    Args:
      num_thresholds: Evenly spaced thresholds instead of those of all scores.
      class_id: Reads this entry of the last axis alone.
      from_logits: Scores are any real numbers, and so is the threshold.
      num_cells: How many cells (see `ScoreHistogram`).
      weighted: False takes no `sample_weight`.
      name: What errors call the metric.
      dtype: A float dtype for the result.

    Example:
      >>> import jaxmetrics as jm
      >>> print(jm.YoudenIndex()(y_true=[0, 0, 1, 1], y_pred=[0.1, 0.4, 0.35, 0.8]))
      0.5

    References:
      Youden (1950), Index for rating diagnostic tests.
    """

    def best(self, c: Counts) -> tuple[jax.Array, jax.Array]:
        """The largest difference, at least 0."""
        value, index = _lowest_best(recall(c) - false_positive_rate(c))
        return jnp.maximum(value, 0), index


class KolmogorovSmirnov(_OverScores, Optimum):
    """The distance between the distributions of scores of positives and of negatives.

    `max over t of |TP / P - FP / N|`, in [0, 1]; larger is farther apart, whichever is
    higher. 0, as undefined, without positives or without negatives.
    `operating_threshold` is the metric of the threshold, the lowest of equal ones.

    Args:
      num_thresholds: Evenly spaced thresholds instead of those of all scores.
      class_id: Reads this entry of the last axis alone.
      from_logits: Scores are any real numbers, and so is the threshold.
      num_cells: How many cells (see `ScoreHistogram`).
      weighted: False takes no `sample_weight`.
      name: What errors call the metric.
      dtype: A float dtype for the result.

    Example:
      >>> import jaxmetrics as jm
      >>> metric = jm.KolmogorovSmirnov()
      >>> print(metric(y_true=[1, 1, 0, 0], y_pred=[0.1, 0.4, 0.35, 0.8]))
      0.5

    References:
      Smirnov (1948), Table for estimating the goodness of fit of empirical
      distributions; SciPy, `ks_2samp`.
    """

    def best(self, c: Counts) -> tuple[jax.Array, jax.Array]:
        """The largest distance; without one of the labels there is none."""
        exists = (c.true_positives + c.false_negatives > 0) & (
            c.false_positives + c.true_negatives > 0
        )
        distance = jnp.abs(recall(c) - false_positive_rate(c))
        return _lowest_best(jnp.where(exists, distance, jnp.zeros_like(distance)))


class EqualErrorRate(_OverScores, Optimum):
    """The error rate at which false positives are as frequent as false negatives.

    `FP / N = FN / P` on the curve of both over the thresholds, straight between its
    points; in [0, 1], lower is better; 0.5 is a coin. 0, as undefined, without
    positives or without negatives. `operating_threshold` is the metric of the threshold
    above the point.

    Args:
      num_thresholds: Evenly spaced thresholds instead of those of all scores.
      class_id: Reads this entry of the last axis alone.
      from_logits: Scores are any real numbers, and so is the threshold.
      num_cells: How many cells (see `ScoreHistogram`).
      weighted: False takes no `sample_weight`.
      name: What errors call the metric.
      dtype: A float dtype for the result.

    Example:
      >>> import jaxmetrics as jm
      >>> print(jm.EqualErrorRate()(y_true=[0, 0, 1, 1], y_pred=[0.1, 0.4, 0.35, 0.8]))
      0.5

    References:
      Martin et al. (1997), The DET curve in assessment of detection task performance.
    """

    def best(self, c: Counts) -> tuple[jax.Array, jax.Array]:
        """The rate between the last point with too many positives and the next."""
        c = with_ends(c)
        called, missed = false_positive_rate(c), false_negative_rate(c)
        excess = called - missed  # from 1 to -1
        after = jnp.argmax(excess <= _ROUNDING)
        before = jnp.maximum(after - 1, 0)
        share = divide(excess[before], excess[before] - excess[after])
        rate = called[before] + share * (called[after] - called[before])
        return rate, jnp.clip(after - 1, 0, called.shape[0] - 3)


class Gain(_OverScores):
    """The share of all positives among the rows with the highest scores.

    `TP / P` where `(TP + FP) / (P + N)` is the share that is looked at: the cumulative
    gain. In [0, 1]; higher is better; a coin finds the share itself. 0, as undefined,
    without positives.

    Args:
      share: Of all rows, those with the highest scores; in [0, 1], or several for one
        value each.
      num_thresholds: Evenly spaced thresholds instead of those of all scores.
      class_id: Reads this entry of the last axis alone.
      from_logits: Scores are any real numbers.
      num_cells: How many cells (see `ScoreHistogram`).
      weighted: False takes no `sample_weight`.
      name: What errors call the metric.
      dtype: A float dtype for the result.

    Example:
      >>> import jaxmetrics as jm
      >>> print(jm.Gain(0.25)(y_true=[0, 0, 1, 1], y_pred=[0.1, 0.4, 0.35, 0.8]))
      0.5

    References:
      Berry and Linoff (2004), Data mining techniques.
    """

    share: Any

    def checked(self) -> dict[str, Any]:
        """Checks the shares."""
        share = checks.one_or_several(self.share, "share")
        return {**super().checked(), "share": share}

    def formula(self, c: Counts) -> jax.Array:
        """The share of positives at the share of rows."""
        return _gain(c, self.share)


class Lift(_OverScores):
    """How many times as frequent positives are among the highest scores as overall.

    The gain at a share of the rows, over the share: `(TP / P) / ((TP + FP) / (P + N))`.
    From 0; higher is better; a coin has 1. 0, as undefined, without positives.

    Args:
      share: Of all rows, those with the highest scores; above 0 and at most 1, or
        several for one value each.
      num_thresholds: Evenly spaced thresholds instead of those of all scores.
      class_id: Reads this entry of the last axis alone.
      from_logits: Scores are any real numbers.
      num_cells: How many cells (see `ScoreHistogram`).
      weighted: False takes no `sample_weight`.
      name: What errors call the metric.
      dtype: A float dtype for the result.

    Example:
      >>> import jaxmetrics as jm
      >>> print(jm.Lift(0.25)(y_true=[0, 0, 1, 1], y_pred=[0.1, 0.4, 0.35, 0.8]))
      2.0

    References:
      Berry and Linoff (2004), Data mining techniques.
    """

    share: Any

    def checked(self) -> dict[str, Any]:
        """Checks the shares."""
        share = checks.one_or_several(self.share, "share")
        if np.min(share) == 0:
            raise Mismatch(f"share must be above 0 and at most 1; got {self.share!r}.")
        return {**super().checked(), "share": share}

    def formula(self, c: Counts) -> jax.Array:
        """The gain over the share."""
        return divide(_gain(c, self.share), np.asarray(self.share))


def _gain(c: Counts, share: Any) -> jax.Array:
    """Recall at shares of the rows, straight between thresholds."""
    c = with_ends(c)
    called = divide(c.true_positives + c.false_positives, c.total)[::-1]
    at = jnp.asarray(np.asarray(share), called.dtype)
    return jnp.interp(at, called, recall(c)[::-1])
