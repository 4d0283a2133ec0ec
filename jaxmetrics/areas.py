"""Areas under curves of all scores, each with a bound on its own error.

All are read from `ScoreHistogram`, so they share a state. Between cells the order of
rows is known exactly. Inside a cell it is estimated: from the offsets of positives and
negatives there, or as a tie where all have one score. What any other order inside cells
could change is the error bound.
"""

import abc
import functools
import math
from dataclasses import KW_ONLY
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxmetrics import checks
from jaxmetrics.checks import Mismatch
from jaxmetrics.eager import reading
from jaxmetrics.intervals import Interval, logit_interval, normal_quantile
from jaxmetrics.metric import Readout
from jaxmetrics.numerics import divide
from jaxmetrics.ranks import Ranks
from jaxmetrics.ratios import average_options, averaged, refuse_average
from jaxmetrics.scores import ScoreData, ScoreHistogram
from jaxmetrics.state import State

__all__ = ["AUROC", "AveragePrecision", "PartialAUROC"]

ROUNDING = 2.0**-20  # what float32 arithmetic may add to an error


class Area(NamedTuple):
    """An area as cells contribute to it: estimated, and within what any order gives."""

    lowest: jax.Array
    estimate: jax.Array
    highest: jax.Array


class _ScoreArea(Readout):
    """An area under a curve, averaged over classes where there are several."""

    _: KW_ONLY
    num_cells: int | None = None
    class_id: int | None = None
    num_classes: int | None = None
    average: str | None = None
    from_logits: bool = False
    weighted: bool = True
    zero_division: float = math.nan

    needs_negatives: ClassVar[bool] = True
    highest: ClassVar[float] = 1.0  # what rounding must not exceed

    def checked(self) -> dict[str, Any]:
        """Checks the options that belong to the read-out."""
        return {
            **super().checked(),
            **average_options(self.average, self.num_classes, self.zero_division),
        }

    @property
    def accumulator(self) -> ScoreHistogram:
        """Scores by fine cells."""
        return ScoreHistogram(
            self.num_cells,
            self.class_id,
            self.num_classes,
            self.from_logits,
            self.weighted,
        )

    @abc.abstractmethod
    def area(self, r: Ranks, unit: jax.Array) -> Area:
        """The area over all cells, and what it lies between.

        Args:
          r: The sums by cell.
          unit: The weight of a typical positive, 1 without weights; `(1,)` or
            `(classes, 1)`.
        """

    def formula(self, value: Any) -> jax.Array:
        """The area, where it exists."""
        r, unit = value
        missing = jnp.asarray(self.zero_division, r.positives.dtype)
        estimate = jnp.clip(self.area(r, unit).estimate, 0, self.highest)
        return jnp.where(self._exists(r), estimate, missing)

    def read(self, data: ScoreData) -> Any:
        """The area, averaged, in the metric's dtype."""
        r, unit = self._ranks(data)
        values = self.formula((r, unit))
        result = averaged(values, r.total[0], self._mean, self.zero_division)
        return result if self.dtype is None else self._cast(result)

    @reading
    def error_bound(self, state: State) -> jax.Array:
        """How far `compute` is at most from the value of the scores themselves.

        A rigorous bound, from the state alone, for scores as they are in float32: what
        the least and the most favourable order of rows inside cells would give, and
        2^-20 for rounding (and the precision of `dtype`). It cannot tell ties from
        scores that are close, so for many equal scores it is far above the error.
        Weights are those that are kept: 48 bits below the largest of a batch.
        Averaged as the value is; NaN where that is.
        """
        r, unit = self._ranks(state.data)
        lowest, estimate, highest = self.area(r, unit)
        error = jnp.maximum(highest - estimate, estimate - lowest) + ROUNDING
        if self.dtype is not None:
            # JAX has no types for it.
            error += float(jnp.finfo(self.dtype).eps)  # type: ignore[no-untyped-call]
        missing = jnp.asarray(self.zero_division * 0, error.dtype)
        error = jnp.where(self._exists(r), error, missing)
        bound = averaged(error, r.total[0], self._mean, self.zero_division * 0)
        poisoned: jax.Array = self.poisoned(bound, state.data)
        return poisoned

    @reading
    def classes_without_value(self, state: State) -> jax.Array:
        """How many classes have no area, for want of positives or of negatives.

        They are left out of averages, unless `zero_division` is a number; int32.
        """
        exists = self._exists(self._ranks(state.data)[0])
        return jnp.sum(~exists, dtype=np.int32)

    @property
    def _mean(self) -> str | None:
        """The average over what is left of the classes."""
        return None if self.average == "micro" else self.average

    def _ranks(self, data: ScoreData) -> tuple[Ranks, jax.Array]:
        pooled = self.average == "micro"
        unit = self.accumulator.typical_weight(data, pooled=pooled)[1]
        return self.accumulator.ranks(data, pooled=pooled), unit[..., None]

    def _exists(self, r: Ranks) -> jax.Array:
        positives, negatives = r.total
        exists = positives > 0
        return exists & (negatives > 0) if self.needs_negatives else exists


