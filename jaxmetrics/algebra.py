"""Metrics made of metrics: functions, arithmetic, and inputs by other names.

The upper half of the contract's room: `Metric.map`, `Metric.with_inputs` and the
operators make these. They know only the contract, so they work on any metric, and
operands that read the same accumulator go on reading one state.
"""

import functools
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxmetrics import checks
from jaxmetrics.checks import Mismatch, WrongKind
from jaxmetrics.metric import Accumulator, Metric, by_key
from jaxmetrics.numerics import divide, float_dtype
from jaxmetrics.reduction import AxisName

__all__ = ["Arithmetic", "Joint", "Mapped", "Renamed", "Wired"]


class Mapped(Metric):
    """A function of another metric's value."""

    metric: Metric
    function: Callable[..., Any]

    def checked(self) -> dict[str, Any]:
        """Checks that the function is one."""
        if not callable(self.function):
            raise WrongKind(f"map takes a function; got {self.function!r}.")
        return {}

    @property
    def label(self) -> str:
        """The inner metric's."""
        return self.metric.label

    @property
    def accumulator(self) -> Accumulator:
        """The inner metric's."""
        return self.metric.accumulator

    def admit(self, inputs: Mapping[str, Any]) -> None:
        """As the inner metric."""
        self.metric.admit(inputs)

    def read(self, data: Any) -> Any:
        """The function of the inner value."""
        return self.function(self.metric.answer(data))

    def with_inputs(self, **names: str | None) -> Metric:
        """The same function of the renamed metric."""
        return Mapped(self.metric.with_inputs(**names), self.function)


class Wired(Metric):
    """A metric whose inputs go by other names."""

    metric: Metric
    names: tuple[tuple[str, str | None], ...]

    def checked(self) -> dict[str, Any]:
        """Checks that the metric takes what is renamed."""
        with checks.naming(self.metric.label, keep=True):
            Renamed(self.metric.accumulator, self.names)
        return {}

    @property
    def label(self) -> str:
        """The inner metric's."""
        return self.metric.label

    @property
    def accumulator(self) -> Accumulator:
        """The inner metric's, under the new names."""
        return Renamed(self.metric.accumulator, self.names)

    def admit(self, inputs: Mapping[str, Any]) -> None:
        """As the inner metric, of the inputs by its own names."""
        renamed = {
            name: inputs[source]
            for name, source in self.names
            if source is not None and source in inputs
        }
        self.metric.admit(dict(inputs) | renamed)

    def read(self, data: Any) -> Any:
        """The inner value."""
        return self.metric.read(data)


