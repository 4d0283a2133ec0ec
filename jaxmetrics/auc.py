"""Areas under curves through the points at a few thresholds, as Keras has them.

They are read from `ConfusionCounts` at a grid of thresholds. A threshold at or below
every score ("everything is positive") and one above ("nothing is") end the curves, so
that scores of exactly 0 and 1 count.

A binned area is as good as its grid: where scores crowd between two thresholds, it is
not, and `AUROC` is. `summation_method` "minoring" and "majoring" bound the error.
"""

import math
from dataclasses import KW_ONLY
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxmetrics import checks
from jaxmetrics.checks import Mismatch, WrongKind
from jaxmetrics.counts import ConfusionCounts
from jaxmetrics.grids import with_ends
from jaxmetrics.metric import Readout
from jaxmetrics.numerics import divide
from jaxmetrics.ratios import false_positive_rate, precision, recall
from jaxmetrics.thresholds import EvenGrid
from jaxmetrics.totals import Counts

__all__ = ["AUC"]


def _grid(num_thresholds: int, thresholds: Any) -> Any:
    """What `ConfusionCounts` takes: an even grid by its number, others as they are."""
    return EvenGrid(num_thresholds) if thresholds is None else thresholds


_METHODS = ("interpolation", "minoring", "majoring")

# --- areas ---------------------------------------------------------------------------


class AUC(Readout):
    """The area under the ROC, precision-recall or precision-recall-gain curve.

    The counts at T thresholds give points of the curve; the area between two points is
    summed by one of three rules. In [0, 1]; higher is better; 0.5 is a coin under ROC.

    * ROC: `sum_i (FPR_i - FPR_{i+1}) * m(TPR_i, TPR_{i+1})`, with `m` the mean
      (interpolation), the minimum (minoring) or the maximum (majoring).
    * PR: with interpolation, true positives are taken to grow linearly with all
      positives between two points, and precision follows (Davis and Goadrich). The
      others are `sum_i (R_i - R_{i+1}) * m(P_i, P_{i+1})`.
    * PRGAIN: as ROC, over recall gain `1 - (P/N) FN/TP` and precision gain
      `1 - (P/N) FP/TP`, with P and N the numbers of positives and negatives.

    The area is that of the binned scores. Where scores crowd between two thresholds it
    can be far from the exact one: set `thresholds` where the scores are.

    Args:
      num_thresholds: How many evenly spaced thresholds, at least 2.
      curve: "ROC", "PR" or "PRGAIN".
      summation_method: "interpolation", "minoring" or "majoring".
      thresholds: Thresholds in [0, 1] instead of the even ones; the two ends,
        everything and nothing, are added.
      multi_label: Areas of each label of `(rows, num_labels)`, averaged. Without it,
        all entries count as one binary problem.
      num_labels: The number of labels; needed with `multi_label`, and with
        `label_weights` without it.
      label_weights: One weight of at least 0 for each label: of its area in the
        average with `multi_label`, of its entries otherwise.
      from_logits: Scores are logits, and pass through a sigmoid first.
      zero_division: The area where it does not exist, NaN unless given: without
        positives, and under ROC and PRGAIN without negatives. Labels without an area
        are left out of the average, unless this is a number.
      name: What errors call the metric.
      dtype: A float dtype for the result.

    Example:
      >>> import jaxmetrics as jm
      >>> print(
      ...     jm.AUC(num_thresholds=3)(y_true=[0, 0, 1, 1], y_pred=[0, 0.5, 0.3, 0.9])
      ... )
      0.75

    References:
      Keras, `keras.metrics.AUC`; Davis and Goadrich (2006), The relationship between
      precision-recall and ROC curves; Flach and Kull (2015), Precision-recall-gain
      curves.
    """

    num_thresholds: int = 200
    curve: str = "ROC"
    summation_method: str = "interpolation"
    _: KW_ONLY
    thresholds: Any = None
    multi_label: bool = False
    num_labels: int | None = None
    label_weights: Any = None
    from_logits: bool = False
    zero_division: float = math.nan

    def checked(self) -> dict[str, Any]:
        """Checks every option."""
        curves = ("ROC", "PR", "PRGAIN")
        options = {
            "num_thresholds": checks.integer(self.num_thresholds, "num_thresholds", 2),
            "curve": checks.choice(self.curve, "curve", curves),
            "summation_method": checks.choice(
                self.summation_method, "summation_method", _METHODS
            ),
            "multi_label": checks.boolean(self.multi_label, "multi_label"),
            "num_labels": checks.optional_integer(self.num_labels, "num_labels", 1),
            "zero_division": checks.number(
                self.zero_division, "zero_division", nan=True
            ),
        }
        if self.thresholds is not None:
            options["thresholds"] = checks.fractions(self.thresholds, "thresholds")
        if self.label_weights is not None:
            options["label_weights"] = self._checked_label_weights()
        elif self.multi_label and self.num_labels is None:
            raise WrongKind(
                "multi_label=True needs num_labels, the size of the last axis."
            )
        elif self.num_labels is not None and not self.multi_label:
            raise Mismatch("num_labels needs multi_label=True or label_weights.")
        return {**super().checked(), **options}

    def _checked_label_weights(self) -> tuple[float, ...]:
        weights = tuple(
            checks.number(w, "label_weights")
            for w in checks.numbers(self.label_weights, "label_weights")
        )
        if min(weights) < 0 or not 0 < sum(weights) < math.inf:
            raise Mismatch(
                f"label_weights must not be negative, infinite or all 0; got {weights}."
            )
        if self.num_labels is not None and len(weights) != self.num_labels:
            raise Mismatch(
                f"label_weights must hold num_labels={self.num_labels} weights; "
                f"got {len(weights)}."
            )
        return weights

    @property
    def accumulator(self) -> ConfusionCounts:
        """Counts on the grid, label by label where labels differ."""
        labels = self.num_labels
        if self.label_weights is not None:
            labels = len(self.label_weights)
        return ConfusionCounts(
            _grid(self.num_thresholds, self.thresholds),
            num_classes=labels,
            from_logits=self.from_logits,
        )

    def formula(self, c: Counts) -> jax.Array:
        """The area, or the average of the labels' areas."""
        if self.accumulator.grid_size == 1:
            c = Counts(*(x[None] for x in c))
        if self.thresholds is None:  # the even grid's own 0 and 1 give way to the ends
            c = Counts(*(x[1:-1] for x in c))
        c = with_ends(c)
        weights = None
        if self.label_weights is not None:
            weights = jnp.asarray(
                np.asarray(self.label_weights), c.true_positives.dtype
            )
            if not self.multi_label:
                c = Counts(*(jnp.sum(x * weights[None, :], axis=-1) for x in c))
        area = self._area(c)
        if not self.multi_label:
            return area
        weights = jnp.ones_like(area) if weights is None else weights
        weights = jnp.where(jnp.isnan(area), jnp.zeros_like(weights), weights)
        area = jnp.where(weights > 0, area, jnp.zeros_like(area))
        return divide(jnp.sum(weights * area), jnp.sum(weights), self.zero_division)

    def _area(self, c: Counts) -> jax.Array:
        """The area, for each label, where it exists."""
        positives = c.true_positives[0]
        exists = positives > 0
        if self.curve != "PR":
            exists &= c.false_positives[0] > 0
        if self.curve == "PR" and self.summation_method == "interpolation":
            area = _interpolated_pr_area(c)
        else:
            area = _summed_area(*_CURVES[self.curve](c), self.summation_method)
        return jnp.where(exists, area, jnp.asarray(self.zero_division, area.dtype))


