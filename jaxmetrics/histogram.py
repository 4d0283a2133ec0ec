"""The one place that counts rows into cells: fast on each backend, local if sharded.

`tally` takes a function from rows to cells and returns how many rows, and how much
weight, fell into each cell. How the rows are gone through is decided in `sweeps`.

Weights are summed as integers too: each weight is cut into two halves of 24 bits,
relative to the largest weight of the batch. Sums of halves are exact, so a weighted
result does not depend on the order of the rows or on how they are sharded.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jaxmetrics.codes import Codes
from jaxmetrics.forms import (
    SCATTER_COUNTS,
    SCATTER_PAIRS,
    SCATTER_WEIGHTS,
)
from jaxmetrics.limbs import from_limbs
from jaxmetrics.numerics import add_words, carry
from jaxmetrics.sweeps import Batch, Classify, Rows, Sweep, alone, few, swept
from jaxmetrics.wide import AMOUNT_BITS

__all__ = [
    "Batch",
    "Classify",
    "Rows",
    "Sum",
    "Tally",
    "add_pairs_of",
    "place_of_flags",
    "present",
    "tally",
    "tally_codes",
    "tally_pairs",
]

TOUCH_COST = 4  # of adding a row to its cells alone, in cells that are passed over

Sum = tuple[jax.Array, jax.Array]  # and its error


class Tally(NamedTuple):
    """Sums over the rows of a batch."""

    counts: jax.Array  # uint32 (cells,): rows in each cell
    flags: jax.Array  # uint32 (flags,): rows with each flag
    weights: Sum | None  # float32 (cells,)
    square: Sum | None = None  # float32 (1,): of the weights of all cells
    rows: jax.Array | None = None  # uint32 (): all that came, of groups alone

    @property
    def weighed(self) -> Sum:
        """The weights of a tally with a scale."""
        if self.weights is None:
            raise AssertionError("a tally with a scale sums weights")
        return self.weights

    @property
    def weights_and_square(self) -> Sum:
        """The same, and behind them the sum of their squares."""
        if self.square is None:
            raise AssertionError("a tally with a scale sums squares")
        both = zip(self.weighed, self.square, strict=True)
        total, error = (jnp.concatenate(x, axis=-1) for x in both)
        return total, error


def tally(
    classify: Classify,
    batch: Batch,
    *,
    cells: int,
    flags: int = 0,
    scale: jax.Array | None = None,
    squares: bool = False,
) -> Tally:
    """Counts rows, or sums their weights, by cell.

    Args:
      classify: Maps blocks of `batch` to `Rows`, row by row.
      batch: A pytree of arrays, all of one shape `(rows, ...)`.
      cells: The number of cells.
      flags: The number of flags.
      scale: `max_weight` of the batch; given when rows carry weights, which are then
        summed instead of counted.
      squares: Whether squares of weights are summed too.
    """
    if scale is None and not few(cells, batch):
        counts, found, _ = tally_codes(classify, batch, Codes(cells, flags))
        return Tally(counts[0], found[0], None)
    form = SCATTER_COUNTS if scale is None else SCATTER_WEIGHTS
    sums = swept(Sweep(form, classify, cells, scale, squares), batch)
    if scale is None:
        return Tally(sums.counts, sums.flags, None)
    total, error = from_limbs(sums.limbs, scale, squares=squares)
    weights, square = (total[:cells], error[:cells]), (total[cells:], error[cells:])
    none = jnp.zeros((cells,), jnp.uint32)
    return Tally(none, sums.flags, weights, square if squares else None)


def tally_codes(
    classify: Classify, batch: Batch, codes: Codes
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """How many rows of each group are in each cell, have each flag, and came at all.

    Args:
      classify: As for `tally`; with groups where there are several.
      batch: As for `tally`.
      codes: What rows are numbered by.

    Returns:
      uint32 (groups, cells), (groups, flags) and (groups,).
    """

    def numbers(which: int, batch: Batch) -> jax.Array:
        rows = classify(batch)
        return codes.of(rows.cell, rows.flags, rows.group)[which]

    code, place = partial(numbers, 0), partial(numbers, 1)
    sweep = Sweep(SCATTER_COUNTS, lambda x: Rows(code(x), ()), codes.number)
    return codes.read(swept(sweep, batch, codes.usual, place).counts)


def tally_pairs(
    classify: Classify, batch: Batch, *, cells: int, flags: int = 0
) -> jax.Array:
    """Counts rows and sums their amounts, by cell.

    Args:
      classify: Maps blocks of `batch` to `Rows` with amounts; all flags are of rows
        that are dropped, and exclude each other.
      batch: A pytree of arrays, all of one shape `(rows, ...)`.
      cells: The number of cells, more than a handful.
      flags: The number of flags.

    Returns:
      Carried words `(2, cells + 1 + flags, 2)`: of rows and of amounts. Behind the
      cells come a 0 and the rows with each flag.
    """

    def read(both: jax.Array) -> Rows:
        place, amount = _apart(both)
        counted = lax.select(place == cells, lax.full_like(place, -1), place)
        return Rows(counted, (), amount=amount)

    numbers = partial(_numbers, classify, cells)
    sweep = Sweep(SCATTER_PAIRS, read, cells + 1 + flags, ahead=numbers)
    pairs = swept(sweep, batch).pairs
    if pairs is None:
        raise AssertionError("rows with amounts make pairs")
    return pairs


def _numbers(classify: Classify, cells: int, batch: Batch) -> jax.Array:
    """The place of each row, and its amount, as one integer.

    Behind the cells comes a place for rows that are dropped without a flag, and do not
    count, and then one for each flag.
    """
    rows: Any = classify(batch)
    place = place_of_flags(rows.cell, rows.flags, cells) << AMOUNT_BITS
    counted = (rows.cell << AMOUNT_BITS) | rows.amount
    return lax.select(rows.cell < 0, place, counted)


def place_of_flags(
    cell: jax.Array, flags: Sequence[jax.Array], cells: int
) -> jax.Array:
    """Behind the cells a place for rows without a flag, and one for each flag."""
    place = lax.full_like(cell, cells)
    for i, flag in enumerate(flags, 1):
        place += i * flag.astype(jnp.int32)
    return place


def _apart(both: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The place and the amount of `_numbers`."""
    return both >> AMOUNT_BITS, both & (2**AMOUNT_BITS - 1)


