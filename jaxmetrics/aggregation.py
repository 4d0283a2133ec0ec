"""Means, sums and counts of values: losses, rewards, token counts.

All are read-outs of one accumulator, `WeightedSum`, and take
`(values, sample_weight=None, *, mask=None)`. Values of any shape are averaged entry by
entry; a weight or mask over the leading axes speaks for all entries of its row.
"""

import functools
import math
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike

from jaxmetrics import checks
from jaxmetrics.accumulator import Accumulator, Groups
from jaxmetrics.groups import Terms, tally_groups
from jaxmetrics.histogram import Rows, Tally, present, tally
from jaxmetrics.lanes import as_rows, require_alike
from jaxmetrics.limbs import max_weight
from jaxmetrics.metric import Readout
from jaxmetrics.numerics import (
    Pair,
    add_batch,
    add_pairs,
    add_two_floats,
    divide_two_floats,
    read_count,
    read_total,
    scale_two_floats,
    two_float_to_float,
    words_from_counts,
    words_to_two_floats,
)

__all__ = ["Count", "Mean", "Sum", "Totals", "WeightedSum"]


_FLAGS = 4  # infinite up and down; two of bad values


class SumData(NamedTuple):
    """What `WeightedSum` keeps."""

    counts: jax.Array  # uint32 (2, 4): the three flags; rows without weight
    sums: jax.Array  # float32 (2, 2): two-floats of the total and of the weights


class Totals(NamedTuple):
    """What has been summed.

    Attributes:
      total: Two-float sum of values times weights, shape (2,).
      weight: Two-float sum of weights, 1 for each row without one, shape (2,).
    """

    total: jax.Array
    weight: jax.Array


class WeightedSum(Accumulator):
    """Sums values and weights: the accumulator of `Mean`, `Sum` and `Count`.

    Every batch is summed in integers relative to its largest entry (48 bits), so the
    order of rows and their sharding do not matter; batches are added as two-floats. By
    slice, of more than 32,768 rows on one CPU device, these may be 39 bits. An infinite
    value makes the total infinite; NaN is counted and makes results NaN.

    Example:
      >>> import jaxmetrics as jm
      >>> print(jm.WeightedSum()(values=[1.0, 3.0]).weight)
      [2. 0.]
    """

    def empty(self) -> SumData:
        """Nothing summed."""
        return SumData(jnp.zeros((2, 4), jnp.uint32), jnp.zeros((2, 2), jnp.float32))

    def measure(
        self,
        values: ArrayLike,
        sample_weight: ArrayLike | None = None,
        *,
        mask: ArrayLike | None = None,
    ) -> SumData:
        """The sums of one batch.

        Args:
          values: Numbers of any shape.
          sample_weight: A scalar, that shape with any axis 1, or its leading axes.
          mask: Boolean, as `sample_weight`; True keeps. What is masked may hold NaN.
        """
        sums = self._tally(values, sample_weight, mask=mask)
        return SumData(words_from_counts(sums.counts), sums.packed())

    def measure_groups(self, group: jax.Array, groups: int, **inputs: Any) -> Groups:
        """The sums of each group of rows, in one sweep."""
        sums = self._tally(**inputs, group=group, groups=groups)
        words = jnp.moveaxis(words_from_counts(sums.counts), 1, 0)
        one_each = jnp.shape(inputs["values"]) == group.shape
        return Groups(SumData(words, sums.packed()), sums.rows if one_each else None)

    def _tally(
        self,
        values: ArrayLike,
        sample_weight: ArrayLike | None = None,
        *,
        mask: ArrayLike | None = None,
        group: jax.Array | None = None,
        groups: int | None = None,
    ) -> "_Batch":
        """Sums one batch, or each group of its rows."""
        x = checks.array(values, "values")
        weight = keep = None
        if sample_weight is not None:
            weight = checks.row_weight(sample_weight, x.shape, "values")
        if mask is not None:
            keep = checks.row_mask(mask, x.shape, "values")
        if group is not None:
            group = checks.row_group(group, x.shape, "values")
        require_alike(jax.tree.leaves((x, weight, keep, group)))
        parts = [_flat(_Entries(y, weight, keep, group)) for y in _exact_parts(x)]
        by = _by_sign if groups else _by_sign_with_count
        tallies = [_sum(by, part, 2, groups) for part in parts]
        total = functools.reduce(add_pairs, map(_difference, tallies))
        up, down, nan, outside, *counted = jnp.moveaxis(tallies[0].flags, -1, 0)
        total = (total[0] + _infinity(up, down), total[1])
        every = tallies[0].rows
        rows = counted[0] if every is None else every - nan - outside
        counts = jnp.stack([nan, outside, jnp.zeros_like(nan), rows], axis=-1)
        if weight is None:
            return _Batch(counts, total, None, every)
        weights = _sum(_by_weight, parts[0], 1, groups).weighed
        # Rows count by weight alone.
        counts = counts.at[..., -1].set(np.uint32(0))
        weights = weights[0][..., 0], weights[1][..., 0]
        return _Batch(counts, total, weights, every)

    def extend(self, data: SumData, /, *args: Any, **kwargs: Any) -> SumData:
        """As `combine` with `measure`; what a batch cannot change is not touched."""
        self.check_call(args, kwargs)
        sums = self._tally(*args, **kwargs)
        weights: Pair = data.sums[:, 1]
        if sums.weights is not None:
            weights = add_pairs(weights, sums.weights)
        total = add_pairs(data.sums[:, 0], sums.total)
        return SumData(add_batch(data.counts, sums.counts), _packed(total, weights))

    def decayed(self, data: SumData, factor: jax.Array) -> SumData:
        """Every row as one of less weight."""
        sums = jnp.stack([data.sums[:, 0], self.value(data).weight], axis=1)
        counts = data.counts.at[:, -1].set(np.uint32(0))
        return SumData(counts, scale_two_floats(sums, factor))

    def value(self, data: SumData) -> Totals:
        """The total and the weight."""
        rows = words_to_two_floats(data.counts[:, -1])
        return Totals(data.sums[:, 0], add_two_floats(rows, data.sums[:, 1]))

    def flags(self, data: SumData) -> jax.Array:
        """Words of the bad-value counters."""
        return data.counts[:, :-1]


