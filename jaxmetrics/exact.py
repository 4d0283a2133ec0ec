"""Exact areas under curves: of arrays in hand, and of a sample that is kept.

Scores are any real numbers, compared as float32 (and subnormal ones as 0); equal ones
are ties. Sorting takes time with the number of rows, and moves them where they are
sharded: for streams of unknown length the metrics of `areas` have states of a fixed
size.
"""

import abc
import math
from collections.abc import Callable
from dataclasses import KW_ONLY
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jaxmetrics import checks
from jaxmetrics.eager import reading
from jaxmetrics.metric import Readout
from jaxmetrics.numerics import float_dtype
from jaxmetrics.sample import Sample, Scored, checked_rows
from jaxmetrics.sorting import Steps, steps_of
from jaxmetrics.state import State

__all__ = ["ExactAUROC", "ExactAveragePrecision", "auroc", "average_precision"]


# --- of arrays -----------------------------------------------------------------------


def auroc(
    y_true: ArrayLike,
    y_pred: ArrayLike,
    sample_weight: ArrayLike | None = None,
    *,
    mask: ArrayLike | None = None,
    zero_division: float = math.nan,
) -> jax.Array:
    """The exact area under the ROC curve of arrays, as one binary problem; jittable.

    `(sum over pairs of [s_p > s_n] + [s_p = s_n] / 2) / (P N)`, over the P positives p
    and N negatives n. In [0, 1]; higher is better; 0.5 is a coin.

    Args:
      y_true: Labels, 0 or 1 or boolean, of any shape.
      y_pred: Scores of that shape, any real numbers; compared as float32.
      sample_weight: A scalar, that shape with any axis 1, or its leading axes.
      mask: Boolean, as `sample_weight`; True keeps. What is masked may hold NaN.
      zero_division: The area without positives or without negatives.

    Returns:
      The area, in the default float dtype. NaN where a score, label or weight is NaN or
      outside its domain.

    Example:
      >>> import jaxmetrics as jm
      >>> print(jm.auroc(y_true=[0, 0, 1, 1], y_pred=[-7.0, 2.0, 1.0, 30.0]))
      0.75

    References:
      Hanley and McNeil (1982), The meaning and use of the area under a receiver
      operating characteristic curve; scikit-learn, `roc_auc_score`.
    """
    rows = y_true, y_pred, sample_weight, mask
    return _of_arrays("auroc", _roc_area, rows, zero_division)


def average_precision(
    y_true: ArrayLike,
    y_pred: ArrayLike,
    sample_weight: ArrayLike | None = None,
    *,
    mask: ArrayLike | None = None,
    zero_division: float = math.nan,
) -> jax.Array:
    """The exact average precision of arrays, as one binary problem; jittable.

    `sum_p TP(s_p) / (TP(s_p) + FP(s_p)) / P`, with TP and FP the positives and
    negatives that score at least `s_p`, over the P positives p. In [0, 1]; higher is
    better; the share of positives is a coin.

    Args:
      y_true: Labels, 0 or 1 or boolean, of any shape.
      y_pred: Scores of that shape, any real numbers; compared as float32.
      sample_weight: A scalar, that shape with any axis 1, or its leading axes.
      mask: Boolean, as `sample_weight`; True keeps. What is masked may hold NaN.
      zero_division: The value without positives.

    Returns:
      The value, in the default float dtype. NaN where a score, label or weight is NaN
      or outside its domain.

    Example:
      >>> import jaxmetrics as jm
      >>> print(jm.average_precision(y_true=[0, 1, 1], y_pred=[0.8, 0.1, 0.9]).round(4))
      0.8333

    References:
      Zhu (2004), Recall, precision and average precision; scikit-learn,
      `average_precision_score`.
    """
    rows = y_true, y_pred, sample_weight, mask
    return _of_arrays("average_precision", _mean_precision, rows, zero_division)


Area = Callable[[Steps], tuple[jax.Array, jax.Array]]  # an area, and whether it exists


def _of_arrays(name: str, area: Area, rows: Any, zero_division: float) -> jax.Array:
    with checks.naming(name):
        missing = checks.number(zero_division, "zero_division", nan=True)
        scored, flags = checked_rows(*rows)
    value = _area_of(area, scored, missing)
    nan = jnp.asarray(jnp.nan, value.dtype)
    return jnp.where(jnp.all(flags[:2] == 0), value, nan)


def _area_of(area: Area, rows: Scored, missing: float) -> jax.Array:
    dtype = float_dtype()
    if not rows.score.shape[0]:
        return jnp.asarray(missing, dtype)
    with jax.enable_x64(True):
        value, exists = area(steps_of(*rows))
        value = jnp.where(exists, value, jnp.full_like(value, missing))
        return value.astype(dtype)


