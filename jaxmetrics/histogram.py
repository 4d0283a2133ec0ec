"""The one place that counts rows into cells: fast on each backend, local if sharded.

`tally` takes a function from rows to cells and returns how many rows, and how much
weight, fell into each cell. How it goes through the rows is decided here and nowhere
else:

* **Lanes.** A batch is split into one lane per shard (see `lanes`), and the lanes' sums
  are added: one all-reduce of the cells, whatever the number of rows.
* **Forms.** A handful of cells is counted by one variadic reduce, in a single read of
  the rows. Many cells are counted by an integer scatter (CPU, GPU) or by a one-hot
  product (TPU, where scatters are serial). All forms give the same integers.
* **Blocks.** A scatter goes through a lane in blocks of at most 2^15 rows: small enough
  to stay in a CPU's cache, and short enough that 16 bits of weight per row cannot
  overflow. A reduce goes in groups of at most 255, whose counts fit 8 bits.

Weights are summed as integers too: each weight is cut into two halves of 24 bits,
relative to the largest weight of the batch. Sums of halves are exact, so a weighted
result does not depend on the order of the rows or on how they are sharded.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jaxmetrics.forms import (
    BLOCK_ROWS,
    PRODUCT,
    REDUCE,
    REDUCE_ROWS,
    SCATTER_COUNTS,
    SCATTER_PAIRS,
    SCATTER_WEIGHTS,
    Block,
    Form,
    Sums,
    add,
    added_up,
    place_pairs,
)
from jaxmetrics.lanes import lanes_of, split
from jaxmetrics.limbs import from_limbs, to_integers
from jaxmetrics.numerics import add_words, carry
from jaxmetrics.wide import WIDE_ROWS

__all__ = ["Rows", "Tally", "add_pairs_of", "present", "tally", "tally_pairs"]

FEW_CELLS = 8  # up to here one variadic reduce beats a scatter
TOUCH_COST = 4  # of adding a row to its cells alone, in cells that are passed over


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


Sum = tuple[jax.Array, jax.Array]  # and its error


class Tally(NamedTuple):
    """Sums over the rows of a batch."""

    counts: jax.Array  # uint32 (cells,): rows in each cell
    flags: jax.Array  # uint32 (flags,): rows with each flag
    weights: Sum | None  # float32 (cells,)
    square: Sum | None = None  # float32 (1,): of the weights of all cells

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


Batch = Any  # a pytree of arrays of one shape (rows, ...)
Classify = Callable[[Batch], Rows]


def tally(
    classify: Classify,
    batch: Batch,
    *,
    cells: int,
    scale: jax.Array | None = None,
) -> Tally:
    """Counts rows, or sums their weights, by cell.

    Args:
      classify: Maps blocks of `batch` to `Rows`, row by row.
      batch: A pytree of arrays, all of one shape `(rows, ...)`.
      cells: The number of cells.
      scale: `max_weight` of the batch; given when rows carry weights, which are then
        summed instead of counted.
    """
    scatter = SCATTER_COUNTS if scale is None else SCATTER_WEIGHTS
    sums = _swept(classify, batch, cells, scatter, scale)
    if scale is None:
        return Tally(sums.counts, sums.flags, None)
    total, error = from_limbs(sums.limbs, scale)
    weights, square = (total[:cells], error[:cells]), (total[cells:], error[cells:])
    return Tally(jnp.zeros((cells,), jnp.uint32), sums.flags, weights, square)


def tally_pairs(classify: Classify, batch: Batch, *, cells: int) -> jax.Array:
    """Counts rows and sums their amounts, by cell.

    Args:
      classify: Maps blocks of `batch` to `Rows` with amounts; all flags are of rows
        that are dropped, and exclude each other.
      batch: A pytree of arrays, all of one shape `(rows, ...)`.
      cells: The number of cells, more than a handful.

    Returns:
      Carried words `(2, cells + 1 + flags, 2)`: of rows and of amounts. Behind the
      cells come a 0 and the rows with each flag.
    """
    sums = _swept(classify, batch, cells, SCATTER_PAIRS)
    if sums.pairs is None:
        raise AssertionError("rows with amounts make pairs")
    return sums.pairs


def add_pairs_of(
    words: jax.Array, classify: Classify, batch: Batch, *, cells: int
) -> jax.Array:
    """Words as of `tally_pairs` with a batch added; a small one touches its cells only.

    Args:
      words: `(2, cells + 1 + flags, 2)`.
      classify: As for `tally_pairs`.
      batch: As for `tally_pairs`.
      cells: The number of cells.
    """
    lanes = lanes_of(jax.tree.leaves(batch))
    size = jax.tree.leaves(batch)[0].size
    if size * TOUCH_COST > cells or lanes.number > 1 or lanes.mesh is not None:
        return add_words(words, tally_pairs(classify, batch, cells=cells))
    index, amount, counts = place_pairs(_block(classify(batch), None), cells)
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


def _with_padding(
    classify: Classify, batch: Batch, lanes: int
) -> tuple[Classify, Batch]:
    """Rows that fill the last lane, and a classifier that drops them."""
    shape = jax.tree.leaves(batch)[0].shape
    pad = -shape[0] % lanes
    if not pad:
        return classify, batch
    real = lax.broadcasted_iota(jnp.int32, (shape[0] + pad, *shape[1:]), 0) < shape[0]

    def padded(block: tuple[jax.Array, Batch]) -> Rows:
        real, inner = block
        rows = classify(inner)
        cell = lax.select(real, rows.cell, lax.full_like(rows.cell, -1))
        return rows._replace(cell=cell, flags=tuple(flag & real for flag in rows.flags))

    fill = [(0, pad)] + [(0, 0)] * (len(shape) - 1)
    return padded, (real, jax.tree.map(lambda x: jnp.pad(x, fill), batch))


def _swept(
    classify: Classify,
    batch: Batch,
    cells: int,
    scatter: Form,
    scale: jax.Array | None = None,
) -> Sums:
    """The sums of all lanes; where cells are many, in this form of a scatter."""
    lanes = lanes_of(jax.tree.leaves(batch))
    typed = lanes.mesh is not None
    sweep = partial(_lane, cells=cells, scatter=scatter, scale=scale, typed=typed)
    # An Explicit axis of size 1 is one lane, and still part of every type.
    if not (lanes.number > 1 or typed) or not _rows(batch):
        return sweep(classify, batch)
    classify, batch = _with_padding(classify, batch, lanes.number)
    batch = jax.tree.map(partial(split, lanes=lanes), batch)
    return added_up(jax.vmap(partial(sweep, classify))(batch))


# --- one lane ------------------------------------------------------------------------


class _Sweep(NamedTuple):
    """A form, applied to blocks of a batch."""

    add: Callable[[Any, Batch], Any]  # to what is raw so far, or None
    finish: Callable[[Any], Sums]

    def whole(self, batch: Batch) -> Sums:
        """The sums of one block."""
        return self.finish(self.add(None, batch))


def _sweep(
    form: Form, classify: Classify, cells: int, scale: jax.Array | None
) -> _Sweep:
    def add(raw: Any, batch: Batch) -> Any:
        return form.add(raw, _block(classify(batch), scale), cells)

    return _Sweep(add, lambda raw: form.finish(raw, cells))


def _block(rows: Rows, scale: jax.Array | None) -> Block:
    """Rows as vectors, their weights as integers."""
    cell = rows.cell.reshape(-1)
    # A flag that is False whatever the data still has to have the data's sharding.
    never = cell != cell
    flags = [x.reshape(-1) | never for x in rows.flags]
    weights = None
    if scale is not None and rows.weight is not None:
        weights = to_integers(rows.weight.reshape(-1), scale)
    amount = None if rows.amount is None else rows.amount.reshape(-1)
    return Block(cell, weights, flags, amount)


def _lane(
    classify: Classify,
    batch: Batch,
    *,
    cells: int,
    scatter: Form,
    scale: jax.Array | None,
    typed: bool,
) -> Sums:
    """Sweeps the rows of one lane in the form that suits the backend.

    Where the sharding is part of the types (Explicit axes) the lanes are a `vmap` that
    cannot hold the second one of `_at_once`.
    """
    first = jax.tree.leaves(batch)[0]
    if scatter is SCATTER_PAIRS and first.size > WIDE_ROWS:
        again = partial(
            _lane, classify, cells=cells, scatter=scatter, scale=scale, typed=typed
        )
        half = _rows(batch) // 2
        halves = (lambda x: x[:half]), (lambda x: x[half:])
        return add(*(again(jax.tree.map(part, batch)) for part in halves))
    reduce, many, product = (
        _sweep(form, classify, cells, scale) for form in (REDUCE, scatter, PRODUCT)
    )
    if cells <= FEW_CELLS and first.ndim == 1:
        return _in_turn(reduce, batch, REDUCE_ROWS)
    if first.size <= BLOCK_ROWS:
        ways = {"tpu": product.whole, "default": many.whole}
    else:
        ways = {
            "cpu": partial(_in_turn, many, limit=BLOCK_ROWS),
            "tpu": partial(_in_turn, product, limit=BLOCK_ROWS),
            "default": partial(_in_turn if typed else _at_once, many, limit=BLOCK_ROWS),
        }
    sums: Sums = lax.platform_dependent(batch, **ways)
    return sums


def _in_turn(sweep: _Sweep, batch: Batch, limit: int) -> Sums:
    """Block after block, into one set of sums that stays in cache."""
    size = _block_rows(batch, limit)
    whole = _rows(batch) // size
    if whole == 0:
        return sweep.whole(batch)

    def step(i: jax.Array, raw: Any) -> Any:
        return sweep.add(raw, _slice_rows(batch, i * size, size))

    # The first step is peeled: the carry takes its type and sharding from the data.
    raw = sweep.add(None, jax.tree.map(lambda x: x[:size], batch))
    if whole > 1:
        raw = lax.fori_loop(1, whole, step, raw)
    if _rows(batch) % size:
        raw = sweep.add(raw, jax.tree.map(lambda x: x[whole * size :], batch))
    return sweep.finish(raw)


def _at_once(sweep: _Sweep, batch: Batch, limit: int) -> Sums:
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
    size: int = max(1, limit // max(1, math.prod(first.shape[1:])))
    return size - size % 8 if size > 8 else size
