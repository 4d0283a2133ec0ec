"""One metric for each slice of the rows: by group, country, length, time of day.

`Sliced` keeps the state of its metric once for each slice and once for all rows
together. It reads out the metric of each, and what tells slices apart:

    recall = jm.Sliced(jm.Recall(), num_slices=3)
    recall.worst()  # of the slice where it is lowest
    recall.gap()  # equal opportunity; of a rate of predictions, demographic parity
    recall.ratio()

What else is read of a metric's state, as its `interval`, is read of each slice, too.
"""

import functools
from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY
from types import MappingProxyType
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from jaxmetrics import checks
from jaxmetrics.accumulator import Accumulator
from jaxmetrics.by_slice import BySlice, Slices
from jaxmetrics.checks import Mismatch, WrongKind
from jaxmetrics.eager import reading
from jaxmetrics.metric import Metric, by_key
from jaxmetrics.numerics import divide, float_dtype, words_to_float, words_to_int
from jaxmetrics.stacks import at
from jaxmetrics.state import State
from jaxmetrics.wrapping import OfStates, Through

__all__ = ["OverSlices", "Sliced"]


class Sliced(OfStates):
    """A metric of each slice of the rows, and of all of them.

    Takes the inputs of its metric and `slice_ids`, which say where each row belongs:

    * integers `(rows,)`: each row to the slice of that number;
    * integers `(rows, k)`: to each of k slices, once even if named twice; a number that
      is no slice, such as -1, for rows of fewer;
    * booleans `(rows, num_slices)`: to those that are True. Costs a sweep each.

    A number that is no slice is never wrapped or clipped: a row of no slice counts in
    the total alone, and `outside` tells how many such numbers there were. Integers cost
    one sweep for all slices where the accumulator can (counts, sums, score histograms),
    and a masked sweep each elsewhere.

    A slice without rows has the value that the metric has of nothing: a recall of 0,
    unless `zero_division=nan` or `minimum_count=1` leaves it out.

    A slice that has seen a NaN or a bad label is NaN, and so are the total and what is
    read over all slices; other slices are not.

    Args:
      metric: What is computed of each slice: any metric whose update takes a mask.
      num_slices: How many there are.
      minimum_count: A slice of fewer rows is NaN, and left out of `worst`, `gap` and
        `ratio`. Rows count that `mask` keeps and that weigh something, however old they
        are, and whatever the metric makes of them.

    Returns:
      From `compute`, `Slices(total, slices)`; in a `Collection` the names `name/total`
      and `name/slices`.

    Example:
      >>> import jaxmetrics as jm
      >>> recall = jm.Sliced(jm.Recall(), num_slices=2)
      >>> rows = dict(y_true=[1, 1, 1, 1], y_pred=[0.9, 0.2, 0.8, 0.7])
      >>> print(recall(**rows, slice_ids=[0, 0, 1, 1]))
      Slices(total=Array(0.75, dtype=float32), slices=Array([0.5, 1. ], dtype=float32))
      >>> print(recall.gap()(**rows, slice_ids=[0, 0, 1, 1]))
      0.5
    """

    laws_waived: ClassVar[Mapping[str, str]] = MappingProxyType(
        {"NaN": "a slice answers for its own rows alone"}
    )

    num_slices: int
    _: KW_ONLY
    minimum_count: int = 0

    def checked(self) -> dict[str, Any]:
        """Checks the numbers."""
        return {
            **super().checked(),
            "num_slices": checks.integer(self.num_slices, "num_slices", 1),
            "minimum_count": checks.integer(self.minimum_count, "minimum_count", 0),
        }

    def wrap(self, part: Accumulator) -> Accumulator:
        """Its data by slice."""
        return BySlice(part, self.num_slices)

    def _parts(self, data: Any) -> list[Any]:
        """What is kept by slice for each of the metric's accumulators."""
        by_part = by_key(self.accumulator, data)
        return [by_part[self.wrap(x).key] for x in self.metric.accumulator.parts]

    def each(self, data: Any, read: Callable[[State], Any]) -> Slices:
        """What is read of the metric's state of all rows and of each slice."""
        owner = self.metric.accumulator
        states = self.inner(data, lambda _, own: own.states)
        each = jax.vmap(lambda own: read(State(own, owner)))(states)
        slices = at(each, slice(-1))
        if self.minimum_count:
            slices = jax.tree.map(self._suppress(data), slices)
        return Slices(at(each, -1), slices)

    def _suppress(self, data: Any) -> Any:
        kept = [words_to_float(part.rows[:, :-1]) for part in self._parts(data)]
        few = functools.reduce(jnp.minimum, kept) < self.minimum_count

        def suppress(x: jax.Array) -> jax.Array:
            if not jnp.issubdtype(x.dtype, jnp.floating):
                raise WrongKind(
                    f"minimum_count needs results that can be NaN; {self.label} has "
                    f"{x.dtype}."
                )
            shape = few.shape + (1,) * (x.ndim - 1)
            return jnp.where(few.reshape(shape), jnp.nan, x).astype(x.dtype)

        return suppress

    @reading
    def outside(self, state: State) -> jax.Array:
        """How many `slice_ids` named no slice; int32, saturating.

        Of ids `(rows, k)` each is counted, those that fill up a row too; booleans name
        none.
        """
        first = self._parts(state.data)[0]
        return words_to_int(first.rows[:, -1], np.dtype(np.int32))

    def worst(self, mode: str = "max") -> Metric:
        """The metric of the slice that is worst.

        Args:
          mode: "max" where higher is better, so that the lowest is the worst; "min"
            where lower is better.
        """
        with checks.naming(self.label):
            mode = checks.choice(mode, "mode", ("max", "min"))
        return OverSlices(self, "lowest" if mode == "max" else "highest")

    def worst_slice(self, mode: str = "max") -> Metric:
        """Which slice is worst: its number, -1 where none has a value; int32.

        As of all integers, the least there is after a bad value.

        Args:
          mode: As for `worst`.
        """
        checks.choice(mode, "mode", ("max", "min"))
        return OverSlices(self, "lowest slice" if mode == "max" else "highest slice")

    def gap(self) -> Metric:
        """The highest less the lowest: 0 where all slices are alike."""
        return OverSlices(self, "gap")

    def ratio(self) -> Metric:
        """The lowest by the highest, of values from 0 up: 1 where all are alike.

        0/0 is NaN.
        """
        return OverSlices(self, "ratio")


