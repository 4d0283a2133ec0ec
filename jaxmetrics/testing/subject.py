"""What the laws look at: a metric with batches for it, and how answers are compared."""

import functools
import pickle
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxmetrics.metric import Metric
from jaxmetrics.state import State

RELATIVE = 1e-6
HALF_RELATIVE = 2.0**-6  # two steps of bfloat16
CHUNKS = 3
WEIGHT, MASK = "sample_weight", "mask"

Array = np.ndarray[Any, Any]
Batch = dict[str, Any]

# --- what is checked -----------------------------------------------------------------

# Compiled once per metric and shape, and shared by all laws.


@functools.partial(jax.jit, static_argnums=0)
def _update(metric: Metric, state: State, batch: Batch) -> State:
    return metric.update(state, **batch)


@functools.partial(jax.jit, static_argnums=0)
def _merge(metric: Metric, state: State, other: State) -> State:
    return metric.merge(state, other)


@functools.partial(jax.jit, static_argnums=0)
def _compute(metric: Metric, state: State) -> Any:
    return metric.compute(state)


class Subject:
    """A metric, and batches for it in every guise that a law needs."""

    def __init__(
        self,
        metric: Metric,
        batches: Sequence[Mapping[str, Any]],
        devices: Sequence[int],
    ) -> None:
        self.metric = metric
        self.batches = [
            {k: _as_array(x) for k, x in batch.items()} for batch in batches
        ]
        self.devices = [n for n in devices if n <= jax.device_count()]
        takes = set(metric.accumulator.inputs) - metric.refused
        self.weighs, self.masks = WEIGHT in takes, MASK in takes
        sizes = [{np.shape(x)[:1] for x in batch.values()} for batch in self.batches]
        if len(sizes) < 2 or any(len(s) != 1 or s == {()} for s in sizes):
            raise ValueError(
                "batches must be two or more dicts of inputs with one leading axis of "
                f"rows; got shapes {[jax.tree.map(np.shape, b) for b in self.batches]}."
            )
        names = list(self.batches[0])
        self.whole = {n: np.concatenate([b[n] for b in self.batches]) for n in names}
        self.rows = len(self.whole[names[0]])
        self.random = np.random.default_rng(20)
        # Quarters: sums of them are exact, and so is every lower precision.
        self.weight = self.random.integers(1, 9, self.rows).astype(np.float32) / 4
        self.everything = np.ones(self.rows, bool)
        self.chunks = [np.arange(self.rows) % CHUNKS == i for i in range(CHUNKS)]

    def batch(
        self,
        keep: Array | None = None,
        weight: Array | None = None,
        inputs: Mapping[str, Array] | None = None,
    ) -> Batch:
        """All rows with weights and a mask, as far as the metric takes them.

        Where it does not, the rows that are not kept are cut out.
        """
        keep = self.everything if keep is None else keep
        batch = dict(self.whole if inputs is None else inputs)
        if self.weighs:
            batch[WEIGHT] = self.weight if weight is None else weight
        if self.masks:
            batch[MASK] = keep
        elif self.weighs:
            batch[WEIGHT] = np.where(keep, batch[WEIGHT], np.float32(0))
        else:
            batch = {name: x[keep] for name, x in batch.items()}
        return batch

    def state(self, *batches: Batch) -> State:
        """The state after these batches."""
        state = self.metric.init()
        for batch in batches:
            state = self.update(state, batch)
        return state

    def update(self, state: State, batch: Batch) -> State:
        updated: State = _update(self.metric, state, batch)
        return updated

    def merge(self, state: State, other: State) -> State:
        merged: State = _merge(self.metric, state, other)
        return merged

    def result(self, state: State) -> Any:
        return _compute(self.metric, state)

    @functools.cached_property
    def parts(self) -> list[State]:
        """The states of the chunks."""
        return [self.state(self.batch(chunk)) for chunk in self.chunks]

    @functools.cached_property
    def total(self) -> State:
        """The state that has seen all rows."""
        return self.state(self.batch())

    def rebuilt(self) -> Metric:
        """An equal metric that is another object."""
        return pickle.loads(pickle.dumps(self.metric))  # type: ignore[no-any-return]

    def same_answer(self, what: str, state: State, other: State) -> None:
        """Requires equal states, and results that are equal.

        Where rows are kept in their order, results alone.
        """
        if not any(part.keeps_rows for part in self.metric.accumulator.parts):
            close(what, state, other, two_floats=True)
        close(f"the result of {what}", self.result(state), self.result(other))


