"""One metric over several models, seeds, tasks or outputs, side by side."""

from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jaxmetrics import checks
from jaxmetrics.accumulator import Accumulator
from jaxmetrics.checks import Mismatch, WrongKind
from jaxmetrics.metric import Metric
from jaxmetrics.numerics import added
from jaxmetrics.reduction import AxisName
from jaxmetrics.stacks import reduced, repeated
from jaxmetrics.state import State
from jaxmetrics.wrapping import OfStates, Wrapper

__all__ = ["Repeated", "SideBySide"]


class SideBySide(Wrapper):
    """The data of another accumulator, several times.

    Args:
      inner: The accumulator of each.
      number: How many there are.
      over: The inputs that each has its own of, along an axis; the others they share.
      axis: Which axis that is.
    """

    number: int
    over: tuple[str, ...]
    axis: int

    def checked(self) -> dict[str, Any]:
        """Checks the numbers."""
        return {
            "number": checks.integer(self.number, "number", 1),
            "axis": checks.integer(self.axis, "axis", -(2**31)),
        }

    def empty(self) -> Any:
        """Nothing, as many times."""
        return repeated(self.inner.empty(), self.number)

    def _axes(self, inputs: dict[str, Any]) -> dict[str, int | None]:
        """Along which axis each input is taken apart."""
        own = [name for name in self.over if inputs.get(name) is not None]
        for name in own:
            inputs[name] = entries_of(inputs[name], name, self.axis, self.number)
        return {name: self.axis if name in own else None for name in inputs}

    @property
    def row_inputs(self) -> tuple[str, ...]:
        """The inner accumulator's, of those that are shared."""
        return tuple(x for x in self.inner.row_inputs if x not in self.over)

    def input_for(self, role: str) -> str | None:
        """The inner accumulator's, unless something else than rows is in front."""
        name = self.inner.input_for(role)
        rows_first = self.axis == -1 or self.axis > 0
        return name if rows_first or name not in self.over else None

    def measure(self, *args: Any, **kwargs: Any) -> Any:
        """The data of one batch, of each."""
        inputs = self.bound(args, kwargs)
        axes = self._axes(inputs)

        def measure_one(inputs: dict[str, Any]) -> Any:
            return self.inner.measure(**inputs)

        if set(axes.values()) == {None}:
            return repeated(measure_one(inputs), self.number)
        vmapped = jax.vmap(measure_one, in_axes=(axes,), axis_size=self.number)
        return vmapped(inputs)

    def advance(self, data: Any, latest: Any) -> Any:
        """One by one."""
        return jax.vmap(self.inner.advance)(data, latest)

    def combine(self, data: Any, other: Any) -> Any:
        """One by one."""
        return jax.vmap(self.inner.combine)(data, other)

    def reduce(self, data: Any, axis_name: AxisName) -> Any:
        """One by one."""
        return reduced(self.inner, data, axis_name)

    @property
    def can_resample(self) -> bool:
        """No: they may share rows, which have to be drawn for all alike."""
        return False

    def decayed(self, data: Any, factor: jax.Array) -> Any:
        """One by one."""
        return jax.vmap(lambda own: self.inner.decayed(own, factor))(data)

    def value(self, data: Any) -> Any:
        """The inner values, with a leading axis."""
        return jax.vmap(self.inner.value)(data)

    def is_valid(self, data: Any) -> jax.Array | None:
        """Whether all are."""
        each = jax.vmap(self.inner.is_valid)(data)
        return None if each is None else jnp.all(each)

    def flags(self, data: Any) -> jax.Array | None:
        """Those of all together."""
        each = jax.vmap(self.inner.flags)(data)
        return None if each is None else added(jnp.moveaxis(each, 0, 1), 1)


def entries_of(x: Any, name: str, axis: int, number: int) -> jax.Array:
    """An input as an array with so many entries along the axis."""
    result = checks.array(x, name)
    if not -result.ndim <= axis < result.ndim or result.shape[axis] != number:
        raise Mismatch(
            f"{name} must have {number} entries along axis {axis}, one for each; got "
            f"{name} {result.shape}."
        )
    return result


class Repeated(OfStates):
    """A metric of each of several models, seeds, tasks or outputs, in one state.

    Inputs named in `over` have an axis with an entry for each; the others are shared.
    The result has a leading axis of them, as `vmap` would give it. Each is undefined
    where the metric is, and NaN for its own bad rows alone.

    Args:
      metric: What is computed of each.
      number: How many there are.
      over: The inputs that each has its own of: a name or several.
      axis: Which of their axes that is: 0 for predictions stacked by model, -1 for
        targets with several outputs.

    Example:
      >>> import jaxmetrics as jm
      >>> models = jm.Repeated(jm.Recall(), 2, over="y_pred")
      >>> print(models(y_true=[1, 1], y_pred=[[0.9, 0.1], [0.8, 0.7]]))
      [0.5 1. ]
      >>> outputs = jm.Repeated(jm.Mean(), 2, over="values", axis=-1)
      >>> print(outputs(values=[[1.0, 10.0], [3.0, 20.0]]))
      [ 2. 15.]
    """

    number: int
    _: KW_ONLY
    over: Any
    axis: int = 0

    def checked(self) -> dict[str, Any]:
        """Checks that the metric takes what is named."""
        over = (self.over,) if isinstance(self.over, str) else self.over
        if not isinstance(over, tuple) or not over:
            raise WrongKind(
                f"over must name inputs that each has its own of; got {self.over!r}."
            )
        plain = super().checked()
        takes = self.metric.accumulator.inputs
        for name in over:
            if name not in takes:
                raise WrongKind(
                    f"over names the input {name!r}; the inputs are {list(takes)}."
                )
        return {**plain, "over": over}

    def wrap(self, part: Accumulator) -> Accumulator:
        """It, several times."""
        over = tuple(name for name in self.over if name in part.inputs)
        return SideBySide(part, self.number, over, self.axis)

    def admit(self, inputs: Mapping[str, Any]) -> None:
        """As the metric, of the inputs of one."""
        own = dict(inputs)
        for name in self.over:
            if own.get(name) is not None:
                entries = entries_of(own[name], name, self.axis, self.number)
                own[name] = lax.index_in_dim(entries, 0, self.axis, keepdims=False)
        self.metric.admit(own)

    def difference(self) -> Metric:
        """How much more each has than the first; of two, one number.

        Under `Bootstrap` both see the same rows, which is a paired comparison.
        """
        return self.map(_less_the_first)

    def each(self, data: Any, read: Callable[[State], Any]) -> Any:
        """What is read of each state of the metric."""
        owner = self.metric.accumulator
        states = self.inner(data, lambda _, own: own)
        return jax.vmap(lambda own: read(State(own, owner)))(states)


def _less_the_first(values: Any) -> Any:
    def one(x: jax.Array) -> jax.Array:
        differences = x[1:] - x[:1]
        return differences[0] if x.shape[0] == 2 else differences

    return jax.tree.map(one, values)
