"""The accumulator that keeps the rows themselves, as many as it has room for.

The rule that states do not grow with the data, and that little moves between devices,
does not hold here: a state is as large as its capacity, and reducing one or updating
it with a sharded batch moves rows.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jaxmetrics import checks
from jaxmetrics.accumulator import Accumulator
from jaxmetrics.binary import Entries, entries_of, rows_of, widened
from jaxmetrics.lanes import as_rows, gathered
from jaxmetrics.numerics import add_counts, carry, words_from_counts, words_to_int
from jaxmetrics.reduction import AxisName, place_in_rank_order

__all__ = ["Sample", "Scored", "checked_rows"]


class Scored(NamedTuple):
    """Rows, each `(rows,)`; those that are not there weigh nothing."""

    score: jax.Array  # float32
    positive: jax.Array  # bool
    weight: jax.Array  # float32


class SampleData(NamedTuple):
    """What `Sample` keeps."""

    rows: jax.Array  # float32 (2, capacity): scores, and weights negative for label 0
    counts: jax.Array  # uint32 (2, 4): words of the rows that came and of the flags


class Sample(Accumulator):
    """The scores, labels and weights of up to `capacity` rows.

    Rows beyond the capacity are counted, and make every value NaN: `overflow` of a
    metric over it says how many there were. Masked rows and rows of weight 0 take no
    room. Rows are kept in the order they came, so the states of the same rows in
    another order differ, while values do not.

    Args:
      capacity: How many rows there is room for, at least 1: 8 bytes each.

    As a metric its value is a `Scored`, in the order of the rows.
    """

    capacity: int

    @property
    def keeps_rows(self) -> bool:
        """In the order in which they came."""
        return True

    def checked(self) -> dict[str, Any]:
        """Checks the capacity."""
        return {"capacity": checks.integer(self.capacity, "capacity", 1)}

    def empty(self) -> SampleData:
        """No rows."""
        return SampleData(
            jnp.zeros((2, self.capacity), jnp.float32), jnp.zeros((2, 4), jnp.uint32)
        )

    def measure(
        self,
        y_true: ArrayLike,
        y_pred: ArrayLike,
        sample_weight: ArrayLike | None = None,
        *,
        mask: ArrayLike | None = None,
    ) -> SampleData:
        """The rows of one batch.

        Args:
          y_true: Labels, 0 or 1 or boolean, of any shape.
          y_pred: Scores of that shape, any real numbers.
          sample_weight: A scalar, that shape with any axis 1, or its leading axes.
          mask: Boolean, as `sample_weight`; True keeps. What is masked may hold NaN.
        """
        return self._append(self.empty(), y_true, y_pred, sample_weight, mask=mask)

    def extend(self, data: SampleData, /, *args: Any, **kwargs: Any) -> SampleData:
        """The rows of a batch behind those that are there."""
        self.check_call(args, kwargs)
        return self._append(data, *args, **kwargs)

    def _append(
        self,
        data: SampleData,
        y_true: ArrayLike,
        y_pred: ArrayLike,
        sample_weight: ArrayLike | None = None,
        *,
        mask: ArrayLike | None = None,
    ) -> SampleData:
        rows, flags = checked_rows(y_true, y_pred, sample_weight, mask)
        signed = jnp.where(rows.positive, rows.weight, -rows.weight)
        there = rows.weight > 0
        columns = jnp.stack([rows.score, signed])
        kept = self._put(data, columns, there)
        came = jnp.sum(there, dtype=jnp.uint32)
        counts = words_from_counts(jnp.concatenate([came[None], flags]))
        return SampleData(kept, add_counts(data.counts, counts))

    def combine(self, data: SampleData, other: SampleData) -> SampleData:
        """The rows of the other behind those of the first."""
        kept = self._put(data, other.rows, other.rows[1] != 0)
        return SampleData(kept, add_counts(data.counts, other.counts))

    def _put(self, data: SampleData, rows: jax.Array, there: jax.Array) -> jax.Array:
        """The rows kept, with those that are there behind them as far as they fit."""
        place = self.came(data) + jnp.cumsum(there, dtype=jnp.int32) - 1
        place = jnp.where(there, place, jnp.full_like(place, self.capacity))
        return data.rows.at[:, place].set(rows, mode="drop")

    def reduce(self, data: SampleData, axis_name: AxisName) -> SampleData:
        """The rows of all devices, those of each behind those of the last."""
        rows, counts = place_in_rank_order(
            data.rows,
            jnp.minimum(self.came(data), self.capacity),
            data.counts,
            axis_name,
        )
        return SampleData(rows, carry(counts))

    def value(self, data: SampleData) -> Scored:
        """The rows."""
        score, signed = data.rows
        return Scored(score, signed > 0, jnp.abs(signed))

    def flags(self, data: SampleData) -> jax.Array:
        """Words of the bad-value counters."""
        return data.counts[:, 1:]

    def came(self, data: SampleData) -> jax.Array:
        """How many rows came, at most 2^30; int32."""
        came = words_to_int(data.counts[:, 0], np.dtype(np.int32))
        return jnp.minimum(came, np.int32(2**30))

    def is_valid(self, data: SampleData) -> jax.Array | None:
        """Whether nothing bad came, and no row found no room."""
        fits = self.came(data) <= self.capacity
        return jnp.all(self.flags(data)[:, :2] == 0) & fits


def checked_rows(
    y_true: ArrayLike,
    y_pred: ArrayLike,
    sample_weight: ArrayLike | None = None,
    mask: ArrayLike | None = None,
) -> tuple[Scored, jax.Array]:
    """A batch as rows on every device, and how many of them have each flag; uint32.

    What is masked or flagged weighs nothing and has score 0.
    """
    entries: Entries = gathered(
        as_rows(entries_of(y_true, y_pred, sample_weight, mask))
    )
    score = widened(entries.pred)
    rows = rows_of(entries, jnp.zeros_like(score, jnp.int32), score != score, places=1)
    there = rows.cell >= 0
    weight = jnp.ones_like(score) if entries.weight is None else entries.weight
    none = jnp.zeros_like(score)
    flags = jnp.stack([jnp.sum(x, dtype=jnp.uint32) for x in rows.flags])
    kept = Scored(
        jnp.where(there, score, none), rows.cell == 1, jnp.where(there, weight, none)
    )
    return kept, flags
