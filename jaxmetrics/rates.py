"""The ratios of counts that several families read: each formula once."""

import jax

from jaxmetrics.counts import Counts
from jaxmetrics.numerics import divide

__all__ = ["false_positive_rate", "precision", "recall", "specificity"]


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


def specificity(c: Counts, zero_division: float = 0.0) -> jax.Array:
    """TN / (TN + FP)."""
    negatives = c.true_negatives + c.false_positives
    return divide(c.true_negatives, negatives, zero_division)
