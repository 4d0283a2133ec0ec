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

from collections.abc import Mapping
from dataclasses import KW_ONLY
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from jaxmetrics import checks
from jaxmetrics.checks import Mismatch, WrongKind
from jaxmetrics.counts import ConfusionCounts, Counts, CountsData
from jaxmetrics.metric import Readout
from jaxmetrics.numerics import divide, read_count
from jaxmetrics.rates import false_positive_rate, precision, recall, specificity

__all__ = [
    "BinaryAccuracy",
    "ConfusionMetric",
    "F1Score",
    "FBetaScore",
    "FalseDiscoveryRate",
    "FalseNegativeRate",
    "FalseNegatives",
    "FalseOmissionRate",
    "FalsePositiveRate",
    "FalsePositives",
    "NegativePredictiveValue",
    "Precision",
    "Prevalence",
    "Recall",
    "Specificity",
    "TrueNegativeRate",
    "TrueNegatives",
    "TruePositives",
]

AVERAGES = (None, "micro", "macro", "weighted")


def _ordered(thresholds: Any) -> tuple[float, ...] | None:
    return None if thresholds is None else checks.fractions(thresholds, "thresholds")


def _counts_at(
    accumulator: ConfusionCounts, data: CountsData, thresholds: tuple[float, ...] | None
) -> tuple[jax.Array, jax.Array]:
    """Words and two-floats `(2, 4, thresholds, classes)` in the order asked for."""
    words, weights = accumulator.totals(data)
    if thresholds is None or len(thresholds) == 1:
        return words, weights
    order = accumulator.order(thresholds)
    return jnp.take(words, order, axis=2), jnp.take(weights, order, axis=2)


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
        return {**super().checked(), "thresholds": _ordered(self.thresholds)}

    @property
    def accumulator(self) -> ConfusionCounts:
        """Counts at the thresholds."""
        return ConfusionCounts(
            self.thresholds, num_classes=self.num_classes, from_logits=self.from_logits
        )

    def read(self, data: CountsData) -> jax.Array:
        """The count in the metric's dtype, without passing through a float."""
        words, weights = _counts_at(self.accumulator, data, self.thresholds)
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


class _Ratio(Readout):
    """A formula over the counts, averaged over classes where there are several."""

    _: KW_ONLY
    num_classes: int | None = None
    average: str | None = None
    from_logits: bool = False
    zero_division: float = 0.0

    def checked(self) -> dict[str, Any]:
        """Checks the options that belong to the read-out."""
        average = checks.choice(self.average, "average", AVERAGES)
        if average is not None and self.num_classes is None:
            raise WrongKind(f"average={average!r} needs num_classes.")
        zero_division = checks.number(self.zero_division, "zero_division", nan=True)
        return {**super().checked(), "average": average, "zero_division": zero_division}

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
        words, weights = _counts_at(self.accumulator, data, self._order)
        counts = self.accumulator.squeezed(read_count(words, weights, None))
        result = self._averaged(Counts(*counts))
        return result if self.dtype is None else jax.tree.map(self._cast, result)

    def _averaged(self, c: Counts) -> Any:
        if self.average == "micro":
            return self.formula(Counts(*(jnp.sum(x, axis=-1) for x in c)))
        values = self.formula(c)
        if self.average is None:
            return values
        weight = c.true_positives + c.false_negatives
        weight = weight if self.average == "weighted" else jnp.ones_like(weight)
        weight = jnp.where(jnp.isnan(values), jnp.zeros_like(weight), weight)
        values = jnp.where(weight > 0, values, jnp.zeros_like(values))
        total = jnp.sum(weight, axis=-1)
        return divide(jnp.sum(weight * values, axis=-1), total, self.zero_division)


class ConfusionMetric(_Ratio):
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
        return {**super().checked(), "thresholds": _ordered(self.thresholds)}

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


class Precision(ConfusionMetric):
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

    def formula(self, c: Counts) -> jax.Array:
        """TP / (TP + FP)."""
        return precision(c, self.zero_division)


class Recall(ConfusionMetric):
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

    def formula(self, c: Counts) -> jax.Array:
        """TP / (TP + FN)."""
        return recall(c, self.zero_division)


class FalseNegativeRate(ConfusionMetric):
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

    def formula(self, c: Counts) -> jax.Array:
        """FN / (FN + TP)."""
        return self.ratio(c.false_negatives, c.false_negatives + c.true_positives)


class FalsePositiveRate(ConfusionMetric):
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

    def formula(self, c: Counts) -> jax.Array:
        """FP / (FP + TN)."""
        return false_positive_rate(c, self.zero_division)


class TrueNegativeRate(ConfusionMetric):
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

    def formula(self, c: Counts) -> jax.Array:
        """TN / (TN + FP)."""
        return specificity(c, self.zero_division)


class NegativePredictiveValue(ConfusionMetric):
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

    def formula(self, c: Counts) -> jax.Array:
        """TN / (TN + FN)."""
        return self.ratio(c.true_negatives, c.true_negatives + c.false_negatives)


class FalseDiscoveryRate(ConfusionMetric):
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

    def formula(self, c: Counts) -> jax.Array:
        """FP / (FP + TP)."""
        return self.ratio(c.false_positives, c.false_positives + c.true_positives)


