"""The forms in which a block of rows is summed by cell; all give the same integers.

* **Reduce**: a handful of cells, in one variadic reduce, a single read of the rows. It
  goes in groups of at most 255 rows, whose counts fit four to an integer.
* **Scatter**: many cells, by integer scatter-add, into tables that blocks share.
* **Terms**: rows, weights and squares by cell, by one scatter-add of complex numbers.
* **Product**: many cells, by a product of one-hot matrices, where scatters are serial.

Weights are integers of 48 bits, in two halves of 24, and their squares of 24. Sums of
them are kept in limbs of 16 bits, carried often enough that none overflows: those of
the weights by cell, and behind these, if asked for, that of all squares.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxmetrics import wide
from jaxmetrics.limbs import (
    LIMB,
    LIMB_BITS,
    Limbs,
    Weights,
    carry_limbs,
    to_limbs,
)
from jaxmetrics.numerics import carry, words_from_counts

__all__ = [
    "PRODUCT",
    "REDUCE",
    "SCATTER_COUNTS",
    "SCATTER_HALVES",
    "SCATTER_PAIRS",
    "SCATTER_TERMS",
    "SCATTER_WEIGHTS",
    "Block",
    "Form",
    "Sums",
    "add",
    "add_at",
    "added_up",
    "term_rows",
]

T = TypeVar("T")

GROUP_ROWS = 2**8 - 1  # of a reduce: its counts fit 8 bits, sums of 24 bits fit 32
LEAST_GROUP = 2**6
FEW_GROUPS = 4
LEAST_PARTED = 2**14  # below, a second operand is only more to compile
REDUCE_ROWS = 2**22  # in at most 2^16 groups, whose parts of 16 bits add to 32
BLOCK_ROWS = 2**15  # of a scatter: sums of 16 bits stay below 2^31
PRIVATE_CELLS = 1024  # up to here rows take turns in private copies of a table
COPIES = 4
_FIELD_BITS = 8  # of a count of up to GROUP_ROWS
_FIELDS = 4  # of an int32


class Sums(NamedTuple):
    """Integer sums that may be added to each other; limbs carried to 16 bits."""

    counts: jax.Array  # uint32 (cells,); empty where rows carry weights
    flags: jax.Array  # uint32 (flags,)
    limbs: Limbs  # each uint32 (cells,), or one more, lowest first; or none
    pairs: jax.Array | None = None  # words (2, cells, 2): of rows and of amounts


class Block(NamedTuple):
    """A block of rows, each field a vector of them."""

    cell: jax.Array  # int32; a negative cell drops the row
    weights: Weights | None
    flags: list[jax.Array]  # bool
    amount: jax.Array | None = None  # int32, of AMOUNT_BITS bits


class Form(NamedTuple):
    """A way to sum blocks of rows: into something raw, finished after the last."""

    add: Callable[[Any, Block, int], Any]  # to what is raw so far, or None
    finish: Callable[[Any, int], Sums]
    carry: Callable[[Any], Any] = lambda raw: raw  # after each few blocks


def add(a: Sums, b: Sums) -> Sums:
    """The sum of two."""
    return _carried(_added(a, b))


def added_up(each: Sums) -> Sums:
    """The sum over the leading axis."""
    sums: Sums = jax.tree.map(lambda x: jnp.sum(x, axis=0, dtype=x.dtype), each)
    return _carried(sums)


def _added(a: T | None, b: T) -> T:
    """The sum of two, not carried; the second if there is no first."""
    if a is None:
        return b
    both: T = jax.tree.map(jnp.add, a, b)
    return both


def _carried(sums: Sums) -> Sums:
    """The same sums, in limbs and words that may be added again."""
    pairs = sums.pairs if sums.pairs is None else carry(sums.pairs)
    return sums._replace(limbs=carry_limbs(sums.limbs), pairs=pairs)


# --- forms ---------------------------------------------------------------------------


def _finished(sums: Sums, cells: int) -> Sums:
    """What is not raw is finished."""
    del cells
    return sums


def _reduce(raw: Sums | None, block: Block, cells: int) -> Sums:
    """Few cells: a comparison and a sum for each, all in one read of the rows."""
    cell, weights, flags, _ = block
    fields = _flag_fields(flags)
    if weights is None:
        _, counts = _sums_in_one_read([], [*fields, *_cell_fields(cell, cells)])
        start = len(fields) * _FIELDS
        sums = Sums(counts[start : start + cells], counts[: len(flags)], ())
    else:
        zero = lax.full_like(cell, 0)
        halves = [
            [lax.select(cell == j, half, zero) for j in range(cells)]
            for half in (weights.upper, weights.lower)
        ]
        squares = _squares(weights, cell)
        values = [*halves[0], *squares, *halves[1]]
        parts, counts = _sums_in_one_read(values, fields)
        # (2, cells): low, high bits; squares have no lower half.
        upper, lower = jnp.split(parts, (cells + len(squares),), axis=1)
        lower = jnp.pad(lower, ((0, 0), (0, len(squares))))
        sums = Sums(_no_counts(), counts[: len(flags)], _limbs_of(upper, lower))
    return _added(raw, sums)


def _scatter_counts(raw: jax.Array | None, block: Block, cells: int) -> jax.Array:
    """Many cells: an integer scatter-add. Rows with flags come as codes, without them.

    Rows take turns in copies of the table: an addition waits for the last one to the
    same cell, which halves the speed where scores crowd.
    """
    if block.flags:
        raise AssertionError("flags are counted as codes")
    width, index = cells + 1, _index(block.cell, cells)
    if _copies(cells) > 1:
        index = wide.in_copies(index, width, _copies(cells))
    return add_at(raw, index, np.uint32(1), _copies(cells) * width)


def term_rows(cells: int) -> int:
    """How many rows a block of terms may have."""
    return _copies(cells) * wide.TERM_ROWS


def _copies(cells: int) -> int:
    return COPIES if cells <= PRIVATE_CELLS else 1


def _read_counts(raw: jax.Array, cells: int) -> Sums:
    """The sums of what `_scatter_counts` left in its table."""
    copies = raw.reshape(_copies(cells), -1)[:, :cells]
    return Sums(jnp.sum(copies, axis=0, dtype=raw.dtype), _no_counts(), ())


def _scatter_pairs(raw: jax.Array | None, block: Block, cells: int) -> jax.Array:
    """Many cells: a scatter-add of rows and of their amounts at once."""
    if block.flags or block.amount is None:
        raise AssertionError("rows come with amounts, and flags as cells")
    index = _index(block.cell, cells)
    return wide.add_at(raw, index, block.amount, cells + 1)


def _read_pairs(raw: jax.Array, cells: int) -> Sums:
    """The sums of what `_scatter_pairs` left in its table."""
    return Sums(_no_counts(), _no_counts(), (), wide.read(raw)[:, :cells])


def _scatter_weights(
    raw: tuple[Limbs, Sums] | None, block: Block, cells: int
) -> tuple[Limbs, Sums]:
    """Many cells: a scatter-add of integers of 48 bits, block by block into limbs."""
    index, weights = _weighed(block, cells)
    own = wide.limbs_at(index, weights.upper, weights.lower, cells + 1)
    return _added(raw, (own, _rest(block, weights)))


def _carry_weights(raw: tuple[Limbs, Sums]) -> tuple[Limbs, Sums]:
    tables, rest = raw
    return carry_limbs(tables), _carried(rest)


def _read_weights(raw: tuple[Limbs, Sums], cells: int) -> Sums:
    """The sums of what `_scatter_weights` left in its limbs."""
    tables, rest = raw
    return rest._replace(limbs=_behind(tuple(x[:cells] for x in tables), rest.limbs))


def _scatter_halves(
    raw: tuple[jax.Array, Sums] | None, block: Block, cells: int
) -> tuple[jax.Array, Sums]:
    """The same, into one table for all blocks, in two numbers of 24 bits each."""
    index, weights = _weighed(block, cells)
    table, rest = (None, None) if raw is None else raw
    both = wide.add_halves_at(table, index, weights.upper, weights.lower, cells + 1)
    return both, _added(rest, _rest(block, weights))


def _carry_halves(raw: tuple[jax.Array, Sums]) -> tuple[jax.Array, Sums]:
    table, rest = raw
    return table, _carried(rest)


def _read_halves(raw: tuple[jax.Array, Sums], cells: int) -> Sums:
    """The sums of what `_scatter_halves` left in its table."""
    table, rest = raw
    limbs = tuple(x[:cells] for x in wide.read_halves(table))
    return rest._replace(limbs=_behind(limbs, rest.limbs))


def _scatter_terms(raw: Sums | None, block: Block, cells: int) -> Sums:
    """Many cells: rows, weights of 39 bits and squares at once; limbs `(2 * cells,)`.

    What is dropped goes behind the last cell, and out.
    """
    index, weights = _weighed(block, cells)
    rows, limbs = wide.terms_at(index, weights.share, cells + 1, _copies(cells))
    cut = (x.reshape(2, cells + 1)[:, :cells].reshape(-1) for x in limbs)
    return _added(raw, Sums(rows[:cells], _no_counts(), tuple(cut)))


def _weighed(block: Block, cells: int) -> tuple[jax.Array, Weights]:
    """Places in a table, and weights."""
    if block.weights is None:
        raise AssertionError("rows without weights are counted")
    return _index(block.cell, cells), block.weights


def _index(cell: jax.Array, cells: int) -> jax.Array:
    """Places in a table: that of rows that are dropped is behind the last cell."""
    return lax.select(cell < 0, lax.full_like(cell, cells), cell)


def _rest(block: Block, weights: Weights) -> Sums:
    """What is not summed by cell: the flags, and the squares as if of a cell."""
    fields = _flag_fields(block.flags)
    squares = _squares(weights, block.cell)
    parts, counts = _sums_in_one_read(squares, fields)
    limbs = _limbs_of(parts, jnp.zeros_like(parts)) if squares else ()
    return Sums(_no_counts(), counts[: len(block.flags)], limbs)


def _squares(weights: Weights, cell: jax.Array) -> list[jax.Array]:
    """The squares if they are asked for, 0 in rows that are dropped."""
    if weights.square is None:
        return []
    return [lax.select(cell < 0, lax.full_like(cell, 0), weights.square)]


def _behind(limbs: Limbs, last: Limbs) -> Limbs:
    """Limbs of the cells and behind them those of the squares, if any."""
    if not last:
        return limbs
    return tuple(jnp.concatenate(x) for x in zip(limbs, last, strict=True))


def _limbs_of(upper: jax.Array, lower: jax.Array) -> Limbs:
    """Limbs from the sums of halves, each `(2, n)`: of low bits and of the others."""
    # The unit of the upper halves is 2^24: a limb and a half above the lower's.
    here, above = (upper & 255) << 8, upper >> 8
    limbs = lower[0], lower[1] + here[0], above[0] + here[1], above[1]
    return carry_limbs(limbs)


def add_at(
    table: jax.Array | None, index: jax.Array, values: jax.Array | np.uint32, width: int
) -> jax.Array:
    """A table, of zeros to begin with, with values added by index."""
    if table is None:
        table = jnp.zeros((width,), jnp.uint32)
    # Of unsigned places JAX knows that they do not count from the end.
    place = index.astype(jnp.uint32)
    return table.at[place].add(values, mode="promise_in_bounds")


def _product(raw: Sums | None, block: Block, cells: int) -> Sums:
    """Many cells: the product of two one-hot matrices, exact in bfloat16.

    A cell is a row and a column of a square; values go in as bytes, so that every
    factor has 8 bits and every sum over a block stays below 2^24.
    """
    cell, weights, flags, amount = block
    side = math.isqrt(cells - 1) + 1
    # A dropped row has cell -1, hence row -1, hence no one in `row`.
    row = jax.nn.one_hot(cell // side, side, dtype=jnp.bfloat16)
    column = jax.nn.one_hot(cell % side, side, dtype=jnp.bfloat16)

    def add_up(value: jax.Array | None) -> jax.Array:
        left = row if value is None else row * value.astype(jnp.bfloat16)[:, None]
        square = jnp.matmul(left.T, column, preferred_element_type=jnp.float32)
        return square.reshape(-1)[:cells].astype(jnp.uint32)

    if weights is None:
        sums = Sums(add_up(None), _count(flags), ())
        if amount is not None:
            both = jnp.stack([sums.counts, add_up(amount)], axis=-1)
            sums = Sums(_no_counts(), sums.flags, (), words_from_counts(both))
    else:
        parts = to_limbs(weights.upper, weights.lower)
        limbs = [add_up(x & 255) + (add_up(x >> 8) << 8) for x in parts]
        carried = carry_limbs((*limbs, jnp.zeros_like(limbs[0])))
        sums = _rest(block, weights)
        sums = sums._replace(limbs=_behind(carried, sums.limbs))
    return _added(raw, sums)


def _no_counts() -> jax.Array:
    return jnp.zeros((0,), jnp.uint32)


REDUCE = Form(_reduce, _finished, _carried)
SCATTER_COUNTS = Form(_scatter_counts, _read_counts)
SCATTER_PAIRS = Form(_scatter_pairs, _read_pairs)
SCATTER_WEIGHTS = Form(_scatter_weights, _read_weights, _carry_weights)
SCATTER_HALVES = Form(_scatter_halves, _read_halves, _carry_halves)
SCATTER_TERMS = Form(_scatter_terms, _finished, _carried)
PRODUCT = Form(_product, _finished, _carried)


# --- sums in one read ----------------------------------------------------------------


def _count(flags: list[jax.Array]) -> jax.Array:
    if not flags:
        return jnp.zeros((0,), jnp.uint32)
    return _variadic_sum([x.astype(jnp.int32)[None] for x in flags])[:, 0]


def _cell_fields(cell: jax.Array, cells: int) -> list[jax.Array]:
    """Four cells to an integer: a 1 in the field of a row's cell, none if dropped."""
    fours, zero = cell >> 2, lax.full_like(cell, 0)
    field = lax.full_like(cell, 1) << ((cell & 3) * _FIELD_BITS)
    return [lax.select(fours == i, field, zero) for i in range(-(-cells // _FIELDS))]


def _flag_fields(flags: list[jax.Array]) -> list[jax.Array]:
    """Four flags to an integer: a 1 in the field of each that is set."""
    fields = []
    for start in range(0, len(flags), _FIELDS):
        field = flags[start].astype(jnp.int32)
        for i, flag in enumerate(flags[start + 1 : start + _FIELDS], 1):
            field += flag.astype(jnp.int32) << (i * _FIELD_BITS)
        fields.append(field)
    return fields


def _sums_in_one_read(
    values: list[jax.Array], fields: list[jax.Array]
) -> tuple[jax.Array, jax.Array]:
    """Exact sums of vectors of up to 24 bits and of fields, in one read of the rows.

    Groups of rows are summed first, and then the parts of the groups' sums.

    Returns:
      uint32 (2, values): the sums over groups of their sums' low 16 bits, and of the
      bits above; uint32 (4 * fields,): the sums of the four fields of each integer.
    """
    operands = [*values, *fields]
    if not operands:
        return jnp.zeros((2, 0), jnp.uint32), jnp.zeros((0,), jnp.uint32)
    sums = _sums_by_group(operands)
    parts = jnp.stack([sums[: len(values)] & LIMB, sums[: len(values)] >> LIMB_BITS])
    counts = sums[len(values) :]
    if fields:
        shifts = np.arange(0, 32, _FIELD_BITS, dtype=np.uint32).reshape(1, -1, 1)
        counts = (counts[:, None] >> shifts) & np.uint32(2**_FIELD_BITS - 1)
        counts = counts.reshape(len(fields) * _FIELDS, sums.shape[1])
    return _over_groups(parts), _over_groups(counts)


def _sums_by_group(operands: list[jax.Array]) -> jax.Array:
    """uint32 (operands, groups): the sums of groups of rows, whichever they are."""
    rows = operands[0].shape[0]
    # A sum of one operand waits for itself; of two, they take turns.
    parts = 2 if len(operands) == 1 and rows >= LEAST_PARTED else 1
    size = _group_rows(rows // parts)
    groups = rows // (parts * size)
    each = groups * size
    pieces = [
        x[i * each : (i + 1) * each].reshape(groups, size)
        for i in range(parts)
        for x in operands
    ]
    sums = _variadic_sum(pieces).reshape(parts, len(operands), groups)
    sums = jnp.concatenate(list(sums), axis=1)
    if parts * each < rows:
        rest = _sums_by_group([x[parts * each :] for x in operands])
        sums = jnp.concatenate([sums, rest], axis=1)
    return sums


def _over_groups(x: jax.Array) -> jax.Array:
    """Sums over the last axis; of few without a reduce, which would be a kernel."""
    groups = x.shape[-1]
    if not 0 < groups <= FEW_GROUPS:
        return jnp.sum(x, axis=-1, dtype=x.dtype)
    return sum((x[..., i] for i in range(1, groups)), x[..., 0])


def _group_rows(rows: int) -> int:
    """A group size, of a number that leaves no rows over if there is one."""
    if rows <= GROUP_ROWS:
        return max(rows, 1)
    even = (size for size in range(GROUP_ROWS, LEAST_GROUP - 1, -1) if not rows % size)
    return next(even, GROUP_ROWS)


def _variadic_sum(operands: list[jax.Array]) -> jax.Array:
    """Sums of several integer arrays `(groups, rows)` over rows, in one read, stacked.

    Returns:
      uint32 (operands, groups).
    """

    def plus(
        a: tuple[jax.Array, ...], b: tuple[jax.Array, ...]
    ) -> tuple[jax.Array, ...]:
        return tuple(x + y for x, y in zip(a, b, strict=True))

    zeros = (np.int32(0),) * len(operands)
    sums = lax.reduce(tuple(operands), zeros, plus, (1,))
    return lax.bitcast_convert_type(jnp.stack(sums), jnp.uint32)
