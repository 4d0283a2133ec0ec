"""Metrics of what a function makes of the batch."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import jax

from jaxmetrics.accumulator import Accumulator
from jaxmetrics.checks import WrongKind
from jaxmetrics.reduction import AxisName
from jaxmetrics.wrapping import Around, Wrapper

__all__ = ["Computed", "FromFunction"]

ROLES = ("sample_weight", "mask")


class FromFunction(Wrapper):
    """An accumulator whose inputs a function makes of others.

    Args:
      inner: The accumulator.
      function: Takes inputs by name; returns those of the accumulator by name, or its
        one required input.
    """

    function: Callable[..., Any]

    def checked(self) -> dict[str, Any]:
        """Checks that the function has named parameters."""
        if not callable(self.function):
            raise WrongKind(f"of takes a function; got {self.function!r}.")
        for parameter in self._parameters:
            if parameter.kind not in (
                inspect.Parameter.POSITIONAL_OR_KEYWORD,
                inspect.Parameter.KEYWORD_ONLY,
            ):
                raise WrongKind(
                    f"of takes a function of named inputs; {parameter} is not one. "
                    "Write a function that lists what it takes."
                )
        return {}

    @property
    def _parameters(self) -> list[inspect.Parameter]:
        return list(inspect.signature(self.function).parameters.values())

    @property
    def inputs(self) -> Mapping[str, bool]:
        """What the function takes, and weight and mask."""
        own = {p.name: p.default is p.empty for p in self._parameters}
        passed = {name: False for name in self._passed if name not in own}
        return {**own, **passed}

    @property
    def _passed(self) -> list[str]:
        names = (self.inner.input_for(role) for role in ROLES)
        return [name for name in names if name is not None]

    def input_for(self, role: str) -> str | None:
        """The inner accumulator's, unless the function uses it up."""
        name = self.inner.input_for(role)
        own = [p.name for p in self._parameters]
        return None if name in own else name

    def made(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """The inner accumulator's inputs."""
        own = [p.name for p in self._parameters]
        result = self.function(**{name: given[name] for name in own if name in given})
        takes = self.inner.inputs
        if not isinstance(result, Mapping):
            needed = [name for name, need in takes.items() if need]
            if len(needed) != 1:
                raise WrongKind(
                    f"the function must return a dict of the inputs {needed}; got "
                    f"{type(result).__name__}."
                )
            result = {needed[0]: result}
        unknown = [name for name in result if name not in takes]
        missing = [name for name, need in takes.items() if need and name not in result]
        if unknown or missing:
            raise WrongKind(
                f"the function must return the inputs {list(takes)}; "
                f"missing {missing}, unknown {unknown}."
            )
        rest = [name for name in self._passed if name in given and name not in own]
        return {**{name: given[name] for name in rest}, **result}

    def empty(self) -> Any:
        """The inner accumulator's."""
        return self.inner.empty()

    def measure(self, *args: Any, **kwargs: Any) -> Any:
        """The inner accumulator's, of what the function makes."""
        return self.inner.measure(**self.made(self.bound(args, kwargs)))

    def measure_groups(self, group: jax.Array, groups: int, **inputs: Any) -> Any:
        """The inner accumulator's, of what the function makes."""
        return self.inner.measure_groups(group, groups, **self.made(inputs))

    def extend(self, data: Any, *args: Any, **kwargs: Any) -> Any:
        """The inner accumulator's, of what the function makes."""
        return self.inner.extend(data, **self.made(self.bound(args, kwargs)))

    def combine(self, data: Any, other: Any) -> Any:
        """The inner accumulator's."""
        return self.inner.combine(data, other)

    def reduce(self, data: Any, axis_name: AxisName) -> Any:
        """The inner accumulator's."""
        return self.inner.reduce(data, axis_name)

    def decayed(self, data: Any, factor: jax.Array) -> Any:
        """The inner accumulator's."""
        return self.inner.decayed(data, factor)

    def value(self, data: Any) -> Any:
        """The inner accumulator's."""
        return self.inner.value(data)

    def flags(self, data: Any) -> jax.Array | None:
        """The inner accumulator's."""
        return self.inner.flags(data)


class Computed(Around):
    """A metric of what a function makes of the batch; see `Metric.of`."""

    function: Callable[..., Any]

    def wrap(self, part: Accumulator) -> Accumulator:
        """It, behind the function."""
        return FromFunction(part, self.function)

    def admit(self, inputs: Mapping[str, Any]) -> None:
        """As the metric, of what the function makes."""
        for part in self.metric.accumulator.parts:
            behind = FromFunction(part, self.function)
            if all(name in inputs for name, need in behind.inputs.items() if need):
                self.metric.admit(behind.made(inputs))

    @property
    def label(self) -> str:
        """The metric's."""
        return self.metric.label

    def read(self, data: Any) -> Any:
        """The metric's value."""
        return self.metric.read(self.inner(data, lambda _, own: own))

    def answer(self, data: Any) -> Any:
        """The metric's answer."""
        return self.metric.answer(self.inner(data, lambda _, own: own))