class AUROC(_ScoreArea):
    """The area under the ROC curve: how often a positive scores above a negative.

    `(sum over pairs of [s_p > s_n] + [s_p = s_n] / 2) / (P N)`, over the P positives p
    and N negatives n. In [0, 1]; higher is better; 0.5 is a coin.

    Scores are counted in fine cells. Pairs in different cells count exactly; those in
    one count `1/2 + d`, with d the mean distance of positives from negatives in it, as
    a share of the cell. `error_bound(state)` is what this can be wrong by.

    Args:
      num_cells: How many cells for each class, 16,381 unless given (see
        `ScoreHistogram`).
      class_id: Reads this entry of the last axis alone.
      num_classes: One area for each entry of the last axis, of this size, against the
        rest; or with `average` one for all.
      average: "macro" for the mean over the classes, "weighted" for the mean weighted
        by positives, "micro" for all entries as one problem. Classes without positives
        or without negatives are left out, and `classes_without_value` counts them.
      from_logits: Scores are any real numbers instead of in [0, 1].
      weighted: False takes no `sample_weight`, and has twice the cells in the memory.
      zero_division: The area without positives or without negatives, NaN unless given.
      name: What errors call the metric.
      dtype: A float dtype for the result.

    Example:
      >>> import jaxmetrics as jm
      >>> metric = jm.AUROC()
      >>> y_true, y_pred = [0, 0, 1, 1], [0.001, 0.003, 0.002, 0.004]
      >>> print(metric(y_true=y_true, y_pred=y_pred), jm.AUC()(y_true, y_pred))
      0.75 0.5

    References:
      Hanley and McNeil (1982), The meaning and use of the area under a receiver
      operating characteristic curve; scikit-learn, `roc_auc_score`.
    """

    @reading
    def interval(self, state: State, confidence: float = 0.95) -> Interval:
        """A confidence interval for the area, from the state alone (DeLong).

        Its variance is that of the mean over positives of the negatives below each,
        plus that of the mean over negatives of the positives above each. The interval
        is symmetric on the scale of the logit; where the area is 0 or 1, and where all
        scores are equal, no variance is to be seen, and the ends are the area. With
        weights, the numbers of rows are effective ones, `sum(w)^2 / sum(w^2)` (Kish):
        too many, and the interval too narrow, where weights go with the scores.

        Args:
          state: What `update` returned.
          confidence: How often it should hold the area of the population.

        Returns:
          An `Interval`, of the shape of the value. NaN where there is no area, or fewer
          than two positives or negatives; and where squares of weights leave the range
          of float32, beyond 1e19 or below 1e-19.

        Raises:
          TypeError: With an average: classes of the same rows are not independent.

        References:
          DeLong, DeLong and Clarke-Pearson (1988), Comparing the areas under two or
          more correlated receiver operating characteristic curves.
        """
        refuse_average(self.average)
        z = normal_quantile(confidence)
        r = self.accumulator.ranks(state.data)
        units = self.accumulator.typical_weight(state.data)
        numbers = [divide(x, u) for x, u in zip(r.total, units[::-1], strict=True)]
        area = jnp.clip(self.area(r, units).estimate, 0, 1)
        variance = sum(
            divide(spread, number - 1)
            for spread, number in zip(_spreads(r, area), numbers, strict=True)
        )
        known = self._exists(r) & (numbers[0] > 1) & (numbers[1] > 1)
        nan = jnp.full_like(area, jnp.nan)
        error = jnp.where(known, jnp.sqrt(variance), nan)
        found = logit_interval(jnp.where(known, area, nan), error, z)
        poisoned: Interval = self.poisoned(found, state.data)
        return poisoned

    def area(self, r: Ranks, unit: jax.Array) -> Area:
        """Pairs in other cells, and those inside, none, some and all of them won."""
        del unit
        positives, negatives = r.shares
        above = jnp.sum(negatives * r.positives_above_share, axis=-1)
        inside = positives * negatives
        won = jnp.sum(inside * (0.5 + r.shift), axis=-1)
        return Area(above, above + won, above + jnp.sum(inside, axis=-1))


