"""Which slices rows belong to: integers, several of them, or booleans."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike

from jaxmetrics import checks
from jaxmetrics.accumulator import ROLES, Accumulator, together
from jaxmetrics.checks import Mismatch, WrongKind
from jaxmetrics.histogram import Rows, tally
from jaxmetrics.lanes import as_rows

__all__ = [
    "IDS",
    "checked_ids",
    "inside",
    "numbers",
    "once",
    "present",
]

IDS = "slice_ids"
_NONE = np.int32(-1)


def checked_ids(
    ids: ArrayLike, slices: int, inner: Accumulator, inputs: Mapping[str, Any]
) -> jax.Array:
    """The ids as int32 or booleans, of as many rows as the other inputs."""
    result = checks.array(ids, IDS)
    flags = result.dtype == jnp.bool_
    if not flags and not jnp.issubdtype(result.dtype, jnp.integer):
        raise WrongKind(
            f"{IDS} must be integers, or booleans (rows, {slices}); got dtype "
            f"{result.dtype}."
        )
    fits = result.ndim < 3 and result.shape[1:] != (0,)
    if flags:
        fits = result.ndim == 2 and result.shape[1] == slices
    if not fits:
        raise Mismatch(
            f"{IDS} must be integers (rows,) or (rows, k), or booleans "
            f"(rows, {slices}); got {result.dtype} {result.shape}."
        )
    for name in inner.row_inputs:
        if name == IDS or isinstance(inputs[name], Mapping):
            continue
        shape = checks.array(inputs[name], name).shape
        if shape[:1] != result.shape[:1]:
            raise Mismatch(
                f"{IDS} must have an id, or a row of them, for each row of {name}; got "
                f"{IDS} {result.shape} and {name} {shape}."
            )
    if flags:
        return result
    if result.dtype.itemsize > 4 or result.dtype == jnp.uint32:
        known = inside(result, slices)  # before it wraps
        return jnp.where(known, result.astype(jnp.int32), _NONE)
    return result.astype(jnp.int32)


def inside(ids: jax.Array, slices: int) -> jax.Array:
    """Whether each id names a slice."""
    return (ids >= 0) & (ids < slices)


def once(ids: jax.Array, slices: int) -> jax.Array:
    """Ids `(rows, k)`; -1 for what is no slice, and for what a row names again."""
    columns = [ids[:, i] for i in range(ids.shape[1])]
    kept = []
    for i, column in enumerate(columns):
        fresh = inside(column, slices)
        for before in columns[:i]:
            fresh &= column != before
        kept.append(jnp.where(fresh, column, _NONE))
    return jnp.stack(kept, axis=1)


def present(
    owner: Accumulator, inputs: Mapping[str, Any], ids: jax.Array
) -> jax.Array | None:
    """Which rows count: one of their entries is kept and weighs something."""
    found = None
    for role in ROLES:
        given = inputs.get(owner.input_for(role) or "")
        if given is None:
            continue
        entries = checks.array(given, role)
        if entries.shape[:1] not in ((), (1,), ids.shape[:1]):
            raise Mismatch(
                f"{role} must be a scalar or have an entry, or a row of them, for each "
                f"of {IDS}; got {role} {entries.shape} and {IDS} {ids.shape}."
            )
        if entries.dtype != jnp.bool_:
            entries = entries.astype(jnp.float32) != 0  # as they are summed
        found = entries if found is None else together(role, found, entries)
    if found is None:
        return None
    here = jnp.any(found, axis=tuple(range(1, found.ndim)))
    here = here.reshape(()) if ids.ndim == 0 else here
    return jnp.broadcast_to(here, ids.shape[:1])


def numbers(ids: jax.Array, here: jax.Array | None, slices: int) -> jax.Array:
    """How many rows are in each slice, and behind them how many ids name none."""
    cell = as_rows(_memberships(ids, here, slices))
    return tally(lambda cell: Rows(cell, ()), cell, cells=slices + 1).counts


def _memberships(ids: jax.Array, here: jax.Array | None, slices: int) -> jax.Array:
    """The slice of each id; `slices` for an id of none, -1 for a row that is not."""
    if ids.dtype == jnp.bool_:
        column = lax.broadcasted_iota(jnp.int32, ids.shape, 1)
        slice_of = jnp.where(ids, column, _NONE)
    else:
        known = ids if ids.ndim < 2 else once(ids, slices)
        slice_of = jnp.where(inside(ids, slices), known, np.int32(slices))
    if here is None:
        return slice_of
    here = here.reshape(here.shape + (1,) * (ids.ndim - here.ndim))
    return jnp.where(here, slice_of, _NONE)
