"""The one place that counts rows into cells: fast on each backend, local under sharding.

`tally` takes a function from rows to cells and returns how many rows, and how much
weight, fell into each cell. How it goes through the rows is decided here and nowhere
else:

* **Lanes.** A loop or a scatter over a sharded batch makes XLA gather the batch. So the
  rows are split into one lane per shard, each lane is swept on its own, and the lanes
  are summed: one all-reduce of the cells, whatever the number of rows.
* **Blocks.** A lane is swept in blocks of at most 2^15 rows: small enough to stay in a
  CPU's cache, and short enough that 16 bits of weight per row cannot overflow 31 bits.
* **Forms.** A handful of cells is counted by one variadic reduce. Many cells are
  counted by an integer scatter (CPU, GPU) or by a one-hot product (TPU, where scatters
  are serial). All forms give the same integers.

Weights are summed as integers too: each weight is cut into three limbs of 16 bits,
relative to the largest weight of the batch. Sums of limbs are exact, so a weighted
result does not depend on the order of the rows or on how they are sharded.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from jaxmetrics.numerics import two_sum

__all__ = ["Rows", "Tally", "max_weight", "tally"]

BLOCK_ROWS = 2**15
LIMB_BITS = 16
LIMBS = 3
FEW_CELLS = 8  # up to here one variadic reduce beats a scatter
PRIVATE_CELLS = 4096  # up to here two private copies fit in a CPU's first cache


class Rows(NamedTuple):
    """What a block of rows says; every field has the block's shape."""

    cell: jax.Array  # int32; a cell outside [0, cells) drops the row
    flags: tuple[jax.Array, ...]  # bool; counted whatever the cell
    weight: jax.Array | None = None  # float32, finite and >= 0 where the cell counts


class Tally(NamedTuple):
    """Sums over the rows of a batch."""

    counts: jax.Array  # uint32 (cells,): rows in each cell
    flags: jax.Array  # uint32 (flags,): rows with each flag
    weights: jax.Array | None  # float32 (2, cells): two-float sums of weight


class _Sums(NamedTuple):
    """Integer sums that may be added to each other; limbs carried to 16 bits."""

    counts: jax.Array  # uint32 (cells,); empty where rows carry weights
    flags: jax.Array  # uint32 (flags,)
    limbs: jax.Array  # uint32 (LIMBS + 1, cells), lowest first; empty without weights


Batch = Any  # a pytree of arrays of one shape (rows, ...)
Classify = Callable[[Batch], Rows]
Block = Callable[[Batch], "_Sums"]
Form = Callable[[jax.Array, list[jax.Array], int], jax.Array]


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
    lanes = _lanes(jax.tree.leaves(batch))
    sweep = partial(_lane, cells=cells, scale=scale)
    if lanes.number > 1 and _rows(batch):
        classify, batch = _with_padding(classify, batch, lanes.number)
        batch = jax.tree.map(partial(_split, lanes=lanes), batch)
        each = jax.vmap(partial(sweep, classify))(batch)
        sums = _Sums(*(jnp.sum(x, axis=0, dtype=x.dtype) for x in each))
    else:
        sums = sweep(classify, batch)
    if scale is None:
        return Tally(sums.counts, sums.flags, None)
    zeros = jnp.zeros((cells,), jnp.uint32)
    return Tally(zeros, sums.flags, _from_limbs(sums.limbs, scale))


def max_weight(weight: jax.Array, keep: jax.Array | None) -> jax.Array:
    """The exponent scale of a batch's weights: the least power of two above them."""
    usable = (weight >= 0) & (weight < np.inf)
    if keep is not None:
        usable &= keep
    largest = jnp.max(jnp.where(usable, weight, np.float32(0)), initial=0.0)
    return _power_above(largest)


def _power_above(x: jax.Array) -> jax.Array:
    """The exponent e with 2^(e-1) <= x < 2^e, as int32, at least -100."""
    bits = lax.bitcast_convert_type(x, jnp.int32)
    return jnp.maximum((bits >> 23) - 126, -100)