def _spreads(r: Ranks, area: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The variance over positives of the share of negatives below; and the converse.

    Rows that are spread over a cell add a twelfth of its square.
    """
    positives, negatives = r.shares
    won = 0.5 + r.shift
    spread = jnp.where(r.tied, jnp.zeros_like(won), jnp.ones_like(won) / 12)
    above = r.positives_above_share + positives * won - area[..., None]
    below = 1 - r.negatives_above_share - negatives * (1 - won) - area[..., None]
    return (
        jnp.sum(positives * (below**2 + spread * negatives**2), axis=-1),
        jnp.sum(negatives * (above**2 + spread * positives**2), axis=-1),
    )


class PartialAUROC(_ScoreArea):
    """The area under the ROC curve up to a false positive rate, standardised.

    `(1 + (A - m^2 / 2) / (m - m^2 / 2)) / 2`, with A the area from a false positive
    rate of 0 to one of m. So 0.5 is a coin and 1 the best, for every m (McClish). The
    curve is straight across ties; otherwise as under `AUROC`.

    Args:
      max_fpr: The highest false positive rate m, above 0 and at most 1.
      standardized: False for A itself, in [0, m].
      num_cells: How many cells for each class, 16,381 unless given (see
        `ScoreHistogram`).
      class_id: Reads this entry of the last axis alone.
      num_classes: One area for each entry of the last axis, of this size, against the
        rest; or with `average` one for all.
      average: "macro", "weighted" or "micro", as under `AUROC`.
      from_logits: Scores are any real numbers instead of in [0, 1].
      weighted: False takes no `sample_weight`, and has twice the cells in the memory.
      zero_division: The area without positives or without negatives, NaN unless given.
      name: What errors call the metric.
      dtype: A float dtype for the result.

    Example:
      >>> import jaxmetrics as jm
      >>> metric = jm.PartialAUROC(0.5, standardized=False)
      >>> print(metric(y_true=[0, 0, 1, 1], y_pred=[0.1, 0.3, 0.2, 0.4]))
      0.25

    References:
      McClish (1989), Analyzing a portion of the ROC curve; scikit-learn,
      `roc_auc_score` with `max_fpr`.
    """

    max_fpr: float
    _: KW_ONLY
    standardized: bool = True

    def checked(self) -> dict[str, Any]:
        """Checks the rate."""
        max_fpr = checks.fraction(self.max_fpr, "max_fpr")
        if max_fpr < 1e-9:
            raise Mismatch(
                f"max_fpr must be above 0, from 1e-9 to 1; got {self.max_fpr!r}."
            )
        standardized = checks.boolean(self.standardized, "standardized")
        return {**super().checked(), "max_fpr": max_fpr, "standardized": standardized}

    def area(self, r: Ranks, unit: jax.Array) -> Area:
        """Columns over the cells, the one at `max_fpr` cut off."""
        del unit
        positives, negatives = r.shares
        room = self.max_fpr - r.negatives_above_share
        cut = jnp.clip(divide(room, negatives), 0, 1)  # share of the cell's negatives
        width = negatives * cut
        below = jnp.sum(width * r.positives_above_share, axis=-1)
        # The mean of the curve inside a cell, as in `ranks`, up to the cut.
        bend = r.bend + 18 * jnp.clip(r.shift, -1 / 6, 1 / 6) ** 2
        share = cut / 2 + cut * (r.shift * (3 - 2 * cut) + bend * (1 - cut) ** 2 / 2)
        won = jnp.sum(width * positives * jnp.clip(share, 0, 1), axis=-1)
        most = jnp.sum(width * positives, axis=-1)
        areas = below, below + won, below + most
        return Area(*(self._standardised(x) for x in areas))

    def _standardised(self, area: jax.Array) -> jax.Array:
        if not self.standardized:
            return area
        coin = self.max_fpr**2 / 2
        return (1 + (area - coin) / (self.max_fpr - coin)) / 2


class AveragePrecision(_ScoreArea):
    """The mean over the positives of the precision at their score.

    `sum_p TP(s_p) / (TP(s_p) + FP(s_p)) / P`, with TP and FP the positives and
    negatives that score at least `s_p`, over the P positives p. In [0, 1]; higher is
    better; the share of positives is a coin.

    Scores are counted in fine cells, between which all is exact. `error_bound(state)`
    is what the order of rows inside cells can change. Where few positives share the
    highest cell with many negatives, that is much, and no estimate can help.

    Args:
      num_cells: How many cells for each class, 16,381 unless given (see
        `ScoreHistogram`).
      class_id: Reads this entry of the last axis alone.
      num_classes: One value for each entry of the last axis, of this size, against the
        rest; or with `average` one for all.
      average: "macro", "weighted" or "micro", as under `AUROC`; classes without
        positives are left out.
      from_logits: Scores are any real numbers instead of in [0, 1].
      weighted: False takes no `sample_weight`, and has twice the cells in the memory.
      zero_division: The value without positives, NaN unless given.
      name: What errors call the metric.
      dtype: A float dtype for the result.

    Example:
      >>> import jaxmetrics as jm
      >>> metric = jm.AveragePrecision()
      >>> print(metric(y_true=[0, 1, 1, 1], y_pred=[0.4, 0.1, 0.35, 0.8]).round(4))
      0.8056

    References:
      Zhu (2004), Recall, precision and average precision; scikit-learn,
      `average_precision_score`.
    """

    needs_negatives: ClassVar[bool] = False

    def area(self, r: Ranks, unit: jax.Array) -> Area:
        """The mean precision of each cell's positives, times how many they are."""
        true, false = r.positives_above, r.negatives_above
        tied = divide(true + r.positives, true + r.positives + false + r.negatives)
        estimate = jnp.where(r.tied, tied, self._spread(r, unit))
        highest = divide(true + r.positives, true + r.positives + false)
        lowest = self._lowest(r)
        shares, _ = r.shares
        bounded = lowest, jnp.clip(estimate, lowest, highest), highest
        return Area(*(jnp.sum(shares * x, axis=-1) for x in bounded))

    def _spread(self, r: Ranks, unit: jax.Array) -> jax.Array:
        """The mean precision of a cell's positives if its rows are spread over it.

        As the share of its positives grows, that of its negatives is as `ranks` has
        it, with the signs of the other label. Rows of one float32 score are tied, and
        a positive counts itself: so both end half a step later.
        """
        nodes, weights = _gauss_legendre(r.positives.ndim)
        distinct = self.accumulator.cells.distinct().reshape(
            [1] * r.positives.ndim + [-1]
        )
        r, unit = jax.tree.map(lambda x: x[None], (r, unit))
        step = divide(1, np.maximum(distinct, 1))
        shift = jnp.clip(r.shift, -1 / 6, 1 / 6)  # beyond that the curve would fall
        curve = 6 * shift + (r.bend - 18 * shift**2) * (1 - 2 * nodes)
        share = nodes - curve * (nodes * (1 - nodes)) - (r.shift - shift)
        true = r.positives_above + r.positives * nodes
        true += jnp.maximum(unit, r.positives * step) / 2
        false = r.negatives_above + r.negatives * (jnp.clip(share, 0, 1) + step / 2)
        return jnp.sum(weights * divide(true, true + false), axis=0)

    def _lowest(self, r: Ranks) -> jax.Array:
        """The least mean precision: all negatives of the cell score above it.

        The integral of `(T + x) / (T + x + F)` over x up to p, at most the sum over any
        p positives.
        """
        false = r.negatives_above + r.negatives
        whole = r.positives_above + false
        ratio = divide(r.positives, whole)
        # The mean is 0 where all there is so far is nothing beside the positives.
        finite = jnp.isfinite(ratio)
        mean_log = divide(jnp.log1p(ratio), jnp.where(finite, ratio, 1.0), 1.0)
        mean_log = jnp.where(finite, mean_log, jnp.zeros_like(mean_log))
        return 1 - divide(false, whole) * mean_log


@functools.cache
def _gauss_legendre(ndim: int, number: int = 8) -> tuple[np.ndarray, np.ndarray]:
    """Nodes and weights on [0, 1] along a new first axis."""
    nodes, weights = np.polynomial.legendre.leggauss(number)
    shape = number, *[1] * ndim
    return (
        ((nodes + 1) / 2).astype(np.float32).reshape(shape),
        (weights / 2).astype(np.float32).reshape(shape),
    )