def add_pairs_of(
    words: jax.Array, classify: Classify, batch: Batch, *, cells: int, flags: int = 0
) -> jax.Array:
    """Words as of `tally_pairs` with a batch added; a small one touches its cells only.

    Args:
      words: `(2, cells + 1 + flags, 2)`.
      classify: As for `tally_pairs`.
      batch: As for `tally_pairs`.
      cells: The number of cells.
      flags: The number of flags.
    """
    if jax.tree.leaves(batch)[0].size * TOUCH_COST > cells or not alone(batch):
        sums = tally_pairs(classify, batch, cells=cells, flags=flags)
        return add_words(words, sums)
    index, amount = _apart(_numbers(classify, cells, batch).reshape(-1))
    counts = index != cells
    # In the flat array the low words come first, each row's count before its amount.
    place = jnp.concatenate([2 * index, 2 * index + 1])
    value = jnp.concatenate([counts.astype(jnp.uint32), amount.astype(jnp.uint32)])
    flat = words.reshape(-1).at[place].add(value, mode="promise_in_bounds")
    # Rows of one cell read the same words, so that all write the same; in one scatter,
    # or XLA would copy the array between two.
    above = place + words[0].size
    carried = carry(jnp.stack([flat[place], flat[above]])).reshape(-1)
    both = jnp.concatenate([place, above])
    flat = flat.at[both].set(carried, mode="promise_in_bounds")
    return flat.reshape(words.shape)


def present(weight: jax.Array | None, keep: jax.Array | None) -> jax.Array | None:
    """Which rows there are: those that are kept and weigh something; None for all."""
    if weight is None:
        return keep
    return weight != 0 if keep is None else keep & (weight != 0)
