"""Curves over the thresholds, ends included: "everything" and "nothing is positive".

Unless they are given thresholds, they read `ScoreHistogram` and share the state of
`AUROC`: the exact curves at each of its 16,380 thresholds. Where scores crowd between
two of them a curve has no points there; `AUROC().error_bound` of the state says so.
"""

from dataclasses import KW_ONLY
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxmetrics import checks
from jaxmetrics.grids import GridReadout, even_grid, with_ends
from jaxmetrics.numerics import float_dtype
from jaxmetrics.ratios import (
    false_negative_rate,
    false_positive_rate,
    precision,
    recall,
)
from jaxmetrics.totals import Counts

__all__ = [
    "DETCurve",
    "DETPoints",
    "PrecisionRecallCurve",
    "PrecisionRecallPoints",
    "ROCCurve",
    "ROCPoints",
]


class ROCPoints(NamedTuple):
    """Points of an ROC curve, from "nothing is positive" to "everything is".

    Attributes:
      false_positive_rate: Increasing, from 0 to 1.
      true_positive_rate: Increasing, from 0 to 1.
      thresholds: Decreasing, from inf to -inf.
    """

    false_positive_rate: jax.Array
    true_positive_rate: jax.Array
    thresholds: jax.Array


class PrecisionRecallPoints(NamedTuple):
    """Points of a precision-recall curve, from "all is positive" to "nothing is".

    Attributes:
      precision: 1 where nothing is predicted, by convention.
      recall: Decreasing, from 1 to 0.
      thresholds: Increasing, from -inf to inf.
    """

    precision: jax.Array
    recall: jax.Array
    thresholds: jax.Array


class DETPoints(NamedTuple):
    """Points of a DET curve, from "nothing is positive" to "everything is".

    Attributes:
      false_positive_rate: Increasing, from 0 to 1.
      false_negative_rate: Decreasing, from 1 to 0.
      thresholds: Decreasing, from inf to -inf.
    """

    false_positive_rate: jax.Array
    false_negative_rate: jax.Array
    thresholds: jax.Array


class _Curve(GridReadout):
    """A curve over a grid of thresholds, ends included."""

    num_thresholds: int | None = None
    _: KW_ONLY
    thresholds: Any = None
    class_id: int | None = None
    num_classes: int | None = None

    def checked(self) -> dict[str, Any]:
        """Checks the grid; the accumulator checks the rest."""
        even_grid(self.num_thresholds, 2)
        options: dict[str, Any] = super().checked()
        if self.thresholds is not None:
            options["thresholds"] = checks.fractions(self.thresholds, "thresholds")
        return options

    @property
    def grid(self) -> Any:
        """The thresholds if they are given."""
        if self.thresholds is not None:
            return self.thresholds
        return even_grid(self.num_thresholds, 2)

    @property
    def classes(self) -> dict[str, Any]:
        """One class, or all."""
        return {"class_id": self.class_id, "num_classes": self.num_classes}

    def points(self, c: Counts) -> tuple[Counts, jax.Array]:
        """The counts with both ends, and the thresholds."""
        values = self.threshold_values
        if self.thresholds is None and self.num_thresholds is not None:
            # The even grid's own 0 and 1 give way to the ends.
            c, values = Counts(*(x[1:-1] for x in c)), values[1:-1]
        thresholds = jnp.asarray(np.asarray([-np.inf, *values, np.inf]), float_dtype())
        return with_ends(c), thresholds


def _rising(rate: jax.Array) -> jax.Array:
    """A rate that rises but for rounding, which weights bring with them."""
    return lax.cummax(rate, axis=0)


class ROCCurve(_Curve):
    """The ROC curve: true positive rate over false positive rate at each threshold.

    `TPR = TP / (TP + FN)` and `FPR = FP / (FP + TN)`, each in [0, 1]; undefined, and
    then 0, without positives or without negatives.

    Args:
      num_thresholds: How many evenly spaced thresholds, at least 2. Unless given, and
        without `thresholds`, the curve is that of all scores, in fine cells.
      thresholds: Thresholds in [0, 1] instead of the even ones; the two ends are added.
      class_id: Reads this entry of the last axis alone.
      num_classes: One curve for each entry of the last axis, of this size.
      from_logits: Scores are logits. On a grid they pass through a sigmoid first;
        without one they are any real numbers, and so are the thresholds.
      num_cells: How many cells, without a grid (see `ScoreHistogram`).
      weighted: False takes no `sample_weight`; without a grid.
      name: What errors call the metric.
      dtype: A float dtype for the result.

    Returns:
      From `compute`, a `ROCPoints` of arrays of the size of the thresholds with both
      ends, 16,382 unless told otherwise; `(thresholds, num_classes)` with classes, that
      share the cells.

    Example:
      >>> import jaxmetrics as jm
      >>> curve = jm.ROCCurve(3)(y_true=[0, 0, 1, 1], y_pred=[0, 0.5, 0.3, 0.9])
      >>> print(curve.false_positive_rate, curve.true_positive_rate)
      [0. 0. 1.] [0.  0.5 1. ]

    References:
      Fawcett (2006), An introduction to ROC analysis.
    """

    def formula(self, c: Counts) -> ROCPoints:
        """Both rates, false positive rate increasing."""
        c, thresholds = self.points(c)
        x, y = false_positive_rate(c)[::-1], recall(c)[::-1]
        return ROCPoints(_rising(x), _rising(y), thresholds[::-1])


