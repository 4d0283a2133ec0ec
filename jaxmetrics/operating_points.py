"""The best of one statistic where another is at least a target.

All are read from `ConfusionCounts` on the even grid, so they share the state of `AUC`;
or, with `num_thresholds=None`, from `ScoreHistogram` and the state of `AUROC`. The rule
is Keras's: the largest value over all thresholds at which the held statistic reaches
the target, 0 where none does. Unlike under `AUC`, a score of exactly 0 is above no
threshold of the even grid.
"""

import abc
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from jaxmetrics import checks
from jaxmetrics.grids import Optimum, even_grid
from jaxmetrics.ratios import precision, recall, specificity
from jaxmetrics.totals import Counts

__all__ = [
    "PrecisionAtRecall",
    "RecallAtPrecision",
    "SensitivityAtSpecificity",
    "SpecificityAtSensitivity",
]


class _AtFixedValue(Optimum):
    """The best of one statistic over the thresholds where another is large enough."""

    fixed: ClassVar[str]  # the name of the option that holds the target

    def checked(self) -> dict[str, Any]:
        """Checks the target and the number of thresholds."""
        target = checks.one_or_several(getattr(self, self.fixed), self.fixed)
        return {**super().checked(), self.fixed: target}

    @property
    def grid(self) -> Any:
        """The even grid if it is asked for; a single threshold is 0.5."""
        # Declared by the subclasses, because their target comes first.
        even = even_grid(self.num_thresholds, 1)  # type: ignore[attr-defined]
        return (0.5,) if even is not None and even.number == 1 else even

    @abc.abstractmethod
    def statistics(self, c: Counts) -> tuple[jax.Array, jax.Array]:
        """What is maximised, and what is held at the target or above."""

    def best(self, c: Counts) -> tuple[jax.Array, jax.Array]:
        """The best value and its index on the grid, -1 where no threshold qualifies.

        Of equally good thresholds the one with the best held statistic, then the
        lowest.
        """
        target = getattr(self, self.fixed)
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


class PrecisionAtRecall(_AtFixedValue):
    """The best precision at which recall is high enough.

    `max over thresholds t with R(t) >= recall of P(t)`, over the
    thresholds, in [0, 1]. Higher is better. 0, as undefined, where
    no threshold qualifies; `operating_threshold` is the metric of the threshold.

    Args:
      recall: The least recall, in [0, 1], or several for one value each.
      num_thresholds: How many evenly spaced thresholds; a single one is 0.5. None for
        those of all scores, in fine cells, with the state of `AUROC`.
      class_id: Reads this entry of the last axis alone.
      from_logits: Scores are logits. On a grid they pass through a sigmoid first;
        without one they are any real numbers, and so is the threshold.
      num_cells: How many cells, without a grid (see `ScoreHistogram`).
      weighted: False takes no `sample_weight`; without a grid.
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
    num_thresholds: int | None = 200
    class_id: int | None = None

    fixed: ClassVar[str] = "recall"

    def statistics(self, c: Counts) -> tuple[jax.Array, jax.Array]:
        """Precision, and recall."""
        return precision(c), recall(c)


class RecallAtPrecision(_AtFixedValue):
    """The best recall at which precision is high enough.

    `max over thresholds t with P(t) >= precision of R(t)`, over the
    thresholds, in [0, 1]. Higher is better. 0, as undefined, where
    no threshold qualifies; `operating_threshold` is the metric of the threshold.

    Args:
      precision: The least precision, in [0, 1], or several for one value each.
      num_thresholds: How many evenly spaced thresholds; a single one is 0.5. None for
        those of all scores, in fine cells, with the state of `AUROC`.
      class_id: Reads this entry of the last axis alone.
      from_logits: Scores are logits. On a grid they pass through a sigmoid first;
        without one they are any real numbers, and so is the threshold.
      num_cells: How many cells, without a grid (see `ScoreHistogram`).
      weighted: False takes no `sample_weight`; without a grid.
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
    num_thresholds: int | None = 200
    class_id: int | None = None

    fixed: ClassVar[str] = "precision"

    def statistics(self, c: Counts) -> tuple[jax.Array, jax.Array]:
        """Recall, and precision."""
        return recall(c), precision(c)


class SensitivityAtSpecificity(_AtFixedValue):
    """The best sensitivity (recall) at which specificity is high enough.

    `max over thresholds t with TNR(t) >= specificity of TPR(t)`, over the
    thresholds, in [0, 1]. Higher is better. 0, as undefined, where
    no threshold qualifies; `operating_threshold` is the metric of the threshold.

    Args:
      specificity: The least specificity, in [0, 1], or several for one value each.
      num_thresholds: How many evenly spaced thresholds; a single one is 0.5. None for
        those of all scores, in fine cells, with the state of `AUROC`.
      class_id: Reads this entry of the last axis alone.
      from_logits: Scores are logits. On a grid they pass through a sigmoid first;
        without one they are any real numbers, and so is the threshold.
      num_cells: How many cells, without a grid (see `ScoreHistogram`).
      weighted: False takes no `sample_weight`; without a grid.
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
    num_thresholds: int | None = 200
    class_id: int | None = None

    fixed: ClassVar[str] = "specificity"

    def statistics(self, c: Counts) -> tuple[jax.Array, jax.Array]:
        """Sensitivity, and specificity."""
        return recall(c), specificity(c)


class SpecificityAtSensitivity(_AtFixedValue):
    """The best specificity at which sensitivity (recall) is high enough.

    `max over thresholds t with TPR(t) >= sensitivity of TNR(t)`, over the
    thresholds, in [0, 1]. Higher is better. 0, as undefined, where
    no threshold qualifies; `operating_threshold` is the metric of the threshold.

    Args:
      sensitivity: The least sensitivity, in [0, 1], or several for one value each.
      num_thresholds: How many evenly spaced thresholds; a single one is 0.5. None for
        those of all scores, in fine cells, with the state of `AUROC`.
      class_id: Reads this entry of the last axis alone.
      from_logits: Scores are logits. On a grid they pass through a sigmoid first;
        without one they are any real numbers, and so is the threshold.
      num_cells: How many cells, without a grid (see `ScoreHistogram`).
      weighted: False takes no `sample_weight`; without a grid.
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
    num_thresholds: int | None = 200
    class_id: int | None = None

    fixed: ClassVar[str] = "sensitivity"

    def statistics(self, c: Counts) -> tuple[jax.Array, jax.Array]:
        """Specificity, and sensitivity."""
        return specificity(c), recall(c)