def _two_to(exponent: jax.Array) -> jax.Array:
    """2^exponent as float32, exactly, for exponents of normal numbers."""
    return lax.bitcast_convert_type((exponent + 127) << 23, jnp.float32)


# --- limbs ---------------------------------------------------------------------------


def _to_limbs(weight: jax.Array, scale: jax.Array) -> list[jax.Array]:
    """Three 16-bit limbs of `weight / 2^scale`, highest first; each step is exact."""
    half = scale // 2  # 2^-scale may itself be out of range
    rest = weight * _two_to(-half) * _two_to(half - scale)  # in [0, 1)
    limbs = []
    for last in (False, False, True):
        rest = rest * np.float32(2**LIMB_BITS)
        limb = jnp.round(rest) if last else jnp.floor(rest)
        rest = rest - limb
        limbs.append(limb.astype(jnp.int32))
    return limbs


def _carry_limbs(limbs: jax.Array) -> jax.Array:
    """Carries limbs to 16 bits each; the highest keeps what is above."""
    carried = []
    over = jnp.zeros_like(limbs[0])
    for limb in limbs[:-1]:
        limb = limb + over
        carried.append(limb & np.uint32(2**LIMB_BITS - 1))
        over = limb >> LIMB_BITS
    return jnp.stack([*carried, limbs[-1] + over])


def _from_limbs(limbs: jax.Array, scale: jax.Array) -> jax.Array:
    """Two-float weights `sum(limb_i * 2^(16 i)) * 2^(scale - 48)`."""
    carried = _carry_limbs(limbs)
    total = error = jnp.zeros(limbs.shape[1:], jnp.float32)
    for place in reversed(range(LIMBS + 1)):
        power = np.float32(2.0 ** (LIMB_BITS * (place - LIMBS)))
        # The highest limb has up to 31 bits: in two parts each is an exact float32.
        for part in (carried[place] & ~np.uint32(4095), carried[place] & np.uint32(4095)):
            total, low = two_sum(total, part.astype(jnp.float32) * power)
            error = error + low
    total, error = two_sum(total, error)
    half = scale // 2
    return jnp.stack([total, error]) * _two_to(half) * _two_to(scale - half)


# --- one lane ------------------------------------------------------------------------


def _lane(classify: Classify, batch: Batch, *, cells: int, scale: jax.Array | None) -> _Sums:
    """Sweeps the rows of one lane in the form that suits the backend."""
    block = partial(_block, classify, cells=cells, scale=scale)
    first = jax.tree.leaves(batch)[0]
    few = cells <= FEW_CELLS and first.ndim == 1
    if few and scale is None:
        return block(_reduce, batch)  # one read, whatever the number of rows
    if few and first.size <= BLOCK_ROWS:
        return block(_reduce, batch)
    small = first.size <= BLOCK_ROWS

    def run(form: Form, sweep: Callable[[Block, Batch], _Sums], batch: Batch) -> _Sums:
        return block(form, batch) if small else sweep(partial(block, form), batch)

    return lax.platform_dependent(
        batch,
        cpu=partial(run, _reduce if few else _scatter, _sweep_in_turn),
        tpu=partial(run, _reduce if few else _product, _sweep_in_turn),
        default=partial(run, _reduce if few else _scatter, _sweep_at_once),
    )


def _sweep_in_turn(block: Block, batch: Batch) -> _Sums:
    """Block after block, into one set of sums that stays in cache."""
    size = _block_rows(batch)
    whole = _rows(batch) // size

    def step(i: jax.Array, sums: _Sums) -> _Sums:
        part = jax.tree.map(lambda x: lax.dynamic_slice_in_dim(x, i * size, size), batch)
        return _add(sums, block(part))

    # The first step is peeled: the carry takes its type and sharding from the data.
    sums = block(jax.tree.map(lambda x: x[:size], batch))
    sums = lax.fori_loop(1, whole, step, sums)
    return _with_tail(block, batch, whole * size, sums)