class FalseOmissionRate(ConfusionMetric):
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

    def formula(self, c: Counts) -> jax.Array:
        """FN / (FN + TN)."""
        return self.ratio(c.false_negatives, c.false_negatives + c.true_negatives)


class Prevalence(ConfusionMetric):
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

    def formula(self, c: Counts) -> jax.Array:
        """(TP + FN) / (TP + FP + TN + FN)."""
        return self.ratio(c.true_positives + c.false_negatives, c.total)


Specificity = TrueNegativeRate


class BinaryAccuracy(_Ratio):
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

    def formula(self, c: Counts) -> jax.Array:
        """(TP + TN) / all."""
        return divide(c.true_positives + c.true_negatives, c.total, self.zero_division)


class _FScore(_Ratio):
    """A weighted harmonic mean of precision and recall."""

    @property
    def _threshold(self) -> float | None:
        # Declared by the subclasses, where Keras has it at different places.
        return self.threshold  # type: ignore[attr-defined, no-any-return]

    def checked(self) -> dict[str, Any]:
        """Checks the threshold."""
        options = super().checked()
        if self._threshold is not None:
            options["threshold"] = checks.fraction(self._threshold, "threshold")
        return options

    @property
    def accumulator(self) -> ConfusionCounts:
        """Counts at the threshold, or of the highest score of each row."""
        highest = self._threshold is None and self.num_classes is not None
        return ConfusionCounts(
            self._threshold,
            num_classes=self.num_classes,
            from_logits=self.from_logits,
            highest_only=highest,
        )

    def admit(self, inputs: Mapping[str, Any]) -> None:
        """Refuses several classes where they would be counted as one by default."""
        true, shape = (np.shape(inputs.get(x, 0)) for x in ("y_true", "y_pred"))
        if self.num_classes or self._threshold is not None or len(shape) < 2:
            return
        if shape[-1] > 1:
            raise Mismatch(
                f"scores of several classes need num_classes={shape[-1]}, or "
                f"threshold=0.5 to count all entries alike; got y_true {true} and y_pred "
                f"{shape}."
            )

    def _f_score(self, c: Counts, beta: float) -> jax.Array:
        square = beta**2
        hits = (1 + square) * c.true_positives
        misses = square * c.false_negatives + c.false_positives
        return divide(hits, hits + misses, self.zero_division)


class FBetaScore(_FScore):
    """The weighted harmonic mean of precision and recall.

    `(1 + b^2) TP / ((1 + b^2) TP + b^2 FN + FP)`, in [0, 1]; `b` says how many times as
    much recall weighs as precision. Higher is better. `zero_division`, 0 unless given,
    where there are neither positives nor positive predictions.

    Args:
      average: With `num_classes`: None for one value per class, "micro", "macro" or
        "weighted" (by positives).
      beta: Above 0; 1 gives F1.
      threshold: A number in [0, 1]. Unless given: 0.5, or with `num_classes` only the
        highest score of each row is positive.
      num_classes: Reads scores `(..., num_classes)`, each class on its own. Without it
        scores are binary; those of several classes are refused, unless a threshold
        says that all entries count alike.
      from_logits: Scores are logits, and pass through a sigmoid first.
      zero_division: The value of 0/0, 0 unless given.
      name: What errors call the metric.
      dtype: A float dtype for the result.

    Example:
      >>> import jaxmetrics as jm
      >>> print(jm.FBetaScore(beta=2.0)(y_true=[1, 1, 0], y_pred=[0.9, 0.2, 0.8]))
      0.5

    References:
      van Rijsbergen (1979), Information Retrieval; Keras, `keras.metrics.FBetaScore`.
    """

    average: str | None = None
    beta: float = 1.0
    threshold: float | None = None

    def checked(self) -> dict[str, Any]:
        """Checks beta."""
        beta = checks.number(self.beta, "beta")
        if beta <= 0:
            raise Mismatch(f"beta must be above 0; got {self.beta!r}.")
        return {**super().checked(), "beta": beta}

    def formula(self, c: Counts) -> jax.Array:
        """The F score with this beta."""
        return self._f_score(c, self.beta)


class F1Score(_FScore):
    """The harmonic mean of precision and recall.

    `2 TP / (2 TP + FN + FP)`, in [0, 1]. Higher is better. `zero_division`, 0 unless
    given, where there are neither positives nor positive predictions.

    Args:
      average: With `num_classes`: None for one value per class, "micro", "macro" or
        "weighted" (by positives).
      threshold: A number in [0, 1]. Unless given: 0.5, or with `num_classes` only the
        highest score of each row is positive.
      num_classes: Reads scores `(..., num_classes)`, each class on its own. Without it
        scores are binary; those of several classes are refused, unless a threshold
        says that all entries count alike.
      from_logits: Scores are logits, and pass through a sigmoid first.
      zero_division: The value of 0/0, 0 unless given.
      name: What errors call the metric.
      dtype: A float dtype for the result.

    Example:
      >>> import jaxmetrics as jm
      >>> print(jm.F1Score()(y_true=[1, 1, 0], y_pred=[0.9, 0.2, 0.8]))
      0.5

    References:
      van Rijsbergen (1979), Information Retrieval; Keras, `keras.metrics.F1Score`.
    """

    average: str | None = None
    threshold: float | None = None

    def formula(self, c: Counts) -> jax.Array:
        """The F score with beta 1."""
        return self._f_score(c, 1.0)
