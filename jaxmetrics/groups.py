"""Counts by group and cell: what `tally` gives for each group of rows, in one sweep.

Each group has cells of its own in one long table, behind each other, so that many
groups cost what many cells cost, and not a sweep each. A row names its group in
`Rows.group`; one that names none is of the last group.

Weights are summed relative to the largest of their group: one large row must not round
another group away. On a CPU all are first summed at once, relative to the largest of
the batch; what that lacks for a group its sums tell, and then it is done again.
"""

import functools
import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxmetrics.codes import Codes, within
from jaxmetrics.forms import BLOCK_ROWS, SCATTER_TERMS, term_rows
from jaxmetrics.histogram import (
    Batch,
    Classify,
    Rows,
    Sum,
    Tally,
    place_of_flags,
    tally,
    tally_codes,
    tally_pairs,
)
from jaxmetrics.lanes import filled, lanes_of, split, taken
from jaxmetrics.limbs import (
    LEAST,
    carry_limbs,
    exponent_of,
    from_limbs,
    max_weight,
    times_two_to,
    to_share,
)
from jaxmetrics.numerics import add_pairs
from jaxmetrics.sweeps import Sweep, alone, in_turn
from jaxmetrics.wide import TERM_ROWS

__all__ = [
    "Part",
    "PartSums",
    "Terms",
    "tally_groups",
    "tally_pairs_of_groups",
    "tally_parts",
]

MOST_CELLS = 2**15  # of a group, whose limbs are added
MOST_TERM_PLACES = 2**13  # of all: to read out more costs what one scatter saves
# What the mean of each cell must be, beside the largest weight of the batch, and that
# of a group's squares: of sums of 39 bits and of 24 they keep 25 and 10.
_ONE = np.int32(0)  # the scale of shares, all below 2^0
_LEAST_MEAN, _LEAST_MEAN_SQUARE = 2.0**-14, 2.0**-14


class Terms(NamedTuple):
    """What is summed by group, of the shape of the batch."""

    weight: jax.Array
    keep: jax.Array | None  # which count; None for all
    group: Any  # int32; what is not below `groups` is of the last; or no groups


class Part(NamedTuple):
    """One of several sums of the weights of the same rows."""

    classify: Classify  # says the cell of each row, and what weight goes there
    cells: int
    squares: bool = False  # whether weights are squared


class PartSums(NamedTuple):
    """What is found of several parts; a leading axis of groups, if any."""

    flags: jax.Array  # uint32 (flags,): rows with each flag
    rows: jax.Array | None  # uint32 (): all that came, of groups alone
    parts: list[Sum]  # float32 (cells,) each


def tally_parts(
    parts: Sequence[Part],
    batch: Batch,
    terms: Callable[[Batch], Terms],
    *,
    flags: int,
    groups: int | None = None,
) -> PartSums:
    """Several sums of weights by cell, relative to the largest; of each group, if any.

    Args:
      parts: What is summed; the rows of the first say the flags, and the groups.
      batch: As for `tally`.
      terms: As for `tally_groups`; no weight that goes to a cell is larger.
      flags: The number of flags.
      groups: The number of groups, or None.
    """
    found = terms(batch)
    scale: Any
    if groups is None:
        scale = of_rows = max_weight(found.weight, found.keep)
    else:
        scale, of_rows = _scales(found, groups)
    tallies = [_shares(part, batch, of_rows, flags, groups) for part in parts]
    sums = []
    for part, own in zip(parts, tallies, strict=True):
        total, error = (x.reshape(*scale.shape, part.cells) for x in own.weighed)
        sums.append(_in_units((total, error), 2 * scale if part.squares else scale))
    if groups is None:
        return PartSums(tallies[0].flags, None, sums)

    def by_row(batch: Batch) -> Rows:
        rows: Any = parts[0].classify(batch)
        cell = lax.select(rows.cell < 0, rows.cell, lax.full_like(rows.cell, 0))
        return Rows(cell, rows.flags, group=within(rows.group, groups))

    _, marked, number = tally_codes(by_row, batch, Codes(1, flags, groups))
    return PartSums(marked, number, sums)


def _shares(
    part: Part, batch: Batch, scale: jax.Array, flags: int, groups: int | None
) -> Tally:
    """Sums of the shares that weights have of 2^scale: of all, or of each row's."""

    def by_cell(batch: Batch, scale: jax.Array) -> Rows:
        rows: Any = part.classify(batch)
        share = to_share(rows.weight, scale)
        share = share * share if part.squares else share
        if groups is None:
            return Rows(rows.cell, rows.flags, share)
        group = within(rows.group, groups)
        return Rows(_in_group(group, rows.cell, part.cells), (), share)

    weigh = partial(tally, cells=(groups or 1) * part.cells, scale=jnp.asarray(_ONE))
    if groups is None:
        return weigh(lambda batch: by_cell(batch, scale), batch, flags=flags)
    return weigh(lambda both: by_cell(*both), (batch, scale))


