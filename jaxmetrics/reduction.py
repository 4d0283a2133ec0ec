"""How states of several devices become one, inside `shard_map`, `pmap` and `vmap`.

Two laws cover every state in the library:

* **additive**: uint32 leaves are exact words (see `numerics`); one `psum` adds them.
* **folded**: any other leaf is merged in rank order, so that each device computes the
  same bits. Its bits travel as integers, each device's in its own row of a stack of
  zeros: a `psum` of such stacks gathers, counts as reduced for `check_vma`, and XLA
  combines it with the additive leaves into one all-reduce.

A long folded leaf would make that stack long too. It is cut instead: each device folds
one piece for all (`all_to_all`), so that the bytes stay those of a state.
"""

from collections.abc import Callable
from typing import TypeVar

import jax
import jax.numpy as jnp
from jax import lax

__all__ = ["AxisName", "place_in_rank_order", "reduce_over", "varying_with"]

Data = TypeVar("Data")
AxisName = str | tuple[str, ...]

LONG_LEAF = 4096  # elements; from here a folded leaf is cut in pieces


def reduce_over(
    data: Data, axis_name: AxisName, merge: Callable[[Data, Data], Data]
) -> Data:
    """The merge of the data of all devices along `axis_name`, the same on each."""
    axes = _unreduced(data, axis_name)
    if not axes:
        return data
    leaves, treedef = jax.tree.flatten(data)
    leaves = [_as_varying(x, axes) for x in leaves]
    ranks = lax.axis_size(axes)
    added = lax.psum([x for x in leaves if _is_additive(x)], axes)

    def merge_folded(a: list[jax.Array], b: list[jax.Array]) -> list[jax.Array]:
        mine = jax.tree.unflatten(treedef, _fill(leaves, a))
        theirs = jax.tree.unflatten(treedef, _fill(leaves, b))
        merged = merge(mine, theirs)
        return [x for x in jax.tree.leaves(merged) if not _is_additive(x)]

    folded = [x for x in leaves if not _is_additive(x)]
    if folded:
        folded = _fold(folded, axes, ranks, merge_folded)
    reduced = iter(added), iter(folded)
    whole = [next(reduced[not _is_additive(x)]) for x in leaves]
    result: Data = jax.tree.unflatten(treedef, whole)
    return result


def place_in_rank_order(
    rows: jax.Array, filled: jax.Array, counts: jax.Array, axis_name: AxisName
) -> tuple[jax.Array, jax.Array]:
    """The first columns of every device, one device's behind the other's.

    Each device moves its own to where they belong, and their bits are added: as many
    bytes as one device has, and one all-reduce.

    Args:
      rows: `(..., capacity)`; what does not fit is dropped.
      filled: How many columns are to be kept, from the first on; int32.
      counts: Words, which are added.
      axis_name: As for `reduce_over`.

    Returns:
      The rows, 0 where there are none, and the sums of the words.
    """
    axes = _unreduced((rows, counts), axis_name)
    if not axes:
        return rows, counts
    rows, filled, counts = (_as_varying(x, axes) for x in (rows, filled, counts))
    rank, ranks = lax.axis_index(axes), lax.axis_size(axes)
    each = lax.iota(jnp.int32, ranks)
    numbers = lax.psum(jnp.where(each == rank, filled, jnp.zeros_like(filled)), axes)
    start = jnp.sum(jnp.where(each < rank, numbers, jnp.zeros_like(numbers)))
    capacity = rows.shape[-1]
    own = lax.iota(jnp.int32, capacity)
    place = jnp.where(own < filled, start + own, jnp.full_like(own, capacity))
    bits = lax.bitcast_convert_type(rows, jnp.uint32)
    moved = jnp.zeros_like(bits).at[..., place].set(bits, mode="drop")
    moved, counts = lax.psum((moved, counts), axes)
    return lax.bitcast_convert_type(moved, rows.dtype), counts


