"""Metrics read from true and false positives and negatives.

Every metric here is one formula over the counts of `ConfusionCounts`, and so is a
user's own:

    class MissRate(jm.ConfusionMetric):
        def formula(self, c):
            return jm.divide(c.false_negatives, c.false_negatives + c.true_positives)

Conventions, stated once:

* A score is a positive prediction where it is strictly greater than the threshold; one
  that equals the threshold is negative. Boolean predictions are taken as they are.
* Labels are 0 and 1, or booleans. Anything else makes the result NaN and is counted.
* Inputs of any shape are counted entry by entry, as Keras does. With `num_classes=C`
  the last axis is one of classes or labels, each counted on its own; `average` then
  says what becomes of the C results.
* Results have the shape of the thresholds (a scalar for one), then of the classes.
* A ratio 0/0 is `zero_division`, 0 unless given.
* `name` is what errors call the metric, `dtype` the dtype of its result.
"""

from dataclasses import KW_ONLY
from typing import Any, ClassVar

import jax

from jaxmetrics import checks
from jaxmetrics.counts import ConfusionCounts, CountsData
from jaxmetrics.metric import Readout
from jaxmetrics.numerics import read_count
from jaxmetrics.ratios import ConfusionMetric, Proportion, counts_at, ordered
from jaxmetrics.totals import Counts

__all__ = [
    "BinaryAccuracy",
    "FalseDiscoveryRate",
    "FalseNegativeRate",
    "FalseNegatives",
    "FalseOmissionRate",
    "FalsePositiveRate",
    "FalsePositives",
    "NegativePredictiveValue",
    "Precision",
    "PredictedPositiveRate",
    "Prevalence",
    "Recall",
    "Specificity",
    "TrueNegativeRate",
    "TrueNegatives",
    "TruePositives",
]

# --- counts --------------------------------------------------------------------------


class _CountMetric(Readout):
    """One of the four counts."""

    thresholds: Any = None
    _: KW_ONLY
    num_classes: int | None = None
    from_logits: bool = False

    integer_results: ClassVar[bool] = True

    def checked(self) -> dict[str, Any]:
        """Checks the thresholds; the accumulator checks the rest."""
        return {**super().checked(), "thresholds": ordered(self.thresholds)}

    @property
    def accumulator(self) -> ConfusionCounts:
        """Counts at the thresholds."""
        return ConfusionCounts(
            self.thresholds, num_classes=self.num_classes, from_logits=self.from_logits
        )

    def read(self, data: CountsData) -> jax.Array:
        """The count in the metric's dtype, without passing through a float."""
        words, weights = counts_at(self.accumulator, data, self.thresholds)
        counts = read_count(words, weights, self.dtype)
        count: jax.Array = self.formula(Counts(*self.accumulator.squeezed(counts)))
        return count


class TruePositives(_CountMetric):
    """The number of true positives: label 1, score above the threshold.

    `TP = sum(w * [y = 1] * [s > t])`, in rows, or in weight where `sample_weight` is
    given. From 0 up; 0 when there is nothing.

    Args:
      thresholds: A number in [0, 1] or several; 0.5 unless given.
      num_classes: Counts each entry of the last axis, of this size, on its own.
      from_logits: Scores are logits, and pass through a sigmoid first.
      name: What errors call the metric.
      dtype: A float dtype, or int32 or uint32 for exact integers that saturate.

    Example:
      >>> import jaxmetrics as jm
      >>> print(jm.TruePositives()(y_true=[0, 1, 1, 1], y_pred=[1, 0, 1, 1]))
      2.0

    References:
      Keras, `keras.metrics.TruePositives`.
    """

    def formula(self, c: Counts) -> jax.Array:
        """The count itself."""
        return c.true_positives


