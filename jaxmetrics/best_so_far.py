"""The best value that a metric has had."""

from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxmetrics import checks
from jaxmetrics.accumulator import Accumulator
from jaxmetrics.checks import WrongKind
from jaxmetrics.eager import reading
from jaxmetrics.lockstep import WAIVED_BUT_NAN
from jaxmetrics.metric import Metric
from jaxmetrics.numerics import float_dtype
from jaxmetrics.reduction import AxisName, reduce_over
from jaxmetrics.state import State
from jaxmetrics.wrapping import Through

__all__ = ["Best", "BestSoFar", "BestValue"]


class Best(NamedTuple):
    """What `BestSoFar` computes.

    Attributes:
      value: The best value that the metric has had after an update.
      update: After which update that was, the first being 0; -1 for none. int32.
    """

    value: Any
    update: jax.Array


class BestData(NamedTuple):
    """What `BestValue` keeps."""

    current: Any  # the inner data
    value: jax.Array  # the best so far, NaN at first
    update: jax.Array  # int32: when that was, -1 at first
    updates: jax.Array  # int32: how many there have been, up to 2^31 - 1


class BestValue(Accumulator):
    """The best value that a metric has had after an update.

    Args:
      metric: The metric, of one number.
      mode: "max" or "min".
    """

    laws_waived: ClassVar[Mapping[str, str]] = WAIVED_BUT_NAN

    metric: Metric
    mode: str

    def checked(self) -> dict[str, Any]:
        """Checks that the metric has one number."""
        mode = checks.choice(self.mode, "mode", ("max", "min"))
        _ = self._kind
        return {"mode": mode}

    @property
    def goes_by_updates(self) -> bool:
        """Yes."""
        return True

    @property
    def _owner(self) -> Accumulator:
        return self.metric.accumulator

    @property
    def _kind(self) -> Any:
        """The shape and dtype of the metric's value."""
        kind = jax.eval_shape(
            lambda: self.metric.answer(self.metric.accumulator.empty())
        )
        if not hasattr(kind, "dtype") or not jnp.issubdtype(kind.dtype, jnp.floating):
            raise WrongKind(
                f"the best is one of floats; {self.metric.label} computes {kind}. Pick "
                "one with map."
            )
        return kind

    @property
    def inputs(self) -> Mapping[str, bool]:
        """The metric's."""
        return self._owner.inputs

    def input_for(self, role: str) -> str | None:
        """The metric's."""
        return self._owner.input_for(role)

    @property
    def row_inputs(self) -> tuple[str, ...]:
        """The metric's."""
        return self._owner.row_inputs

    def empty(self) -> BestData:
        """No update."""
        kind = self._kind
        return BestData(
            self._owner.empty(),
            jnp.full(kind.shape, jnp.nan, jnp.float32),
            jnp.full(kind.shape, -1, jnp.int32),
            jnp.zeros((), jnp.int32),
        )

    def measure(self, *args: Any, **kwargs: Any) -> BestData:
        """The data of a first update."""
        return self.extend(self.empty(), *args, **kwargs)

    def extend(self, data: BestData, /, *args: Any, **kwargs: Any) -> BestData:
        """One more update of the metric, whose value is the best or is not."""
        return self._stepped(data, self._owner.extend(data.current, *args, **kwargs))

    def advance(self, data: BestData, latest: BestData) -> BestData:
        """The same, of the one update of the latest."""
        return self._stepped(data, self._owner.advance(data.current, latest.current))

    def _stepped(self, data: BestData, current: Any) -> BestData:
        value = self.metric.answer(current).astype(jnp.float32)
        when = jnp.where(jnp.isnan(value), np.int32(-1), data.updates)
        best = self._better((data.value, data.update), (value, when))
        top = np.int32(2**31 - 1)
        updates = jnp.where(data.updates < top, data.updates + np.int32(1), top)
        return BestData(current, *best, updates)

    def _better(
        self, one: tuple[jax.Array, jax.Array], other: tuple[jax.Array, jax.Array]
    ) -> tuple[jax.Array, jax.Array]:
        """The better value, the earlier of equal ones; any is better than NaN."""
        (a, when_a), (b, when_b) = one, other
        better = b > a if self.mode == "max" else b < a
        better |= jnp.isnan(a) | ((a == b) & (when_b < when_a))
        better &= ~jnp.isnan(b)
        return jnp.where(better, b, a), jnp.where(better, when_b, when_a)

    def combine(self, data: BestData, other: BestData) -> BestData:
        """The metric's data of both, and the better of the two values."""
        current = self._owner.combine(data.current, other.current)
        best = self._better((data.value, data.update), (other.value, other.update))
        return BestData(current, *best, jnp.maximum(data.updates, other.updates))

    def reduce(self, data: BestData, axis_name: AxisName) -> BestData:
        """The metric's data of all, and the best of the devices' values."""

        def best_of(a: Any, b: Any) -> Any:
            return (*self._better(a[:2], b[:2]), jnp.maximum(a[2], b[2]))

        best = reduce_over(tuple(data[1:]), axis_name, best_of)
        return BestData(self._owner.reduce(data.current, axis_name), *best)

    def value(self, data: BestData) -> Best:
        """The best and when it was."""
        return Best(data.value, data.update)

    def is_valid(self, data: BestData) -> jax.Array | None:
        """Whether the metric's data are."""
        return self._owner.is_valid(data.current)

    def flags(self, data: BestData) -> jax.Array | None:
        """Those of the metric's data."""
        return self._owner.flags(data.current)


class BestSoFar(Through):
    """The best value that a metric has had after any update, and when that was.

    After each update the metric is computed, at that cost; what has no value (NaN) is
    passed over, and the first of equal ones stays. Around `Windowed` or `Every` it is
    the best window or period. Bad values make it NaN, as they do the metric.

    A value after one batch of many counts too. Where a validation has several batches,
    `BestSoFar(Every(metric, batches))` is the best of whole validations; its `update`
    counts batches all the same.

    Merging, and `all_reduce` over devices, takes the better of the values that each had
    for its own rows. Inside `jit` over a sharded batch, where the state is global, the
    best is one of all rows.

    Args:
      metric: What is computed: one float, or an array of floats taken one by one.
      mode: "max" where higher is better, "min" where lower is.

    Example:
      >>> import jaxmetrics as jm
      >>> best = jm.BestSoFar(jm.Windowed(jm.Mean(), updates=1), mode="min")
      >>> state = best.init()
      >>> for value in [3.0, 1.0, 2.0]:
      ...     state = best.update(state, values=[value])
      >>> print(best.compute(state).value, best.compute(state).update)
      1.0 1
    """

    mode: str = "max"

    def checked(self) -> dict[str, Any]:
        """Checks that there is a metric."""
        mode = checks.choice(self.mode, "mode", ("max", "min"))
        return {**super().checked(), "mode": mode}

    @property
    def label(self) -> str:
        """The class around the metric's label."""
        return f"BestSoFar({self.metric.label})"

    @property
    def accumulator(self) -> BestValue:
        """The metric's state and the best value."""
        return BestValue(self.metric, self.mode)

    @reading
    def is_new(self, state: State) -> jax.Array:
        """Whether the last update made it the best, for a checkpoint; boolean."""
        data = state.data
        last: jax.Array = (data.updates > 0) & (data.update == data.updates - 1)
        return last

    def read(self, data: BestData) -> Best:
        """The best and when it was."""
        return Best(data.value.astype(float_dtype()), data.update)