def _roc(c: Counts) -> tuple[jax.Array, jax.Array]:
    """False and true positive rates."""
    return false_positive_rate(c), recall(c)


def _precision_recall(c: Counts) -> tuple[jax.Array, jax.Array]:
    """Recall and precision."""
    return recall(c), precision(c)


def _precision_recall_gain(c: Counts) -> tuple[jax.Array, jax.Array]:
    """Recall gain and precision gain (Flach and Kull, 2015, section 4)."""
    scale = divide(c.true_positives[:1] + c.false_negatives[:1], c.false_positives[:1])
    x = 1 - scale * divide(c.false_negatives, c.true_positives)
    y = 1 - scale * divide(c.false_positives, c.true_positives)
    none = c.true_positives == 0
    x = jnp.where(none, jnp.zeros_like(x), x)
    return jnp.maximum(x, 0), jnp.where(none, jnp.ones_like(y), y)


_CURVES = {"ROC": _roc, "PR": _precision_recall, "PRGAIN": _precision_recall_gain}


def _summed_area(x: jax.Array, y: jax.Array, method: str) -> jax.Array:
    """The area under y over decreasing x."""
    left, right = y[:-1], y[1:]
    heights = {
        "interpolation": (left + right) / 2,
        "minoring": jnp.minimum(left, right),
        "majoring": jnp.maximum(left, right),
    }
    return jnp.sum((x[:-1] - x[1:]) * heights[method], axis=0)


def _interpolated_pr_area(c: Counts) -> jax.Array:
    """Area under precision with TP linear in TP + FP between points.

    On an interval, with P = TP + FP and slope = dTP / dP, precision is
    slope + intercept / P; its integral over recall has the closed form below.
    """
    predicted = c.true_positives + c.false_positives
    gained = c.true_positives[:-1] - c.true_positives[1:]
    slope = divide(gained, predicted[:-1] - predicted[1:])
    intercept = c.true_positives[1:] - slope * predicted[1:]
    both = (predicted[:-1] > 0) & (predicted[1:] > 0)
    ratio = jnp.where(both, divide(predicted[:-1], predicted[1:]), jnp.ones_like(slope))
    area = slope * (gained + intercept * jnp.log(ratio))
    return divide(jnp.sum(area, axis=0), c.true_positives[0] + c.false_negatives[0])
