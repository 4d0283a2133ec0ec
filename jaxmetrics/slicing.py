"""One metric for each slice of the rows: by group, country, length, time of day.

`Sliced` keeps the state of its metric once for each slice and once for all rows
together. It reads out the metric of each, and what tells slices apart:

    recall = jm.Sliced(jm.Recall(), num_slices=3)
    recall.worst()  # of the slice where it is lowest
    recall.gap()  # equal opportunity; of a rate of predictions, demographic parity
    recall.ratio()
"""

from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY
from types import MappingProxyType
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike

from jaxmetrics import checks
from jaxmetrics.accumulator import ROLES, Accumulator, together
from jaxmetrics.checks import Mismatch, WrongKind
from jaxmetrics.metric import Metric, by_key
from jaxmetrics.numerics import (
    add_counts,
    divide,
    float_dtype,
    words_from_counts,
    words_to_float,
    words_to_int,
)
from jaxmetrics.reduction import AxisName, reduce_over
from jaxmetrics.slice_ids import (
    IDS,
    NONE,
    ZERO,
    checked_ids,
    inside,
    memberships,
    number,
    once,
    present,
)
from jaxmetrics.stacks import at, folded, joined, reduced, repeated
from jaxmetrics.state import State
from jaxmetrics.wrapping import Around, Joint, Renamed, Through, Wrapper

__all__ = ["BySlice", "OverSlices", "RowsBySlice", "Sliced", "Slices"]


class Slices(NamedTuple):
    """What `Sliced` computes.

    Attributes:
      total: The metric of all rows, whatever their slices.
      slices: The metric of each slice, with a leading axis of slices.
    """

    total: Any
    slices: Any


class SliceData(NamedTuple):
    """What `BySlice` keeps."""

    states: Any  # of the slices, and behind them of all rows; a leading axis each
    outside: jax.Array  # uint32 (2, 1): words of ids that name no slice


class BySlice(Wrapper):
    """The data of another accumulator for each slice of the rows, and for all rows.

    Args:
      inner: The accumulator.
      num_slices: The number of slices.
    """

    num_slices: int

    def checked(self) -> dict[str, Any]:
        """Checks that rows can be told apart."""
        if IDS in self.inner.inputs:
            raise Mismatch(
                f"there is an input {IDS!r} already; rename it, as in "
                f"metric.with_inputs({IDS}='group_ids')."
            )
        if self.inner.input_for("mask") is None:
            raise WrongKind(
                f"slices are told apart by a mask, and {self.inner!r} takes none."
            )
        return {"num_slices": checks.integer(self.num_slices, "num_slices", 1)}

    @property
    def inputs(self) -> Mapping[str, bool]:
        """The inner accumulator's, and the ids of the slices."""
        return {**self.inner.inputs, IDS: True}

    def empty(self) -> SliceData:
        """Nothing in any slice."""
        states = repeated(self.inner.empty(), self.num_slices + 1)
        return SliceData(states, jnp.zeros((2, 1), jnp.uint32))

    def measure(self, *args: Any, **kwargs: Any) -> SliceData:
        """The data of one batch by slice."""
        inputs = self.bound(args, kwargs)
        ids = checked_ids(inputs.pop(IDS), self.num_slices, self.inner, inputs)
        here = present(self.inner, inputs, ids)
        slice_of = memberships(ids, here, self.num_slices)
        outside = number(jnp.where(slice_of == self.num_slices, ZERO, NONE), 1)
        if ids.ndim < 2:
            groups = self.num_slices + 1  # the last is that of rows in no slice
            group = jnp.where(
                inside(ids, self.num_slices), ids, np.int32(self.num_slices)
            )
            states = self.inner.measure_groups(group, groups, **inputs)
            total = folded(self.inner.combine, states)
            states = at(states, slice(self.num_slices))
        else:
            total = self.inner.measure(**inputs)
            states = self._of_several(ids, inputs)
        return SliceData(joined(states, at(total, None)), words_from_counts(outside))

    def _of_several(self, ids: jax.Array, inputs: dict[str, Any]) -> Any:
        """The data by slice of rows that belong to several."""
        name: Any = self.inner.input_for("mask")
        if ids.dtype == jnp.bool_:

            def of_slice(member: jax.Array) -> Any:
                here = together("mask", inputs.get(name), member)
                return self.inner.measure(**{**inputs, name: here})

            return lax.map(of_slice, ids.T)

        def of_column(group: jax.Array) -> Any:
            return self.inner.measure_groups(group, self.num_slices, **inputs)

        stack = lax.map(of_column, once(ids, self.num_slices).T)
        return folded(jax.vmap(self.inner.combine), stack)

    def advance(self, data: SliceData, latest: SliceData) -> SliceData:
        """Slice by slice."""
        return _each(self.inner.advance, data, latest)

    def combine(self, data: SliceData, other: SliceData) -> SliceData:
        """Slice by slice."""
        return _each(self.inner.combine, data, other)

    def reduce(self, data: SliceData, axis_name: AxisName) -> SliceData:
        """Slice by slice."""
        states = reduced(self.inner, data.states, axis_name)
        outside = reduce_over(data.outside, axis_name, add_counts)
        return SliceData(states, add_counts(outside, jnp.zeros_like(outside)))

    def value(self, data: SliceData) -> Slices:
        """The inner value of all rows and of each slice."""
        each = jax.vmap(self.inner.value)(data.states)
        return Slices(at(each, -1), at(each, slice(-1)))

    def decayed(self, data: SliceData, factor: jax.Array) -> SliceData:
        """Slice by slice."""
        states = jax.vmap(lambda own: self.inner.decayed(own, factor))(data.states)
        return data._replace(states=states)

    def seen(self, data: SliceData) -> Any:
        """The inner data of all rows."""
        return at(data.states, -1)


