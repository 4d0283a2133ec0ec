"""Metrics made of metrics: functions of one or several, and arithmetic.

`Metric.map`, the operators and the functions below make these. They know only the
contract, so they work on any metric, and operands that read the same accumulator go on
reading one state.
"""

import abc
import functools
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
from jaxmetrics.renaming import rename_each
from jaxmetrics.wrapping import Joint, Through

__all__ = ["Arithmetic", "Mapped", "apply", "harmonic_mean", "where"]


class Mapped(Through):
    """A function of another metric's value."""

    function: Callable[..., Any]

    def checked(self) -> dict[str, Any]:
        """Checks that the function is one."""
        if not callable(self.function):
            raise WrongKind(f"map takes a function; got {self.function!r}.")
        return super().checked()

    @property
    def entrance(self) -> Metric:
        """The metric's."""
        return self.metric.entrance

    @property
    def gives_intervals(self) -> bool:
        """No: whatever the function makes is taken for numbers."""
        return False

    def read(self, data: Any) -> Any:
        """The function of the inner value."""
        return self.function(self.metric.answered(data))

    def answered(self, data: Any) -> Any:
        """The function of what is computed."""
        return self.answer(data)

    def with_inputs(self, **names: str | None) -> "Mapped":
        """The same function of the renamed metric."""
        return Mapped(self.metric.with_inputs(**names), self.function)


def _quotient(a: Any, b: Any, zero_division: float = 0.0) -> jax.Array:
    """As `divide`, and by infinity 0: what a metric computes says if it overflowed."""
    infinite = jnp.isinf(b)
    finite = jnp.where(infinite, jnp.ones_like(b), b)
    by_infinity = a / jnp.where(infinite, b, jnp.ones_like(b))
    return jnp.where(infinite, by_infinity, divide(a, finite, zero_division))


_OPERATIONS: Mapping[str, Callable[[Any, Any], Any]] = MappingProxyType(
    {
        "+": lambda a, b: a + b,
        "-": lambda a, b: a - b,
        "*": lambda a, b: a * b,
        "/": _quotient,
        "**": lambda a, b: a**b,
        "<": lambda a, b: a < b,
        "<=": lambda a, b: a <= b,
        ">": lambda a, b: a > b,
        ">=": lambda a, b: a >= b,
    }
)


class OfSeveral(Metric):
    """Base of functions of several metrics and numbers.

    Operands that read the same accumulator read one state.
    """

    @property
    @abc.abstractmethod
    def operands(self) -> tuple[Metric | float, ...]:
        """The metrics and numbers, in order."""

    @abc.abstractmethod
    def of_values(self, *values: Any) -> Any:
        """The function of the operands' values."""

    @property
    def _metrics(self) -> list[Metric]:
        return [x for x in self.operands if isinstance(x, Metric)]

    @property
    def accumulator(self) -> Accumulator:
        """The operands' accumulators, each once."""
        joint = Joint.made_of(self._metrics)
        return joint.parts[0] if len(joint.parts) == 1 else joint

    @property
    def refused(self) -> frozenset[str]:
        """What any operand refuses."""
        return frozenset().union(*(metric.refused for metric in self._metrics))

    def admit(self, inputs: Mapping[str, Any]) -> None:
        """As all operands."""
        for metric in self._metrics:
            metric.admit(inputs)

    def read(self, data: Any) -> Any:
        """The function of the operands' values."""
        parts = by_key(self.accumulator, data)
        values = [
            _single(x, x.answered(x.accumulator.assemble(parts)))
            if isinstance(x, Metric)
            else x
            for x in self.operands
        ]
        return self.of_values(*values)

    def answered(self, data: Any) -> Any:
        """The function of what is computed."""
        return self.answer(data)


class Arithmetic(OfSeveral):
    """Two metrics, or a metric and a number, joined by an operation.

    By 0 a ratio is 0, as everywhere in the library, and by an infinite value as IEEE
    754 has it. Booleans count as 0 and 1. Integers compare as integers; to the other
    operations, in which they would wrap, they are floats. A comparison is boolean, and
    says nothing once bad values have come.
    """

    operation: str
    left: Metric | float
    right: Metric | float

    @property
    def label(self) -> str:
        """The operands' labels around the operation."""
        left, right = (
            x.label if isinstance(x, Metric) else str(x) for x in self.operands
        )
        return f"({left} {self.operation} {right})"

    @property
    def operands(self) -> tuple[Metric | float, ...]:
        """The left and the right."""
        return self.left, self.right

    def of_values(self, *values: Any) -> Any:
        """The operation."""
        integers = _as_integers(*values) if self.operation[0] in "<>" else None
        return _OPERATIONS[self.operation](*integers or map(_as_float, values))

    def __bool__(self) -> bool:
        """Refuses to be a condition, which it is only once there is a state."""
        if self.operation[0] in "<>":
            raise WrongKind(
                f"{self.label} is a metric: it is true or false of a state. Compute "
                "it, or choose with jm.where."
            )
        return True

    def with_inputs(self, **names: str | None) -> "Arithmetic":
        """The same operation on renamed operands."""
        return Arithmetic(
            self.operation, *rename_each(self.operands, names, self.label)
        )