def tally_groups(
    classify: Classify,
    batch: Batch,
    *,
    groups: int,
    cells: int,
    flags: int,
    terms: Callable[[Batch], Terms] | None = None,
    squares: bool = False,
) -> Tally:
    """`tally` of each group: every field with a leading axis of groups.

    Args:
      classify: As for `tally`, with groups; what is not below `groups` is of the last.
      batch: As for `tally`.
      groups: The number of groups.
      cells: The number of cells of each.
      flags: The number of flags.
      terms: Maps the batch to the weights of its rows; given when they carry some,
        which are then summed instead of counted.
      squares: Whether squares of weights are summed too.
    """
    if terms is None:
        codes, own = Codes(cells, flags, groups), partial(_in_groups, classify, groups)
        counts, found, rows = tally_codes(own, batch, codes)
        return Tally(counts, found, None, rows=rows)

    plan = _Plan(classify, terms, groups, cells, flags, squares)
    apart = partial(_apart, plan)
    shape = jax.tree.leaves(batch)[0].shape
    narrow = math.prod(shape[1:]) <= TERM_ROWS and cells < MOST_CELLS
    narrow &= plan.codes.usual.number <= MOST_TERM_PLACES
    if math.prod(shape) <= BLOCK_ROWS or not narrow or not alone(batch):
        return apart(batch)

    def at_once(batch: Batch) -> Tally:
        sums, fine = _at_once(plan, batch)
        both: Tally = lax.cond(fine, lambda: sums, lambda: apart(batch))
        return both

    sums: Tally = lax.platform_dependent(batch, cpu=at_once, default=apart)
    return sums


class _Plan(NamedTuple):
    """What is summed by what."""

    classify: Classify
    terms: Callable[[Batch], Terms]
    groups: int
    cells: int
    flags: int
    squares: bool

    @property
    def codes(self) -> Codes:
        """Of one scatter, with a cell for rows that weigh nothing."""
        return Codes(self.cells + 1, self.flags, self.groups)


def _at_once(plan: _Plan, batch: Batch) -> tuple[Tally, jax.Array]:
    """Rows, weights and squares in one scatter, and whether these may be used.

    They may if no row has a flag and no cell of a group is too light.
    """
    classify, terms, groups, cells, flags, squares = plan
    scale = max_weight(*terms(batch)[:2])
    codes, usual = plan.codes, plan.codes.usual

    def by_place(batch: Batch) -> Rows:
        rows: Any = _in_groups(classify, groups, batch)
        light = (rows.cell >= 0) & (rows.weight == 0)
        cell = lax.select(light, lax.full_like(rows.cell, cells), rows.cell)
        _, place = codes.of(cell, rows.flags, rows.group)
        return Rows(place, (), to_share(rows.weight, scale))

    one = jnp.asarray(_ONE)
    sweep = Sweep(SCATTER_TERMS, by_place, usual.number, one)
    sums = in_turn(sweep, batch, term_rows(usual.number))
    counts = sums.counts[: usual.nothing].reshape(groups, cells + 1)

    def by_group(limb: jax.Array) -> jax.Array:
        both = limb.reshape(2, usual.number)[:, : usual.nothing]
        weights, square = both.reshape(2, groups, cells + 1)
        square = jnp.sum(square, axis=1, keepdims=True, dtype=limb.dtype)
        return jnp.concatenate([weights[:, :cells], square], axis=1).reshape(-1)

    limbs = carry_limbs(tuple(by_group(limb) for limb in sums.limbs))
    shares = from_limbs(limbs, one, squares=False)
    total, error = (x.reshape(groups, cells + 1) for x in shares)
    heavy = counts[:, :cells].astype(jnp.float32)
    fine = (sums.counts[usual.other] == 0) & jnp.all(
        total[:, :cells] >= heavy * np.float32(_LEAST_MEAN)
    )
    weights, square = (total[:, :cells], error[:, :cells]), None
    if squares:
        square = total[:, cells:], error[:, cells:]
        least = jnp.sum(heavy, axis=1) * np.float32(_LEAST_MEAN_SQUARE)
        fine &= jnp.all(total[:, cells] >= least)
    rows = jnp.sum(counts, axis=1, dtype=counts.dtype)
    zero = (rows & 0)[:, None]  # local to a device as they are
    none = jnp.zeros((groups, flags), jnp.uint32) + zero
    return _tally(none, rows, jnp.full((groups,), scale), weights, square), fine


