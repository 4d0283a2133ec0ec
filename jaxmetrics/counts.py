"""The accumulator of counts at thresholds, which confusion metrics and curves share.

Each row falls into one cell: its class, its label, and how many thresholds lie below
its score. All four counts at all thresholds are sums of cells.
"""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike

from jaxmetrics import checks
from jaxmetrics.accumulator import Accumulator, Groups
from jaxmetrics.binary import (
    Entries,
    entries_of,
    is_nan,
    never,
    rows_of,
    widened,
)
from jaxmetrics.checks import Mismatch
from jaxmetrics.groups import Terms, tally_groups
from jaxmetrics.histogram import Rows, Tally, present, tally
from jaxmetrics.lanes import as_rows
from jaxmetrics.limbs import max_weight
from jaxmetrics.numerics import (
    add_batch,
    add_pairs,
    add_two_floats,
    added,
    divide,
    read_count,
    scale_two_floats,
    words_from_counts,
    words_to_two_floats,
)
from jaxmetrics.poisson import poisson_words
from jaxmetrics.thresholds import (
    EvenGrid,
    even_thresholds,
    normal_grid,
    thresholds_below,
)
from jaxmetrics.totals import Counts, four_counts

__all__ = ["ConfusionCounts"]


class CountsData(NamedTuple):
    """What `ConfusionCounts` keeps, packed into two leaves.

    The cells of a `(classes, 2, thresholds + 1)` table, flattened: class, label, and
    number of thresholds below the score. After the counts come the three flags, and
    after the weights the sum of their squares.
    """

    counts: jax.Array  # uint32 (2, cells + 3): exact words
    weights: jax.Array  # float32 (2, cells + 1): two-floats