class Renamed(Accumulator):
    """An accumulator whose inputs go by other names."""

    inner: Accumulator
    names: tuple[tuple[str, str | None], ...]

    def checked(self) -> dict[str, Any]:
        """Checks that the accumulator takes what is renamed."""
        takes = self.inner.inputs
        for name, source in self.names:
            if name not in takes:
                raise WrongKind(
                    f"there is no input {name!r}; the inputs are {list(takes)}."
                )
            if source is None and takes[name]:
                raise Mismatch(
                    f"the input {name!r} is required and cannot be withheld."
                )
            if not isinstance(source, str | None):
                raise WrongKind(
                    f"{name} must be renamed by a string or None; got {source!r}."
                )
        return {}

    @functools.cached_property
    def key(self) -> str:
        """The inner key with the renamed inputs."""
        return f"{self.inner.key}[{','.join(f'{a}={b}' for a, b in self.names)}]"

    @property
    def inputs(self) -> Mapping[str, bool]:
        """The inputs by the names they are passed by."""
        names = dict(self.names)
        renamed = {
            names.get(name, name): need for name, need in self.inner.inputs.items()
        }
        return {name: need for name, need in renamed.items() if name is not None}

    def _inner_kwargs(
        self, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> dict[str, Any]:
        given = dict(zip(self.inputs, args, strict=False)) | dict(kwargs)
        unknown = [name for name in given if name not in self.inputs]
        missing = [
            name for name, need in self.inputs.items() if need and name not in given
        ]
        if unknown or missing or len(args) > len(self.inputs):
            raise WrongKind(
                f"update takes {list(self.inputs)}; "
                f"missing {missing}, unknown {unknown}."
            )
        names = dict(self.names)
        sources = {name: names.get(name, name) for name in self.inner.inputs}
        return {
            name: given[source] for name, source in sources.items() if source in given
        }

    def empty(self) -> Any:
        """The inner accumulator's."""
        return self.inner.empty()

    def measure(self, *args: Any, **kwargs: Any) -> Any:
        """The inner accumulator's, of the renamed inputs."""
        return self.inner.measure(**self._inner_kwargs(args, kwargs))

    def extend(self, data: Any, *args: Any, **kwargs: Any) -> Any:
        """The inner accumulator's, of the renamed inputs."""
        return self.inner.extend(data, **self._inner_kwargs(args, kwargs))

    def combine(self, data: Any, other: Any) -> Any:
        """The inner accumulator's."""
        return self.inner.combine(data, other)

    def reduce(self, data: Any, axis_name: AxisName) -> Any:
        """The inner accumulator's."""
        return self.inner.reduce(data, axis_name)

    def value(self, data: Any) -> Any:
        """The inner accumulator's."""
        return self.inner.value(data)

    def flags(self, data: Any) -> jax.Array | None:
        """The inner accumulator's."""
        return self.inner.flags(data)


class Joint(Accumulator):
    """Several accumulators fed side by side; its data is a dict by their keys."""

    members: tuple[Accumulator, ...]

    @classmethod
    def of(cls, metrics: list[Metric]) -> "Joint":
        """The distinct accumulators of the metrics; a single one stays as it is."""
        parts = {part.key: part for m in metrics for part in m.accumulator.parts}
        for m in metrics:
            for part in m.accumulator.parts:
                if parts[part.key] != part:
                    raise Mismatch(
                        f"{part!r} and {parts[part.key]!r} have the same key."
                    )
        return cls(tuple(parts[key] for key in sorted(parts)))

    @property
    def parts(self) -> tuple[Accumulator, ...]:
        """The accumulators side by side."""
        return self.members

    @functools.cached_property
    def key(self) -> str:
        """Only a name: the parts carry their own keys."""
        return "Collection"

    @property
    def inputs(self) -> Mapping[str, bool]:
        """All inputs of all parts; required where one part requires it."""
        union: dict[str, bool] = {}
        for part in self.members:
            for name, need in part.inputs.items():
                union[name] = union.get(name, False) or need
        return union

    def route(
        self, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> dict[str, dict[str, Any]]:
        """What each part takes of the inputs, by the part's key."""
        first = list(self.members[0].inputs) if self.members else []
        if args and any(list(part.inputs) != first for part in self.members):
            raise WrongKind(
                f"inputs go by name here, because the parts take different ones; "
                f"the inputs are {list(self.inputs)}."
            )
        if len(args) > len(first):
            raise WrongKind(
                f"update takes {list(self.inputs)}; got {len(args)} positional."
            )
        given = dict(zip(first, args, strict=False)) | dict(kwargs)
        for name in given:
            if name not in self.inputs:
                raise WrongKind(
                    f"nothing takes the input {name!r}; "
                    f"the inputs are {list(self.inputs)}. "
                    "Drop it, or route it with with_inputs(...)."
                )
        for name, need in self.inputs.items():
            if need and name not in given:
                takers = [p.key for p in self.members if p.inputs.get(name)]
                raise WrongKind(
                    f"the input {name!r} is missing; {', '.join(takers)} needs it."
                )
        return {
            part.key: {name: given[name] for name in part.inputs if name in given}
            for part in self.members
        }

    def empty(self) -> dict[str, Any]:
        """The parts' empty data by key."""
        return {part.key: part.empty() for part in self.members}

    def measure(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """The parts' data of one batch."""
        routed = self.route(args, kwargs)
        return {part.key: part.measure(**routed[part.key]) for part in self.members}

    def extend(self, data: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Each part extended by the inputs that it takes."""
        routed = self.route(args, kwargs)
        extended = {}
        for part in self.members:
            with checks.in_part(part):
                extended[part.key] = part.extend(data[part.key], **routed[part.key])
        return extended

    def combine(self, data: Any, other: Any) -> dict[str, Any]:
        """Each part combined."""
        return {p.key: p.combine(data[p.key], other[p.key]) for p in self.members}

    def reduce(self, data: Any, axis_name: AxisName) -> dict[str, Any]:
        """Each part reduced by its own law; XLA makes one collective of them."""
        return {p.key: p.reduce(data[p.key], axis_name) for p in self.members}

    def value(self, data: Any) -> dict[str, Any]:
        """The parts' values by key."""
        return {p.key: p.value(data[p.key]) for p in self.members}

    def assemble(self, by_key: Mapping[str, Any]) -> dict[str, Any]:
        """The parts' data out of a larger dict."""
        return {p.key: by_key[p.key] for p in self.members}

    def is_valid(self, data: Any) -> jax.Array | None:
        """Whether every part is."""
        found = [v for p in self.members if (v := p.is_valid(data[p.key])) is not None]
        return functools.reduce(jnp.logical_and, found) if found else None

    def problems(self, data: Any) -> dict[str, Any]:
        """The parts' `Validity` by key."""
        return {p.key: p.problems(data[p.key]) for p in self.members}


_OPERATIONS: Mapping[str, Callable[[Any, Any], Any]] = MappingProxyType(
    {
        "+": lambda a, b: a + b,
        "-": lambda a, b: a - b,
        "*": lambda a, b: a * b,
        "/": divide,
        "**": lambda a, b: a**b,
    }
)


class Arithmetic(Metric):
    """Two metrics, or a metric and a number, joined by an operation.

    Operands that read the same accumulator read one state. A ratio with a zero
    denominator is 0, as everywhere in the library.
    """

    operation: str
    left: Metric | float
    right: Metric | float

    @property
    def label(self) -> str:
        """The operands' labels around the operation."""
        left, right = (
            x.label if isinstance(x, Metric) else str(x) for x in self._operands
        )
        return f"({left} {self.operation} {right})"

    @property
    def _operands(self) -> tuple[Metric | float, Metric | float]:
        return self.left, self.right

    @property
    def accumulator(self) -> Accumulator:
        """The operands' accumulators, each once."""
        joint = Joint.of([x for x in self._operands if isinstance(x, Metric)])
        return joint.parts[0] if len(joint.parts) == 1 else joint

    def admit(self, inputs: Mapping[str, Any]) -> None:
        """As both operands."""
        for operand in self._operands:
            if isinstance(operand, Metric):
                operand.admit(inputs)

    def read(self, data: Any) -> Any:
        """The operation on the operands' values."""
        parts = by_key(self.accumulator, data)
        values = [
            _as_float(x, x.answer(x.accumulator.assemble(parts)))
            if isinstance(x, Metric)
            else x
            for x in self._operands
        ]
        return _OPERATIONS[self.operation](*values)

    def with_inputs(self, **names: str | None) -> Metric:
        """The same operation on renamed operands."""
        return Arithmetic(
            self.operation, *rename_each(self._operands, names, self.label)
        )


def _as_float(metric: Metric, value: Any) -> jax.Array:
    """An operand's value; integers as floats, because they would wrap."""
    if isinstance(value, dict | tuple):
        raise WrongKind(
            f"{metric.label} has several results; pick one with map before arithmetic."
        )
    return jnp.asarray(value).astype(jnp.result_type(value, float_dtype()))


def rename_each(
    metrics: tuple[Any, ...], names: Mapping[str, str | None], label: str
) -> tuple[Any, ...]:
    """Renames in each metric the inputs that it takes; one must take each name."""
    takes = [m.accumulator.inputs if isinstance(m, Metric) else {} for m in metrics]
    for name in names:
        if not any(name in inputs for inputs in takes):
            error = WrongKind(f"there is no input {name!r} to rename.")
            error.name = label
            raise error
    renamed = []
    for metric, inputs in zip(metrics, takes, strict=True):
        own = {name: source for name, source in names.items() if name in inputs}
        renamed.append(metric.with_inputs(**own) if own else metric)
    return tuple(renamed)


def arithmetic(operation: str, left: Any, right: Any) -> Metric:
    operands = []
    for x in (left, right):
        if isinstance(x, jax.Array) and not isinstance(x, jax.core.Tracer):
            x = np.asarray(x)[()]  # a scalar, if it has no axes
        if isinstance(x, bool | np.bool_) or not isinstance(
            x, Metric | int | float | np.number
        ):
            return NotImplemented  # type: ignore[no-any-return]  # Python tries the other
        operands.append(x if isinstance(x, Metric) else float(x))
    return Arithmetic(operation, *operands)