class FalsePositives(_CountMetric):
    """The number of false positives: label 0, score above the threshold.

    `FP = sum(w * [y = 0] * [s > t])`, in rows, or in weight where `sample_weight` is
    given. From 0 up; 0 when there is nothing.

    Args:
      thresholds: A number in [0, 1] or several; 0.5 unless given.
      num_classes: Counts each entry of the last axis, of this size, on its own.
      from_logits: Scores are logits, and pass through a sigmoid first.
      name: What errors call the metric.
      dtype: A float dtype, or int32 or uint32 for exact integers that saturate.

    Example:
      >>> import jaxmetrics as jm
      >>> print(jm.FalsePositives()(y_true=[0, 1, 0, 0], y_pred=[0, 0, 1, 1]))
      2.0

    References:
      Keras, `keras.metrics.FalsePositives`.
    """

    def formula(self, c: Counts) -> jax.Array:
        """The count itself."""
        return c.false_positives


class TrueNegatives(_CountMetric):
    """The number of true negatives: label 0, score not above the threshold.

    `TN = sum(w * [y = 0] * [s <= t])`, in rows, or in weight where `sample_weight` is
    given. From 0 up; 0 when there is nothing.

    Args:
      thresholds: A number in [0, 1] or several; 0.5 unless given.
      num_classes: Counts each entry of the last axis, of this size, on its own.
      from_logits: Scores are logits, and pass through a sigmoid first.
      name: What errors call the metric.
      dtype: A float dtype, or int32 or uint32 for exact integers that saturate.

    Example:
      >>> import jaxmetrics as jm
      >>> print(
      ...     jm.TrueNegatives(dtype="int32")(y_true=[0, 1, 0, 0], y_pred=[1, 1, 0, 0])
      ... )
      2

    References:
      Keras, `keras.metrics.TrueNegatives`.
    """

    def formula(self, c: Counts) -> jax.Array:
        """The count itself."""
        return c.true_negatives


class FalseNegatives(_CountMetric):
    """The number of false negatives: label 1, score not above the threshold.

    `FN = sum(w * [y = 1] * [s <= t])`, in rows, or in weight where `sample_weight` is
    given. A count and not a fraction; `FalseNegativeRate` is the fraction. From 0 up; 0
    when there is nothing.

    Args:
      thresholds: A number in [0, 1] or several; 0.5 unless given.
      num_classes: Counts each entry of the last axis, of this size, on its own.
      from_logits: Scores are logits, and pass through a sigmoid first.
      name: What errors call the metric.
      dtype: A float dtype, or int32 or uint32 for exact integers that saturate.

    Example:
      >>> import jaxmetrics as jm
      >>> print(jm.FalseNegatives()(y_true=[0, 1, 1, 1], y_pred=[0, 1, 0, 0]))
      2.0

    References:
      Keras, `keras.metrics.FalseNegatives`.
    """

    def formula(self, c: Counts) -> jax.Array:
        """The count itself."""
        return c.false_negatives


# --- ratios --------------------------------------------------------------------------


class Precision(ConfusionMetric, Proportion):
    """The share of the positive predictions that are right.

    `TP / (TP + FP)`, in [0, 1]. Higher is better. `zero_division`, 0 unless given,
    where the denominator is 0.

    Options as in `ConfusionMetric`.

    Example:
      >>> import jaxmetrics as jm
      >>> print(jm.Precision()(y_true=[0, 1, 1, 1], y_pred=[1, 0, 1, 1]))
      0.6666667

    References:
      Keras, `keras.metrics.Precision`; scikit-learn, `precision_score`.
    """

    def parts(self, c: Counts) -> tuple[jax.Array, jax.Array]:
        """TP, and FP."""
        return c.true_positives, c.false_positives


class Recall(ConfusionMetric, Proportion):
    """The share of the positives that are found.

    `TP / (TP + FN)`, in [0, 1]. Higher is better. `zero_division`, 0 unless given,
    where the denominator is 0.

    Options as in `ConfusionMetric`.

    Example:
      >>> import jaxmetrics as jm
      >>> print(jm.Recall()(y_true=[0, 1, 1, 1], y_pred=[1, 0, 1, 1]))
      0.6666667

    References:
      Keras, `keras.metrics.Recall`; scikit-learn, `recall_score`.
    """

    def parts(self, c: Counts) -> tuple[jax.Array, jax.Array]:
        """TP, and FN."""
        return c.true_positives, c.false_negatives


