"""How rows are split into lanes, one for each shard that a batch may have.

A loop, a sort or a scatter over a sharded batch makes XLA gather the batch. So the rows
are split into one lane per shard, each lane is swept on its own under `vmap`, and what
comes out is reduced over the lanes: nothing but results crosses between devices.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np
from jax import lax
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from jaxmetrics.checks import Mismatch

__all__ = ["Lanes", "lanes_of", "split"]


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
    shardings = [jax.typeof(x).sharding for x in arrays]
    meshes = [s.mesh for s in shardings if not s.mesh.empty]
    if not meshes:
        return Lanes(jax.local_device_count() if _is_traced(arrays) else 1)
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
    return Lanes(number, mesh if explicit else None, explicit)


def _row_axes(sharding: NamedSharding) -> tuple[str, ...]:
    spec = sharding.spec[0] if len(sharding.spec) else None
    if spec is None:
        return ()
    return spec if isinstance(spec, tuple) else (spec,)


def _is_traced(arrays: Sequence[jax.Array]) -> bool:
    return any(isinstance(x, jax.core.Tracer) for x in arrays)


def split(x: jax.Array, lanes: Lanes) -> jax.Array:
    """`(rows, ...)` to `(lanes, rows / lanes, ...)`."""
    shape = (lanes.number, x.shape[0] // lanes.number, *x.shape[1:])
    if lanes.mesh is None:
        return x.reshape(shape)
    with jax.sharding.use_abstract_mesh(lanes.mesh):
        target = NamedSharding(lanes.mesh, PartitionSpec(lanes.axes))
        return lax.reshape(x, shape, out_sharding=target)