class OverSlices(Through):
    """One number over the slices; slices without a value are left out.

    NaN where no slice has a value, and once any row was bad.

    Args:
      metric: The metric by slice.
      reading: "lowest", "highest", "gap", "ratio", "lowest slice" or "highest slice".
    """

    metric: Sliced
    reading: str

    def checked(self) -> dict[str, Any]:
        """Checks what is read."""
        values = ("lowest", "highest", "gap", "ratio")
        readings = (*values, "lowest slice", "highest slice")
        reading = checks.choice(self.reading, "reading", readings)
        if self.metric.gives_intervals:
            raise Mismatch(
                "intervals of slices cannot be compared by their ends; take the "
                "interval of what is compared, as in "
                "jm.Bootstrap(jm.Sliced(metric, num_slices).gap())."
            )
        return {**super().checked(), "reading": reading}

    @property
    def label(self) -> str:
        """What is read, of what."""
        return f"{self.metric.label}.{self.reading}"

    def read(self, data: Any) -> Any:
        """The reading of each result that the metric has."""
        return jax.tree.map(self._over, self.metric.read(data).slices)

    def _over(self, values: jax.Array) -> jax.Array:
        if self.reading.endswith("slice"):
            find = jnp.nanargmin if self.reading == "lowest slice" else jnp.nanargmax
            return find(values, axis=0).astype(jnp.int32)
        if self.reading in ("gap", "ratio"):  # differences of integers would wrap
            values = values.astype(jnp.result_type(values, float_dtype()))
        low, high = jnp.nanmin(values, axis=0), jnp.nanmax(values, axis=0)
        if self.reading == "gap":
            return high - low
        if self.reading == "ratio":
            return divide(low, high, jnp.nan)
        return low if self.reading == "lowest" else high
