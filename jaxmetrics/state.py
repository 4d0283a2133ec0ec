"""The state record: data and whose it is."""

import functools
import hashlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from jaxmetrics.checks import Mismatch, WrongKind

if TYPE_CHECKING:
    from jaxmetrics.accumulator import Accumulator

__all__ = ["State", "check_owner", "check_template", "fingerprint"]


@jax.tree_util.register_pytree_with_keys_class
class State:
    """What a metric has seen so far: an immutable record of arrays and its owner.

    One pytree node for the whole library. `data` holds the arrays; `owner`, the
    accumulator that made them, is static. The node's key path carries the owner's name
    and a hash of its options, so that a checkpointer that walks by path refuses to
    restore the state of a metric with other options.

    Attributes:
      data: A record of arrays, the same shapes and dtypes before and after any update.
      owner: The accumulator that the data belongs to.
    """

    __slots__ = ("data", "owner")
    __match_args__ = ("data", "owner")

    data: Any
    owner: "Accumulator"

    def __init__(self, data: Any, owner: "Accumulator") -> None:
        object.__setattr__(self, "data", data)
        object.__setattr__(self, "owner", _one_of_equal(owner))

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"a State is immutable; {name} cannot be set")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"a State is immutable; {name} cannot be deleted")

    def __reduce__(self) -> tuple[type["State"], tuple[Any, "Accumulator"]]:
        return State, (self.data, self.owner)

    def __repr__(self) -> str:
        leaves = jax.tree_util.tree_leaves_with_path(self.data)
        shown = [
            f"{jax.tree_util.keystr(path).lstrip('.')}: {_summary(leaf)}"
            for path, leaf in leaves
        ]
        return f"State({', '.join(shown)}; owner={self.owner!r})"

    def tree_flatten_with_keys(self) -> tuple[Any, "Accumulator"]:
        """The data under its owner's key, and the owner as static metadata."""
        return ((jax.tree_util.GetAttrKey(self.owner.key), self.data),), self.owner

    def tree_flatten(self) -> tuple[Any, "Accumulator"]:
        """The same without the key."""
        return (self.data,), self.owner

    @classmethod
    def tree_unflatten(cls, owner: "Accumulator", children: tuple[Any]) -> "State":
        """The record again, of whatever leaves a transformation puts in."""
        state = cls.__new__(cls)
        object.__setattr__(state, "data", children[0])
        object.__setattr__(state, "owner", owner)
        return state


@functools.lru_cache(maxsize=4096)
def _one_of_equal(owner: "Accumulator") -> "Accumulator":
    """The first of equal owners, so that a jitted call need not compare options."""
    return owner


def _summary(leaf: Any) -> str:
    """The dtype and shape of a leaf, or the leaf itself if it is no array."""
    if not hasattr(leaf, "shape"):
        return repr(leaf)
    return f"{leaf.dtype}[{','.join(map(str, leaf.shape))}]"


def fingerprint(options: str) -> str:
    """A short hash that is the same in every process and every run."""
    return hashlib.sha256(options.encode()).hexdigest()[:8]


def check_owner(state: Any, owner: "Accumulator") -> None:
    """Refuses what is not a state, and the states of other accumulators."""
    if not isinstance(state, State):
        raise WrongKind(
            f"state must be what init() or update() returned; "
            f"got {type(state).__name__}. Start from metric.init(); a checkpointer "
            "restores into it as its target."
        )
    if state.owner is not owner and state.owner != owner:
        raise Mismatch(
            f"this state belongs to {state.owner!r}, not to {owner!r}; "
            "use the metric that made it, or start from init(). The state of a "
            "Collection's member is collection.member_state(state, name)."
        )


def check_template(data: Any, init: Callable[[], Any]) -> None:
    """Refuses data whose structure, shapes or dtypes are not those of `init()`."""
    wanted, wanted_tree = jax.tree.flatten(init())
    leaves, tree = jax.tree.flatten(data)
    if str(tree) != str(wanted_tree):
        raise Mismatch(
            f"the state should be {wanted_tree}; got {tree}. Start from init()."
        )
    for leaf, want in zip(leaves, wanted, strict=True):
        shape, dtype = np.shape(leaf), getattr(leaf, "dtype", None)
        if shape == want.shape and dtype == want.dtype:
            continue
        raise Mismatch(
            f"a state leaf should be {want.dtype}{list(want.shape)}; got "
            f"{dtype}{list(shape)}. {_way_out(shape, dtype, want)}"
        )


def _way_out(shape: tuple[int, ...], dtype: Any, want: jax.ShapeDtypeStruct) -> str:
    if len(shape) > len(want.shape) and shape[-len(want.shape) :] == want.shape:
        return (
            "It is stacked, as pmap and vmap return it: reduce with "
            "all_reduce(state, axis_name) inside, then take one copy with "
            "jax.tree.map(lambda x: x[0], state); or merge the copies."
        )
    if len(shape) == len(want.shape) and shape[1:] == want.shape[1:]:
        return (
            "It looks like the states of several devices end to end, as shard_map with "
            "out_specs=P(axis) returns them: reduce with all_reduce(state, axis_name) "
            "inside, and return it with out_specs=P()."
        )
    if dtype != want.dtype and want.dtype == np.uint32:
        return (
            "Counts are not averaged or cast: reduce with all_reduce instead of pmean."
        )
    return "Pass the state on as it is; start from init()."