class PrecisionRecallCurve(_Curve):
    """The precision-recall curve: precision over recall at each threshold.

    `P = TP / (TP + FP)` and `R = TP / (TP + FN)`, each in [0, 1]. Where nothing is
    predicted, precision is undefined and taken to be 1; recall without positives is 0.

    Args:
      num_thresholds: How many evenly spaced thresholds, at least 2. Unless given, and
        without `thresholds`, the curve is that of all scores, in fine cells.
      thresholds: Thresholds in [0, 1] instead of the even ones; the two ends are added.
      class_id: Reads this entry of the last axis alone.
      num_classes: One curve for each entry of the last axis, of this size.
      from_logits: Scores are logits. On a grid they pass through a sigmoid first;
        without one they are any real numbers, and so are the thresholds.
      num_cells: How many cells, without a grid (see `ScoreHistogram`).
      weighted: False takes no `sample_weight`; without a grid.
      name: What errors call the metric.
      dtype: A float dtype for the result.

    Returns:
      From `compute`, a `PrecisionRecallPoints` of arrays of the size of the thresholds
      with both ends, 16,382 unless told otherwise; `(thresholds, num_classes)` with
      classes, that share the cells.

    Example:
      >>> import jaxmetrics as jm
      >>> curve = jm.PrecisionRecallCurve(3)(
      ...     y_true=[0, 0, 1, 1], y_pred=[0, 0.5, 0.3, 0.9]
      ... )
      >>> print(curve.precision, curve.recall)
      [0.5 1.  1. ] [1.  0.5 0. ]

    References:
      Davis and Goadrich (2006), The relationship between precision-recall and ROC
      curves; scikit-learn, `precision_recall_curve`.
    """

    def formula(self, c: Counts) -> PrecisionRecallPoints:
        """Both, recall decreasing."""
        c, thresholds = self.points(c)
        falling = _rising(recall(c)[::-1])[::-1]
        return PrecisionRecallPoints(precision(c, 1.0), falling, thresholds)


class DETCurve(_Curve):
    """The detection error tradeoff: false negative over false positive rate.

    `FNR = FN / (FN + TP)` and `FPR = FP / (FP + TN)` at each threshold, each in [0, 1];
    undefined, and then 0, without positives or without negatives.

    Args:
      num_thresholds: How many evenly spaced thresholds, at least 2. Unless given, and
        without `thresholds`, the curve is that of all scores, in fine cells.
      thresholds: Thresholds in [0, 1] instead of the even ones; the two ends are added.
      class_id: Reads this entry of the last axis alone.
      num_classes: One curve for each entry of the last axis, of this size.
      from_logits: Scores are logits. On a grid they pass through a sigmoid first;
        without one they are any real numbers, and so are the thresholds.
      num_cells: How many cells, without a grid (see `ScoreHistogram`).
      weighted: False takes no `sample_weight`; without a grid.
      name: What errors call the metric.
      dtype: A float dtype for the result.

    Returns:
      From `compute`, a `DETPoints` of arrays of the size of the thresholds with both
      ends, 16,382 unless told otherwise; `(thresholds, num_classes)` with classes, that
      share the cells.

    Example:
      >>> import jaxmetrics as jm
      >>> curve = jm.DETCurve(3)(y_true=[0, 0, 1, 1], y_pred=[0, 0.5, 0.3, 0.9])
      >>> print(curve.false_positive_rate, curve.false_negative_rate)
      [0. 0. 1.] [1.  0.5 0. ]

    References:
      Martin et al. (1997), The DET curve in assessment of detection task performance;
      scikit-learn, `det_curve`.
    """

    def formula(self, c: Counts) -> DETPoints:
        """Both rates, false positive rate increasing."""
        c, thresholds = self.points(c)
        x, y = false_positive_rate(c)[::-1], false_negative_rate(c)
        return DETPoints(_rising(x), _rising(y)[::-1], thresholds[::-1])
