"""The best of one statistic where another is at least a target.

All are read from `ConfusionCounts` on the even grid, so they share the state of `AUC`
and the curves. The rule is Keras's: the largest value over all thresholds at which the
held statistic reaches the target, 0 where none does. Unlike under `AUC`, a score of
exactly 0 is above no threshold.
"""

import abc
from dataclasses import KW_ONLY
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from jaxmetrics import checks
from jaxmetrics.checks import WrongKind
from jaxmetrics.counts import ConfusionCounts, Counts
from jaxmetrics.metric import Readout
from jaxmetrics.numerics import float_dtype
from jaxmetrics.ratios import precision, recall, specificity
from jaxmetrics.thresholds import EvenGrid

__all__ = [
    "OperatingThreshold",
    "PrecisionAtRecall",
    "RecallAtPrecision",
    "SensitivityAtSpecificity",
    "SpecificityAtSensitivity",
]


class _AtFixedValue(Readout):
    """The best of one statistic over the thresholds where another is large enough."""

    fixed: ClassVar[str]  # the name of the option that holds the target

    def checked(self) -> dict[str, Any]:
        """Checks the target and the number of thresholds."""
        targets = checks.fractions(getattr(self, self.fixed), self.fixed)
        several = np.ndim(getattr(self, self.fixed)) > 0
        number = checks.integer(self._grid_options[0], "num_thresholds", 1)
        options = {
            self.fixed: targets if several else targets[0],
            "num_thresholds": number,
        }
        return {**super().checked(), **options}

    @property
    def _grid_options(self) -> tuple[int, int | None, bool]:
        # Declared by the subclasses, because their target comes first.
        return self.num_thresholds, self.class_id, self.from_logits  # type: ignore[attr-defined]

    @property
    def accumulator(self) -> ConfusionCounts:
        """Counts on the even grid; a single threshold is 0.5."""
        number, class_id, from_logits = self._grid_options
        grid = EvenGrid(number) if number > 1 else 0.5
        return ConfusionCounts(grid, class_id=class_id, from_logits=from_logits)

    @abc.abstractmethod
    def statistics(self, c: Counts) -> tuple[jax.Array, jax.Array]:
        """What is maximised, and what is held at the target or above."""

    def best(self, c: Counts) -> tuple[jax.Array, jax.Array]:
        """The best value and its index on the grid, -1 where no threshold qualifies.

        Of equally good thresholds the one with the best held statistic, then the
        lowest.
        """
        target = getattr(self, self.fixed)
        if self.accumulator.grid_size == 1:
            c = Counts(*(x[None] for x in c))
        value, held = self.statistics(c)
        if isinstance(target, tuple):
            held, value = held[None], value[None]  # (1, thresholds)
        feasible = held >= np.asarray(target, held.dtype)[..., None]
        reached = jnp.where(feasible, value, jnp.zeros_like(value) - 1)
        top = jnp.max(reached, axis=-1, keepdims=True)
        index = jnp.argmax(
            jnp.where(reached == top, held, jnp.zeros_like(held) - 1), axis=-1
        )
        top = top[..., 0]
        return jnp.maximum(top, 0), jnp.where(top < 0, -1, index)

    def formula(self, c: Counts) -> jax.Array:
        """The best value."""
        return self.best(c)[0]

    @property
    def operating_threshold(self) -> "OperatingThreshold":
        """A metric over the same state: the threshold that the value is reached at."""
        return OperatingThreshold(self)


class OperatingThreshold(Readout):
    """The threshold at which an at-fixed-value metric reaches its value.

    In [0, 1]; NaN where no threshold qualifies. Of equally good thresholds the one with
    the best held statistic, then the lowest.

    Args:
      metric: `PrecisionAtRecall` or one of its kin.
      name: What errors call the metric.
      dtype: A float dtype for the result.

    Example:
      >>> import jaxmetrics as jm
      >>> at = jm.PrecisionAtRecall(0.5, num_thresholds=5)
      >>> batch = dict(y_true=[0, 0, 1, 1], y_pred=[0.1, 0.6, 0.3, 0.9])
      >>> print(at(**batch), at.operating_threshold(**batch))
      1.0 0.75
    """

    metric: _AtFixedValue

    def checked(self) -> dict[str, Any]:
        """Checks that the metric has a threshold."""
        if not isinstance(self.metric, _AtFixedValue):
            raise WrongKind(
                f"metric must be one at a fixed value, like PrecisionAtRecall(0.9); "
                f"got {self.metric!r}."
            )
        return super().checked()

    @property
    def accumulator(self) -> ConfusionCounts:
        """The metric's."""
        return self.metric.accumulator

    def formula(self, c: Counts) -> jax.Array:
        """The threshold at the best index."""
        _, index = self.metric.best(c)
        thresholds = jnp.asarray(
            np.asarray(self.accumulator.threshold_values), float_dtype()
        )
        missing = jnp.asarray(jnp.nan, thresholds.dtype)
        return jnp.where(index < 0, missing, thresholds[index])