def _roc_area(steps: Steps) -> tuple[jax.Array, jax.Array]:
    """Trapezoids over the negatives of one score."""
    height = (steps.positives + steps.positives_before) / 2
    width = steps.negatives - steps.negatives_before
    pairs = steps.positives[-1] * steps.negatives[-1]
    return _per(_over_scores(steps, width * height), pairs)


def _mean_precision(steps: Steps) -> tuple[jax.Array, jax.Array]:
    """The precision at each score, times its positives."""
    called = steps.positives + steps.negatives
    precision = steps.positives / jnp.where(called > 0, called, jnp.ones_like(called))
    found = steps.positives - steps.positives_before
    return _per(_over_scores(steps, found * precision), steps.positives[-1])


def _over_scores(steps: Steps, x: jax.Array) -> jax.Array:
    """The sum of what the last row of each score says."""
    return jnp.sum(jnp.where(steps.last, x, jnp.zeros_like(x)))


def _per(total: jax.Array, whole: jax.Array) -> tuple[jax.Array, jax.Array]:
    exists = whole > 0
    return total / jnp.where(exists, whole, jnp.ones_like(whole)), exists


# --- of a sample ---------------------------------------------------------------------


class _ExactArea(Readout):
    """An area of the rows that are kept."""

    capacity: int
    _: KW_ONLY
    zero_division: float = math.nan

    def checked(self) -> dict[str, Any]:
        """Checks the value where there is none."""
        zero_division = checks.number(self.zero_division, "zero_division", nan=True)
        return {**super().checked(), "zero_division": zero_division}

    @property
    def accumulator(self) -> Sample:
        """The rows."""
        return Sample(self.capacity)

    @abc.abstractmethod
    def area(self, steps: Steps) -> tuple[jax.Array, jax.Array]:
        """The area, and whether it exists."""

    def formula(self, rows: Scored) -> jax.Array:
        """The area of all rows."""
        return _area_of(self.area, rows, self.zero_division)

    @reading
    def overflow(self, state: State) -> jax.Array:
        """How many rows found no room, which makes the value NaN; int32."""
        came = self.accumulator.came(state.data)
        return jnp.maximum(came - self.capacity, np.int32(0))


class ExactAUROC(_ExactArea):
    """The exact area under the ROC curve of up to `capacity` rows.

    `(sum over pairs of [s_p > s_n] + [s_p = s_n] / 2) / (P N)`, over the P positives p
    and N negatives n. In [0, 1]; higher is better; 0.5 is a coin. Scores are any real
    numbers.

    The rows are kept, 8 bytes each, and sorted by `compute`. Reducing over devices
    moves rows; `AUROC` has a state of a fixed size, and an error bound.

    Args:
      capacity: How many rows there is room for. Once more have come, the value is NaN,
        and `overflow(state)` says by how many.
      zero_division: The area without positives or without negatives, NaN unless given.
      name: What errors call the metric.
      dtype: A float dtype for the result.

    Example:
      >>> import jaxmetrics as jm
      >>> metric = jm.ExactAUROC(capacity=1000)
      >>> print(metric(y_true=[0, 0, 1, 1], y_pred=[-7.0, 2.0, 1.0, 30.0]))
      0.75

    References:
      Hanley and McNeil (1982), The meaning and use of the area under a receiver
      operating characteristic curve; scikit-learn, `roc_auc_score`.
    """

    def area(self, steps: Steps) -> tuple[jax.Array, jax.Array]:
        """The area under straight lines between the scores' points."""
        return _roc_area(steps)


class ExactAveragePrecision(_ExactArea):
    """The exact average precision of up to `capacity` rows.

    `sum_p TP(s_p) / (TP(s_p) + FP(s_p)) / P`, with TP and FP the positives and
    negatives that score at least `s_p`, over the P positives p. In [0, 1]; higher is
    better; the share of positives is a coin. Scores are any real numbers.

    The rows are kept, 8 bytes each, and sorted by `compute`. Reducing over devices
    moves rows; `AveragePrecision` has a state of a fixed size, and an error bound.

    Args:
      capacity: How many rows there is room for. Once more have come, the value is NaN,
        and `overflow(state)` says by how many.
      zero_division: The value without positives, NaN unless given.
      name: What errors call the metric.
      dtype: A float dtype for the result.

    Example:
      >>> import jaxmetrics as jm
      >>> metric = jm.ExactAveragePrecision(capacity=1000)
      >>> print(metric(y_true=[0, 1, 1], y_pred=[0.8, 0.1, 0.9]).round(4))
      0.8333

    References:
      Zhu (2004), Recall, precision and average precision; scikit-learn,
      `average_precision_score`.
    """

    def area(self, steps: Steps) -> tuple[jax.Array, jax.Array]:
        """The mean precision of the positives."""
        return _mean_precision(steps)