def _as_array(x: Any) -> Array:
    """An array of the 32-bit dtype that JAX gives it."""
    x = np.asarray(x)
    canonical: Array = x.astype(jax.dtypes.canonicalize_dtype(x.dtype))
    return canonical


def stack(trees: Sequence[Any]) -> Any:
    """The trees as one, with a new leading axis in each leaf."""
    return jax.tree.map(lambda *xs: jnp.stack(xs), *trees)


# --- comparing -----------------------------------------------------------------------


class Broken(AssertionError):
    """What a law says of a metric that breaks it."""


def require(true: Any, sentence: str) -> None:
    """Breaks the law with this sentence unless something is true."""
    if not true:
        raise Broken(sentence)


def _leaves(what: str, tree: Any, other: Any) -> list[tuple[str, Array, Array]]:
    """Pairs of leaves of two trees that must have one structure, with their names."""
    structure: Any
    found, structure = jax.tree_util.tree_flatten_with_path(tree)
    others, wanted = jax.tree.flatten(other)
    require(structure == wanted, f"{what} has the structure {structure}, not {wanted}")
    pairs = []
    for (path, a), b in zip(found, others, strict=True):
        name = f"{what}{jax.tree_util.keystr(path)}"
        a, b = np.asarray(a), np.asarray(b)
        pair = (a.dtype, a.shape), (b.dtype, b.shape)
        require(pair[0] == pair[1], f"{name} is {pair[0]}, not {pair[1]}")
        pairs.append((name, a, b))
    return pairs


def same(what: str, tree: Any, other: Any) -> None:
    """Requires the same numbers, to the last bit."""
    for name, a, b in _leaves(what, tree, other):
        kind = {"equal_nan": True} if jnp.issubdtype(a.dtype, jnp.floating) else {}
        require(np.array_equal(a, b, **kind), f"{name} is {a}, not {b}")


def close(what: str, tree: Any, other: Any, *, two_floats: bool = False) -> None:
    """Requires integers to be equal, and floats to 1e-6 (or their precision).

    In a two-float the second row is small beside the first, wherever in the shape the
    two are: what lies along an axis of two is compared by the larger of both.
    """
    for name, a, b in _leaves(what, tree, other):
        if not jnp.issubdtype(a.dtype, jnp.floating):
            require(np.array_equal(a, b), f"{name} is {a}, not {b}")
            continue
        relative = RELATIVE if a.dtype.itemsize >= 4 else HALF_RELATIVE
        a, b = a.astype(np.float64), b.astype(np.float64)
        size = np.abs(b)
        for axis in np.flatnonzero(np.equal(b.shape, 2)) if two_floats else ():
            size = np.maximum(size, np.max(np.abs(b), axis=axis, keepdims=True))
        size = np.where(np.isfinite(size), size, 0)
        with np.errstate(invalid="ignore"):
            near = (np.abs(a - b) <= relative * size + 1e-12) | (a == b)
        near |= np.isnan(a) & np.isnan(b)
        off = f"{name} is {a}, not {b}, to {relative:.0e} of its size"
        require(np.all(near), off)


def kinds(state: Any) -> tuple[Any, list[Any]]:
    """All that a carry must keep: structure, shapes, dtypes and weakness of dtypes."""
    leaves, structure = jax.tree.flatten(state)
    return structure, [
        (x.shape, x.dtype, getattr(x, "weak_type", None)) for x in leaves
    ]
