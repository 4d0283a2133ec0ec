"""Ratios of counts: formulas that families share, and the bases of ratio metrics."""

import abc
from dataclasses import KW_ONLY
from typing import Any

import jax
import jax.numpy as jnp

from jaxmetrics import checks
from jaxmetrics.checks import WrongKind
from jaxmetrics.counts import ConfusionCounts, CountsData
from jaxmetrics.eager import reading
from jaxmetrics.intervals import Interval, normal_quantile, wilson_interval
from jaxmetrics.metric import Readout
from jaxmetrics.numerics import divide, read_count
from jaxmetrics.state import State
from jaxmetrics.totals import Counts

__all__ = [
    "ConfusionMetric",
    "Proportion",
    "Ratio",
    "average_options",
    "averaged",
    "counts_at",
    "false_negative_rate",
    "false_positive_rate",
    "ordered",
    "precision",
    "recall",
    "refuse_average",
    "specificity",
]

AVERAGES = (None, "micro", "macro", "weighted")


# --- formulas ------------------------------------------------------------------------


def precision(c: Counts, zero_division: float = 0.0) -> jax.Array:
    """TP / (TP + FP)."""
    predicted = c.true_positives + c.false_positives
    return divide(c.true_positives, predicted, zero_division)


def recall(c: Counts, zero_division: float = 0.0) -> jax.Array:
    """TP / (TP + FN)."""
    positives = c.true_positives + c.false_negatives
    return divide(c.true_positives, positives, zero_division)


def false_positive_rate(c: Counts, zero_division: float = 0.0) -> jax.Array:
    """FP / (FP + TN)."""
    negatives = c.false_positives + c.true_negatives
    return divide(c.false_positives, negatives, zero_division)


def false_negative_rate(c: Counts, zero_division: float = 0.0) -> jax.Array:
    """FN / (FN + TP)."""
    positives = c.true_positives + c.false_negatives
    return divide(c.false_negatives, positives, zero_division)


def specificity(c: Counts, zero_division: float = 0.0) -> jax.Array:
    """TN / (TN + FP)."""
    negatives = c.true_negatives + c.false_positives
    return divide(c.true_negatives, negatives, zero_division)


# --- counts in the order asked for ---------------------------------------------------


def ordered(thresholds: Any) -> tuple[float, ...] | None:
    """Thresholds as a tuple in the order asked for, checked."""
    return None if thresholds is None else checks.fractions(thresholds, "thresholds")


def counts_at(
    accumulator: ConfusionCounts, data: CountsData, thresholds: tuple[float, ...] | None
) -> tuple[jax.Array, jax.Array]:
    """Words and two-floats `(2, 4, thresholds, classes)` in the order asked for."""
    words, weights = accumulator.totals(data)
    if thresholds is None or len(thresholds) == 1:
        return words, weights
    order = accumulator.order(thresholds)
    return jnp.take(words, order, axis=2), jnp.take(weights, order, axis=2)


# --- averages over classes -----------------------------------------------------------


def average_options(
    average: Any, num_classes: int | None, zero_division: Any
) -> dict[str, Any]:
    """The options of a read-out that may be averaged over classes, checked."""
    average = checks.choice(average, "average", AVERAGES)
    if average is not None and num_classes is None:
        raise WrongKind(f"average={average!r} needs num_classes.")
    missing = checks.number(zero_division, "zero_division", nan=True)
    return {"average": average, "zero_division": missing}


def refuse_average(average: str | None) -> None:
    """Refuses an interval of an average."""
    if average is not None:
        raise WrongKind(
            f"average={average!r} has no interval, because the classes of a row depend "
            "on each other; use average=None."
        )


def averaged(
    values: jax.Array,
    positives: jax.Array,
    average: str | None,
    zero_division: float,
) -> jax.Array:
    """The mean over the last axis, of classes; those whose value is NaN are left out.

    Args:
      values: One for each class.
      positives: How many of each there are: their weight where the average is
        "weighted".
      average: "macro" or "weighted"; None for the values themselves.
      zero_division: The mean of none.
    """
    if average is None:
        return values
    weight = positives if average == "weighted" else jnp.ones_like(positives)
    weight = jnp.where(jnp.isnan(values), jnp.zeros_like(weight), weight)
    values = jnp.where(weight > 0, values, jnp.zeros_like(values))
    total = jnp.sum(weight, axis=-1)
    return divide(jnp.sum(weight * values, axis=-1), total, zero_division)


# --- bases ---------------------------------------------------------------------------


