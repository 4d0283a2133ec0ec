"""Metrics made of metrics: functions, arithmetic, and inputs by other names.

The upper half of the contract's room: `Metric.map`, `Metric.with_inputs` and the
operators make these. They know only the contract, so they work on any metric, and
operands that read the same accumulator go on reading one state.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxmetrics import checks
from jaxmetrics.accumulator import Accumulator
from jaxmetrics.checks import WrongKind
from jaxmetrics.metric import Metric, by_key
from jaxmetrics.numerics import divide, float_dtype
from jaxmetrics.wrapping import Joint, Renamed, inner_data, wrapped

__all__ = ["Arithmetic", "Mapped", "Wired"]


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
            takes = self.metric.accumulator.inputs
            for name, _ in self.names:
                if name not in takes:
                    raise WrongKind(
                        f"there is no input {name!r}; the inputs are {list(takes)}."
                    )
            _ = self.accumulator
        return {}

    @property
    def label(self) -> str:
        """The inner metric's."""
        return self.metric.label

    @property
    def accumulator(self) -> Accumulator:
        """The inner metric's, under the new names."""
        return wrapped(self.metric.accumulator, self._renamed)

    def _renamed(self, part: Accumulator) -> Accumulator:
        own = tuple(
            (name, source) for name, source in self.names if name in part.inputs
        )
        return Renamed(part, own) if own else part

    def admit(self, inputs: Mapping[str, Any]) -> None:
        """As the inner metric, of the inputs by its own names."""
        renamed = {
            name: inputs[source]
            for name, source in self.names
            if source is not None and source in inputs
        }
        self.metric.admit(dict(inputs) | renamed)

    def _inner(self, data: Any) -> Any:
        owner = self.metric.accumulator
        return inner_data(owner, self._renamed, data, lambda _, own: own)

    def read(self, data: Any) -> Any:
        """The inner value."""
        return self.metric.read(self._inner(data))

    def answer(self, data: Any) -> Any:
        """The inner answer."""
        return self.metric.answer(self._inner(data))


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