class ConfusionCounts(Accumulator):
    """True and false positives and negatives at thresholds.

    Counts are exact below 2^53; weighted rows are summed apart, as two-floats, and both
    may be mixed. Of each weight the 48 bits below the largest of its batch are kept; by
    slice and in a batch of more than 32,768 rows at least 39, and of its square 24. As
    a metric its value is a `Counts`, the start of metrics of one's own:
    `ConfusionCounts().map(function)`.

    Args:
      thresholds: A number in [0, 1] or several, kept in increasing order; 0.5 unless
        given. With `top_k` alone, whatever is among the top k is positive.
      top_k: Only the k highest scores of the last axis may be positive; of equal scores
        the first.
      class_id: Counts this entry of the last axis alone.
      num_classes: Counts every entry of the last axis, of this size, on its own.
      from_logits: Scores are logits, and pass through a sigmoid first.
      highest_only: Only the highest scores of the last axis are positive, all of them
        where several are equal; no thresholds then.

    Its counts are 0 when there is nothing, and NaN once a NaN, a label other than 0
    and 1 or a negative weight has come.

    Example:
      >>> import jaxmetrics as jm
      >>> counts = jm.ConfusionCounts()(y_true=[0, 1, 1, 1], y_pred=[1, 0, 1, 1])
      >>> print(counts.true_positives, counts.false_negatives)
      2.0 1.0
    """

    thresholds: Any = None
    top_k: int | None = None
    class_id: int | None = None
    num_classes: int | None = None
    from_logits: bool = False
    highest_only: bool = False

    def checked(self) -> dict[str, Any]:
        """Checks every option and brings equal accumulators to one form."""
        classes = checks.class_options(self.class_id, self.num_classes)
        if self.highest_only and (self.thresholds, self.top_k) != (None, None):
            raise Mismatch("highest_only takes neither thresholds nor top_k.")
        selects = self.top_k is not None or self.highest_only
        return {
            "thresholds": self._checked_grid(selects=selects),
            "top_k": checks.optional_integer(self.top_k, "top_k", 1),
            **classes,
            "from_logits": checks.boolean(self.from_logits, "from_logits"),
            "highest_only": checks.boolean(self.highest_only, "highest_only"),
        }

    def _checked_grid(self, *, selects: bool) -> Any:
        if isinstance(self.thresholds, EvenGrid):
            return EvenGrid(checks.integer(self.thresholds.number, "num_thresholds", 2))
        if self.thresholds is None:
            return None if selects else (0.5,)
        return normal_grid(checks.fractions(self.thresholds, "thresholds"))

    @property
    def grid(self) -> EvenGrid | tuple[float, ...]:
        """The thresholds, sorted; what was selected lies above minus infinity."""
        return (-np.inf,) if self.thresholds is None else self.thresholds

    @property
    def grid_size(self) -> int:
        """The number of thresholds."""
        return self.grid.number if isinstance(self.grid, EvenGrid) else len(self.grid)

    @property
    def threshold_values(self) -> tuple[float, ...]:
        """The thresholds, increasing."""
        return (
            even_thresholds(self.grid.number)
            if isinstance(self.grid, EvenGrid)
            else self.grid
        )

    @property
    def _looks_across(self) -> bool:
        """Whether the entries of a row are selected or compared with each other."""
        return self.highest_only or (self.top_k, self.class_id) != (None, None)

    @property
    def _shape(self) -> tuple[int, int, int]:
        return self.num_classes or 1, 2, self.grid_size + 1

    def empty(self) -> CountsData:
        """Nothing counted."""
        cells = math.prod(self._shape)
        return CountsData(
            jnp.zeros((2, cells + 3), jnp.uint32),
            jnp.zeros((2, cells + 1), jnp.float32),
        )

    def measure(
        self,
        y_true: ArrayLike,
        y_pred: ArrayLike,
        sample_weight: ArrayLike | None = None,
        *,
        mask: ArrayLike | None = None,
    ) -> CountsData:
        """The counts of one batch.

        Args:
          y_true: Labels, 0 or 1 or boolean, of any shape.
          y_pred: Scores of that shape; an axis of size 1 at the end of either goes.
          sample_weight: A scalar, that shape with any axis 1, or its leading axes.
          mask: Boolean, as `sample_weight`; True keeps. What is masked may hold NaN.
        """
        sums = self._tally(y_true, y_pred, sample_weight, mask=mask)
        counts = words_from_counts(jnp.concatenate([sums.counts, sums.flags]))
        if sums.weights is None:
            return CountsData(counts, self.empty().weights)
        return CountsData(counts, jnp.stack(sums.weights_and_square))

    def extend(self, data: CountsData, /, *args: Any, **kwargs: Any) -> CountsData:
        """As `combine` with `measure`; what a batch cannot change is not touched."""
        self.check_call(args, kwargs)
        sums = self._tally(*args, **kwargs)
        counts = add_batch(data.counts, jnp.concatenate([sums.counts, sums.flags]))
        if sums.weights is None:
            return CountsData(counts, data.weights)
        weights = add_pairs(data.weights, sums.weights_and_square)
        return CountsData(counts, jnp.stack(weights))

    def measure_groups(self, group: jax.Array, groups: int, **inputs: Any) -> Groups:
        """The counts of each group of rows, in one sweep."""
        batch = self._entries(**inputs, group=group)

        def terms(batch: Any) -> Terms:
            _, _, weight, keep, group = batch[0]
            return Terms(weight, keep, group)

        sums = tally_groups(
            self._rows,
            batch,
            groups=groups,
            cells=math.prod(self._shape),
            flags=3,
            terms=None if batch[0].weight is None else terms,
            squares=True,
        )
        counts = words_from_counts(jnp.concatenate([sums.counts, sums.flags], axis=1))
        if sums.weights is None:
            weights = jnp.zeros((2, groups, math.prod(self._shape) + 1), jnp.float32)
        else:
            weights = jnp.stack(sums.weights_and_square)
        data = CountsData(jnp.moveaxis(counts, 1, 0), jnp.moveaxis(weights, 1, 0))
        one_each = jnp.shape(inputs["y_true"]) == group.shape
        return Groups(data, sums.rows if one_each else None)

    def _tally(
        self,
        y_true: ArrayLike,
        y_pred: ArrayLike,
        sample_weight: ArrayLike | None = None,
        *,
        mask: ArrayLike | None = None,
    ) -> Tally:
        """Counts one batch by cell."""
        batch = self._entries(y_true, y_pred, sample_weight, mask)
        weight, keep = batch[0].weight, batch[0].keep
        scale = None if weight is None else max_weight(weight, keep)
        cells = math.prod(self._shape)
        return tally(self._rows, batch, cells=cells, flags=3, scale=scale, squares=True)

    def _entries(
        self,
        y_true: ArrayLike,
        y_pred: ArrayLike,
        sample_weight: ArrayLike | None = None,
        mask: ArrayLike | None = None,
        group: jax.Array | None = None,
    ) -> tuple[Entries, jax.Array | None]:
        """The batch as rows, and which of them are selected."""
        entries = entries_of(
            y_true,
            y_pred,
            sample_weight,
            mask,
            group,
            top_k=self.top_k,
            class_id=self.class_id,
            num_classes=self.num_classes,
            whole_rows=self._looks_across,
        )
        here = present(entries.weight, entries.keep)
        selected = self._selected(entries.pred, here)
        if selected is not None and self.class_id is not None:
            entries = entries._replace(pred=_nan_where_any(entries.pred, here))
        batch = entries, selected
        if self.class_id is not None:
            batch = jax.tree.map(lambda x: x[..., self.class_id], batch)
        rows: tuple[Entries, jax.Array | None] = as_rows(batch, self.num_classes)
        return rows

    def _selected(self, pred: jax.Array, keep: jax.Array | None) -> jax.Array | None:
        """Which scores may be positive: the top k, or the highest; None for all.

        What is masked or has weight 0 does not compete.
        """
        if self.top_k is None and not self.highest_only:
            return None
        if not pred.ndim:
            raise Mismatch("an axis of classes is needed; got y_pred ().")
        pred = widened(pred)
        if keep is not None:
            pred = jnp.where(keep, pred, np.float32(-np.inf))
        if self.highest_only:
            highest = pred >= jnp.max(pred, axis=-1, keepdims=True)
            if self.from_logits:
                return highest
            # Keras's rule: all that equal the highest, unless that is zero.
            return highest & (jnp.abs(pred) > 1e-9)
        pred = jnp.where(pred == 0, np.float32(0), pred)  # for top_k, -0.0 is less
        _, top = lax.top_k(pred, self.top_k or 1)
        places = lax.broadcasted_iota(jnp.int32, (*top.shape, pred.shape[-1]), top.ndim)
        return jnp.any(top[..., None] == places, axis=-2)

    def _rows(self, batch: tuple[Entries, jax.Array | None]) -> Rows:
        """The cell of each entry; what cannot be counted is flagged instead."""
        entries, selected = batch
        below, unusual = self._place(entries.pred)
        if selected is not None:
            below *= selected.astype(jnp.int32)
        return rows_of(entries, below, unusual, places=self.grid_size + 1)

    def _place(self, pred: jax.Array) -> tuple[jax.Array, jax.Array]:
        """How many thresholds are below each score; whether it is outside [0, 1]."""
        if pred.dtype == jnp.bool_:
            return pred.astype(jnp.int32) * self.grid_size, never(pred)
        score = widened(pred)
        unusual = never(pred) if self.from_logits else (score < 0) | (score > 1)
        if self.thresholds is None:  # whatever is selected
            return lax.full_like(score, 1, jnp.int32), unusual
        if self.from_logits:
            score = jax.nn.sigmoid(score)
        return thresholds_below(score, self.grid), unusual

    def decayed(self, data: CountsData, factor: jax.Array) -> CountsData:
        """Every row as one of less weight."""
        cells = words_to_two_floats(data.counts[:, :-3])
        square = words_to_two_floats(added(data.counts[:, :-3], 1)[:, None])
        rows = jnp.concatenate([cells, square], axis=1)
        weights = add_two_floats(data.weights, rows)
        weights = scale_two_floats(weights, factor)
        square = scale_two_floats(weights[:, -1:], factor)  # of weights, once more
        weights = jnp.concatenate([weights[:, :-1], square], axis=1)
        counts = data.counts.at[:, :-3].set(np.uint32(0))
        return CountsData(counts, weights)

    @property
    def can_resample(self) -> bool:
        """Unless a row counts in several classes, which depend on each other."""
        return self.num_classes is None

    def resampled(self, data: CountsData, key: jax.Array) -> CountsData:
        """One draw for each cell."""
        cells = poisson_words(key, data.counts[:, :-3])
        counts = jnp.concatenate([cells, data.counts[:, -3:]], axis=1)
        # What rows with weights would have been cannot be told from their sums.
        weighted = jnp.any(data.weights != 0).astype(jnp.uint32)
        return CountsData(counts.at[0, -3].add(weighted), data.weights)

    def flags(self, data: CountsData) -> jax.Array:
        """Words of the bad-value counters."""
        return data.counts[:, -3:]

    def tables(self, data: CountsData) -> tuple[jax.Array, jax.Array]:
        """Words and two-floats of the cells, each `(2, classes, 2, thresholds + 1)`."""
        words = data.counts[:, :-3].reshape(2, *self._shape)
        return words, data.weights[:, :-1].reshape(2, *self._shape)

    def typical_weight(self, data: CountsData) -> jax.Array:
        """`sum(w^2) / sum(w)` of all rows; exactly 1 if none came with a weight.

        A sum of weights over it is the effective number of rows (Kish).
        """
        words, weights = (x.reshape(2, -1) for x in self.tables(data))
        rows = added(words, 1)  # each of weight 1
        square = read_count(rows, data.weights[:, -1], None)
        return divide(square, read_count(rows, added(weights, 1), None), jnp.nan)

    def totals(self, data: CountsData) -> tuple[jax.Array, jax.Array]:
        """Words and two-floats of the four counts, each `(2, 4, thresholds, classes)`.

        In the order of `Counts`.
        """
        return four_counts(*self.tables(data))

    def value(self, data: CountsData) -> Counts:
        """The four counts as floats, thresholds increasing."""
        words, weights = self.totals(data)
        return Counts(*self.squeezed(read_count(words, weights, None)))

    def at_thresholds(self, data: CountsData) -> Counts:
        """The same, with the axis of thresholds even for a single one."""
        c = self.value(data)
        return Counts(*(x[None] for x in c)) if self.grid_size == 1 else c

    def order(self, thresholds: tuple[float, ...]) -> np.ndarray:
        """Where these thresholds are on the sorted grid."""
        return np.searchsorted(self.threshold_values, thresholds)

    def squeezed(self, x: jax.Array) -> jax.Array:
        """`(4, thresholds, classes)` without the axes that were not asked for."""
        if self.num_classes is None:
            x = x[..., 0]
        return x[:, 0] if x.shape[1] == 1 else x


def _nan_where_any(pred: jax.Array, keep: jax.Array | None) -> jax.Array:
    """NaN for a row in which any score is: it could have taken the selected place."""
    nan = is_nan(pred) if keep is None else is_nan(pred) & keep
    any_nan = jnp.any(nan, axis=-1, keepdims=True)
    return jnp.where(any_nan, np.float32(np.nan), widened(pred))