class Ratio(Readout):
    """A formula over the counts, averaged over classes where there are several."""

    _: KW_ONLY
    num_classes: int | None = None
    average: str | None = None
    from_logits: bool = False
    zero_division: float = 0.0

    def checked(self) -> dict[str, Any]:
        """Checks the options that belong to the read-out."""
        return {
            **super().checked(),
            **average_options(self.average, self.num_classes, self.zero_division),
        }

    @property
    def accumulator(self) -> ConfusionCounts:
        """Counts at the thresholds."""
        return ConfusionCounts(
            num_classes=self.num_classes, from_logits=self.from_logits
        )

    @property
    def _order(self) -> tuple[float, ...] | None:
        return None

    def read(self, data: CountsData) -> Any:
        """The formula, averaged, in the metric's dtype."""
        result = self._averaged(self._counts(data))
        return result if self.dtype is None else jax.tree.map(self._cast, result)

    def _counts(self, data: CountsData) -> Counts:
        words, weights = counts_at(self.accumulator, data, self._order)
        return Counts(*self.accumulator.squeezed(read_count(words, weights, None)))

    def _averaged(self, c: Counts) -> Any:
        if self.average == "micro":
            return self.formula(Counts(*(jnp.sum(x, axis=-1) for x in c)))
        positives = c.true_positives + c.false_negatives
        return averaged(self.formula(c), positives, self.average, self.zero_division)


class Proportion(Ratio):
    """A share of rows: a ratio of counts with a confidence interval."""

    @abc.abstractmethod
    def parts(self, c: Counts) -> tuple[jax.Array, jax.Array]:
        """The counts that the share is of, and those that it is not of."""

    def formula(self, c: Counts) -> jax.Array:
        """The share."""
        part, rest = self.parts(c)
        return divide(part, part + rest, self.zero_division)

    @reading
    def interval(self, state: State, confidence: float = 0.95) -> Interval:
        """A confidence interval for the share, from the state alone (Wilson).

        With weights it is that of the effective number of rows (Kish), the number of
        equal weights that are as uncertain: `sum(w)^2 / sum(w^2)` of all rows together
        says how many rows a sum of weights stands for. It takes weights for chosen
        without regard to labels and scores, and is too narrow where the rows of the
        share weigh more than others.

        Args:
          state: What `update` returned.
          confidence: How often it should hold the share of the population.

        Returns:
          An `Interval`, of the shape of the value. NaN without a row to divide by.

        Raises:
          TypeError: With an average over classes, whose rows are not independent.

        References:
          Wilson (1927), Probable inference, the law of succession, and statistical
          inference. Kish (1965), Survey Sampling.
        """
        refuse_average(self.average)
        z = normal_quantile(confidence)
        part, rest = self.parts(self._counts(state.data))
        typical = self.accumulator.typical_weight(state.data)
        found = wilson_interval(part / typical, rest / typical, z)
        poisoned: Interval = self.poisoned(found, state.data)
        return poisoned


class ConfusionMetric(Ratio):
    """Base of metrics that are a formula over the four counts.

    A subclass defines `formula(self, c)` with `c.true_positives`, `c.false_positives`,
    `c.true_negatives` and `c.false_negatives`, and gets thresholds, classes, weights,
    masks, merging and sharding for nothing.

    Args:
      thresholds: A number in [0, 1] or several; 0.5 unless given. With `top_k` alone,
        whatever is among the top k is positive.
      top_k: Only the k highest scores of the last axis may be positive; of equal scores
        the first.
      class_id: Reads this entry of the last axis alone.
      num_classes: Counts each entry of the last axis, of this size, on its own.
      average: With `num_classes`: None for one value per class, "micro" for pooled
        counts, "macro" for the mean over the classes, "weighted" for the mean weighted
        by the number of positives.
      from_logits: Scores are logits, and pass through a sigmoid first.
      zero_division: The value of 0/0, 0 unless given; NaN leaves a class out of its
        average.
      name: What errors call the metric.
      dtype: A float dtype for the result.
    """

    thresholds: Any = None
    top_k: int | None = None
    class_id: int | None = None

    def checked(self) -> dict[str, Any]:
        """Checks the thresholds; the accumulator checks the rest."""
        return {**super().checked(), "thresholds": ordered(self.thresholds)}

    @property
    def accumulator(self) -> ConfusionCounts:
        """Counts at the thresholds."""
        return ConfusionCounts(
            self.thresholds,
            self.top_k,
            self.class_id,
            num_classes=self.num_classes,
            from_logits=self.from_logits,
        )

    @property
    def _order(self) -> tuple[float, ...] | None:
        order: tuple[float, ...] | None = self.thresholds
        return order

    def ratio(self, numerator: jax.Array, denominator: jax.Array) -> jax.Array:
        """The ratio, with this metric's `zero_division`."""
        return divide(numerator, denominator, self.zero_division)