class FalseNegativeRate(ConfusionMetric, Proportion):
    """The share of the positives that are missed.

    `FN / (FN + TP)`, in [0, 1]. Lower is better. `zero_division`, 0 unless given, where
    the denominator is 0.

    Options as in `ConfusionMetric`.

    Example:
      >>> import jaxmetrics as jm
      >>> print(jm.FalseNegativeRate()(y_true=[0, 1, 1, 1], y_pred=[1, 0, 1, 1]))
      0.33333334

    References:
      Fawcett (2006), An introduction to ROC analysis.
    """

    def parts(self, c: Counts) -> tuple[jax.Array, jax.Array]:
        """FN, and TP."""
        return c.false_negatives, c.true_positives


class FalsePositiveRate(ConfusionMetric, Proportion):
    """The share of the negatives that are called positive.

    `FP / (FP + TN)`, in [0, 1]. Lower is better. `zero_division`, 0 unless given, where
    the denominator is 0.

    Options as in `ConfusionMetric`.

    Example:
      >>> import jaxmetrics as jm
      >>> print(jm.FalsePositiveRate()(y_true=[0, 0, 0, 1], y_pred=[1, 0, 0, 1]))
      0.33333334

    References:
      Fawcett (2006), An introduction to ROC analysis.
    """

    def parts(self, c: Counts) -> tuple[jax.Array, jax.Array]:
        """FP, and TN."""
        return c.false_positives, c.true_negatives


class TrueNegativeRate(ConfusionMetric, Proportion):
    """The share of the negatives that are called negative.

    `TN / (TN + FP)`, in [0, 1]. Higher is better. `zero_division`, 0 unless given,
    where the denominator is 0.

    Options as in `ConfusionMetric`.

    Example:
      >>> import jaxmetrics as jm
      >>> print(jm.TrueNegativeRate()(y_true=[0, 0, 0, 1], y_pred=[1, 0, 0, 1]))
      0.6666667

    References:
      Fawcett (2006), An introduction to ROC analysis.
    """

    def parts(self, c: Counts) -> tuple[jax.Array, jax.Array]:
        """TN, and FP."""
        return c.true_negatives, c.false_positives


class NegativePredictiveValue(ConfusionMetric, Proportion):
    """The share of the negative predictions that are right.

    `TN / (TN + FN)`, in [0, 1]. Higher is better. `zero_division`, 0 unless given,
    where the denominator is 0.

    Options as in `ConfusionMetric`.

    Example:
      >>> import jaxmetrics as jm
      >>> print(jm.NegativePredictiveValue()(y_true=[0, 0, 1, 1], y_pred=[0, 0, 0, 1]))
      0.6666667

    References:
      Altman and Bland (1994), Diagnostic tests 2: predictive values.
    """

    def parts(self, c: Counts) -> tuple[jax.Array, jax.Array]:
        """TN, and FN."""
        return c.true_negatives, c.false_negatives


class FalseDiscoveryRate(ConfusionMetric, Proportion):
    """The share of the positive predictions that are wrong.

    `FP / (FP + TP)`, in [0, 1]. Lower is better. `zero_division`, 0 unless given, where
    the denominator is 0.

    Options as in `ConfusionMetric`.

    Example:
      >>> import jaxmetrics as jm
      >>> print(jm.FalseDiscoveryRate()(y_true=[0, 1, 1, 1], y_pred=[1, 0, 1, 1]))
      0.33333334

    References:
      Benjamini and Hochberg (1995), Controlling the false discovery rate.
    """

    def parts(self, c: Counts) -> tuple[jax.Array, jax.Array]:
        """FP, and TP."""
        return c.false_positives, c.true_positives


