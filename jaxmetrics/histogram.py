"""The one place that counts rows into cells: fast on each backend, local if sharded.

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

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from jaxmetrics.checks import Mismatch
from jaxmetrics.numerics import fast_two_sum

__all__ = ["Rows", "Tally", "max_weight", "tally"]

BLOCK_ROWS = 2**15
LIMB_BITS = 16
LIMBS = 3
FEW_CELLS = 8  # up to here one variadic reduce beats a scatter
_LIMB = np.uint32(2**LIMB_BITS - 1)
PRIVATE_CELLS = 4096  # up to here two private copies fit in a CPU's first cache


class Rows(NamedTuple):
    """What a block of rows says; every field has the block's shape."""

    cell: jax.Array  # int32, below `cells`; a negative cell drops the row
    flags: tuple[jax.Array, ...]  # bool; counted whatever the cell
    weight: jax.Array | None = None  # float32, finite and >= 0 where the cell counts


class Tally(NamedTuple):
    """Sums over the rows of a batch."""

    counts: jax.Array  # uint32 (cells,): rows in each cell
    flags: jax.Array  # uint32 (flags,): rows with each flag
    weights: tuple[jax.Array, jax.Array] | None  # float32 (cells,): sums and errors


Limbs = tuple[jax.Array, ...]


class _Sums(NamedTuple):
    """Integer sums that may be added to each other; limbs carried to 16 bits."""

    counts: jax.Array  # uint32 (cells,); empty where rows carry weights
    flags: jax.Array  # uint32 (flags,)
    limbs: Limbs  # each uint32 (cells,), lowest first; none without weights


Batch = Any  # a pytree of arrays of one shape (rows, ...)
Classify = Callable[[Batch], Rows]
Block = Callable[[Batch], "_Sums"]
Form = Callable[[jax.Array, list[jax.Array], list[jax.Array], int], "Sums"]
Sums = tuple[list[jax.Array], jax.Array]  # by value and cell; by flag


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
    sweep = partial(_lane, cells=cells, scale=scale, typed=lanes.mesh is not None)
    # An Explicit axis of size 1 is one lane, and still part of every type.
    if (lanes.number > 1 or lanes.mesh is not None) and _rows(batch):
        classify, batch = _with_padding(classify, batch, lanes.number)
        batch = jax.tree.map(partial(_split, lanes=lanes), batch)
        each = jax.vmap(partial(sweep, classify))(batch)
        sums = _added_up(each)
    else:
        sums = sweep(classify, batch)
    if scale is None:
        return Tally(sums.counts, sums.flags, None)
    zeros = jnp.zeros((cells,), jnp.uint32)
    return Tally(zeros, sums.flags, _from_limbs(sums.limbs, scale))


def max_weight(weight: jax.Array, keep: jax.Array | None) -> jax.Array:
    """The scale of a batch's weights: the least exponent e with every weight below 2^e.

    At least -100, so that 2^e and its inverse are normal numbers.
    """
    usable = (weight >= 0) & (weight < np.inf)
    if keep is not None:
        usable &= keep
    zero = jnp.zeros_like(weight)
    largest = jnp.max(lax.select(usable, weight, zero), initial=0.0)
    exponent = (lax.bitcast_convert_type(largest, jnp.int32) >> 23) - 126
    return lax.max(exponent, np.int32(-100))


def _two_to(exponent: jax.Array) -> jax.Array:
    """2^exponent as float32, exactly, for exponents of normal numbers."""
    return lax.bitcast_convert_type((exponent + 127) << 23, jnp.float32)


# --- limbs ---------------------------------------------------------------------------


def _to_limbs(weight: jax.Array, scale: jax.Array) -> list[jax.Array]:
    """Three 16-bit limbs of `weight / 2^scale`, highest first; each step is exact."""
    half = scale >> 1  # 2^-scale may itself be out of range
    rest = weight * _two_to(-half) * _two_to(half - scale)  # in [0, 1)
    limbs = []
    for last in (False, False, True):
        rest = rest * np.float32(2**LIMB_BITS)
        limb = jnp.round(rest) if last else jnp.floor(rest)
        rest = rest - limb
        limbs.append(limb.astype(jnp.int32))
    return limbs


def _carry_limbs(limbs: Limbs) -> Limbs:
    """Carries limbs to 16 bits each; the highest keeps what is above."""
    if not limbs:  # rows without weights
        return limbs
    low, *above = limbs
    carried = []
    for limb in above:
        carried.append(low & _LIMB)
        low = limb + (low >> LIMB_BITS)
    return (*carried, low)