def _exact_parts(x: jax.Array) -> list[jax.Array]:
    """The values as float32 parts whose sum they are; integers in 24 bits each."""
    if x.dtype.itemsize < 4 or x.dtype == jnp.float32:
        return [x.astype(jnp.float32)]
    if jnp.issubdtype(x.dtype, jnp.integer):
        parts = [(x >> shift) & 0xFFFFFF for shift in range(0, _bits(x) - 24, 24)]
        parts.append(x >> 24 * len(parts))  # signed
        scales = [np.float32(2.0 ** (24 * i)) for i in range(len(parts))]
        scaled = zip(parts, scales, strict=True)
        return [part.astype(jnp.float32) * scale for part, scale in scaled][::-1]
    high = x.astype(jnp.float32)
    low = (x - high.astype(x.dtype)).astype(jnp.float32)
    return [high, jnp.where(jnp.isfinite(high), low, jnp.zeros_like(low))]


def _bits(x: jax.Array) -> int:
    return 8 * x.dtype.itemsize


class _Batch(NamedTuple):
    """The sums of one batch; no weights where rows came without."""

    counts: jax.Array  # uint32 (..., 4)
    total: Pair
    weights: Pair | None
    rows: jax.Array | None  # uint32 (groups,): all that came, of groups alone

    def packed(self) -> jax.Array:
        """The two-floats as one leaf (..., 2, 2)."""
        zero = jnp.zeros_like(self.total[0])
        return _packed(self.total, self.weights or (zero, zero))


class _Entries(NamedTuple):
    """A batch as vectors of one length."""

    value: jax.Array
    weight: jax.Array | None
    keep: jax.Array | None
    group: jax.Array | None

    def size(self) -> jax.Array:
        """The magnitude of each term of the sum."""
        size = jnp.abs(self.value)
        return size if self.weight is None else size * self.weight


def _flat(entries: _Entries) -> _Entries:
    shape = entries.value.shape
    rows: _Entries = as_rows(
        jax.tree.map(lambda x: jnp.broadcast_to(x, shape), entries)
    )
    return rows


def _sum(
    by: Callable[[_Entries], Rows], entries: _Entries, cells: int, groups: int | None
) -> Tally:
    """Sums entries by cell, relative to the largest of them; of each group, if any."""

    def terms(entries: _Entries) -> Terms:
        here: Any = present(entries.weight, entries.keep)
        size: Any = entries.weight if by is _by_weight else entries.size()
        return Terms(size, here, entries.group)

    if groups is None:
        scale = max_weight(*terms(entries)[:2])
        return tally(by, entries, cells=cells, scale=scale)
    flags = _FLAGS if by is _by_sign else 0
    return tally_groups(
        by, entries, groups=groups, cells=cells, flags=flags, terms=terms
    )


def _by_sign(entries: _Entries) -> Rows:
    """Magnitudes of terms; cell 0 from 0 up, cell 1 below, none where not finite."""
    x, weight, keep, group = entries
    size, here = entries.size(), present(weight, keep)
    nan = jnp.isnan(x)
    outside = nan != nan  # made of the data, to be sharded as they are
    if weight is not None:
        nan |= jnp.isnan(weight)
        outside = ((weight < 0) | (weight == np.inf)) & ~nan
    bad = nan | outside
    infinite = (size == np.inf) & ~bad
    flags = [infinite & (x > 0), infinite & (x < 0), nan, outside]
    finite = ~bad & ~infinite
    if here is not None:
        flags = [flag & here for flag in flags]
        finite &= here
    cell = lax.select(
        finite, (x < 0).astype(jnp.int32), jnp.full(x.shape, -1, jnp.int32)
    )
    return Rows(cell, tuple(flags), size, group=group)


