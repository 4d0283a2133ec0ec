"""How a batch becomes rows, and rows lanes, one for each shard that it may have.

A loop, a sort or a scatter over a sharded batch makes XLA gather the batch. So the rows
are split into one lane per shard, each lane is swept on its own under `vmap`, and what
comes out is reduced over the lanes: nothing but results crosses between devices.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from jaxmetrics.checks import Mismatch

__all__ = [
    "Lanes",
    "as_rows",
    "filled",
    "gathered",
    "lanes_of",
    "require_alike",
    "split",
    "taken",
]

Batch = TypeVar("Batch")


def as_rows(batch: Batch, classes: int | None = None) -> Batch:
    """Arrays of one shape as `(rows,)`; or `(rows, classes)`, the last axis kept.

    Entries that are sharded stay where they are, but for classes, which are gathered.
    Where Explicit axes split more than the first dimension, that takes another order of
    the rows, the same for all arrays. Of one device, and of no rows, arrays are whole.
    """
    leaves = jax.tree.leaves(batch)
    kept = () if classes is None else (classes,)
    shape = leaves[0].shape[: leaves[0].ndim - len(kept)]
    mesh, axes = _explicit_axes(leaves)
    length = math.prod(shape)
    if mesh is not None and (not length or _devices(mesh, axes) == 1):
        batch, mesh = gathered(batch), None
    if mesh is None:
        plain: Batch = jax.tree.map(lambda x: x.reshape(length, *kept), batch)
        return plain
    pieces: list[int] = []  # of each dimension, the shards and what is in one
    for size, names in zip(shape, axes, strict=False):
        number = _devices(mesh, [names])
        pieces += [number, size // number]
    shards, inside = range(0, len(pieces), 2), range(1, len(pieces), 2)
    whole = [names or None for names in axes[: len(shape)]]
    cut = [x for names in whole for x in (names, None)]
    merged = tuple(a for names in axes[: len(shape)] for a in names)

    def sharded(*spec: Any) -> NamedSharding:
        return NamedSharding(mesh, PartitionSpec(*spec))

    def flat(x: jax.Array) -> jax.Array:
        x = jax.sharding.reshard(x, sharded(*whole))
        if not any(axes[1:]):
            return x.reshape(length, *kept)
        x = lax.reshape(x, (*pieces, *kept), out_sharding=sharded(*cut))
        x = jnp.transpose(x, (*shards, *inside, *range(len(pieces), x.ndim)))
        return lax.reshape(x, (length, *kept), out_sharding=sharded(merged or None))

    with jax.sharding.use_abstract_mesh(mesh):
        rows: Batch = jax.tree.map(flat, batch)
    return rows


def gathered(batch: Batch) -> Batch:
    """Rows as they are, but whole on every device where Explicit axes split them."""
    leaves = jax.tree.leaves(batch)
    mesh, _ = _explicit_axes(leaves)
    if mesh is None:
        return batch
    with jax.sharding.use_abstract_mesh(mesh):
        whole: Batch = jax.tree.map(
            lambda x: jax.sharding.reshard(x, NamedSharding(mesh, PartitionSpec())),
            batch,
        )
    return whole


def require_alike(arrays: Sequence[jax.Array], *, whole_rows: bool = False) -> None:
    """Refuses arrays of one rank that Explicit mesh axes split in different ways.

    Args:
      arrays: What belongs together.
      whole_rows: Whether the last axis, of the classes of a row, must be whole.
    """
    mesh, axes = _explicit_axes(arrays)
    if mesh is None:
        return
    every = [a for names in axes for a in names]
    if len(every) != len(set(every)) or any(
        names not in ((), axes[dim])
        for x in arrays
        for dim, names in enumerate(_explicit_axes([x])[1])
    ):
        raise Mismatch(
            "the inputs are sharded over the mesh axes in different ways: "
            f"{', '.join(str(jax.typeof(x).sharding.spec) for x in arrays)}. Give them "
            "one way, as in jax.sharding.reshard(x, PartitionSpec('data'))."
        )
    if whole_rows and axes[-1:] and axes[-1]:
        raise Mismatch(
            f"the last axis holds the classes of a row, and the mesh axes {axes[-1]} "
            "split it; gather it first, as in jax.sharding.reshard(y_pred, "
            "PartitionSpec('data', None)), or shard the rows."
        )


def _explicit_axes(
    arrays: Sequence[jax.Array],
) -> tuple[jax.sharding.AbstractMesh | None, list[tuple[str, ...]]]:
    """The mesh, and the Explicit axes that split each dimension of any of the arrays.

    The arrays have one rank; where none is sharded, there is no mesh.
    """
    found: list[tuple[str, ...]] = [()] * arrays[0].ndim
    mesh = None
    for x in arrays:
        sharding = jax.typeof(x).sharding
        if sharding.mesh.empty:
            continue
        kinds = dict(
            zip(sharding.mesh.axis_names, sharding.mesh.axis_types, strict=True)
        )
        for dim, spec in enumerate(sharding.spec):
            names = spec if isinstance(spec, tuple) else (spec,)
            names = tuple(a for a in names if kinds.get(a) == AxisType.Explicit)
            if names:
                found[dim], mesh = names, sharding.mesh
    return mesh, found


def _devices(mesh: jax.sharding.AbstractMesh, axes: list[tuple[str, ...]]) -> int:
    """How many devices the axes split something over."""
    return math.prod(mesh.shape[a] for names in axes for a in names)


def row_numbers(like: jax.Array) -> jax.Array:
    """uint32 (rows,): 0, 1 and so on, sharded as the rows of an array are."""
    mesh, axes = _explicit_axes([like])
    shape = like.shape[:1]
    if mesh is None:
        return lax.broadcasted_iota(jnp.uint32, shape, 0)
    with jax.sharding.use_abstract_mesh(mesh):
        out = NamedSharding(mesh, PartitionSpec(axes[0] or None))
        return lax.broadcasted_iota(jnp.uint32, shape, 0, out_sharding=out)


class Lanes(NamedTuple):
    """How many lanes, and the mesh axes that carry them under Explicit sharding."""

    number: int
    mesh: jax.sharding.AbstractMesh | None = None
    axes: tuple[str, ...] = ()


def lanes_of(arrays: Sequence[jax.Array]) -> Lanes:
    """One lane for each shard that the rows may have; one on a single device.

    Under Auto axes the sharding cannot be seen while tracing, so every Auto axis
    counts; Explicit axes count where they split the rows; Manual ones never: there a
    device sees its own rows only.
    """
    meshes = [m for x in arrays if not (m := jax.typeof(x).sharding.mesh).empty]
    if not meshes:
        return Lanes(jax.local_device_count() if _is_traced(arrays) else 1)
    mesh = meshes[0]
    kinds = dict(zip(mesh.axis_names, mesh.axis_types, strict=True))
    auto = [mesh.shape[a] for a, kind in kinds.items() if kind == AxisType.Auto]
    explicit = _explicit_axes(arrays)[1][0]
    if explicit and not _is_traced(arrays):
        raise Mismatch(
            f"the rows are sharded over the Explicit mesh axes {explicit}, where JAX "
            "has no eager vmap; call it under jit, as in jax.jit(metric.update)."
        )
    number = int(np.prod(auto, initial=1)) * int(
        np.prod([mesh.shape[a] for a in explicit], initial=1)
    )
    return Lanes(number, mesh if explicit else None, explicit)


def _is_traced(arrays: Sequence[jax.Array]) -> bool:
    return any(isinstance(x, jax.core.Tracer) for x in arrays)


def filled(batch: Batch, lanes: Lanes) -> Batch:
    """Rows of 0 behind those of the batch, which fill the last lane.

    Every lane gets one where there are no rows: what is empty has no lanes.
    """
    rows = jax.tree.leaves(batch)[0].shape[0]
    pad = -rows % lanes.number if rows else lanes.number
    if not pad:
        return batch
    whole: Batch = jax.tree.map(
        lambda x: jnp.pad(x, [(0, pad)] + [(0, 0)] * (x.ndim - 1)), batch
    )
    return whole


def split(x: jax.Array, lanes: Lanes) -> jax.Array:
    """`(rows, ...)` to `(lanes, rows / lanes, ...)`."""
    shape = (lanes.number, x.shape[0] // lanes.number, *x.shape[1:])
    if lanes.mesh is None:
        return x.reshape(shape)
    with jax.sharding.use_abstract_mesh(lanes.mesh):
        target = NamedSharding(lanes.mesh, PartitionSpec(lanes.axes))
        return lax.reshape(x, shape, out_sharding=target)


def taken(table: jax.Array, index: jax.Array) -> jax.Array:
    """Entries of a whole table, sharded as the index is."""
    mesh, _ = _explicit_axes([index])
    if mesh is None:
        return table.at[index].get(mode="promise_in_bounds")
    with jax.sharding.use_abstract_mesh(mesh):
        out = jax.typeof(index).sharding
        return table.at[index].get(mode="promise_in_bounds", out_sharding=out)
