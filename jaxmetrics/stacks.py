"""Data of several states in one record, with a leading axis in every leaf."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jaxmetrics.accumulator import Accumulator
from jaxmetrics.reduction import AxisName

__all__ = ["at", "folded", "joined", "put", "reduced", "repeated"]


def repeated(data: Any, number: int) -> Any:
    """The same data as many times."""
    return jax.tree.map(lambda x: jnp.stack([x] * number), data)


def joined(*stacks: Any) -> Any:
    """One stack behind the other."""
    return jax.tree.map(lambda *xs: jnp.concatenate(xs), *stacks)


def at(stack: Any, place: Any) -> Any:
    """What is at one place of a stack, or in a slice of it."""
    return jax.tree.map(lambda x: x[place], stack)


def put(stack: Any, data: Any, place: jax.Array) -> Any:
    """The stack with other data at one place."""

    def put_leaf(stack: jax.Array, x: jax.Array) -> jax.Array:
        if jax.typeof(stack).sharding.mesh != jax.typeof(x).sharding.mesh:
            # One is of an Explicit mesh: what might be either is so, too.
            always = place == place
            stack, x = jnp.where(always, stack, x), jnp.where(always, x, stack[0])
        updated: jax.Array = lax.dynamic_update_index_in_dim(stack, x, place, 0)
        return updated

    return jax.tree.map(put_leaf, stack, data)


def folded(combine: Callable[[Any, Any], Any], stack: Any) -> Any:
    """All of a stack combined in their order, by halves."""
    number = jax.tree.leaves(stack)[0].shape[0]
    while number > 1:
        pairs = 2 * (number // 2)
        both = (at(stack, slice(i, pairs, 2)) for i in (0, 1))
        stack = joined(jax.vmap(combine)(*both), at(stack, slice(pairs, None)))
        number = jax.tree.leaves(stack)[0].shape[0]
    return at(stack, 0)


def reduced(owner: Accumulator, stack: Any, axis_name: AxisName) -> Any:
    """Each of the stack reduced over the devices."""
    return jax.vmap(lambda data: owner.reduce(data, axis_name))(stack)