def _from_limbs(limbs: Limbs, scale: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Two-float weights `sum(limb_i * 2^(16 i)) * 2^(scale - 48)` of carried limbs.

    The two highest limbs are exact floats; of the others, what lies 40 bits below the
    largest weight may round.
    """
    low, middle, high, top = limbs
    even_higher = (top >> LIMB_BITS).astype(jnp.float32) * np.float32(2.0**32)
    top = (top & _LIMB).astype(jnp.float32) * np.float32(2.0**16)
    below = ((middle << LIMB_BITS) | low).astype(jnp.float32) * np.float32(2.0**-32)
    total, error = fast_two_sum(even_higher, top)
    total, rest = fast_two_sum(total, high.astype(jnp.float32))
    total, error = fast_two_sum(total, error + rest + below)
    half = (scale - LIMB_BITS) >> 1
    factors = _two_to(half), _two_to(scale - LIMB_BITS - half)
    return total * factors[0] * factors[1], error * factors[0] * factors[1]


# --- one lane ------------------------------------------------------------------------


def _lane(
    classify: Classify,
    batch: Batch,
    *,
    cells: int,
    scale: jax.Array | None,
    typed: bool,
) -> _Sums:
    """Sweeps the rows of one lane in the form that suits the backend.

    Where the sharding is part of the types (Explicit axes) the lanes are a `vmap` that
    cannot hold the second one of `_sweep_at_once`.
    """
    block = partial(_block, classify, cells=cells, scale=scale)
    first = jax.tree.leaves(batch)[0]
    few = cells <= FEW_CELLS and first.ndim == 1
    small = first.size <= BLOCK_ROWS
    if few and (small or scale is None):
        return block(_reduce, batch)  # one read, whatever the number of rows
    many = _reduce if few else _scatter
    one_hot = _reduce if few else _product
    if small:
        forms = {"tpu": partial(block, one_hot), "default": partial(block, many)}
    else:
        forms = {
            "cpu": partial(_sweep_in_turn, partial(block, many)),
            "tpu": partial(_sweep_in_turn, partial(block, one_hot)),
            "default": partial(
                _sweep_in_turn if typed else _sweep_at_once, partial(block, many)
            ),
        }
    sums: _Sums = lax.platform_dependent(batch, **forms)
    return sums


def _sweep_in_turn(block: Block, batch: Batch) -> _Sums:
    """Block after block, into one set of sums that stays in cache."""
    size = _block_rows(batch)
    whole = _rows(batch) // size

    def step(i: jax.Array, sums: _Sums) -> _Sums:
        part = jax.tree.map(
            lambda x: lax.dynamic_slice_in_dim(x, i * size, size), batch
        )
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
    return _with_tail(block, batch, whole * size, _added_up(each))


def _with_tail(block: Block, batch: Batch, start: int, sums: _Sums) -> _Sums:
    if start == _rows(batch):
        return sums
    return _add(sums, block(jax.tree.map(lambda x: x[start:], batch)))


def _rows(batch: Batch) -> int:
    rows: int = jax.tree.leaves(batch)[0].shape[0]
    return rows


def _block_rows(batch: Batch) -> int:
    first = jax.tree.leaves(batch)[0]
    return max(1, BLOCK_ROWS // int(math.prod(first.shape[1:])))


def _add(a: _Sums, b: _Sums) -> _Sums:
    limbs = tuple(x + y for x, y in zip(a.limbs, b.limbs, strict=True))
    return _Sums(a.counts + b.counts, a.flags + b.flags, _carry_limbs(limbs))


def _added_up(each: _Sums) -> _Sums:
    """The sum over the leading axis."""
    sums: _Sums = jax.tree.map(lambda x: jnp.sum(x, axis=0, dtype=x.dtype), each)
    return sums._replace(limbs=_carry_limbs(sums.limbs))


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
    cell = rows.cell.reshape(-1)
    # A flag that is False whatever the data still has to have the data's sharding.
    never = cell != cell
    flags_of = [x.reshape(-1) | never for x in rows.flags]
    values: list[jax.Array] = []
    if scale is not None:
        values = _to_limbs(rows.weight.reshape(-1), scale)  # type: ignore[union-attr]
    sums, flags = form(cell, values, flags_of, cells)
    if scale is None:
        return _Sums(sums[0], flags, ())
    limbs = _carry_limbs((*sums[::-1], jnp.zeros_like(sums[0])))
    return _Sums(jnp.zeros((0,), jnp.uint32), flags, limbs)


def _reduce(
    cell: jax.Array, values: list[jax.Array], flags: list[jax.Array], cells: int
) -> Sums:
    """Few cells: one comparison and one sum for each, all in one read of the rows."""
    inside = [cell == j for j in range(cells)]
    zero = jnp.zeros_like(cell)
    chosen = [lax.select(x, v, zero) for v in values for x in inside] or inside
    sums = _variadic_sum([*chosen, *flags])
    ends = range(cells, len(chosen) + 1, cells)
    return [sums[end - cells : end] for end in ends], sums[len(chosen) :]


def _scatter(
    cell: jax.Array, values: list[jax.Array], flags: list[jax.Array], cells: int
) -> Sums:
    """Many cells: integer scatter-add; even and odd rows apart, to break the chain."""
    cell = lax.select(
        cell < 0, jnp.full_like(cell, cells), cell
    )  # one cell to drop into
    width = cells + 1
    copies = 2 if cells <= PRIVATE_CELLS else 1
    if copies == 2:
        cell = cell + width * (lax.iota(jnp.int32, cell.shape[0]) & 1)

    def add_up(updates: jax.Array) -> jax.Array:
        zeros = jnp.zeros((copies * width,), jnp.int32)
        sums = zeros.at[cell].add(updates, mode="promise_in_bounds")
        sums = lax.bitcast_convert_type(sums, jnp.uint32).reshape(copies, width)
        return jnp.sum(sums, axis=0, dtype=sums.dtype)[:cells]

    return [add_up(v) for v in values or [jnp.int32(1)]], _variadic_sum(flags)


def _product(
    cell: jax.Array, values: list[jax.Array], flags: list[jax.Array], cells: int
) -> Sums:
    """Many cells: the product of two one-hot matrices, exact in bfloat16.

    A cell is a row and a column of a square; values go in as bytes, so that every
    factor has 8 bits and every sum over a block stays below 2^24.
    """
    side = math.isqrt(cells - 1) + 1
    # A dropped row has cell -1, hence row -1, hence no one in `row`.
    row = jax.nn.one_hot(cell // side, side, dtype=jnp.bfloat16)
    column = jax.nn.one_hot(cell % side, side, dtype=jnp.bfloat16)

    def add_up(value: jax.Array | None) -> jax.Array:
        left = row if value is None else row * value.astype(jnp.bfloat16)[:, None]
        square = jnp.matmul(left.T, column, preferred_element_type=jnp.float32)
        return square.reshape(-1)[:cells].astype(jnp.uint32)

    if not values:
        return [add_up(None)], _variadic_sum(flags)
    low = [add_up(v & 255) for v in values]
    high = [add_up(v >> 8) for v in values]
    sums = [a + (b << 8) for a, b in zip(low, high, strict=True)]
    return sums, _variadic_sum(flags)


def _variadic_sum(operands: list[jax.Array]) -> jax.Array:
    """Sums of several vectors of integers or flags in one read, stacked, as uint32."""
    if not operands:
        return jnp.zeros((0,), jnp.uint32)

    def add(
        a: tuple[jax.Array, ...], b: tuple[jax.Array, ...]
    ) -> tuple[jax.Array, ...]:
        return tuple(x + y for x, y in zip(a, b, strict=True))

    numbers = tuple(x.astype(jnp.int32) for x in operands)
    sums = lax.reduce(numbers, (np.int32(0),) * len(numbers), add, (0,))
    return lax.bitcast_convert_type(jnp.stack(sums), jnp.uint32)


# --- lanes ---------------------------------------------------------------------------


class _Lanes(NamedTuple):
    """How many lanes, and the mesh axes that carry them under Explicit sharding."""

    number: int
    mesh: jax.sharding.AbstractMesh | None = None
    axes: tuple[str, ...] = ()


def _lanes(arrays: Sequence[jax.Array]) -> _Lanes:
    """One lane for each shard that the rows may have; one on a single device.

    Under Auto axes the sharding cannot be seen while tracing, so every Auto axis
    counts; Explicit axes count where they split the rows; Manual ones never: there a
    device sees its own rows only.
    """
    shardings = [jax.typeof(x).sharding for x in arrays]
    meshes = [s.mesh for s in shardings if not s.mesh.empty]
    if not meshes:
        return _Lanes(jax.local_device_count() if _is_traced(arrays) else 1)
    mesh = meshes[0]
    kinds = dict(zip(mesh.axis_names, mesh.axis_types, strict=True))
    auto = [mesh.shape[a] for a, kind in kinds.items() if kind == AxisType.Auto]
    split = max((_row_axes(s) for s in shardings), key=len)
    explicit = tuple(a for a in split if kinds[a] == AxisType.Explicit)
    if explicit and not _is_traced(arrays):
        raise Mismatch(
            f"the rows are sharded over the Explicit mesh axes {explicit}, where JAX "
            "has no eager vmap; call it under jit, as in jax.jit(metric.update)."
        )
    number = int(np.prod(auto, initial=1)) * int(
        np.prod([mesh.shape[a] for a in explicit], initial=1)
    )
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
        cell = jnp.where(real, rows.cell, np.int32(-1))
        return rows._replace(cell=cell, flags=tuple(flag & real for flag in rows.flags))

    fill = [(0, pad)] + [(0, 0)] * (len(shape) - 1)
    return padded, (real, jax.tree.map(lambda x: jnp.pad(x, fill), batch))
