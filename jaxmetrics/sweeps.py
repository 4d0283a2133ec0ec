"""How the rows of a batch are gone through: in lanes, in blocks, by a form.

* **Lanes.** A batch is split into one lane per shard (see `lanes`), and the lanes' sums
  are added: one all-reduce of the cells, whatever the number of rows.
* **Forms.** A handful of cells is counted by one variadic reduce, in a single read of
  the rows. Many cells are counted by an integer scatter (CPU, GPU) or by a one-hot
  product (TPU, where scatters are serial). All forms give the same integers.
* **Blocks.** A scatter goes through a lane in blocks of at most 2^15 rows: small enough
  to stay in a CPU's cache, and short enough that 16 bits of weight per row cannot
  overflow. A reduce goes in groups of at most 255, whose counts fit 8 bits.
  They go several to a step of a loop: one is prepared while another is scattered.
* **By twos.** A scatter costs the same whatever its table. So where a few places hold
  most rows, a CPU takes two rows at a time to one place for both: half the additions.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxmetrics.codes import Usual
from jaxmetrics.forms import (
    BLOCK_ROWS,
    PRODUCT,
    REDUCE,
    REDUCE_ROWS,
    SCATTER_HALVES,
    SCATTER_PAIRS,
    SCATTER_WEIGHTS,
    Block,
    Form,
    Sums,
    add,
    add_at,
    added_up,
)
from jaxmetrics.lanes import Lanes, filled, lanes_of, split
from jaxmetrics.limbs import to_integers
from jaxmetrics.wide import HALVES_ROWS, WIDE_ROWS

__all__ = [
    "Batch",
    "Classify",
    "Rows",
    "Sweep",
    "alone",
    "block_of",
    "few",
    "in_turn",
    "swept",
]

FEW_CELLS = 8  # up to here one variadic reduce beats a scatter
MOST_PLACES = 512  # whose table for two rows stays in the cache of a core
MANY_CELLS = 2**13  # whose limbs take longer to read out than rows to be added
MOST_AT_ONCE = 2**25  # cells of all blocks side by side, of up to 24 bytes each
AHEAD_BLOCKS = 8  # for which is found at once what can be
AT_A_STEP = 4  # blocks: of more than 8 kernels XLA runs some side by side
LEAST_STEPS = 3  # which pay for compiling them
TWOS_ROWS = 2  # for each of its entries, or passing over it costs what it saves


class Rows(NamedTuple):
    """What a block of rows says; every field has the block's shape.

    Flags are counted whatever the cell. All but the last belong to rows that are
    dropped; the last may also be that of rows that count.
    """

    cell: jax.Array  # int32, below `cells`; a negative cell drops the row
    flags: tuple[jax.Array, ...]  # bool
    weight: jax.Array | None = None  # float32, finite and >= 0 where the cell counts
    amount: jax.Array | None = None  # int32, from 0 to 2^AMOUNT_BITS - 1
    group: jax.Array | None = None  # int32, where rows are counted by group


Batch = Any  # a pytree of arrays of one shape (rows, ...)
Classify = Callable[[Batch], Rows]
Place = Callable[[Batch], jax.Array]  # of each row among the `Usual`


class Sweep(NamedTuple):
    """How blocks of a batch are summed: by which cells, and in which form if many."""

    form: Form
    classify: Classify
    cells: int
    scale: jax.Array | None = None
    squares: bool = False
    ahead: Callable[[Batch], Batch] | None = None  # what `classify` takes, of a batch

    def add(self, raw: Any, *blocks: Batch) -> Any:
        """What is raw so far, or None, and a few blocks."""
        for batch in blocks:
            block = block_of(self.rows(batch), self.scale, squares=self.squares)
            raw = self.form.add(raw, block, self.cells)
        return self.form.carry(raw)

    def rows(self, batch: Batch) -> Rows:
        """What the rows say."""
        return self.classify(batch if self.ahead is None else self.ahead(batch))

    def finish(self, raw: Any) -> Sums:
        """The sums of what is raw."""
        return self.form.finish(raw, self.cells)

    def whole(self, batch: Batch) -> Sums:
        """The sums of one block."""
        return self.finish(self.add(None, batch))


def few(cells: int, batch: Batch) -> bool:
    """Whether a reduce counts so many cells faster than a scatter."""
    return cells <= FEW_CELLS and jax.tree.leaves(batch)[0].ndim == 1


def _with_padding(sweep: Sweep, batch: Batch, lanes: Lanes) -> tuple[Sweep, Batch]:
    """A batch that fills the lanes, and a sweep that drops what was added."""
    rows, batch = _rows(batch), filled(batch, lanes)
    if _rows(batch) == rows:
        return sweep, batch
    shape = jax.tree.leaves(batch)[0].shape
    real = lax.broadcasted_iota(jnp.int32, shape, 0) < rows

    def padded(block: tuple[jax.Array, Batch]) -> Rows:
        real, inner = block
        rows = sweep.rows(inner)
        cell = lax.select(real, rows.cell, lax.full_like(rows.cell, -1))
        return rows._replace(cell=cell, flags=tuple(flag & real for flag in rows.flags))

    return sweep._replace(classify=padded, ahead=None), (real, batch)


def alone(batch: Batch) -> bool:
    """Whether the batch is one lane."""
    return lanes_of(jax.tree.leaves(batch)).number == 1


def swept(
    sweep: Sweep,
    batch: Batch,
    usual: Usual | None = None,
    place: Place | None = None,
) -> Sums:
    """The sums of all lanes.

    Args:
      sweep: How they are summed.
      batch: A pytree of arrays, all of one shape `(rows, ...)`.
      usual: Where most rows are, if cells are codes.
      place: Maps blocks of the batch to their places there, row by row.
    """
    lanes = lanes_of(jax.tree.leaves(batch))
    typed = lanes.mesh is not None
    if lanes.number == 1 and _rows(batch):
        return _lane(sweep, batch, usual, place, typed=typed)
    # Where there are no rows some are added: loops and branches have their type.
    sweep, batch = _with_padding(sweep, batch, lanes)
    batch = jax.tree.map(partial(split, lanes=lanes), batch)
    each = jax.vmap(partial(_lane, sweep, typed=typed))
    if lanes.mesh is None:
        return added_up(each(batch))
    with jax.sharding.use_abstract_mesh(lanes.mesh):
        return added_up(each(batch))


# --- one lane -------------------------------------------------------------------------


def block_of(
    rows: Rows, scale: jax.Array | None = None, *, squares: bool = False
) -> Block:
    """Rows as vectors, their weights as integers."""
    cell = rows.cell.reshape(-1)
    # A flag that is False whatever the data still has to have the data's sharding.
    never = cell != cell
    flags = [x.reshape(-1) | never for x in rows.flags]
    weights = None
    if scale is not None and rows.weight is not None:
        weight = rows.weight.reshape(-1)
        weights = to_integers(weight, scale, squares=squares)
    amount = None if rows.amount is None else rows.amount.reshape(-1)
    return Block(cell, weights, flags, amount)


def _lane(
    sweep: Sweep,
    batch: Batch,
    usual: Usual | None = None,
    place: Place | None = None,
    *,
    typed: bool,
) -> Sums:
    """Sweeps the rows of one lane in the form that suits the backend.

    Where the sharding is part of the types (Explicit axes) the lanes are a `vmap` that
    cannot hold the second one of `_at_once`, whose tables must also fit in memory. A
    lane among others is not taken by twos, which looks at what it has found: under
    `vmap` devices would wait for each other.
    """
    first = jax.tree.leaves(batch)[0]
    if sweep.form is SCATTER_PAIRS and first.size > WIDE_ROWS:
        half = _rows(batch) // 2
        halves = (lambda x: x[:half]), (lambda x: x[half:])
        again = partial(_lane, sweep, typed=typed)
        return add(*(again(jax.tree.map(part, batch)) for part in halves))
    if few(sweep.cells, batch):
        return in_turn(sweep._replace(form=REDUCE), batch, REDUCE_ROWS)
    product = sweep._replace(form=PRODUCT)
    if first.size <= BLOCK_ROWS:
        ways = {"tpu": product.whole, "default": sweep.whole}
    else:
        tables = sweep.cells * -(-first.size // BLOCK_ROWS)
        in_blocks = in_turn if typed or tables > MOST_AT_ONCE else _at_once
        ways = {
            "cpu": partial(in_turn, sweep, limit=BLOCK_ROWS),
            "tpu": partial(in_turn, product, limit=BLOCK_ROWS),
            "default": partial(in_blocks, sweep, limit=BLOCK_ROWS),
        }
        weighs = sweep.form is SCATTER_WEIGHTS
        if weighs and sweep.cells >= MANY_CELLS and first.size <= HALVES_ROWS:
            apart = sweep._replace(form=SCATTER_HALVES)
            ways["cpu"] = partial(in_turn, apart, limit=BLOCK_ROWS)
        if usual is not None and place is not None and _by_twos_pays(usual, first.size):
            ways["cpu"] = partial(_by_twos, sweep, usual=usual, place=place)
    sums: Sums = lax.platform_dependent(batch, **ways)
    return sums


def _by_twos_pays(usual: Usual, rows: int) -> bool:
    places = usual.number
    return places <= MOST_PLACES and rows >= TWOS_ROWS * places * places


def _by_twos(sweep: Sweep, batch: Batch, usual: Usual, place: Place) -> Sums:
    """Counts of codes, two rows at a time; those with a flag in a sweep of their own.

    That one runs only where there are any.
    """
    half = _rows(batch) // 2
    size, blocks, at_a_step = _cut(batch, half, BLOCK_ROWS // 2, AT_A_STEP)

    def count(table: jax.Array, *numbers: jax.Array) -> jax.Array:
        for i in numbers:
            starts = i * size, (blocks + i) * size
            first, second = (place(_slice_rows(batch, x, size)) for x in starts)
            both = first * usual.number + second
            table = add_at(table, both.reshape(-1), np.uint32(1), usual.number**2)
        return table

    # Loops take their type from the data, even where these are local to a device.
    none = place(jax.tree.map(lambda x: x[:0], batch))
    zero = jnp.sum(none, dtype=jnp.uint32)
    table = jnp.zeros((usual.number**2,), jnp.uint32) + zero
    table = _loop(blocks, count, table, at_a_step)
    table = table.reshape(usual.number, usual.number)
    first, second = (jnp.sum(table, axis=i, dtype=table.dtype) for i in (1, 0))
    found = first + second

    def flagged(rows: Batch) -> Rows:
        cell = sweep.rows(rows).cell
        here = place(rows) == usual.other
        return Rows(lax.select(here, cell, lax.full_like(cell, -1)), ())

    rare = sweep._replace(classify=flagged, ahead=None)

    def count_flagged(i: jax.Array, counts: jax.Array) -> jax.Array:
        more = rare.whole(_slice_rows(batch, i * size, size)).counts
        return counts + more

    some = lax.select(found[usual.other] > 0, 2 * blocks, 0)
    counts = lax.fori_loop(0, some, count_flagged, usual.among_codes(found))
    rest = sweep.whole(jax.tree.map(lambda x: x[2 * blocks * size :], batch))
    return rest._replace(counts=rest.counts + counts)


def in_turn(sweep: Sweep, batch: Batch, limit: int) -> Sums:
    """Block after block, into one set of sums that stays in cache."""
    if sweep.ahead is None:
        at_a_step = 1 if sweep.form is REDUCE else AT_A_STEP  # that uses all cores
        return sweep.finish(_looped(sweep.add, None, batch, limit, at_a_step))
    # For some blocks at once is found what can be found ahead of the scatter.
    ahead, prepared = sweep.ahead, sweep._replace(ahead=None)

    def some(raw: Any, rows: Batch) -> Any:
        found = lax.optimization_barrier(ahead(rows))
        return _looped(prepared.add, raw, found, limit)

    return sweep.finish(_looped(some, None, batch, AHEAD_BLOCKS * limit))


def _looped(
    add: Callable[..., Any],
    raw: Any,
    batch: Batch,
    limit: int,
    at_a_step: int = 1,
) -> Any:
    """Blocks added in turn, a few at a time, to what is raw so far or None.

    The last rows come first, and outside the loop, whose carry takes its type and its
    sharding from the data.
    """
    if _rows(batch) <= _block_rows(batch, limit):
        return add(raw, batch)
    outside = 1 if raw is None else 0
    rows = _rows(batch) - outside
    size, number, at_a_step = _cut(batch, rows, limit, at_a_step)
    if number * size < _rows(batch):
        last = jax.tree.map(lambda x: x[number * size :], batch)
        raw = _looped(add, raw, last, limit, at_a_step)

    def add_blocks(raw: Any, *numbers: jax.Array) -> Any:
        return add(raw, *(_slice_rows(batch, i * size, size) for i in numbers))

    return _loop(number, add_blocks, raw, at_a_step)


def _cut(batch: Batch, rows: int, limit: int, at_a_step: int) -> tuple[int, int, int]:
    """The size and the number of blocks, and how many go to a step.

    Of many rows, of which a few are left over; of fewer as many go one by one as fit.
    """
    most = _block_rows(batch, limit)
    if rows < LEAST_STEPS * at_a_step * most:
        return most, rows // most, 1
    steps = min(-(-rows // (at_a_step * most)), rows // at_a_step)
    number = at_a_step * steps
    return _even(rows // number), number, at_a_step


def _loop(number: int, add: Callable[..., Any], carry: Any, at_a_step: int) -> Any:
    """What comes of so many blocks."""

    def step(i: jax.Array, carry: Any) -> Any:
        return add(carry, *(i * at_a_step + j for j in range(at_a_step)))

    return lax.fori_loop(0, number // at_a_step, step, carry)


def _at_once(sweep: Sweep, batch: Batch, limit: int) -> Sums:
    """All blocks side by side, each into sums of its own: no loop to launch."""
    size = _block_rows(batch, limit)
    whole = _rows(batch) // size
    parts = jax.tree.map(
        lambda x: x[: whole * size].reshape(whole, size, *x.shape[1:]), batch
    )
    sums = added_up(jax.vmap(sweep.whole)(parts))
    if _rows(batch) % size:
        tail = sweep.whole(jax.tree.map(lambda x: x[whole * size :], batch))
        sums = add(sums, tail)
    return sums


def _slice_rows(batch: Batch, start: jax.Array, size: int) -> Batch:
    return jax.tree.map(lambda x: lax.dynamic_slice_in_dim(x, start, size), batch)


def _rows(batch: Batch) -> int:
    rows: int = jax.tree.leaves(batch)[0].shape[0]
    return rows


def _block_rows(batch: Batch, limit: int) -> int:
    """As many rows as the limit allows; a multiple of 8, which vectorizes best."""
    first = jax.tree.leaves(batch)[0]
    return _even(max(1, limit // max(1, math.prod(first.shape[1:]))))


def _even(size: int) -> int:
    return size - size % 8 if size > 8 else size