def _by_sign_with_count(entries: _Entries) -> Rows:
    """The same, and a flag of what counts, infinite or not."""
    rows = _by_sign(entries)
    up, down, *_ = rows.flags
    return rows._replace(flags=(*rows.flags, (rows.cell >= 0) | up | down))


def _by_weight(entries: _Entries) -> Rows:
    """The weights of the entries that `_by_sign` sums."""
    fine = _by_sign_with_count(entries).flags[-1]
    return Rows(fine.astype(jnp.int32) - 1, (), entries.weight, group=entries.group)


def _difference(sums: Tally) -> Pair:
    """What fell in cell 0 less what fell in cell 1."""
    total, error = sums.weighed
    plus, minus = ((total[..., i], error[..., i]) for i in (0, 1))
    return add_pairs(plus, (-minus[0], -minus[1]))


def _packed(total: Pair, weights: Pair) -> jax.Array:
    """Two two-floats as one leaf (..., 2, 2)."""
    four = jnp.stack([total[0], weights[0], total[1], weights[1]], axis=-1)
    return four.reshape(*four.shape[:-1], 2, 2)


def _infinity(up: jax.Array, down: jax.Array) -> jax.Array:
    """Infinity where infinite terms were counted; NaN for both signs; 0 for none."""
    plus = jnp.where(up > 0, np.float32(np.inf), np.float32(0))
    minus = jnp.where(down > 0, np.float32(-np.inf), np.float32(0))
    return plus + minus


class _SumReadout(Readout):
    """A formula over the total and the weight."""

    @property
    def accumulator(self) -> WeightedSum:
        """One for all sums and means."""
        return WeightedSum()


class Mean(_SumReadout):
    """The weighted mean of values.

    `sum(w * x) / sum(w)` over all entries `x` of all batches, with `w` = 1 where no
    `sample_weight` is given. In the unit of the values. Any order, any cut into batches
    and any sharding give the same mean to about 1e-7 of it.

    Args:
      zero_division: The mean of nothing; NaN unless given.
      name: What errors call the metric.
      dtype: A float dtype for the result.

    The inputs are `values` of any shape, `sample_weight` and `mask`. NaN in a value, or
    a negative or infinite weight, makes the mean NaN and is counted; an infinite value
    makes it infinite. No gradient flows through it: minimise `jnp.mean`, report this.

    Example:
      >>> import jaxmetrics as jm
      >>> print(jm.Mean()(values=[1.0, 3.0, 8.0], sample_weight=[1, 1, 0]))
      2.0

    References:
      Keras, `keras.metrics.Mean`; two-float sums after Dekker (1971).
    """

    zero_division: float = math.nan

    def checked(self) -> dict[str, Any]:
        """Checks the value of nothing."""
        zero = checks.number(self.zero_division, "zero_division", nan=True)
        return {**super().checked(), "zero_division": zero}

    def formula(self, value: Totals) -> jax.Array:
        """Total by weight, to the last bit."""
        return divide_two_floats(value.total, value.weight, self.zero_division)


class Sum(_SumReadout):
    """The weighted sum of values.

    `sum(w * x)` over all entries `x` of all batches; 0 when there are none. In the unit
    of the values, to about 1e-7 of the sum of their magnitudes. NaN in a value or a
    negative or infinite weight makes the sum NaN and is counted.

    Args:
      name: What errors call the metric.
      dtype: A float dtype, or int32 or uint32 for sums of integers; saturates at the
        ends of an integer's range, where a NaN sum is the least likely integer.

    The inputs are `values` of any shape, `sample_weight` and `mask`.

    Example:
      >>> import jaxmetrics as jm
      >>> print(jm.Sum(dtype="int32")(values=[1, 3, 8], mask=[True, True, False]))
      4

    References:
      Keras, `keras.metrics.Sum`.
    """

    integer_results: ClassVar[bool] = True

    def read(self, data: SumData) -> jax.Array:
        """The total in the metric's dtype."""
        return read_total(data.sums[:, 0], self.dtype)

    def formula(self, value: Totals) -> jax.Array:
        """The total."""
        return two_float_to_float(value.total)


class Count(_SumReadout):
    """How many entries there were, or how much they weigh.

    The number of entries, exact to 2^53, plus the sum of the weights of those that came
    with `sample_weight`; 0 when there are none. Masked entries and entries of weight 0
    do not count. A NaN value makes it NaN.

    Args:
      name: What errors call the metric.
      dtype: A float dtype, or int32 or uint32 for an exact integer that saturates.

    The inputs are `values` of any shape, `sample_weight` and `mask`.

    Example:
      >>> import jaxmetrics as jm
      >>> print(jm.Count(dtype="int32")(values=[5.0, 7.0], mask=[True, False]))
      1
    """

    integer_results: ClassVar[bool] = True

    def read(self, data: SumData) -> jax.Array:
        """The count in the metric's dtype, without passing through a float."""
        return read_count(data.counts[:, -1], data.sums[:, 1], self.dtype)

    def formula(self, value: Totals) -> jax.Array:
        """The weight."""
        return two_float_to_float(value.weight)
