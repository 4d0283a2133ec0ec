"""What counts by slice: another accumulator's data for each slice, and rows alone."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike

from jaxmetrics import checks
from jaxmetrics.accumulator import Accumulator, together
from jaxmetrics.checks import Mismatch, WrongKind
from jaxmetrics.numerics import add_counts, carry, words_from_counts, words_to_float
from jaxmetrics.reduction import AxisName, reduce_over, varying_with
from jaxmetrics.slice_ids import IDS, checked_ids, numbers, once, present
from jaxmetrics.stacks import at, folded, joined, reduced, repeated
from jaxmetrics.wrapping import Wrapper

__all__ = ["BySlice", "RowsBySlice", "Slices"]


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
    rows: jax.Array  # uint32 (2, slices + 1): words; of ids that name no slice last


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
        return SliceData(states, jnp.zeros((2, self.num_slices + 1), jnp.uint32))

    def measure(self, *args: Any, **kwargs: Any) -> SliceData:
        """The data of one batch by slice."""
        inputs = self.bound(args, kwargs)
        ids = checked_ids(inputs.pop(IDS), self.num_slices, self.inner, inputs)
        # Equal on all devices they may be, and the rows that they belong to are not.
        ids = varying_with(ids, inputs)
        here = present(self.inner, inputs, ids)
        rows = None
        if ids.ndim < 2:
            groups = self.num_slices + 1  # the last is that of rows in no slice
            states, rows = self.inner.measure_groups(ids, groups, **inputs)
            total = folded(self.inner.combine, states)
            states = at(states, slice(self.num_slices))
        else:
            total = self.inner.measure(**inputs)
            states = self._of_several(ids, inputs)
        if rows is None:
            rows = numbers(ids, here, self.num_slices)
        return SliceData(joined(states, at(total, None)), words_from_counts(rows))

    def _of_several(self, ids: jax.Array, inputs: dict[str, Any]) -> Any:
        """The data by slice of rows that belong to several."""
        name: Any = self.inner.input_for("mask")
        if ids.dtype == jnp.bool_:

            def of_slice(member: jax.Array) -> Any:
                here = together("mask", inputs.get(name), member)
                return self.inner.measure(**{**inputs, name: here})

            return lax.map(of_slice, ids.T)

        def of_column(group: jax.Array) -> Any:
            groups = self.num_slices + 1
            states, _ = self.inner.measure_groups(group, groups, **inputs)
            return at(states, slice(self.num_slices))

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
        return SliceData(states, carry(reduce_over(data.rows, axis_name, add_counts)))

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
    return SliceData(states, add_counts(data.rows, other.rows))


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
        here = present(self, inputs, ids)
        return words_from_counts(numbers(ids, here, self.num_slices))

    def value(self, data: jax.Array) -> jax.Array:
        """The number of rows in each slice."""
        return words_to_float(data[:, :-1])
