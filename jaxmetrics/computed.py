"""Metrics of what a function makes of the batch."""

import inspect
import itertools
import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxmetrics import checks
from jaxmetrics.accumulator import ROLES, Accumulator, Groups, together
from jaxmetrics.checks import Mismatch, WrongKind
from jaxmetrics.metric import Metric
from jaxmetrics.renaming import StandIn
from jaxmetrics.wrapping import Wrapper

__all__ = ["Computed", "FromFunction"]


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
            checks.input_name(parameter.name)
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
        try:
            return list(inspect.signature(self.function).parameters.values())
        except ValueError:
            raise WrongKind(
                f"the inputs of {self.function!r} cannot be told. Write a function "
                "that lists what it takes."
            ) from None

    @property
    def inputs(self) -> Mapping[str, bool]:
        """What the function takes, and weight and mask."""
        own = {p.name: p.default is p.empty for p in self._parameters}
        return {**own, **dict.fromkeys(self._passed, False)}

    @property
    def _passed(self) -> list[str]:
        """Weight and mask, unless the function uses them up."""
        names = (self.input_for(role) for role in ROLES)
        return [name for name in names if name is not None]

    def input_for(self, role: str) -> str | None:
        """The inner accumulator's, unless the function uses it up."""
        name = self.inner.input_for(role)
        own = [p.name for p in self._parameters]
        return None if name in own else name

    @property
    def row_inputs(self) -> tuple[str, ...]:
        """None: the function may take anything."""
        return ()

    def returned(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """What the function returns, by name."""
        own = [p.name for p in self._parameters if p.name in given]
        taken = {name: _as_arrays(given[name], name) for name in own}
        result = _called(self.function, taken)
        if isinstance(result, Mapping):
            return dict(result)
        needed = [name for name, need in self.inner.inputs.items() if need]
        if len(needed) != 1:
            raise WrongKind(
                f"the function must return a dict of the inputs {needed}; got "
                f"{type(result).__name__}."
            )
        return {needed[0]: result}

    def made(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """The inner accumulator's inputs; what others take is left out."""
        return self.completed(self.returned(given), given)

    def completed(
        self, result: Mapping[str, Any], given: Mapping[str, Any]
    ) -> dict[str, Any]:
        """What the function has returned, with the weights and the mask that came."""
        takes = self.inner.inputs
        missing = [name for name, need in takes.items() if need and name not in result]
        if missing:
            raise WrongKind(f"the function must return {missing}, too.")
        passed = {name: given[name] for name in self._passed if name in given}
        own = {name: x for name, x in result.items() if name in takes}
        mask = self.input_for("mask") or ""
        if passed.get(mask) is not None and own.get(mask) is not None:
            own[mask] = together(mask, passed[mask], checks.array(own[mask], mask))
        return {**passed, **own}

    def measure(self, *args: Any, **kwargs: Any) -> Any:
        """The inner accumulator's, of what the function makes."""
        return self.inner.measure(**self.made(self.bound(args, kwargs)))

    def measure_groups(self, group: jax.Array, groups: int, **inputs: Any) -> Groups:
        """The inner accumulator's, of what the function makes."""
        found = self.inner.measure_groups(group, groups, **self.made(inputs))
        return found._replace(rows=None)  # the function may have made a mask

    def extend(self, data: Any, /, *args: Any, **kwargs: Any) -> Any:
        """The inner accumulator's, of what the function makes."""
        return self.inner.extend(data, **self.made(self.bound(args, kwargs)))

    def decayed(self, data: Any, factor: jax.Array) -> Any:
        """The inner accumulator's."""
        return self.inner.decayed(data, factor)


def _as_arrays(value: Any, name: str) -> Any:
    """What came, as arrays that do not wrap or round where others would not."""

    def widened(x: Any) -> Any:
        if not isinstance(x, jax.Array | np.ndarray | np.generic | int | float):
            return x
        result = jnp.asarray(x)
        if result.dtype.itemsize < 4:
            for kind, wide in ((jnp.floating, jnp.float32), (jnp.integer, jnp.int32)):
                if jnp.issubdtype(result.dtype, kind):
                    return result.astype(wide)
        return result

    leaves = jax.tree.leaves(value)
    if isinstance(value, list | tuple) and all(np.ndim(x) == 0 for x in leaves):
        value = jnp.asarray(value)
    for x in leaves:
        checks.require_32_bits(x, name)
    return jax.tree.map(widened, value)


def _called(function: Callable[..., Any], taken: Mapping[str, Any]) -> Any:
    """What the function returns; refuses that rows against a column make a square."""
    shapes = [
        (name, np.shape(leaf))
        for name, value in taken.items()
        for leaf in jax.tree.leaves(value)
    ]
    pairs = (
        (a, b)
        for a, b in itertools.permutations(shapes, 2)
        if a[1] == (*b[1], 1) and math.prod(b[1]) > 1
    )
    found = next(pairs, None)
    if found is None:
        return function(**taken)
    (column, long), (rows, short) = found
    refusal = Mismatch(
        f"{column} {long} and {rows} {short} would be broadcast against each other. "
        f"Give them one shape, as in {column}[..., 0]."
    )
    try:
        with jax.numpy_rank_promotion("raise"):
            return function(**taken)
    except ValueError as error:
        if "rank_promotion" not in str(error):
            raise
        if str(long) in str(error) and str(short) in str(error):
            raise refusal from None
    # Some other arrays, as a matrix and its bias.
    result = function(**taken)
    square = *short[:1], *short
    if any(np.shape(x)[: len(square)] == square for x in jax.tree.leaves(result)):
        raise refusal
    return result


class Computed(StandIn):
    """A metric of what a function makes of the batch; see `Metric.of`."""

    function: Callable[..., Any]

    def around(self, metric: Metric) -> Metric:
        """The other metric of what the function makes."""
        return metric.of(self.function)

    def wrap(self, part: Accumulator) -> FromFunction:
        """It, behind the function."""
        return FromFunction(part, self.function)

    def admit(self, inputs: Mapping[str, Any]) -> None:
        """As the metric, of what the function makes, all of which is to be taken."""
        owner, made = self.metric.accumulator, dict[str, Any]()
        for behind in map(self.wrap, owner.parts):
            if any(need and name not in inputs for name, need in behind.inputs.items()):
                return  # which the accumulator refuses
            result = behind.returned(inputs)
            unknown = [x for x in result if x not in owner.inputs]
            if unknown:
                raise WrongKind(
                    f"the function must return inputs out of {list(owner.inputs)}; "
                    f"got {unknown}, too."
                )
            made |= behind.completed(result, inputs)
        self.metric.admit(made)