def _sweep_at_once(block: Block, batch: Batch) -> _Sums:
    """All blocks side by side, each into sums of its own: no loop to launch."""
    size = _block_rows(batch)
    whole = _rows(batch) // size
    parts = jax.tree.map(
        lambda x: x[: whole * size].reshape(whole, size, *x.shape[1:]), batch
    )
    each = jax.vmap(block)(parts)
    sums = _Sums(*(jnp.sum(x, axis=0, dtype=x.dtype) for x in each))
    sums = sums._replace(limbs=_carry_limbs(sums.limbs))
    return _with_tail(block, batch, whole * size, sums)


def _with_tail(block: Block, batch: Batch, start: int, sums: _Sums) -> _Sums:
    if start == _rows(batch):
        return sums
    return _add(sums, block(jax.tree.map(lambda x: x[start:], batch)))


def _rows(batch: Batch) -> int:
    return int(jax.tree.leaves(batch)[0].shape[0])


def _block_rows(batch: Batch) -> int:
    first = jax.tree.leaves(batch)[0]
    return max(1, BLOCK_ROWS * first.shape[0] // first.size)


def _add(a: _Sums, b: _Sums) -> _Sums:
    return _Sums(a.counts + b.counts, a.flags + b.flags, _carry_limbs(a.limbs + b.limbs))


# --- one block -----------------------------------------------------------------------


def _block(
    classify: Classify,
    form: Form,
    batch: Batch,
    *,
    cells: int,
    scale: jax.Array | None,
) -> _Sums:
    """Classifies one block and sums it by cell."""
    rows = classify(batch)
    flags = _variadic_sum([x.reshape(-1).astype(jnp.int32) for x in rows.flags])
    cell = rows.cell.reshape(-1)
    if scale is None:
        counts = form(cell, [], cells)[0]
        return _Sums(counts, flags, jnp.zeros((LIMBS + 1, 0), jnp.uint32))
    assert rows.weight is not None
    limbs = _to_limbs(rows.weight.reshape(-1), scale)
    sums = form(cell, limbs, cells)[::-1]
    top = jnp.zeros_like(sums[:1])
    return _Sums(jnp.zeros((0,), jnp.uint32), flags, _carry_limbs(jnp.concatenate([sums, top])))


def _variadic_sum(operands: list[jax.Array]) -> jax.Array:
    """Sums of several integer vectors in one read of the rows, stacked, as uint32."""

    def add(a: tuple[jax.Array, ...], b: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
        return tuple(x + y for x, y in zip(a, b, strict=True))

    zeros = tuple(np.zeros((), x.dtype) for x in operands)
    sums = lax.reduce(tuple(operands), zeros, add, (0,))
    return jnp.stack([x.astype(jnp.uint32) for x in sums])


def _reduce(cell: jax.Array, values: list[jax.Array], cells: int) -> jax.Array:
    """Few cells: one comparison and one sum for each."""
    inside = [cell == j for j in range(cells)]
    if not values:
        return _variadic_sum([x.astype(jnp.int32) for x in inside])[None]
    zero = np.int32(0)
    chosen = [jnp.where(x, v, zero) for v in values for x in inside]
    return _variadic_sum(chosen).reshape(len(values), cells)


def _scatter(cell: jax.Array, values: list[jax.Array], cells: int) -> jax.Array:
    """Many cells: integer scatter-add; even and odd rows apart, to break the chain."""
    cell = jnp.where((cell >= 0) & (cell < cells), cell, cells)  # one cell to drop into
    width = cells + 1
    copies = 2 if cells <= PRIVATE_CELLS else 1
    if copies == 2:
        cell = cell + width * (lax.iota(jnp.int32, cell.shape[0]) & 1)

    def add_up(updates: jax.Array | np.int32) -> jax.Array:
        zeros = jnp.zeros((copies * width,), jnp.int32)
        sums = zeros.at[cell].add(updates, mode="promise_in_bounds")
        return jnp.sum(sums.reshape(copies, width).astype(jnp.uint32), axis=0)[:cells]

    return jnp.stack([add_up(v) for v in values or [np.int32(1)]])


def _product(cell: jax.Array, values: list[jax.Array], cells: int) -> jax.Array:
    """Many cells: the product of two one-hot matrices, exact in bfloat16.

    A cell is a row and a column of a square; values go in as bytes, so that every
    factor has 8 bits and every sum over a block stays below 2^24.
    """
    side = max(1, int(np.ceil(np.sqrt(cells))))
    row = jax.nn.one_hot(cell // side, side, dtype=jnp.bfloat16)
    column = jax.nn.one_hot(cell % side, side, dtype=jnp.bfloat16)
    row = jnp.where((cell >= 0)[:, None], row, jnp.zeros_like(row))

    def add_up(value: jax.Array | None) -> jax.Array:
        left = row if value is None else row * value.astype(jnp.bfloat16)[:, None]
        square = jnp.matmul(left.T, column, preferred_element_type=jnp.float32)
        return square.reshape(-1)[:cells].astype(jnp.uint32)

    if not values:
        return add_up(None)[None]
    low = [add_up(v & np.int32(255)) for v in values]
    high = [add_up(v >> 8) for v in values]
    return jnp.stack([a + (b << 8) for a, b in zip(low, high, strict=True)])


# --- lanes ---------------------------------------------------------------------------


class _Lanes(NamedTuple):
    """How many lanes, and the mesh axes that carry them under Explicit sharding."""

    number: int
    mesh: jax.sharding.AbstractMesh | None = None
    axes: tuple[str, ...] = ()


def _lanes(arrays: Sequence[jax.Array]) -> _Lanes:
    """One lane for each shard that the rows may have; one on a single device.

    Under Auto axes the sharding cannot be seen while tracing, so every Auto axis counts;
    Explicit axes count where they split the rows; Manual ones never: there a device
    sees its own rows only.
    """
    shardings = [jax.typeof(x).sharding for x in arrays]
    meshes = [s.mesh for s in shardings if not s.mesh.empty]
    if not meshes:
        return _Lanes(jax.device_count() if _is_traced(arrays) else 1)
    mesh = meshes[0]
    kinds = dict(zip(mesh.axis_names, mesh.axis_types, strict=True))
    auto = [mesh.shape[a] for a, kind in kinds.items() if kind == AxisType.Auto]
    split = max((_row_axes(s) for s in shardings), key=len)
    explicit = tuple(a for a in split if kinds[a] == AxisType.Explicit)
    number = int(np.prod(auto, initial=1)) * int(np.prod([mesh.shape[a] for a in explicit], initial=1))
    return _Lanes(number, mesh if explicit else None, explicit)


def _row_axes(sharding: NamedSharding) -> tuple[str, ...]:
    spec = sharding.spec[0] if len(sharding.spec) else None
    if spec is None:
        return ()
    return spec if isinstance(spec, tuple) else (spec,)


def _is_traced(arrays: Sequence[jax.Array]) -> bool:
    return any(isinstance(x, jax.core.Tracer) for x in arrays)


def _split(x: jax.Array, lanes: _Lanes) -> jax.Array:
    """`(rows, ...)` to `(lanes, rows / lanes, ...)`."""
    shape = (lanes.number, x.shape[0] // lanes.number, *x.shape[1:])
    if lanes.mesh is None:
        return x.reshape(shape)
    with jax.sharding.use_abstract_mesh(lanes.mesh):
        target = NamedSharding(lanes.mesh, PartitionSpec(lanes.axes))
        return lax.reshape(x, shape, out_sharding=target)


def _with_padding(classify: Classify, batch: Batch, lanes: int) -> tuple[Classify, Batch]:
    """Rows that fill the last lane, and a classifier that drops them."""
    shape = jax.tree.leaves(batch)[0].shape
    pad = -shape[0] % lanes
    if not pad:
        return classify, batch
    real = lax.broadcasted_iota(jnp.int32, (shape[0] + pad, *shape[1:]), 0) < shape[0]

    def padded(block: tuple[jax.Array, Batch]) -> Rows:
        real, inner = block
        rows = classify(inner)
        cell = jnp.where(real, rows.cell, np.int32(-1))
        return rows._replace(cell=cell, flags=tuple(flag & real for flag in rows.flags))

    fill = [(0, pad)] + [(0, 0)] * (len(shape) - 1)
    return padded, (real, jax.tree.map(lambda x: jnp.pad(x, fill), batch))