def _each(
    join: Callable[[Any, Any], Any], data: SliceData, other: SliceData
) -> SliceData:
    states = jax.vmap(join)(data.states, other.states)
    return SliceData(states, add_counts(data.outside, other.outside))


class RowsBySlice(Accumulator):
    """How many rows belong to each slice, exactly; a row in several counts in each.

    0 for nothing; never undefined.

    Args:
      num_slices: The number of slices.

    Example:
      >>> import jaxmetrics as jm
      >>> print(jm.RowsBySlice(2)(slice_ids=[0, 1, 1, 7]))
      [1. 2.]
    """

    laws_waived: ClassVar[Mapping[str, str]] = MappingProxyType(
        {"weights": "rows are counted, whatever they weigh"}
    )

    num_slices: int

    def checked(self) -> dict[str, Any]:
        """Checks the number of slices."""
        return {"num_slices": checks.integer(self.num_slices, "num_slices", 1)}

    def empty(self) -> jax.Array:
        """No rows: words of the slices, and of ids outside."""
        return jnp.zeros((2, self.num_slices + 1), jnp.uint32)

    def measure(
        self,
        slice_ids: ArrayLike,
        sample_weight: ArrayLike | None = None,
        *,
        mask: ArrayLike | None = None,
    ) -> jax.Array:
        """The rows of one batch.

        Args:
          slice_ids: As for `Sliced`.
          sample_weight: Of weight 0 a row does not count.
          mask: True keeps.
        """
        inputs = {"sample_weight": sample_weight, "mask": mask}
        ids = checked_ids(slice_ids, self.num_slices, self, inputs)
        slice_of = memberships(ids, present(self, inputs, ids), self.num_slices)
        return words_from_counts(number(slice_of, self.num_slices + 1))

    def value(self, data: jax.Array) -> jax.Array:
        """The number of rows in each slice."""
        return words_to_float(data[:, :-1])


class Sliced(Around):
    """A metric of each slice of the rows, and of all of them.

    Takes the inputs of its metric and `slice_ids`, which say where each row belongs:

    * integers `(rows,)`: each row to the slice of that number;
    * integers `(rows, k)`: to each of k slices, once even if named twice; a number that
      is no slice, such as -1, for rows of fewer;
    * booleans `(rows, num_slices)`: to those that are True. Costs a sweep each.

    A number that is no slice is never wrapped or clipped: the row counts in the total
    alone, and `outside` tells how many there were. Integers cost one sweep for all
    slices where the accumulator can (counts, sums, score histograms), and a masked
    sweep each elsewhere.

    A slice without rows has the value that the metric has of nothing: a recall of 0,
    unless `zero_division=nan` or `minimum_count=1` leaves it out.

    A slice that has seen a NaN or a bad label is NaN, and so are the total and what is
    read over all slices; other slices are not.

    Args:
      metric: What is computed of each slice: any metric whose update takes a mask.
      num_slices: How many there are.
      minimum_count: A slice of fewer rows is NaN, and left out of `worst`, `gap` and
        `ratio`. Counting the rows costs another sweep.

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

    @property
    def _rows(self) -> Accumulator:
        """What counts the rows, under the names of the metric's inputs."""
        owner = self.metric.accumulator
        named = ((role, owner.parts[0].input_for(role)) for role in sorted(ROLES))
        names = tuple((role, name) for role, name in named if role != name)
        rows = RowsBySlice(self.num_slices)
        return Renamed(rows, names) if names else rows

    @property
    def accumulator(self) -> Accumulator:
        """The metric's, by slice; and the numbers of rows where they matter."""
        slices = super().accumulator
        if not self.minimum_count:
            return slices
        return Joint.made_of([*slices.parts, self._rows])

    def read(self, data: Any) -> Slices:
        """The metric's answers."""
        states = self.inner(data, lambda _, own: own.states)
        each = jax.vmap(self.metric.answer)(states)
        slices = at(each, slice(-1))
        if self.minimum_count:
            slices = jax.tree.map(self._suppress(data), slices)
        return Slices(at(each, -1), slices)

    def answer(self, data: Any) -> Slices:
        """As `read`: every slice answers for its own bad rows."""
        return self.read(data)

    def _suppress(self, data: Any) -> Any:
        rows = words_to_float(by_key(self.accumulator, data)[self._rows.key][:, :-1])
        few = rows < self.minimum_count

        def suppress(x: jax.Array) -> jax.Array:
            if not jnp.issubdtype(x.dtype, jnp.floating):
                raise WrongKind(
                    f"minimum_count needs results that can be NaN; {self.label} has "
                    f"{x.dtype}."
                )
            shape = few.shape + (1,) * (x.ndim - 1)
            return jnp.where(few.reshape(shape), jnp.nan, x).astype(x.dtype)

        return suppress

    def outside(self, state: State) -> jax.Array:
        """How many `slice_ids` named no slice; int32, saturating."""
        with checks.naming(self.label):
            self._check(state)
        owner = self.metric.accumulator
        parts = by_key(self.accumulator, state.data)
        first = parts[self.wrap(owner.parts[0]).key]
        return words_to_int(first.outside[:, 0], np.dtype(np.int32))

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
