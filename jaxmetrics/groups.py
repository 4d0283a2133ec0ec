"""Counts by group and cell: what `tally` gives for each group of rows, in one sweep.

Each group has cells of its own in one long table, behind each other, so that many
groups cost what many cells cost, and not a sweep each. A row names its group in
`Rows.group`; one whose group is negative is in none, and its flags count nowhere.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jaxmetrics.forms import code_of, codes, place_of_flags, sums_of_codes
from jaxmetrics.histogram import (
    Batch,
    Classify,
    Rows,
    Tally,
    tally,
    tally_pairs,
)
from jaxmetrics.limbs import times_two_to, to_share

__all__ = ["tally_groups", "tally_pairs_of_groups"]


def tally_groups(
    classify: Classify,
    batch: Batch,
    *,
    groups: int,
    cells: int,
    flags: int,
    scale: jax.Array | None = None,
) -> Tally:
    """`tally` of each group: every field with a leading axis of groups.

    Args:
      classify: As for `tally`, with groups below `groups`.
      batch: As for `tally`.
      groups: The number of groups.
      cells: The number of cells of each.
      flags: The number of flags.
      scale: As for `tally`, of all groups together.
    """
    if scale is None:
        table = _table(classify, batch, groups, cells, flags)
        sums = jax.vmap(lambda row: sums_of_codes(row, cells))(table)
        return Tally(sums.counts, sums.flags, None)

    def by_cell(batch: Batch) -> Rows:
        rows = classify(batch)
        return Rows(_in_group(rows, rows.cell, cells), (), rows.weight)

    def by_flags(batch: Batch) -> Rows:
        rows = classify(batch)
        return rows._replace(cell=lax.full_like(rows.cell, -1))

    def of_squares(batch: Batch) -> Rows:
        rows: Any = classify(batch)
        share = to_share(rows.weight, scale)
        cell = lax.select(rows.cell < 0, rows.cell, lax.full_like(rows.cell, 0))
        return Rows(_in_group(rows, cell, 1), (), share * share)

    weights = tally(by_cell, batch, cells=groups * cells, scale=scale).weighed
    none = lax.full_like(scale, 0)
    squares = tally(of_squares, batch, cells=groups, scale=none).weighed
    table = _table(by_flags, batch, groups, 0, flags)
    found = jax.vmap(lambda row: sums_of_codes(row, 0).flags)(table)
    total, error = (x.reshape(groups, cells) for x in weights)
    first, second = (times_two_to(2 * scale, x).reshape(groups, 1) for x in squares)
    zeros = jnp.zeros((groups, cells), jnp.uint32)
    return Tally(zeros, found, (total, error), (first, second))


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


def _table(
    classify: Classify, batch: Batch, groups: int, cells: int, flags: int
) -> jax.Array:
    """How many rows of each group have each code."""
    width = codes(cells, flags)

    def by_group(batch: Batch) -> Rows:
        rows = classify(batch)
        code = code_of(rows.cell, rows.flags, cells)
        nothing = code == 2 * cells  # dropped without a flag
        code = lax.select(nothing, lax.full_like(code, -1), code)
        return Rows(_in_group(rows, code, width), ())

    return tally(by_group, batch, cells=groups * width).counts.reshape(groups, width)


def _in_group(rows: Rows, place: jax.Array, width: int) -> jax.Array:
    """The place among those of all groups; a negative one drops the row."""
    if rows.group is None:
        raise AssertionError("rows by group name their groups")
    nowhere = (place < 0) | (rows.group < 0)
    return lax.select(nowhere, lax.full_like(place, -1), rows.group * width + place)
