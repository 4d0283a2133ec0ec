"""Metrics of recent updates: of a window of them, or with older ones weighing less."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxmetrics import checks
from jaxmetrics.accumulator import Accumulator, Groups
from jaxmetrics.checks import Mismatch, WrongKind
from jaxmetrics.lockstep import WAIVED, WAIVED_BUT_NAN, after, in_lockstep
from jaxmetrics.reduction import AxisName
from jaxmetrics.stacks import at, folded, put, reduced, repeated
from jaxmetrics.state import State
from jaxmetrics.wrapping import OfStates, Wrapper

__all__ = ["Decayed", "ExponentialMovingAverage", "LatestUpdates", "Windowed"]


# --- windows -------------------------------------------------------------------------


class WindowData(NamedTuple):
    """What `LatestUpdates` keeps."""

    updates: Any  # the data of each update, in a ring; a leading axis of its size
    place: jax.Array  # int32: where the next update goes


class LatestUpdates(Wrapper):
    """The data of each of the latest updates, in a ring.

    Args:
      inner: The accumulator of one update.
      size: How many updates are kept.
    """

    laws_waived: ClassVar[Mapping[str, str]] = WAIVED

    size: int

    def checked(self) -> dict[str, Any]:
        """Checks the size, and that updates can be measured one by one."""
        if self.inner.goes_by_updates:
            raise WrongKind(
                f"{self.inner!r} goes by updates, and to a window each is the first; "
                "put the window inside, or both in a Collection."
            )
        return {"size": checks.integer(self.size, "updates", 1)}

    @property
    def goes_by_updates(self) -> bool:
        """Yes."""
        return True

    def empty(self) -> WindowData:
        """No update."""
        return WindowData(
            repeated(self.inner.empty(), self.size), jnp.zeros((), jnp.int32)
        )

    def measure(self, *args: Any, **kwargs: Any) -> WindowData:
        """The data of a first update."""
        return self.extend(self.empty(), *args, **kwargs)

    def measure_groups(self, group: jax.Array, groups: int, **inputs: Any) -> Groups:
        """The data of a first update, of each group."""
        found = self.inner.measure_groups(group, groups, **inputs)
        first = jax.vmap(partial(self._put, self.empty()))
        return found._replace(data=first(found.data))

    def extend(self, data: WindowData, /, *args: Any, **kwargs: Any) -> WindowData:
        """The update takes the place of the oldest."""
        return self._put(data, self.inner.measure(**self.bound(args, kwargs)))

    def advance(self, data: WindowData, latest: WindowData) -> WindowData:
        """The one update of the latest takes the place of the oldest."""
        return self._put(data, at(latest.updates, 0))

    def _put(self, data: WindowData, latest: Any) -> WindowData:
        updates = put(data.updates, latest, data.place)
        return WindowData(updates, after(data.place, self.size))

    def combine(self, data: WindowData, other: WindowData) -> WindowData:
        """Update by update."""
        updates = jax.vmap(self.inner.combine)(data.updates, other.updates)
        return WindowData(updates, jnp.maximum(data.place, other.place))

    def reduce(self, data: WindowData, axis_name: AxisName) -> WindowData:
        """Update by update."""
        updates = reduced(self.inner, data.updates, axis_name)
        return WindowData(updates, in_lockstep(data.place, axis_name))

    def seen(self, data: WindowData) -> Any:
        """The inner data of the updates in the window."""
        return folded(self.inner.combine, data.updates)


class Windowed(OfStates):
    """A metric of the latest updates alone.

    `update` keeps the data of each batch in a ring, in the place of the oldest, and
    `compute` merges what is in the ring: as many times the metric's state. A batch with
    bad values makes the result NaN until it has left the window.

    Over devices, `all_reduce` merges what they saw at the same steps: they must have
    made equally many updates.

    Args:
      metric: What is computed.
      updates: How many updates the window holds.

    Example:
      >>> import jaxmetrics as jm
      >>> loss = jm.Windowed(jm.Mean(), updates=2)
      >>> state = loss.init()
      >>> for value in [9.0, 1.0, 2.0]:
      ...     state = loss.update(state, values=[value])
      >>> print(loss.compute(state))
      1.5
    """

    updates: int

    def checked(self) -> dict[str, Any]:
        """Checks the number."""
        number = checks.integer(self.updates, "updates", 1)
        return {**super().checked(), "updates": number}

    def wrap(self, part: Accumulator) -> Accumulator:
        """A ring of its data."""
        return LatestUpdates(part, self.updates)

    def each(self, data: Any, read: Callable[[State], Any]) -> Any:
        """What is read of the state of what is in the window."""
        window = self.inner(data, lambda part, own: folded(part.combine, own.updates))
        return read(State(window, self.metric.accumulator))


# --- decay ---------------------------------------------------------------------------


class Decayed(Wrapper):
    """The data of another accumulator, in which older updates weigh less.

    Args:
      inner: The accumulator, of weighted sums.
      half_life: After how many updates a row weighs half.
    """

    laws_waived: ClassVar[Mapping[str, str]] = WAIVED_BUT_NAN

    half_life: float

    @property
    def goes_by_updates(self) -> bool:
        """Yes."""
        return True

    def checked(self) -> dict[str, Any]:
        """Checks that the past can weigh less."""
        half_life = checks.number(self.half_life, "half_life")
        if not 0 < half_life < np.inf:
            raise Mismatch(
                f"half_life must be a positive number of updates; got {half_life}."
            )
        half = jax.ShapeDtypeStruct((2,), jnp.float32)
        jax.eval_shape(self.inner.decayed, jax.eval_shape(self.inner.empty), half)
        return {"half_life": half_life}

    def measure(self, *args: Any, **kwargs: Any) -> Any:
        """The inner accumulator's: the latest update weighs what it weighs."""
        return self.inner.measure(**self.bound(args, kwargs))

    def measure_groups(self, group: jax.Array, groups: int, **inputs: Any) -> Groups:
        """The inner accumulator's."""
        return self.inner.measure_groups(group, groups, **inputs)

    def advance(self, data: Any, latest: Any) -> Any:
        """The past weighs less by one update."""
        exact = 2.0 ** (-1 / self.half_life)
        high = np.float32(exact)  # of many updates its rounding would add up
        factor = jnp.stack([high, np.float32(exact - np.float64(high))])
        return self.inner.combine(self.inner.decayed(data, factor), latest)