class Applied(OfSeveral):
    """A function of several metrics' values; see `apply`."""

    function: Callable[..., Any]
    metrics: tuple[Metric | float, ...]

    def checked(self) -> dict[str, Any]:
        """Checks the function and the metrics."""
        if not callable(self.function):
            raise WrongKind(f"a function comes first; got {self.function!r}.")
        for x in self.metrics:
            if not isinstance(x, Metric | float):
                raise WrongKind(f"metrics and numbers are taken; got {x!r}.")
        if not self._metrics:
            raise WrongKind("at least one metric is needed; got numbers alone.")
        return {}

    @property
    def label(self) -> str:
        """The function's name with the operands' labels."""
        name = getattr(self.function, "__name__", "apply").lstrip("_")
        shown = [x.label if isinstance(x, Metric) else str(x) for x in self.metrics]
        return f"{name}({', '.join(shown)})"

    @property
    def operands(self) -> tuple[Metric | float, ...]:
        """The metrics and numbers."""
        return self.metrics

    def of_values(self, *values: Any) -> Any:
        """The function; booleans stay what they are."""
        conditions = [jnp.result_type(x) == jnp.bool_ for x in values]
        pairs = zip(values, conditions, strict=True)
        return self.function(*(x if kept else _as_float(x) for x, kept in pairs))

    def with_inputs(self, **names: str | None) -> "Applied":
        """The same function of renamed metrics."""
        return Applied(self.function, rename_each(self.metrics, names, self.label))


def apply(function: Callable[..., Any], *metrics: Metric | float) -> Metric:
    """A metric whose value is a function of the values of others.

    Metrics that read the same accumulator go on reading one state.

    Args:
      function: Pure and jittable; takes as many arrays as there are metrics. A named
        function keeps the metric equal when it is rebuilt.
      *metrics: Metrics of one result each, or numbers.

    Example:
      >>> import jax.numpy as jnp
      >>> import jaxmetrics as jm
      >>> lower = jm.apply(jnp.minimum, jm.Precision(), jm.Recall())
      >>> print(lower(y_true=[1, 1, 0], y_pred=[0.9, 0.2, 0.1]))
      0.5
    """
    with checks.naming("apply"):
        return Applied(function, tuple(map(_operand, metrics)))


def harmonic_mean(*metrics: Metric | float) -> Metric:
    """The harmonic mean of metrics: `n / (1/x_1 + ... + 1/x_n)`; 0 if one is 0.

    Of precision and recall it is F1; of a recall and a specificity it punishes the
    smaller. Metrics that read the same accumulator go on reading one state.

    Args:
      *metrics: Metrics of one result each, from 0 up.

    Example:
      >>> import jaxmetrics as jm
      >>> f1 = jm.harmonic_mean(jm.Precision(), jm.Recall())
      >>> print(f1(y_true=[1, 1, 0, 1], y_pred=[0.9, 0.7, 0.8, 0.1]))
      0.6666667
    """
    with checks.naming("harmonic_mean"):
        return Applied(_harmonic_mean, tuple(map(_operand, metrics)))


def _harmonic_mean(*values: Any) -> jax.Array:
    inverses = [_quotient(1.0, x, jnp.inf) for x in values]
    total = functools.reduce(jnp.add, inverses)
    some = jnp.isinf(total)  # a value of 0
    finite = jnp.where(some, jnp.ones_like(total), total)
    mean = divide(float(len(values)), finite, jnp.inf)  # all values are infinite
    return jnp.where(some, jnp.zeros_like(mean), mean)


def where(condition: Metric, metric: Metric | float, other: Metric | float) -> Metric:
    """One metric where a condition holds, and another elsewhere.

    NaN where any of the three has seen bad values.

    Args:
      condition: A metric with a boolean value, such as `jm.Recall() > 0.5`.
      metric: The value where it holds: a metric of one result, or a number.
      other: The value where it does not.

    Example:
      >>> import jaxmetrics as jm
      >>> guarded = jm.where(jm.Recall() >= 0.5, jm.Precision(), 0.0)
      >>> print(guarded(y_true=[1, 1, 0], y_pred=[0.9, 0.2, 0.1]))
      1.0
    """
    with checks.naming("where"):
        return Applied(_where, tuple(map(_operand, (condition, metric, other))))


def _where(condition: Any, value: Any, other: Any) -> jax.Array:
    kept: jax.Array = jnp.asarray(condition)
    if kept.dtype != jnp.bool_:
        raise WrongKind(
            f"the condition must be boolean; got {kept.dtype}. Compare the metric, as "
            "in metric > 0.5."
        )
    yes, no = (jnp.asarray(x, float_dtype()) for x in (value, other))
    return jnp.where(kept, yes, no)


def _operand(x: Any) -> Any:
    """A metric as it is, a number as a float."""
    number = isinstance(x, int | float | np.number) and not isinstance(x, bool)
    return float(x) if number else x


def _single(metric: Metric, value: Any) -> jax.Array:
    """An operand's value."""
    if isinstance(value, dict | tuple):
        raise WrongKind(
            f"{metric.label} has several results; pick one with map before arithmetic."
        )
    return jnp.asarray(value)


def _as_float(x: Any) -> Any:
    """A number as it is; an array in the default float dtype, the widest that is."""
    return x if isinstance(x, float) else x.astype(float_dtype())


def _as_integers(a: Any, b: Any) -> list[jax.Array] | None:
    """Both as integers of one dtype, if they are integers and there is one."""
    dtypes = [x.dtype for x in (a, b) if not isinstance(x, float)]
    if any(dtype.kind not in "iu" for dtype in dtypes):
        return None
    dtype = np.result_type(*dtypes)  # signed and unsigned ones need a wider one
    ends = np.iinfo(dtype)
    numbers = [x for x in (a, b) if isinstance(x, float)]
    whole = all(x.is_integer() and ends.min <= x <= ends.max for x in numbers)
    if not whole or dtype != jax.dtypes.canonicalize_dtype(dtype):
        return None
    a, b = (int(x) if isinstance(x, float) else x for x in (a, b))
    return [jnp.asarray(a, dtype), jnp.asarray(b, dtype)]


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