def _is_additive(leaf: jax.Array) -> bool:
    return bool(leaf.dtype == jnp.uint32)


def _fill(leaves: list[jax.Array], folded: list[jax.Array]) -> list[jax.Array]:
    """All leaves again, with zeros in the places of the additive ones."""
    rest = iter(folded)
    return [jnp.zeros_like(x) if _is_additive(x) else next(rest) for x in leaves]


def _fold(
    leaves: list[jax.Array],
    axes: tuple[str, ...],
    ranks: int,
    merge: Callable[[list[jax.Array], list[jax.Array]], list[jax.Array]],
) -> list[jax.Array]:
    """Gathers the leaves, or one piece of long ones, and merges in rank order."""
    long = all(x.size > LONG_LEAF for x in leaves)
    gather = _exchange_pieces if long else _gather
    stacks = [gather(x, axes, ranks) for x in leaves]  # each (ranks, ...)
    result = [x[0] for x in stacks]
    for rank in range(1, ranks):
        result = merge(result, [x[rank] for x in stacks])
    if not long:
        return result
    pieces = [_gather(x, axes, ranks) for x in result]
    whole = [jnp.concatenate(list(x), axis=-1) for x in pieces]
    return [x[..., : y.shape[-1]] for x, y in zip(whole, leaves, strict=True)]


def _gather(leaf: jax.Array, axes: tuple[str, ...], ranks: int) -> jax.Array:
    """Every device's leaf, bit for bit, stacked in rank order."""
    bits = lax.bitcast_convert_type(leaf, jnp.uint32)
    own = lax.iota(jnp.int32, ranks) == lax.axis_index(axes)
    own = own.reshape(ranks, *[1] * leaf.ndim)
    stack = lax.psum(jnp.where(own, bits[None], jnp.zeros_like(bits)[None]), axes)
    return lax.bitcast_convert_type(stack, leaf.dtype)


def _exchange_pieces(leaf: jax.Array, axes: tuple[str, ...], ranks: int) -> jax.Array:
    """One piece of the last axis of every device's leaf, stacked in rank order."""
    pad = -leaf.shape[-1] % ranks
    padded = jnp.pad(leaf, [(0, 0)] * (leaf.ndim - 1) + [(0, pad)])
    pieces = padded.reshape(*leaf.shape[:-1], ranks, -1)
    pieces = jnp.moveaxis(pieces, -2, 0)  # (ranks, ..., piece)
    own: jax.Array = lax.all_to_all(pieces, axes, split_axis=0, concat_axis=0)
    return own


def _unreduced(data: object, axis_name: AxisName) -> tuple[str, ...]:
    """The axes that the data still differ over, where the type system knows it."""
    axes = (axis_name,) if isinstance(axis_name, str) else tuple(axis_name)
    found = []
    for axis in axes:
        tracked = axis in _varying(lax.axis_index(axis))
        if not tracked or any(axis in _varying(x) for x in jax.tree.leaves(data)):
            found.append(axis)
    return tuple(found)


def _varying(x: jax.Array) -> frozenset[str]:
    """The manual axes over which `check_vma` holds `x` to differ."""
    kind = jax.typeof(x)
    manual = getattr(kind, "manual_axis_type", kind)
    return frozenset(getattr(manual, "varying", getattr(manual, "vma", ())))


def varying_with(x: jax.Array, data: object) -> jax.Array:
    """The array as one that differs over the axes that any of the data differ over."""
    arrays = [x for x in jax.tree.leaves(data) if isinstance(x, jax.Array)]
    axes = frozenset().union(*map(_varying, arrays))
    return _as_varying(x, tuple(sorted(axes)))


def _as_varying(x: jax.Array, axes: tuple[str, ...]) -> jax.Array:
    """Casts a leaf that happens to be equal everywhere, such as an untouched zero."""
    tracked = tuple(
        a for a in axes if a in _varying(lax.axis_index(a)) and a not in _varying(x)
    )
    return lax.pcast(x, tracked, to="varying") if tracked else x
