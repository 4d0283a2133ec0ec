"""Counts by group and cell: what `tally` gives for each group of rows, in one sweep.

Each group has cells of its own in one long table, behind each other, so that many
groups cost what many cells cost, and not a sweep each. A row names its group in
`Rows.group`; one whose group is negative is in none, and its flags count nowhere.

Weights are relative to the largest of the batch, which leaves most groups their 24
bits, as their sums tell. Where it does not, because one large row would round another
group away, all are summed again with a scale for each group.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxmetrics.codes import Codes
from jaxmetrics.forms import place_of_flags
from jaxmetrics.histogram import (
    Batch,
    Classify,
    Rows,
    Sum,
    Tally,
    tally,
    tally_codes,
    tally_pairs,
)
from jaxmetrics.lanes import lanes_of, split, taken
from jaxmetrics.limbs import (
    LEAST,
    exponent_of,
    max_weight,
    times_two_to,
    to_share,
)

__all__ = ["Terms", "tally_groups", "tally_pairs_of_groups"]

# What the mean of a group must be of the largest weight, and of its square: sums are
# of 48 bits below that.
_LEAST_MEAN, _LEAST_MEAN_SQUARE = 2.0**-23, 2.0**-30


class Terms(NamedTuple):
    """What is summed by group, of the shape of the batch."""

    weight: jax.Array
    keep: jax.Array | None  # which count; None for all
    group: jax.Array
    squares: bool = False  # whether squares are summed too


def tally_groups(
    classify: Classify,
    batch: Batch,
    *,
    groups: int,
    cells: int,
    flags: int,
    terms: Terms | None = None,
) -> Tally:
    """`tally` of each group: every field with a leading axis of groups.

    Args:
      classify: As for `tally`, with groups below `groups`.
      batch: As for `tally`.
      groups: The number of groups.
      cells: The number of cells of each.
      flags: The number of flags.
      terms: The weights of the rows, given when they carry some.
    """
    if terms is None:
        return Tally(*tally_codes(classify, batch, Codes(cells, flags, groups)), None)

    def by_weight(batch: Batch) -> Rows:
        rows: Any = classify(batch)
        none = (rows.weight == 0).astype(jnp.int32)
        cell = lax.select(rows.cell < 0, rows.cell, none)
        return Rows(cell, rows.flags, group=rows.group)

    counts, found = tally_codes(by_weight, batch, Codes(2, flags, groups))
    by_scale = partial(_sums, classify, batch, cells, squares=terms.squares)
    sums = by_scale(_one_scale(terms, groups))
    enough = [(sums.weights, _LEAST_MEAN), (sums.square, _LEAST_MEAN_SQUARE)]
    precise = [
        jnp.sum(x[0], axis=1) >= counts[:, 0] * np.float32(least)
        for x, least in enough
        if x is not None
    ]
    sums = lax.cond(
        jnp.all(jnp.stack(precise)),
        lambda: sums,
        lambda: by_scale(_group_scales(terms, groups)),
    )
    weights, square = sums.in_units()
    none = jnp.zeros((groups, cells), jnp.uint32)
    rows = jnp.sum(counts, axis=1, dtype=counts.dtype)
    return Tally(none, found, weights, square, rows)


class _Scales(NamedTuple):
    """The powers of two that weights are relative to."""

    of_groups: jax.Array  # int32 (groups,)
    of_rows: jax.Array  # int32: that of the row's group, or one for all


class _Sums(NamedTuple):
    """Sums of weights by group, relative to scales."""

    unit: jax.Array  # int32 (groups,)
    weights: Sum  # float32 (groups, cells)
    square: Sum | None  # float32 (groups, 1)

    def in_units(self) -> tuple[Sum, Sum | None]:
        """The sums themselves."""
        unit = self.unit[:, None]
        total, error = (times_two_to(unit, x) for x in self.weights)
        if self.square is None:
            return (total, error), None
        first, second = (times_two_to(2 * unit, x) for x in self.square)
        return (total, error), (first, second)


def _sums(
    classify: Classify, batch: Batch, cells: int, scales: _Scales, *, squares: bool
) -> _Sums:
    """The sums of all groups."""
    unit, of_rows = scales
    groups, common = unit.shape[0], of_rows.ndim == 0

    def rows_of(both: Any) -> tuple[Rows, jax.Array]:
        rows: Any = classify(both[0])
        return rows, to_share(rows.weight, of_rows if common else both[1])

    def by_cell(both: Any) -> Rows:
        rows, share = rows_of(both)
        return Rows(_in_group(rows, rows.cell, cells), (), share)

    def of_squares(both: Any) -> Rows:
        rows, share = rows_of(both)
        cell = lax.select(rows.cell < 0, rows.cell, lax.full_like(rows.cell, 0))
        return Rows(_in_group(rows, cell, 1), (), share * share)

    def summed(classify: Classify, cells: int) -> Sum:
        both = batch, None if common else of_rows
        one = jnp.zeros((), jnp.int32)  # shares are below 2^0
        sums = tally(classify, both, cells=groups * cells, scale=one).weighed
        total, error = (x.reshape(groups, cells) for x in sums)
        return total, error

    square = summed(of_squares, 1) if squares else None
    return _Sums(unit, summed(by_cell, cells), square)


def _one_scale(terms: Terms, groups: int) -> _Scales:
    """`max_weight` of all."""
    keep = terms.group >= 0
    keep = keep if terms.keep is None else keep & terms.keep
    scale = max_weight(terms.weight, keep)
    return _Scales(jnp.broadcast_to(scale, (groups,)), scale)


def _group_scales(terms: Terms, groups: int) -> _Scales:
    """`max_weight` of each group."""
    weight, keep, group, _ = terms
    batch = weight, keep, group
    lanes = lanes_of(jax.tree.leaves(batch))

    def of_lane(batch: Any) -> jax.Array:
        weight, keep, group = jax.tree.map(lambda x: x.reshape(-1), batch)
        usable = (weight < np.inf) & (weight > 0) & (group >= 0)
        usable = usable if keep is None else usable & keep
        own = lax.select(usable, exponent_of(weight), lax.full_like(group, LEAST))
        place = lax.select(usable, group, lax.full_like(group, groups))
        table = jnp.full((groups + 1,), LEAST, jnp.int32)
        return table.at[place].max(own, mode="promise_in_bounds")[:groups]

    if (lanes.number > 1 or lanes.mesh is not None) and weight.shape[0]:
        pad = -weight.shape[0] % lanes.number
        if pad:  # with rows of weight 0
            fill = [(0, pad)] + [(0, 0)] * (weight.ndim - 1)
            batch = jax.tree.map(lambda x: jnp.pad(x, fill), batch)
        batch = jax.tree.map(lambda x: split(x, lanes), batch)
        found = jnp.max(jax.vmap(of_lane)(batch), axis=0)
    else:
        found = of_lane(batch)
    return _Scales(found, taken(found, lax.max(group, lax.full_like(group, 0))))


def tally_pairs_of_groups(
    classify: Classify, batch: Batch, *, groups: int, cells: int, flags: int
) -> jax.Array:
    """`tally_pairs` of each group: words `(2, groups, cells + 1 + flags, 2)`."""
    width = cells + 1 + flags

    def by_group(batch: Batch) -> Rows:
        rows: Any = classify(batch)
        dropped = rows.cell < 0
        place = place_of_flags(rows.cell, rows.flags, cells)
        place = lax.select(dropped & (place == cells), lax.full_like(place, -1), place)
        place = lax.select(dropped, place, rows.cell)
        amount = lax.select(dropped, lax.full_like(rows.cell, 0), rows.amount)
        return Rows(_in_group(rows, place, width), (), amount=amount)

    words = tally_pairs(by_group, batch, cells=groups * width)
    return words[:, :-1].reshape(2, groups, width, 2)


def _in_group(rows: Rows, place: jax.Array, width: int) -> jax.Array:
    """The place among those of all groups; a negative one drops the row."""
    if rows.group is None:
        raise AssertionError("rows by group name their groups")
    nowhere = (place < 0) | (rows.group < 0)
    return lax.select(nowhere, lax.full_like(place, -1), rows.group * width + place)
