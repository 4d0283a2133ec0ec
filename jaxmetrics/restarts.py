"""Metrics that emit and start again, inside a scan."""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from jaxmetrics import checks
from jaxmetrics.accumulator import Accumulator, Groups
from jaxmetrics.checks import WrongKind
from jaxmetrics.eager import reading
from jaxmetrics.lockstep import WAIVED, after, in_lockstep
from jaxmetrics.metric import by_key
from jaxmetrics.reduction import AxisName
from jaxmetrics.state import State
from jaxmetrics.wrapping import OfStates, Wrapper

__all__ = ["Every", "Restarted"]


class RestartData(NamedTuple):
    """What `Restarted` keeps."""

    current: Any  # the data since the last restart
    whole: Any  # the data of the last whole period; at first empty
    updates: jax.Array  # int32: how many since the last restart
    periods: jax.Array  # int32: whether there has been a whole one


class Restarted(Wrapper):
    """The data of the last whole period of so many updates, and of the current one.

    Args:
      inner: The accumulator of one period.
      period: How many updates it has.
    """

    laws_waived: ClassVar[Mapping[str, str]] = WAIVED

    period: int

    def checked(self) -> dict[str, Any]:
        """Checks the period."""
        return {"period": checks.integer(self.period, "n", 1)}

    @property
    def goes_by_updates(self) -> bool:
        """Yes."""
        return True

    def empty(self) -> RestartData:
        """No update."""
        zeros = jnp.zeros((), jnp.int32), jnp.zeros((), jnp.int32)
        return RestartData(self.inner.empty(), self.inner.empty(), *zeros)

    def measure(self, *args: Any, **kwargs: Any) -> RestartData:
        """The data of a first update."""
        return self.extend(self.empty(), *args, **kwargs)

    def measure_groups(self, group: jax.Array, groups: int, **inputs: Any) -> Groups:
        """The data of a first update, of each group."""
        found = self.inner.measure_groups(group, groups, **inputs)
        nothing = self.empty()

        def first(latest: Any) -> RestartData:
            return self._stepped(nothing, self.inner.advance(nothing.current, latest))

        return found._replace(data=jax.vmap(first)(found.data))

    def extend(self, data: RestartData, /, *args: Any, **kwargs: Any) -> RestartData:
        """One more update; the last of a period makes it whole and starts the next."""
        inputs = self.bound(args, kwargs)
        return self._stepped(data, self.inner.extend(data.current, **inputs))

    def advance(self, data: RestartData, latest: RestartData) -> RestartData:
        """The same, of the one update of the latest: a whole period, or none."""
        update = self.inner.combine(latest.current, latest.whole)
        return self._stepped(data, self.inner.advance(data.current, update))

    def _stepped(self, data: RestartData, current: Any) -> RestartData:
        updates = after(data.updates, self.period)
        done = updates == 0

        def choose(new: Any, old: Any) -> Any:
            return jax.tree.map(lambda a, b: jnp.where(done, a, b), new, old)

        return RestartData(
            choose(self.inner.empty(), current),
            choose(current, data.whole),
            updates,
            jnp.maximum(data.periods, done.astype(jnp.int32)),
        )

    def combine(self, data: RestartData, other: RestartData) -> RestartData:
        """Period by period."""
        return RestartData(
            self.inner.combine(data.current, other.current),
            self.inner.combine(data.whole, other.whole),
            jnp.maximum(data.updates, other.updates),
            jnp.maximum(data.periods, other.periods),
        )

    def reduce(self, data: RestartData, axis_name: AxisName) -> RestartData:
        """Period by period."""
        return RestartData(
            self.inner.reduce(data.current, axis_name),
            self.inner.reduce(data.whole, axis_name),
            in_lockstep(data.updates, axis_name),
            in_lockstep(data.periods, axis_name),
        )

    def seen(self, data: RestartData) -> Any:
        """The inner data of the last whole period."""
        return data.whole


class Every(OfStates):
    """A metric of n updates at a time, which then starts again: inside a scan.

    `compute` gives the metric of the last whole period of n updates, until the next is
    whole; before the first, NaN. `is_new` tells on which steps it has changed, so that
    a scan can emit one value a step and the reader keeps those that are new. No Python
    branch: the state is what a scan carries.

    Over devices, `all_reduce` merges what they saw at the same steps: they must have
    made equally many updates.

    Args:
      metric: What is computed.
      n: How many updates a period has.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> import jaxmetrics as jm
      >>> loss = jm.Every(jm.Mean(), n=2)
      >>> def step(state, value):
      ...     state = loss.update(state, values=value)
      ...     return state, (loss.is_new(state), loss.compute(state))
      >>> new, mean = jax.lax.scan(step, loss.init(), jnp.arange(5.0))[1]
      >>> print(mean[new])
      [0.5 2.5]
    """

    n: int

    def checked(self) -> dict[str, Any]:
        """Checks the number."""
        return {**super().checked(), "n": checks.integer(self.n, "n", 1)}

    def wrap(self, part: Accumulator) -> Accumulator:
        """Its data, starting again."""
        return Restarted(part, self.n)

    def each(self, data: Any, read: Callable[[State], Any]) -> Any:
        """What is read of the state of the last whole period."""
        whole = self.inner(data, lambda _, own: own.whole)
        value = read(State(whole, self.metric.accumulator))
        return _nan_unless(self._first(data).periods > 0, value)

    @reading
    def is_new(self, state: State) -> jax.Array:
        """Whether the last update has made a period whole; boolean."""
        own = self._first(state.data)
        fresh: jax.Array = (own.updates == 0) & (own.periods > 0)
        return fresh

    def _first(self, data: Any) -> RestartData:
        first = self.wrap(self.metric.accumulator.parts[0])
        own: RestartData = by_key(self.accumulator, data)[first.key]
        return own


def _nan_unless(some: jax.Array, value: Any) -> Any:
    def one(x: jax.Array) -> jax.Array:
        if not jnp.issubdtype(x.dtype, jnp.floating):
            raise WrongKind(
                f"before the first period there is no value, and {x.dtype} has no NaN; "
                "give the metric a float dtype."
            )
        return jnp.where(some, x, jnp.asarray(jnp.nan, x.dtype))

    return jax.tree.map(one, value)
