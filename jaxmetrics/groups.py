"""Counts by group and cell: what `tally` gives for each group of rows, in one sweep.

Each group has cells of its own in one long table, behind each other, so that many
groups cost what many cells cost, and not a sweep each. A row names its group in
`Rows.group`; one whose group is negative is in none, and its flags count nowhere.
"""

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
    Tally,
    tally,
    tally_codes,
    tally_pairs,
)
from jaxmetrics.lanes import lanes_of, split, taken
from jaxmetrics.limbs import LEAST, exponent_of, times_two_to, to_share

__all__ = ["Scales", "group_scales", "tally_groups", "tally_pairs_of_groups"]


class Scales(NamedTuple):
    """The powers of two that weights are relative to."""

    of_groups: jax.Array  # int32 (groups,)
    of_rows: jax.Array  # int32, of the rows' shape: that of the row's group


def tally_groups(
    classify: Classify,
    batch: Batch,
    *,
    groups: int,
    cells: int,
    flags: int,
    scale: Scales | None = None,
) -> Tally:
    """`tally` of each group: every field with a leading axis of groups.

    Args:
      classify: As for `tally`, with groups below `groups`.
      batch: As for `tally`.
      groups: The number of groups.
      cells: The number of cells of each.
      flags: The number of flags.
      scale: `group_scales` of the batch; given when rows carry weights.
    """
    if scale is None:
        return Tally(*tally_codes(classify, batch, Codes(cells, flags, groups)), None)

    def by_cell(both: tuple[Batch, jax.Array]) -> Rows:
        rows = classify(both[0])
        return Rows(_in_group(rows, rows.cell, cells), (), _share(rows, both[1]))

    def by_flags(batch: Batch) -> Rows:
        rows = classify(batch)
        return rows._replace(cell=lax.full_like(rows.cell, -1))

    def of_squares(both: tuple[Batch, jax.Array]) -> Rows:
        rows = classify(both[0])
        share = _share(rows, both[1])
        cell = lax.select(rows.cell < 0, rows.cell, lax.full_like(rows.cell, 0))
        return Rows(_in_group(rows, cell, 1), (), share * share)

    one = jnp.zeros((), jnp.int32)  # shares are below 2^0
    both = batch, scale.of_rows
    weights = tally(by_cell, both, cells=groups * cells, scale=one).weighed
    squares = tally(of_squares, both, cells=groups, scale=one).weighed
    _, found = tally_codes(by_flags, batch, Codes(0, flags, groups))
    unit = scale.of_groups[:, None]
    total, error = (times_two_to(unit, x.reshape(groups, cells)) for x in weights)
    first, second = (times_two_to(2 * unit, x.reshape(groups, 1)) for x in squares)
    zeros = jnp.zeros((groups, cells), jnp.uint32)
    return Tally(zeros, found, (total, error), (first, second))


def group_scales(
    weight: jax.Array, keep: jax.Array | None, group: jax.Array, groups: int
) -> Scales:
    """`max_weight` of each group: one large row must not round the others' away.

    Args:
      weight: `(rows, ...)`.
      keep: Which rows count, of the same shape; None for all.
      group: Of each, of the same shape; negative for none.
      groups: The number of groups.
    """
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
    return Scales(found, taken(found, lax.max(group, lax.full_like(group, 0))))


def _share(rows: Rows, scale: jax.Array) -> jax.Array:
    """Weights relative to what is above the largest of their group."""
    if rows.weight is None:
        raise AssertionError("rows with a scale have weights")
    return to_share(rows.weight, scale)


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