class ExponentialMovingAverage(OfStates):
    """A metric of all updates, of which older ones weigh less.

    At each update every earlier row weighs `2^(-1 / half_life)` of what it did before.
    So a mean is the moving average, weighted by rows and without a bias at the start,
    and precision, AUC and their like are those of the weighted rows. Bad values make it
    NaN for good; `Windowed` recovers.

    It is exact where a state is made of weighted sums: of counts, means and score
    histograms. What keeps rows or extremes is refused.

    Over devices, `all_reduce` adds what they saw at the same steps: they must have made
    equally many updates.

    Args:
      metric: What is computed.
      half_life: After how many updates a row weighs half.

    Raises:
      TypeError: Where the metric's state is no weighted sum.

    Example:
      >>> import jaxmetrics as jm
      >>> loss = jm.ExponentialMovingAverage(jm.Mean(), half_life=1)
      >>> state = loss.update(loss.init(), values=[6.0])
      >>> print(loss.compute(loss.update(state, values=[3.0])))  # (3 + 6 / 2) / 1.5
      4.0
    """

    half_life: float

    def checked(self) -> dict[str, Any]:
        """Checks that rows may weigh less; the half-life as the accumulator does."""
        plain = super().checked()
        if self.metric.refused:
            raise WrongKind(
                f"{self.metric.label} takes no weights, so that its past cannot weigh "
                "less; take Windowed instead."
            )
        return {**plain, "half_life": checks.number(self.half_life, "half_life")}

    def wrap(self, part: Accumulator) -> Accumulator:
        """Its data, decaying."""
        return Decayed(part, self.half_life)

    def each(self, data: Any, read: Callable[[State], Any]) -> Any:
        """What is read of the state of the rows as they weigh now."""
        now = self.inner(data, lambda _, own: own)
        return read(State(now, self.metric.accumulator))
