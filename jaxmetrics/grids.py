"""Read-outs of the counts at many thresholds: of an even grid, given, or of all scores.

With `num_thresholds=None` and no `thresholds` they read `ScoreHistogram`, whose cells
have 16,380 thresholds between them unless told otherwise, at which counts are exact.
Otherwise they read `ConfusionCounts`, as `AUC` does.
"""

import abc
from dataclasses import KW_ONLY
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxmetrics import checks
from jaxmetrics.checks import Mismatch, WrongKind
from jaxmetrics.counts import ConfusionCounts
from jaxmetrics.metric import Readout
from jaxmetrics.numerics import float_dtype
from jaxmetrics.scores import ScoreHistogram
from jaxmetrics.thresholds import EvenGrid
from jaxmetrics.totals import Counts

__all__ = ["GridReadout", "OperatingThreshold", "Optimum", "with_ends"]


def with_ends(c: Counts) -> Counts:
    """Counts with the ends added: at index 0 everything is positive, at -1 nothing."""
    positives, negatives = (
        (c.true_positives + c.false_negatives)[:1],
        (c.false_positives + c.true_negatives)[:1],
    )
    none = jnp.zeros_like(positives)
    return Counts(
        jnp.concatenate([positives, c.true_positives, none]),
        jnp.concatenate([negatives, c.false_positives, none]),
        jnp.concatenate([none, c.true_negatives, negatives]),
        jnp.concatenate([none, c.false_negatives, positives]),
    )


class GridReadout(Readout):
    """A formula over the counts at the thresholds of a grid, increasing."""

    _: KW_ONLY
    from_logits: bool = False
    num_cells: int | None = None
    weighted: bool = True

    @property
    def grid(self) -> Any:
        """What `ConfusionCounts` takes, or None for the thresholds of all scores."""
        return None

    @property
    def classes(self) -> dict[str, Any]:
        """The options of the accumulator that are about the last axis."""
        return {"class_id": getattr(self, "class_id", None)}

    def checked(self) -> dict[str, Any]:
        """Refuses the options of one accumulator beside those of the other."""
        if self.grid is not None and (self.num_cells is not None or not self.weighted):
            raise Mismatch(
                "num_cells and weighted=False are for num_thresholds=None, which reads "
                "all scores; leave them out, or the thresholds."
            )
        return super().checked()

    @property
    def accumulator(self) -> ConfusionCounts | ScoreHistogram:
        """Counts on the grid, or scores by fine cells."""
        if self.grid is not None:
            return ConfusionCounts(
                self.grid, from_logits=self.from_logits, **self.classes
            )
        return ScoreHistogram(
            self.num_cells,
            from_logits=self.from_logits,
            weighted=self.weighted,
            **self.classes,
        )

    @property
    def threshold_values(self) -> np.ndarray:
        """The thresholds."""
        return np.asarray(self.accumulator.threshold_values)

    def read(self, data: Any) -> Any:
        """The formula's result in the metric's dtype."""
        result = self.formula(self.accumulator.at_thresholds(data))
        return result if self.dtype is None else jax.tree.map(self._cast, result)


def even_grid(num_thresholds: Any, least: int) -> EvenGrid | None:
    """The even grid of so many thresholds, checked."""
    number = checks.optional_integer(num_thresholds, "num_thresholds", least)
    return None if number is None else EvenGrid(number)


class Optimum(GridReadout):
    """The best of a statistic over the thresholds."""

    @abc.abstractmethod
    def best(self, c: Counts) -> tuple[jax.Array, jax.Array]:
        """The best value and its index on the grid, -1 where there is none."""

    def formula(self, c: Counts) -> jax.Array:
        """The best value."""
        return self.best(c)[0]

    @property
    def operating_threshold(self) -> "OperatingThreshold":
        """A metric over the same state: the threshold that the value is reached at."""
        return OperatingThreshold(self)


class OperatingThreshold(Readout):
    """The threshold at which a metric that is the best of all thresholds reaches it.

    What scores above it is positive. NaN where no threshold qualifies. Of equally good
    thresholds the metric says which.

    Args:
      metric: `PrecisionAtRecall`, `BestFBetaScore` or one of their kin.
      name: What errors call the metric.
      dtype: A float dtype for the result.

    Example:
      >>> import jaxmetrics as jm
      >>> at = jm.PrecisionAtRecall(0.5, num_thresholds=5)
      >>> batch = dict(y_true=[0, 0, 1, 1], y_pred=[0.1, 0.6, 0.3, 0.9])
      >>> print(at(**batch), at.operating_threshold(**batch))
      1.0 0.75
    """

    metric: Optimum

    def checked(self) -> dict[str, Any]:
        """Checks that the metric has a threshold."""
        if not isinstance(self.metric, Optimum):
            raise WrongKind(
                "metric must be the best of all thresholds, like PrecisionAtRecall(0.9)"
                f"; got {self.metric!r}."
            )
        return super().checked()

    @property
    def accumulator(self) -> ConfusionCounts | ScoreHistogram:
        """The metric's."""
        return self.metric.accumulator

    def read(self, data: Any) -> Any:
        """The threshold, in the metric's dtype."""
        result = self.formula(self.accumulator.at_thresholds(data))
        return result if self.dtype is None else self._cast(result)

    def formula(self, c: Counts) -> jax.Array:
        """The threshold at the best index."""
        _, index = self.metric.best(c)
        thresholds = jnp.asarray(self.metric.threshold_values, float_dtype())
        missing = jnp.asarray(jnp.nan, thresholds.dtype)
        return jnp.where(index < 0, missing, thresholds[index])