def _apart(plan: _Plan, batch: Batch) -> Tally:
    """Weights relative to the largest of their group, squares, and rows."""
    classify, terms, groups, cells, flags, squares = plan
    # Of a row as wide as blocks may be long, more squares than a cell can hold.
    width = math.prod(jax.tree.leaves(batch)[0].shape[1:])
    several = max(1, -(-width // BLOCK_ROWS))

    def by_square(batch: Batch) -> Rows:
        rows: Any = classify(batch)
        place = lax.full_like(rows.cell, 0)
        if several > 1:
            place += np.arange(width, dtype=np.int32) // BLOCK_ROWS
        place = lax.select(rows.cell < 0, rows.cell, place)
        return Rows(place, (), rows.weight, group=rows.group)

    parts = [Part(classify, cells)]
    parts += [Part(by_square, several, squares=True)] if squares else []
    sums = tally_parts(parts, batch, terms, flags=flags, groups=groups)
    counts = jnp.zeros((groups, cells), jnp.uint32)
    square = _all_of(sums.parts[1]) if squares else None
    return Tally(counts, sums.flags, sums.parts[0], square, sums.rows)


def _all_of(sums: Sum) -> Sum:
    """Sums over the last axis, which stays."""
    each = [(sums[0][:, i, None], sums[1][:, i, None]) for i in range(sums[0].shape[1])]
    return functools.reduce(add_pairs, each)


def _tally(
    flags: jax.Array,
    rows: jax.Array,
    scale: jax.Array,
    weights: Sum,
    square: Sum | None,
) -> Tally:
    """Sums of shares, and of their squares, in the units of their groups."""
    counts = jnp.zeros(weights[0].shape, jnp.uint32)
    weights = _in_units(weights, scale)
    square = None if square is None else _in_units(square, 2 * scale)
    return Tally(counts, flags, weights, square, rows)


def _in_units(sums: Sum, exponent: jax.Array) -> Sum:
    total, error = (times_two_to(exponent[..., None], x) for x in sums)
    return total, error


def _scales(terms: Terms, groups: int) -> tuple[jax.Array, jax.Array]:
    """`max_weight` of each group, int32 (groups,), and of the group of each row."""
    weight, keep = terms.weight, terms.keep
    group = within(terms.group, groups)
    batch = weight, keep, group
    lanes = lanes_of(jax.tree.leaves(batch))

    def of_lane(batch: Any) -> jax.Array:
        weight, keep, group = jax.tree.map(lambda x: x.reshape(-1), batch)
        usable = (weight < np.inf) & (weight > 0)
        usable = usable if keep is None else usable & keep
        own = lax.select(usable, exponent_of(weight), lax.full_like(group, LEAST))
        place = lax.select(usable, group, lax.full_like(group, groups))
        table = jnp.full((groups + 1,), LEAST, jnp.int32)
        return table.at[place].max(own, mode="promise_in_bounds")[:groups]

    if lanes.number > 1:
        # Rows of padding have weight 0.
        batch = jax.tree.map(lambda x: split(x, lanes), filled(batch, lanes))
        found = jnp.max(jax.vmap(of_lane)(batch), axis=0)
    else:
        found = of_lane(batch)
    return found, taken(found, group)


def tally_pairs_of_groups(
    classify: Classify, batch: Batch, *, groups: int, cells: int, flags: int
) -> jax.Array:
    """`tally_pairs` of each group: words `(2, groups, cells + 1 + flags, 2)`."""
    width = cells + 1 + flags

    def by_group(batch: Batch) -> Rows:
        rows: Any = _in_groups(classify, groups, batch)
        dropped = rows.cell < 0
        place = place_of_flags(rows.cell, rows.flags, cells)
        place = lax.select(dropped & (place == cells), lax.full_like(place, -1), place)
        place = lax.select(dropped, place, rows.cell)
        amount = lax.select(dropped, lax.full_like(rows.cell, 0), rows.amount)
        return Rows(_in_group(rows.group, place, width), (), amount=amount)

    words = tally_pairs(by_group, batch, cells=groups * width)
    return words[:, :-1].reshape(2, groups, width, 2)


def _in_groups(classify: Classify, groups: int, batch: Batch) -> Rows:
    """What rows say, each in one of the groups."""
    rows: Any = classify(batch)
    result: Rows = rows._replace(group=within(rows.group, groups))
    return result


def _in_group(group: jax.Array, place: jax.Array, width: int) -> jax.Array:
    """The place among those of all groups; a negative one drops the row."""
    return lax.select(place < 0, lax.full_like(place, -1), group * width + place)