class PrecisionAtRecall(_AtFixedValue):
    """The best precision at which recall is high enough.

    `max over thresholds t with R(t) >= recall of P(t)`, over evenly
    spaced thresholds, in [0, 1]. Higher is better. 0, as undefined, where
    no threshold qualifies; `operating_threshold` is the metric of the threshold.

    Args:
      recall: The least recall, in [0, 1], or several for one value each.
      num_thresholds: How many evenly spaced thresholds; a single one is 0.5.
      class_id: Reads this entry of the last axis alone.
      from_logits: Scores are logits, and pass through a sigmoid first.
      name: What errors call the metric.
      dtype: A float dtype for the result.

    Example:
      >>> import jaxmetrics as jm
      >>> batch = dict(y_true=[0, 0, 0, 1, 1], y_pred=[0, 0.3, 0.8, 0.3, 0.8])
      >>> print(jm.PrecisionAtRecall(0.5)(**batch))
      0.5

    References:
      Keras, `keras.metrics.PrecisionAtRecall`.
    """

    recall: Any
    num_thresholds: int = 200
    class_id: int | None = None
    _: KW_ONLY
    from_logits: bool = False

    fixed: ClassVar[str] = "recall"

    def statistics(self, c: Counts) -> tuple[jax.Array, jax.Array]:
        """Precision, and recall."""
        return precision(c), recall(c)


class RecallAtPrecision(_AtFixedValue):
    """The best recall at which precision is high enough.

    `max over thresholds t with P(t) >= precision of R(t)`, over evenly
    spaced thresholds, in [0, 1]. Higher is better. 0, as undefined, where
    no threshold qualifies; `operating_threshold` is the metric of the threshold.

    Args:
      precision: The least precision, in [0, 1], or several for one value each.
      num_thresholds: How many evenly spaced thresholds; a single one is 0.5.
      class_id: Reads this entry of the last axis alone.
      from_logits: Scores are logits, and pass through a sigmoid first.
      name: What errors call the metric.
      dtype: A float dtype for the result.

    Example:
      >>> import jaxmetrics as jm
      >>> batch = dict(y_true=[0, 0, 1, 1], y_pred=[0, 0.5, 0.3, 0.9])
      >>> print(jm.RecallAtPrecision(0.8)(**batch))
      0.5

    References:
      Keras, `keras.metrics.RecallAtPrecision`.
    """

    precision: Any
    num_thresholds: int = 200
    class_id: int | None = None
    _: KW_ONLY
    from_logits: bool = False

    fixed: ClassVar[str] = "precision"

    def statistics(self, c: Counts) -> tuple[jax.Array, jax.Array]:
        """Recall, and precision."""
        return recall(c), precision(c)


class SensitivityAtSpecificity(_AtFixedValue):
    """The best sensitivity (recall) at which specificity is high enough.

    `max over thresholds t with TNR(t) >= specificity of TPR(t)`, over evenly
    spaced thresholds, in [0, 1]. Higher is better. 0, as undefined, where
    no threshold qualifies; `operating_threshold` is the metric of the threshold.

    Args:
      specificity: The least specificity, in [0, 1], or several for one value each.
      num_thresholds: How many evenly spaced thresholds; a single one is 0.5.
      class_id: Reads this entry of the last axis alone.
      from_logits: Scores are logits, and pass through a sigmoid first.
      name: What errors call the metric.
      dtype: A float dtype for the result.

    Example:
      >>> import jaxmetrics as jm
      >>> batch = dict(y_true=[0, 0, 0, 1, 1], y_pred=[0, 0.3, 0.8, 0.3, 0.8])
      >>> print(jm.SensitivityAtSpecificity(0.5)(**batch))
      0.5

    References:
      Keras, `keras.metrics.SensitivityAtSpecificity`.
    """

    specificity: Any
    num_thresholds: int = 200
    class_id: int | None = None
    _: KW_ONLY
    from_logits: bool = False

    fixed: ClassVar[str] = "specificity"

    def statistics(self, c: Counts) -> tuple[jax.Array, jax.Array]:
        """Sensitivity, and specificity."""
        return recall(c), specificity(c)


class SpecificityAtSensitivity(_AtFixedValue):
    """The best specificity at which sensitivity (recall) is high enough.

    `max over thresholds t with TPR(t) >= sensitivity of TNR(t)`, over evenly
    spaced thresholds, in [0, 1]. Higher is better. 0, as undefined, where
    no threshold qualifies; `operating_threshold` is the metric of the threshold.

    Args:
      sensitivity: The least sensitivity, in [0, 1], or several for one value each.
      num_thresholds: How many evenly spaced thresholds; a single one is 0.5.
      class_id: Reads this entry of the last axis alone.
      from_logits: Scores are logits, and pass through a sigmoid first.
      name: What errors call the metric.
      dtype: A float dtype for the result.

    Example:
      >>> import jaxmetrics as jm
      >>> batch = dict(y_true=[0, 0, 0, 1, 1], y_pred=[0, 0.3, 0.8, 0.3, 0.8])
      >>> print(jm.SpecificityAtSensitivity(0.5)(**batch))
      0.6666667

    References:
      Keras, `keras.metrics.SpecificityAtSensitivity`.
    """

    sensitivity: Any
    num_thresholds: int = 200
    class_id: int | None = None
    _: KW_ONLY
    from_logits: bool = False

    fixed: ClassVar[str] = "sensitivity"

    def statistics(self, c: Counts) -> tuple[jax.Array, jax.Array]:
        """Specificity, and sensitivity."""
        return specificity(c), recall(c)
