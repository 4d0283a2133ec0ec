"""Metrics under another name, or with inputs by other names.

`Metric.named` and `Metric.with_inputs` make these. What they stand for is the same
metric, and they have all that it has: `jm.AUROC().with_inputs(y_pred="score")` has an
`error_bound`, and so has a metric of one's own whatever it reads out.
"""

import abc
import functools
import inspect
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from jaxmetrics import checks
from jaxmetrics.accumulator import Accumulator
from jaxmetrics.checks import WrongKind
from jaxmetrics.metric import Metric
from jaxmetrics.state import State
from jaxmetrics.wrapping import Around, Renamed

__all__ = ["Named", "StandIn", "Wired", "rename_each"]


class StandIn(Around):
    """Base of metrics that stand for another one, to which rows only come otherwise.

    They have its value, its label and its other read-outs: a method that takes a state
    takes theirs, and a metric that one returns, such as `Sliced.gap`, is stood for in
    the same way.
    """

    @abc.abstractmethod
    def around(self, metric: Metric) -> Metric:
        """What stands for another metric as this one does for its own."""

    @property
    def label(self) -> str:
        """The metric's."""
        return self.metric.label

    def own(self, data: Any) -> Any:
        """The metric's data."""
        return self.inner(data, lambda _, own: own)

    def read(self, data: Any) -> Any:
        """The metric's value."""
        return self.metric.read(self.own(data))

    def answer(self, data: Any) -> Any:
        """The metric's answer."""
        return self.metric.answer(self.own(data))

    def answered(self, data: Any) -> Any:
        """The metric's."""
        return self.metric.answered(self.own(data))

    if not TYPE_CHECKING:  # as in `Metric`

        def __getattr__(self, name: str) -> Any:
            """What the metric has of that name."""
            if name.startswith("_") or hasattr(type(self), name):
                return super().__getattr__(name)
            found = getattr(self.metric, name)
            if isinstance(found, Metric):
                return self.around(found)
            bound = inspect.ismethod(found) or inspect.isfunction(found)
            return self._translated(found) if bound else found

    def _translated(self, method: Any) -> Any:
        """A method of the metric that takes states of this one."""

        def to_own(x: Any) -> Any:
            if not isinstance(x, State):
                return x
            with checks.naming(self.label):
                self.check_state(x)
            return State(self.own(x.data), self.metric.accumulator)

        @functools.wraps(method)
        def translated(*args: Any, **kwargs: Any) -> Any:
            named = {name: to_own(x) for name, x in kwargs.items()}
            found = method(*map(to_own, args), **named)
            return self.around(found) if isinstance(found, Metric) else found

        return translated


class Named(StandIn):
    """A metric under another name."""

    name: Any

    def checked(self) -> dict[str, Any]:
        """Checks the name."""
        if not isinstance(self.name, str) or not self.name:
            raise WrongKind(f"a name must be a string; got {self.name!r}.")
        return super().checked()

    @property
    def label(self) -> str:
        """The name."""
        return str(self.name)

    def around(self, metric: Metric) -> Metric:
        """The other metric under this name."""
        return metric.named(self.name)

    def wrap(self, part: Accumulator) -> Accumulator:
        """It."""
        return part

    def with_inputs(self, **names: str | None) -> "Named":
        """The renamed metric, under this name."""
        return Named(self.metric.with_inputs(**names), self.name)


class Wired(StandIn):
    """A metric whose inputs go by other names."""

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

    def around(self, metric: Metric) -> Metric:
        """The other metric with its inputs by the same names."""
        return metric.with_inputs(**dict(self.names))

    def wrap(self, part: Accumulator) -> Accumulator:
        """It, by the new names of what it takes."""
        own = tuple(
            (name, source) for name, source in self.names if name in part.inputs
        )
        return Renamed(part, own) if own else part

    @property
    def refused(self) -> frozenset[str]:
        """As the metric, of the inputs by the new names."""
        names = dict(self.names)
        found = (names.get(name, name) for name in self.metric.refused)
        return frozenset(name for name in found if name is not None)

    def admit(self, inputs: Mapping[str, Any]) -> None:
        """As the metric, of the inputs by its own names."""
        renamed = {
            name: inputs[source]
            for name, source in self.names
            if source is not None and source in inputs
        }
        self.metric.admit(dict(inputs) | renamed)


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
