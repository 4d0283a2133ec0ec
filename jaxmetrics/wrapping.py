"""Accumulators made of accumulators: around one, under other names, side by side."""

import abc
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jaxmetrics import checks
from jaxmetrics.accumulator import Accumulator, Groups
from jaxmetrics.checks import Mismatch, WrongKind
from jaxmetrics.eager import reading
from jaxmetrics.metric import Metric, by_key
from jaxmetrics.numerics import add_counts
from jaxmetrics.reduction import AxisName
from jaxmetrics.state import State

__all__ = [
    "Around",
    "Joint",
    "OfStates",
    "Renamed",
    "Through",
    "Wrapper",
    "inner_data",
    "wrapped",
]

Wrap = Callable[[Accumulator], Accumulator]


class Wrapper(Accumulator):
    """Base of accumulators around another one, which they are unless they say so."""

    inner: Accumulator

    @property
    def inputs(self) -> Mapping[str, bool]:
        """The inner accumulator's."""
        return self.inner.inputs

    @property
    def keeps_rows(self) -> bool:
        """As the inner accumulator."""
        return self.inner.keeps_rows

    @property
    def goes_by_updates(self) -> bool:
        """As the inner accumulator."""
        return self.inner.goes_by_updates

    def input_for(self, role: str) -> str | None:
        """The inner accumulator's."""
        return self.inner.input_for(role)

    @property
    def row_inputs(self) -> tuple[str, ...]:
        """The inner accumulator's."""
        return self.inner.row_inputs

    def bound(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """The inputs of a call by name; refuses unknown ones and what is missing."""
        takes = self.inputs
        positional = dict(zip(takes, args, strict=False))
        given = positional | dict(kwargs)
        unknown = [name for name in given if name not in takes]
        missing = [name for name, need in takes.items() if need and name not in given]
        twice = [name for name in positional if name in kwargs]
        if unknown or missing or twice or len(args) > len(takes):
            raise WrongKind(
                f"update takes {list(takes)}; missing {missing}, unknown {unknown}, "
                f"given twice {twice}, {len(args)} by position."
            )
        return given

    def check_call(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """Refuses a call that the inputs do not fit."""
        self.bound(args, kwargs)

    def empty(self) -> Any:
        """The inner accumulator's."""
        return self.inner.empty()

    def advance(self, data: Any, latest: Any) -> Any:
        """The inner accumulator's."""
        return self.inner.advance(data, latest)

    def combine(self, data: Any, other: Any) -> Any:
        """The inner accumulator's."""
        return self.inner.combine(data, other)

    def reduce(self, data: Any, axis_name: AxisName) -> Any:
        """The inner accumulator's."""
        return self.inner.reduce(data, axis_name)

    def seen(self, data: Any) -> Any:
        """The inner data that is read."""
        return data

    def value(self, data: Any) -> Any:
        """The inner accumulator's."""
        return self.inner.value(self.seen(data))

    def is_valid(self, data: Any) -> jax.Array | None:
        """Whether the inner data is."""
        return self.inner.is_valid(self.seen(data))

    def flags(self, data: Any) -> jax.Array | None:
        """The inner accumulator's."""
        return self.inner.flags(self.seen(data))


class Renamed(Wrapper):
    """An accumulator whose inputs go by other names."""

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
            checks.input_name(source or "")
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

    def input_for(self, role: str) -> str | None:
        """The inner accumulator's, by the name it is passed by."""
        name = self.inner.input_for(role)
        return None if name is None else dict(self.names).get(name, name)

    @property
    def row_inputs(self) -> tuple[str, ...]:
        """The inner accumulator's, by the names they are passed by."""
        names: Any = dict(self.names)  # what is required has one
        return tuple(names.get(name, name) for name in self.inner.row_inputs)

    def _to_inner(self, given: Mapping[str, Any]) -> dict[str, Any]:
        names = dict(self.names)
        sources = {name: names.get(name, name) for name in self.inner.inputs}
        return {
            name: given[source]
            for name, source in sources.items()
            if source is not None and source in given
        }

    def measure(self, *args: Any, **kwargs: Any) -> Any:
        """The inner accumulator's, of the renamed inputs."""
        return self.inner.measure(**self._to_inner(self.bound(args, kwargs)))

    def measure_groups(self, group: jax.Array, groups: int, **inputs: Any) -> Groups:
        """The inner accumulator's, of the renamed inputs."""
        return self.inner.measure_groups(group, groups, **self._to_inner(inputs))

    def extend(self, data: Any, /, *args: Any, **kwargs: Any) -> Any:
        """The inner accumulator's, of the renamed inputs."""
        return self.inner.extend(data, **self._to_inner(self.bound(args, kwargs)))

    def decayed(self, data: Any, factor: jax.Array) -> Any:
        """The inner accumulator's."""
        return self.inner.decayed(data, factor)

    @property
    def can_resample(self) -> bool:
        """As the inner accumulator."""
        return self.inner.can_resample

    def resampled(self, data: Any, key: jax.Array) -> Any:
        """The inner accumulator's."""
        return self.inner.resampled(data, key)


class Joint(Accumulator):
    """Several accumulators fed side by side; its data is a dict by their keys."""

    members: tuple[Accumulator, ...]

    @classmethod
    def made_of(cls, metrics: list[Metric]) -> "Joint":
        """The distinct accumulators of the metrics; a single one stays as it is."""
        parts = {part.key: part for m in metrics for part in m.accumulator.parts}
        for m in metrics:
            for part in m.accumulator.parts:
                if parts[part.key] != part:
                    raise Mismatch(
                        f"{part!r} and {parts[part.key]!r} have the same key in "
                        "states; name what differs, such as functions, with def."
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

    def input_for(self, role: str) -> str | None:
        """The parts', if they go by one name."""
        names = {part.input_for(role) for part in self.members}
        return names.pop() if len(names) == 1 else None

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
        positional = dict(zip(first, args, strict=False))
        twice = [name for name in positional if name in kwargs]
        if twice:
            raise WrongKind(f"update was given {twice} by position and by name.")
        given = positional | dict(kwargs)
        for name in given:
            if name not in self.inputs:
                raise WrongKind(
                    f"nothing takes the input {name!r}; "
                    f"the inputs are {list(self.inputs)}. "
                    "Drop it, or route it with with_inputs(...)."
                )
        for name, need in self.inputs.items():
            if need and name not in given:
                taker = next(p for p in self.members if p.inputs.get(name))
                with checks.in_part(taker):
                    raise WrongKind(
                        f"the input {name!r} is missing; the inputs are "
                        f"{list(self.inputs)}."
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

    def extend(self, data: Any, /, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Each part extended by the inputs that it takes."""
        routed = self.route(args, kwargs)
        extended = {}
        for part in self.members:
            with checks.in_part(part):
                extended[part.key] = part.extend(data[part.key], **routed[part.key])
        return extended

    def advance(self, data: Any, latest: Any) -> dict[str, Any]:
        """Each part advanced."""
        return {p.key: p.advance(data[p.key], latest[p.key]) for p in self.members}

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

    def flags(self, data: Any) -> jax.Array | None:
        """Those of all parts together."""
        found = [f for p in self.members if (f := p.flags(data[p.key])) is not None]
        return functools.reduce(add_counts, found) if found else None

    def problems(self, data: Any) -> dict[str, Any]:
        """The parts' `Validity` by key."""
        return {p.key: p.problems(data[p.key]) for p in self.members}


def wrapped(inner: Accumulator, wrap: Wrap) -> Accumulator:
    """The accumulator wrapped, each of its parts by itself.

    So wrapped metrics share states where the plain ones do.
    """
    if inner.parts == (inner,):
        return wrap(inner)
    return Joint.made_of([wrap(part) for part in inner.parts])


def inner_data(
    inner: Accumulator,
    wrap: Wrap,
    data: Mapping[str, Any],
    take: Callable[[Accumulator, Any], Any],
) -> Any:
    """The data of the inner accumulator, taken out of that of the wrapped one.

    Args:
      inner: What was wrapped.
      wrap: How.
      data: Of the wrapped parts by key, and perhaps of more.
      take: Maps a part and its wrapped data to the part's own data.
    """
    return inner.assemble({p.key: take(p, data[wrap(p).key]) for p in inner.parts})


class Through(Metric):
    """Base of metrics that read the state of another one, and take what it takes."""

    metric: Metric

    def checked(self) -> dict[str, Any]:
        """Checks that there is a metric."""
        if not isinstance(self.metric, Metric):
            raise WrongKind(f"metric must be a metric; got {self.metric!r}.")
        return {}

    @property
    def label(self) -> str:
        """The metric's."""
        return self.metric.label

    @property
    def accumulator(self) -> Accumulator:
        """The metric's."""
        return self.metric.accumulator

    @property
    def gives_intervals(self) -> bool:
        """As the metric."""
        return self.metric.gives_intervals

    @property
    def refused(self) -> frozenset[str]:
        """As the metric."""
        return self.metric.refused

    def admit(self, inputs: Mapping[str, Any]) -> None:
        """As the metric."""
        self.metric.admit(inputs)


class Around(Through):
    """Base of metrics around another one, each of whose accumulators it wraps.

    A subclass says how to `wrap` an accumulator, and reads the metric's answer from the
    data that `inner_data` takes out.
    """

    @abc.abstractmethod
    def wrap(self, part: Accumulator) -> Accumulator:
        """What keeps the state of one of the metric's accumulators."""

    @property
    def label(self) -> str:
        """The class around the metric's label."""
        return f"{type(self).__name__}({self.metric.label})"

    @property
    def accumulator(self) -> Accumulator:
        """The metric's, each part wrapped."""
        return wrapped(self.metric.accumulator, self.wrap)

    def inner(self, data: Any, take: Callable[[Accumulator, Any], Any]) -> Any:
        """The metric's data: of each accumulator what `take` finds in its wrapper."""
        by_part = by_key(self.accumulator, data)
        return inner_data(self.metric.accumulator, self.wrap, by_part, take)


class OfStates(Around):
    """Base of metrics that are another one of a state, or of several, inside theirs."""

    @abc.abstractmethod
    def each(self, data: Any, read: Callable[[State], Any]) -> Any:
        """What is read of the metric's state, or of each of several."""

    def read(self, data: Any) -> Any:
        """The metric's answers."""
        return self.each(data, lambda own: self.metric.answer(own.data))

    def answer(self, data: Any) -> Any:
        """As `read`: states answer for their own bad rows."""
        return self.read(data)

    @reading
    def interval(self, state: State, confidence: float = 0.95) -> Any:
        """The metric's `interval`, of each.

        Args:
          state: What `update` returned.
          confidence: How often each should hold the truth.
        """
        metric: Any = self.metric  # which may have none, and says so
        return self.each(state.data, lambda own: metric.interval(own, confidence))

    @reading
    def error_bound(self, state: State) -> Any:
        """The metric's `error_bound`, of each."""
        metric: Any = self.metric
        return self.each(state.data, metric.error_bound)