class FalseOmissionRate(ConfusionMetric, Proportion):
    """The share of the negative predictions that are wrong.

    `FN / (FN + TN)`, in [0, 1]. Lower is better. `zero_division`, 0 unless given, where
    the denominator is 0.

    Options as in `ConfusionMetric`.

    Example:
      >>> import jaxmetrics as jm
      >>> print(jm.FalseOmissionRate()(y_true=[0, 0, 1, 1], y_pred=[0, 0, 0, 1]))
      0.33333334

    References:
      Fawcett (2006), An introduction to ROC analysis.
    """

    def parts(self, c: Counts) -> tuple[jax.Array, jax.Array]:
        """FN, and TN."""
        return c.false_negatives, c.true_negatives


class Prevalence(ConfusionMetric, Proportion):
    """The share of the rows that are positive, whatever was predicted.

    `(TP + FN) / (TP + FP + TN + FN)`, in [0, 1]. Neither way is better.
    `zero_division`, 0 unless given, where the denominator is 0.

    Options as in `ConfusionMetric`.

    Example:
      >>> import jaxmetrics as jm
      >>> print(jm.Prevalence()(y_true=[0, 0, 0, 1], y_pred=[1, 0, 0, 1]))
      0.25

    References:
      Altman and Bland (1994), Diagnostic tests 2: predictive values.
    """

    def parts(self, c: Counts) -> tuple[jax.Array, jax.Array]:
        """Positives, and negatives."""
        return (
            c.true_positives + c.false_negatives,
            c.false_positives + c.true_negatives,
        )


class PredictedPositiveRate(ConfusionMetric, Proportion):
    """The share of the rows that are called positive, whatever they are.

    `(TP + FP) / (TP + FP + TN + FN)`, in [0, 1]. Neither way is better.
    `zero_division`, 0 unless given, where the denominator is 0. Also called the
    selection rate: its gap between groups of rows is demographic parity.

    Options as in `ConfusionMetric`.

    Example:
      >>> import jaxmetrics as jm
      >>> print(jm.PredictedPositiveRate()(y_true=[0, 0, 0, 1], y_pred=[1, 0, 1, 1]))
      0.75

    References:
      Hardt, Price and Srebro (2016), Equality of opportunity in supervised learning.
    """

    def parts(self, c: Counts) -> tuple[jax.Array, jax.Array]:
        """Rows called positive, and rows called negative."""
        return (
            c.true_positives + c.false_positives,
            c.false_negatives + c.true_negatives,
        )


Specificity = TrueNegativeRate


class BinaryAccuracy(Proportion):
    """The share of the rows that are called right.

    `(TP + TN) / (TP + FP + TN + FN)`, in [0, 1]. Higher is better. `zero_division`, 0
    unless given, when there are no rows.

    Args:
      threshold: A number in [0, 1].
      num_classes: Counts each entry of the last axis, of this size, on its own.
      average: With `num_classes`: None for one value per class, "micro", "macro" or
        "weighted" (by positives).
      from_logits: Scores are logits, and pass through a sigmoid first.
      zero_division: The value of 0/0, 0 unless given.
      name: What errors call the metric.
      dtype: A float dtype for the result.

    Example:
      >>> import jaxmetrics as jm
      >>> print(jm.BinaryAccuracy()(y_true=[0, 1, 1, 1], y_pred=[0.1, 0.2, 0.7, 0.9]))
      0.75

    References:
      Keras, `keras.metrics.BinaryAccuracy`; scikit-learn, `accuracy_score`.
    """

    threshold: float = 0.5

    def checked(self) -> dict[str, Any]:
        """Checks the threshold."""
        return {
            **super().checked(),
            "threshold": checks.fraction(self.threshold, "threshold"),
        }

    @property
    def accumulator(self) -> ConfusionCounts:
        """Counts at the threshold."""
        return ConfusionCounts(
            self.threshold, num_classes=self.num_classes, from_logits=self.from_logits
        )

    def parts(self, c: Counts) -> tuple[jax.Array, jax.Array]:
        """What is called right, and what is called wrong."""
        return (
            c.true_positives + c.true_negatives,
            c.false_positives + c.false_negatives,
        )
