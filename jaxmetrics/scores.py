"""The accumulator of scores of positives and of negatives, by fine cells.

It counts, in each cell of `score_cells`, the rows of either label, and sums their
offsets inside the cell. From these come areas under curves with an error bound, curves
with thousands of points, and whatever is read off curves.
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
    never,
    rows_of,
    widened,
)
from jaxmetrics.checks import Mismatch, WrongKind
from jaxmetrics.groups import Part, Terms, tally_pairs_of_groups, tally_parts
from jaxmetrics.histogram import Rows, add_pairs_of, tally_pairs
from jaxmetrics.lanes import as_rows
from jaxmetrics.numerics import (
    add_counts,
    add_two_floats,
    added,
    carry,
    counts_from_words,
    cumulative_two_floats,
    divide,
    read_count,
    scale_two_floats,
    words_from_counts,
    words_to_float,
    words_to_two_floats,
)
from jaxmetrics.poisson import poisson_words, shifted_words
from jaxmetrics.ranks import Ranks, ranks_of
from jaxmetrics.score_cells import LEVELS, ScoreCells
from jaxmetrics.totals import Counts, four_counts

__all__ = ["ScoreHistogram"]

CELLS = 2**14 - 3  # of all classes; 64 bytes each with weights
LEAST_CELLS = 255  # of one class
MOST_CELLS = 2**22  # of both labels: their place and a level fit 31 bits
_FLAGS = 3


class ScoreData(NamedTuple):
    """What `ScoreHistogram` keeps, packed into one or two leaves.

    Cells of a table `(classes, 2, cells)`, flattened: class, label, cell of the score.
    Of each the rows and the sum of their levels inside the cell. Behind the table comes
    a 0, and then the flags: rows with NaN, rows with bad labels or weights, and rows
    with weights whose score is outside [0, 1].

    Rows with weights are summed apart: `(2, classes, 2, cells)`, the weights and then
    their offsets as shares of the cell; and the squares by class and label.
    """

    counts: jax.Array  # uint32 (2, table + 4, 2): exact words
    weights: jax.Array | None  # float32 (2, 2 * table + 2 * classes): two-floats


class ScoreHistogram(Accumulator):
    """How many positives and negatives have which scores.

    Cells are fine where scores crowd: evenly spaced, and spaced evenly in the logarithm
    of the score and of its distances to 1/2 and to 1, of logits of that to 0. Counts
    are exact below 2^53; weighted rows are summed apart, as two-floats, and both may be
    mixed. Of each weight the 48 bits below the largest of its batch are kept. Scores
    are compared as float32.

    Args:
      num_cells: How many cells for each class, at least 15. Unless given, 16,381 shared
        by all classes, but at least 255 for each; twice as many without weights.
      class_id: Reads this entry of the last axis alone.
      num_classes: Keeps every entry of the last axis, of this size, on its own.
      from_logits: Scores are any real numbers; without it they are in [0, 1].
      weighted: Whether `sample_weight` may come. False halves the memory of a cell.

    As a metric its value is a `Ranks`, the start of metrics of one's own: sums are 0
    when there is nothing, and NaN once a NaN or an impossible label has come.

    Example:
      >>> import jaxmetrics as jm
      >>> ranks = jm.ScoreHistogram()(y_true=[0, 1, 1], y_pred=[0.2, 0.1, 0.9])
      >>> print(ranks.positives.sum(), ranks.negatives.sum())
      2.0 1.0
    """

    num_cells: int | None = None
    class_id: int | None = None
    num_classes: int | None = None
    from_logits: bool = False
    weighted: bool = True

    def checked(self) -> dict[str, Any]:
        """Checks every option."""
        options = checks.class_options(self.class_id, self.num_classes)
        classes = options["num_classes"] or 1
        weighted = checks.boolean(self.weighted, "weighted")
        number = self.num_cells
        if number is None:
            share = CELLS if weighted else 2 * CELLS + 1
            number = max(LEAST_CELLS, share // classes)
        number = checks.integer(number, "num_cells", 15)
        if 2 * classes * number > MOST_CELLS:
            raise Mismatch(
                f"{classes} classes of num_cells={number} are more than "
                f"{MOST_CELLS // 2} cells in all; give fewer cells."
            )
        return {
            "num_cells": number,
            **options,
            "from_logits": checks.boolean(self.from_logits, "from_logits"),
            "weighted": weighted,
        }

    @property
    def cells(self) -> ScoreCells:
        """Where scores fall."""
        return ScoreCells(self.num_cells or CELLS, self.from_logits)

    @property
    def _shape(self) -> tuple[int, int, int]:
        return self.num_classes or 1, 2, self.cells.number

    def empty(self) -> ScoreData:
        """Nothing seen."""
        table, labels = math.prod(self._shape), math.prod(self._shape[:2])
        counts = jnp.zeros((2, table + 1 + _FLAGS, 2), jnp.uint32)
        if not self.weighted:
            return ScoreData(counts, None)
        return ScoreData(counts, jnp.zeros((2, 2 * table + labels), jnp.float32))

    def measure(
        self,
        y_true: ArrayLike,
        y_pred: ArrayLike,
        sample_weight: ArrayLike | None = None,
        *,
        mask: ArrayLike | None = None,
    ) -> ScoreData:
        """The sums of one batch.

        Args:
          y_true: Labels, 0 or 1 or boolean, of any shape.
          y_pred: Scores of that shape; an axis of size 1 at the end of either goes.
          sample_weight: A scalar, that shape with any axis 1, or its leading axes.
          mask: Boolean, as `sample_weight`; True keeps. What is masked may hold NaN.
        """
        entries = self._entries(y_true, y_pred, sample_weight, mask)
        if entries.weight is None:
            cells = math.prod(self._shape)
            counts = tally_pairs(self._pair_rows, entries, cells=cells, flags=_FLAGS)
            return ScoreData(counts, self.empty().weights)
        data: ScoreData = self._weighed(entries).data
        return data

    def extend(self, data: ScoreData, /, *args: Any, **kwargs: Any) -> ScoreData:
        """As `combine` with `measure`; what a batch cannot change is not touched."""
        self.check_call(args, kwargs)
        entries = self._entries(*args, **kwargs)
        if entries.weight is not None:
            both: ScoreData = self.combine(data, self._weighed(entries).data)
            return both
        cells = math.prod(self._shape)
        counts = add_pairs_of(
            data.counts, self._pair_rows, entries, cells=cells, flags=_FLAGS
        )
        return ScoreData(counts, data.weights)

    def measure_groups(self, group: jax.Array, groups: int, **inputs: Any) -> Groups:
        """The sums of each group of rows, in one sweep."""
        cells = math.prod(self._shape)
        if groups * cells > MOST_CELLS:
            raise Mismatch(
                f"{groups} groups of {cells} cells are more than {MOST_CELLS}; set "
                "num_cells, as in AUROC(num_cells=1023)."
            )
        entries = self._entries(**inputs, group=group)
        if entries.weight is None:
            words = tally_pairs_of_groups(
                self._pair_rows, entries, groups=groups, cells=cells, flags=_FLAGS
            )
            # Each row that there is has one place, of its cell or of its flag.
            places = jnp.sum(words[..., 0], axis=2, dtype=jnp.uint32)
            weights = self.empty().weights
            weights = jax.tree.map(lambda x: jnp.stack([x] * groups, axis=1), weights)
            found = Groups(ScoreData(words, weights), counts_from_words(places))
        else:
            found = self._weighed(entries, groups)
        data = jax.tree.map(lambda x: jnp.moveaxis(x, 1, 0), found.data)
        one_each = jnp.shape(inputs["y_true"]) == group.shape
        return Groups(data, found.rows if one_each else None)

    def _weighed(self, entries: Entries, groups: int | None = None) -> Groups:
        """The sums of rows with weights; groups are the second axis, if any."""
        cells, labels = math.prod(self._shape), math.prod(self._shape[:2])
        parts = [
            Part(self._rows, cells),
            Part(self._offset_rows, cells),
            Part(self._label_rows, labels, squares=True),
        ]
        sums = tally_parts(parts, entries, _terms, flags=_FLAGS, groups=groups)
        flags = words_from_counts(sums.flags)
        shape = *flags.shape[:-1], *self.empty().counts.shape[1:]
        counts = jnp.zeros(shape, jnp.uint32).at[..., -_FLAGS:, 0].set(flags)
        weights = [jnp.stack(part) for part in sums.parts]
        data = ScoreData(counts, jnp.concatenate(weights, axis=-1))
        return Groups(data, sums.rows)

    def _entries(
        self,
        y_true: ArrayLike,
        y_pred: ArrayLike,
        sample_weight: ArrayLike | None = None,
        mask: ArrayLike | None = None,
        group: jax.Array | None = None,
    ) -> Entries:
        """The batch as rows."""
        if sample_weight is not None and not self.weighted:
            raise WrongKind(
                "weighted=False takes no sample_weight; leave the option out, or pass "
                "a mask."
            )
        entries = entries_of(
            y_true,
            y_pred,
            sample_weight,
            mask,
            group,
            class_id=self.class_id,
            num_classes=self.num_classes,
            whole_rows=self.class_id is not None,
        )
        if self.class_id is not None:
            entries = jax.tree.map(lambda x: x[..., self.class_id], entries)
        rows: Entries = as_rows(entries, self.num_classes)
        return rows

    def _rows(self, entries: Entries) -> Rows:
        """The cell of each entry and the level inside."""
        score = widened(entries.pred)
        unusual = never(score) if self.from_logits else (score < 0) | (score > 1)
        cell, level = self.cells.place(score)
        places = self.cells.number
        rows = rows_of(entries, cell, unusual, places=places, amount=level)
        nan, outside, unusual = rows.flags
        return rows._replace(flags=(nan, outside, unusual & ~outside))

    def _pair_rows(self, entries: Entries) -> Rows:
        """The same; what is outside [0, 1] is told by its cell."""
        rows = self._rows(entries)
        return rows._replace(flags=(*rows.flags[:2], never(rows.cell)))

    def _offset_rows(self, entries: Entries) -> Rows:
        """The same, each weight times the offset as a share of the cell."""
        rows: Any = self._rows(entries)
        offset = rows.amount.astype(jnp.float32) * np.float32(1 / LEVELS)
        return Rows(rows.cell, (), rows.weight * offset, group=rows.group)

    def _label_rows(self, entries: Entries) -> Rows:
        """The same by class and label alone."""
        rows: Any = self._rows(entries)
        label = lax.div(rows.cell, np.int32(self.cells.number))
        label = lax.select(rows.cell < 0, rows.cell, label)
        return Rows(label, (), rows.weight, group=rows.group)

    def decayed(self, data: ScoreData, factor: jax.Array) -> ScoreData:
        """Every row as one of less weight."""
        if data.weights is None:
            raise WrongKind(
                "weighted=False counts whole rows, which cannot weigh less; leave the "
                "option out."
            )
        table = math.prod(self._shape)
        words, weights, squares = self._tables(data, pooled=False)
        rows = words_to_two_floats(words)
        rows = rows.at[:, 1].multiply(np.float32(1 / LEVELS))
        ones = added(words[:, 0], -1)  # each row of weight 1
        squares = add_two_floats(squares, words_to_two_floats(ones))
        squares = scale_two_floats(scale_two_floats(squares, factor), factor)
        weights = scale_two_floats(add_two_floats(weights, rows), factor)
        both = jnp.concatenate([x.reshape(2, -1) for x in (weights, squares)], axis=1)
        counts = data.counts.at[:, -_FLAGS:, 0].set(self.flags(data))
        return ScoreData(counts.at[:, :table].set(np.uint32(0)), both)

    @property
    def can_resample(self) -> bool:
        """Unless a row counts in several classes, which depend on each other."""
        return self.num_classes is None

    def resampled(self, data: ScoreData, key: jax.Array) -> ScoreData:
        """One draw for each cell, whose rows keep their mean offset."""
        table = math.prod(self._shape)
        rows, levels = data.counts[:, :table, 0], data.counts[:, :table, 1]
        drawn = poisson_words(key, rows)
        level = divide(words_to_float(levels), words_to_float(rows))
        whole = jnp.floor(level)
        part = jnp.round((level - whole) * words_to_float(drawn))
        # A word of 21 bits times a level of 8 fits; the part is below the rows.
        levels = carry(drawn * whole.astype(jnp.uint32)[None])
        levels = shifted_words(levels, part.astype(jnp.int32))
        pairs = jnp.stack([drawn, levels], axis=-1)
        counts = jnp.concatenate([pairs, data.counts[:, table:]], axis=1)
        if data.weights is not None:
            # What rows with weights would have been cannot be told from their sums.
            weighted = jnp.any(data.weights != 0).astype(jnp.uint32)
            counts = counts.at[0, -_FLAGS, 0].add(weighted)
        return ScoreData(counts, data.weights)

    def flags(self, data: ScoreData) -> jax.Array:
        """Words of the bad-value counters."""
        rows = data.counts[..., 0]
        flags = rows[:, -_FLAGS:]
        if self.from_logits:
            return flags
        table = rows[:, : -1 - _FLAGS].reshape(2, -1, self.cells.number)
        ends = jnp.concatenate([table[..., 0], table[..., -1]], axis=1)
        unusual = add_counts(flags[:, 2], added(ends, 1))
        return flags.at[:, 2].set(unusual)

    def value(self, data: ScoreData) -> Ranks:
        """The sums by cell."""
        return self.ranks(data)

    def ranks(self, data: ScoreData, *, pooled: bool = False) -> Ranks:
        """The sums by cell; of all classes together if pooled."""
        words, weights, _ = self._tables(data, pooled=pooled)
        return ranks_of(words, weights)

    @property
    def threshold_values(self) -> tuple[float, ...]:
        """The thresholds between cells, increasing; what is above one is in the next.

        A cell that no score can reach has the threshold of the next.
        """
        return tuple(self.cells.thresholds().tolist())

    def at_thresholds(self, data: ScoreData) -> Counts:
        """The four counts at the thresholds, exact as `ConfusionCounts` has them."""
        words, weights, _ = self._tables(data, pooled=False)
        words, weights = words[:, 0], weights[:, 0]
        if self.num_classes is None:
            words, weights = words[:, None], weights[:, None]
        c = Counts(*read_count(*four_counts(words, weights), None))
        return c if self.num_classes else Counts(*(x[..., 0] for x in c))

    def typical_weight(self, data: ScoreData, *, pooled: bool = False) -> jax.Array:
        """`sum(w^2) / sum(w)` of negatives and of positives, `(2,)` or `(2, classes)`.

        A sum of weights over it is the effective number of rows (Kish).
        """
        words, weights, squares = self._tables(data, pooled=pooled)
        rows = added(words[:, 0], -1)  # each of weight 1
        heavy = cumulative_two_floats(weights[:, 0])[..., -1]
        square, total = read_count(rows, squares, None), read_count(rows, heavy, None)
        return jnp.moveaxis(divide(square, total), -1, 0)

    def _tables(
        self, data: ScoreData, *, pooled: bool
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Words and two-floats `(2, 2, classes, 2, cells)`, and two-floats of squares.

        Of rows and of their offsets; class, label, cell. The squares, by class and
        label, are `(2, classes, 2)`. No classes where there are none, or if pooled.
        """
        table = math.prod(self._shape)
        shape = 2, 2, *self._shape
        words = data.counts[:, :table].reshape(2, *self._shape, 2)
        words = jnp.moveaxis(words, -1, 1)
        weights = data.weights
        if weights is None:
            size = 2 * table + math.prod(self._shape[:2])
            weights = jnp.zeros((2, size), jnp.float32)
        squares = weights[:, 2 * table :].reshape(2, *self._shape[:2])
        weights = weights[:, : 2 * table].reshape(shape)
        if pooled:
            return added(words, 2), added(weights, 2), added(squares, 1)
        if self.num_classes is None:
            return words[:, :, 0], weights[:, :, 0], squares[:, 0]
        return words, weights, squares


def _terms(entries: Entries) -> Terms:
    weight: Any = entries.weight
    return Terms(weight, entries.keep, entries.group)
