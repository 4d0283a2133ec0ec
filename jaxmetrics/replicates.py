"""Replicates of rows: the state of an accumulator many times, by drawn weights.

In each replicate every row weighs as much as a Poisson number of mean 1 says. The
numbers depend on the row's id alone, so a row is drawn alike in whatever batch and on
whatever device it is.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxmetrics import checks
from jaxmetrics.accumulator import together
from jaxmetrics.checks import Mismatch, WrongKind
from jaxmetrics.lanes import row_numbers
from jaxmetrics.numerics import add_counts, words_from_counts
from jaxmetrics.poisson import drawn_together
from jaxmetrics.reduction import AxisName, reduce_over
from jaxmetrics.stacks import at, joined, reduced, repeated
from jaxmetrics.wrapping import Wrapper

__all__ = ["IDS", "Replicates"]

IDS = "row_ids"
_ONCE, _TWICE = np.int32(1), np.int32(2)


class ReplicateData(NamedTuple):
    """What `Replicates` keeps."""

    whole: Any  # the data of the rows as they are
    replicates: Any  # the data of each replicate; a leading axis
    rows: jax.Array  # uint32 (2, 1): words of the rows that have a running number
    counters: jax.Array  # int32: how many counted them, 2 for any more than one


class Replicates(Wrapper):
    """The data of another accumulator, and of replicates of its rows.

    Args:
      inner: The accumulator, which takes weights.
      number: How many replicates there are.
      seed: Of the random numbers.
    """

    number: int
    seed: int

    def checked(self) -> dict[str, Any]:
        """Checks that rows can be drawn more than once."""
        if IDS in self.inner.inputs:
            raise Mismatch(
                f"there is an input {IDS!r} already; rename it, as in "
                f"metric.with_inputs({IDS}='group_ids')."
            )
        if self.inner.input_for("sample_weight") is None:
            raise WrongKind(
                f"rows are drawn by their weights, and {self.inner!r} takes none."
            )
        return {
            "number": checks.integer(self.number, "replicates", 2),
            "seed": checks.integer(self.seed, "seed", 0),
        }

    @property
    def can_resample(self) -> bool:
        """No: these are drawn already."""
        return False

    @property
    def inputs(self) -> Mapping[str, bool]:
        """The inner accumulator's, and the ids of rows."""
        return {**self.inner.inputs, IDS: False}

    def empty(self) -> ReplicateData:
        """No rows."""
        replicates = repeated(self.inner.empty(), self.number)
        zeros = jnp.zeros((2, 1), jnp.uint32), jnp.zeros((), jnp.int32)
        return ReplicateData(self.inner.empty(), replicates, *zeros)

    def measure(self, *args: Any, **kwargs: Any) -> ReplicateData:
        """The data of one batch alone, whose rows have ids."""
        if self.bound(args, kwargs).get(IDS) is None:
            raise Mismatch(
                "batches are measured apart here, as slices and windows are, where a "
                "running number of rows would repeat; pass row_ids, a number for each "
                "row."
            )
        return self.extend(self.empty(), *args, **kwargs)

    def extend(
        self, data: ReplicateData, /, *args: Any, **kwargs: Any
    ) -> ReplicateData:
        """The data after one more batch."""
        inputs = self.bound(args, kwargs)
        ids = inputs.pop(IDS, None)
        if ids is not None:
            numbers, counted, counters = _checked_ids(ids), 0, data.counters
            rows = numbers.shape[0]
            for name in self.inner.row_inputs:
                shape = np.shape(inputs[name])
                if shape[:1] != (rows,):
                    raise Mismatch(
                        f"{IDS} must be an integer for each row of {name}; got "
                        f"{rows} for {name} {shape}."
                    )
        else:
            first = self._first(inputs)
            rows = first.shape[0]
            _refuse_devices()
            start = data.rows[0, 0] | (data.rows[1, 0] << 21)  # below 2^32
            numbers = start + row_numbers(first)
            counted, counters = rows, jnp.maximum(data.counters, _ONCE)
        return ReplicateData(
            self.inner.extend(data.whole, **inputs),
            self._drawn(data.replicates, numbers, inputs),
            add_counts(
                data.rows, words_from_counts(jnp.full((1,), counted, jnp.uint32))
            ),
            counters,
        )

    def _first(self, inputs: Mapping[str, Any]) -> jax.Array:
        """An array with as many rows as the batch."""
        needed = [name for name, need in self.inner.inputs.items() if need]
        name = (*self.inner.row_inputs, *needed)[0]
        first = jnp.asarray(jax.tree.leaves(inputs[name])[0])
        if not first.ndim:
            raise Mismatch(f"rows are drawn, and {name} has no axis of rows.")
        return first

    def _drawn(self, replicates: Any, numbers: jax.Array, inputs: Any) -> Any:
        """The replicates with a batch, two at a time: a row's random bits last so."""
        name: Any = self.inner.input_for("sample_weight")
        pairs = -(-self.number // 2)
        seed = jax.random.key(self.seed)

        def one_of(times: jax.Array) -> Any:
            weight = together("sample_weight", inputs.get(name), times)
            return self.inner.measure(**{**inputs, name: weight})

        def pair(i: jax.Array) -> Any:
            first, second = drawn_together(jax.random.fold_in(seed, i), numbers)
            return joined(at(one_of(first), None), at(one_of(second), None))

        drawn = lax.map(pair, lax.iota(jnp.uint32, pairs))
        drawn = jax.tree.map(
            lambda x: x.reshape(-1, *x.shape[2:])[: self.number], drawn
        )
        return jax.vmap(self.inner.advance)(replicates, drawn)

    def advance(self, data: ReplicateData, latest: ReplicateData) -> ReplicateData:
        """Replicate by replicate."""
        return _each(self.inner.advance, data, latest)

    def combine(self, data: ReplicateData, other: ReplicateData) -> ReplicateData:
        """Replicate by replicate."""
        return _each(self.inner.combine, data, other)

    def reduce(self, data: ReplicateData, axis_name: AxisName) -> ReplicateData:
        """Replicate by replicate."""
        rows = reduce_over(data.rows, axis_name, add_counts)
        return ReplicateData(
            self.inner.reduce(data.whole, axis_name),
            reduced(self.inner, data.replicates, axis_name),
            add_counts(rows, jnp.zeros_like(rows)),
            reduce_over(data.counters, axis_name, _counters),
        )

    def value(self, data: ReplicateData) -> Any:
        """The inner value of the rows as they are."""
        return self.inner.value(data.whole)

    def is_valid(self, data: ReplicateData) -> jax.Array | None:
        """Whether the rows are, and no running number stands for two of them."""
        valid = self.inner.is_valid(data.whole)
        once = data.counters < _TWICE
        return once if valid is None else valid & once

    def flags(self, data: ReplicateData) -> jax.Array | None:
        """Those of the rows as they are."""
        return self.inner.flags(data.whole)

    def problems(self, data: ReplicateData) -> Any:
        """Those of the rows as they are."""
        return self.inner.problems(data.whole)


def _each(
    join: Callable[[Any, Any], Any], data: ReplicateData, other: ReplicateData
) -> ReplicateData:
    return ReplicateData(
        join(data.whole, other.whole),
        jax.vmap(join)(data.replicates, other.replicates),
        add_counts(data.rows, other.rows),
        _counters(data.counters, other.counters),
    )


def _counters(a: jax.Array, b: jax.Array) -> jax.Array:
    return jnp.minimum(a + b, _TWICE)


def _refuse_devices() -> None:
    """Refuses a running number where each device would count from 0."""
    axes = jax.sharding.get_abstract_mesh().manual_axes
    if axes:
        raise Mismatch(
            f"on the devices along {axes} a running number of rows would repeat, and "
            "shards would be drawn alike; pass row_ids, a number for each row."
        )


def _checked_ids(ids: Any) -> jax.Array:
    """Ids as uint32; those of 64 bits mixed, and alike where they fit 32."""
    result = checks.array(ids, IDS)
    if result.ndim != 1 or not jnp.issubdtype(result.dtype, jnp.integer):
        raise Mismatch(
            f"{IDS} must be an integer for each row; got {result.dtype} {result.shape}."
        )
    low = result.astype(jnp.uint32)
    if result.dtype.itemsize <= 4:
        return low
    # 0 where the upper half only repeats the sign.
    above = (result >> 32).astype(jnp.uint32)
    if jnp.issubdtype(result.dtype, jnp.signedinteger):
        above += low >> 31
    return low ^ (above * np.uint32(0x9E3779B1))
