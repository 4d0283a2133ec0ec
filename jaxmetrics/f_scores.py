"""Weighted harmonic means of precision and recall."""

from collections.abc import Mapping
from typing import Any

import jax

from jaxmetrics import checks
from jaxmetrics.checks import Mismatch
from jaxmetrics.counts import ConfusionCounts
from jaxmetrics.numerics import divide
from jaxmetrics.ratios import Ratio
from jaxmetrics.totals import Counts

__all__ = ["F1Score", "FBetaScore"]


_INPUTS = ("y_true", "y_pred")


class _FScore(Ratio):
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
        if self.num_classes or self._threshold is not None:
            return
        true, shape = (checks.array(inputs.get(x, 0), x).shape for x in _INPUTS)
        if len(shape) < 2:
            return
        if shape[-1] > 1 and true == shape:  # others disagree, and are told so
            raise Mismatch(
                f"scores of several classes need num_classes={shape[-1]}, or "
                f"threshold=0.5 to count all entries alike; got y_true {true} and "
                f"y_pred {shape}."
            )

    def _f_score(self, c: Counts, beta: float) -> jax.Array:
        missed = beta**2 / (1 + beta**2) * c.false_negatives
        false = 1 / (1 + beta**2) * c.false_positives
        hits = c.true_positives
        return divide(hits, hits + missed + false, self.zero_division)


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
        if not 0 < beta < 1e100:  # its square is still a number
            raise Mismatch(f"beta must be above 0 and finite; got {self.beta!r}.")
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
