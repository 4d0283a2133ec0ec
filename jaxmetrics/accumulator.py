"""Accumulators: what owns a state, and says how it is summed, merged and reduced."""

import abc
import functools
import inspect
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxmetrics import checks
from jaxmetrics.checks import WrongKind
from jaxmetrics.codes import within
from jaxmetrics.metric import Metric, Validity
from jaxmetrics.numerics import add_counts, add_two_floats, carry, words_to_int
from jaxmetrics.reduction import AxisName, reduce_over
from jaxmetrics.state import fingerprint

__all__ = ["ROLES", "Accumulator", "Groups", "together"]

ROLES = ("sample_weight", "mask")  # of inputs that say how much a row counts


class Groups(NamedTuple):
    """What `measure_groups` finds."""

    data: Any  # of each group, with a leading axis of them
    # uint32 (groups,): rows that are kept and weigh something, or None if not known.
    rows: jax.Array | None = None


class Accumulator(Metric):
    """Owns a state: what is summed, how exactly, how two states merge.

    A subclass defines `empty`, `measure` and `value`. The rest is derived where each
    array of its data is one of two kinds, both with a first axis of two:

    * uint32 `(2, ...)`: counts in words, `[low, high]` with 21 bits in the low one; of
      a batch's counts `jnp.stack([counts, jnp.zeros_like(counts)])` will do;
    * float32 `(2, ...)`: sums as two-floats, `[sum, error of it]`; of a batch's sums
      `jnp.stack([sums, jnp.zeros_like(sums)])`.

    What is kept otherwise defines `combine` and `reduce`, too. Sums of what a function
    makes of the batch need none of this: `jm.Sum().of(function)`.
    """

    @property
    def accumulator(self) -> "Accumulator":
        """Itself."""
        return self

    @property
    def parts(self) -> tuple["Accumulator", ...]:
        """The accumulators that it consists of; one, unless it is a joint one."""
        return (self,)

    @functools.cached_property
    def key(self) -> str:
        """Its name in key paths: the class, and a hash of the options not default."""
        text = repr(self)
        name = type(self).__name__
        return name if text == f"{name}()" else f"{name}-{fingerprint(text)}"

    @property
    def keeps_rows(self) -> bool:
        """Whether it keeps rows in their order: states may differ where values do not.

        The laws then compare values alone.
        """
        return False

    @property
    def goes_by_updates(self) -> bool:
        """Whether it matters which update a row came with; see `lockstep`."""
        return False

    @property
    def inputs(self) -> Mapping[str, bool]:
        """The names that `measure` takes, each with whether it is required."""
        parameters = list(inspect.signature(type(self).measure).parameters.values())[1:]
        return {p.name: p.default is p.empty for p in parameters}

    @abc.abstractmethod
    def empty(self) -> Any:
        """The data that has seen nothing."""

    @abc.abstractmethod
    def measure(self, *args: Any, **kwargs: Any) -> Any:
        """The data of one batch alone."""

    def measure_groups(self, group: jax.Array, groups: int, **inputs: Any) -> Groups:
        """`measure` of each group of rows.

        Here by a mask for each group, one after the other; an accumulator that can do
        it in one sweep overrides this.

        Args:
          group: int32 of the leading axes of the rows; what is not from 0 to
            `groups - 1` belongs to the last.
          groups: The number of groups.
          **inputs: What `measure` takes, by name.

        Returns:
          The data, and how many rows each group has; or None for these.
        """
        name = self.input_for("mask")
        if name is None:
            raise WrongKind("rows are told apart by a mask, and none is taken.")

        def measure_one(i: jax.Array) -> Any:
            here = together("mask", inputs.get(name), within(group, groups) == i)
            return self.measure(**{**inputs, name: here})

        return Groups(lax.map(measure_one, lax.iota(jnp.int32, groups)))

    def input_for(self, role: str) -> str | None:
        """The name of the input that acts as one of `ROLES`, if any does."""
        return role if role in self.inputs else None

    @property
    def row_inputs(self) -> tuple[str, ...]:
        """The required inputs that certainly have an entry for each row in front."""
        return tuple(name for name, needed in self.inputs.items() if needed)

    def combine(self, data: Any, other: Any) -> Any:
        """The data of both: words and two-floats, added leaf by leaf."""
        return jax.tree.map(_add_leaves, data, other)

    def advance(self, data: Any, latest: Any) -> Any:
        """The data one update later; `latest` is the data of that batch alone.

        As `combine`, unless the unit is the update: see `lockstep`.
        """
        return self.combine(data, latest)

    @abc.abstractmethod
    def value(self, data: Any) -> Any:
        """What read-outs are formulas over."""

    def decayed(self, data: Any, factor: jax.Array) -> Any:
        """The data of the same rows, each `factor` times as heavy.

        Args:
          data: Of any rows.
          factor: A two-float, (2,).

        Raises:
          TypeError: Unless the accumulator says how: what it keeps may be no sum.
        """
        raise WrongKind(
            f"{self!r} does not say how its past weighs less: what it keeps may be no "
            "weighted sum. Take Windowed instead, or define decayed."
        )

    @property
    def can_resample(self) -> bool:
        """Whether `resampled` draws from what the data keep, without the rows."""
        return False

    def resampled(self, data: Any, key: jax.Array) -> Any:
        """The data of rows drawn anew: each as often as a Poisson number of mean 1.

        Defined where `can_resample` holds: where the data are counts of independent
        rows by cell, so that one draw for each cell has the same distribution.

        Args:
          data: Of rows without weights.
          key: A key of `jax.random`.
        """
        raise WrongKind(f"{self!r} does not keep what it would take to draw anew.")

    def flags(self, data: Any) -> jax.Array | None:
        """Words `(2, 3)` that count bad values (see `Validity`), or None."""
        return None

    def extend(self, data: Any, /, *args: Any, **kwargs: Any) -> Any:
        """The data after one more batch."""
        self.check_call(args, kwargs)
        return self.advance(data, self.measure(*args, **kwargs))

    def reduce(self, data: Any, axis_name: AxisName) -> Any:
        """The data of all devices along the axis."""
        reduced = reduce_over(data, axis_name, self.combine)
        return self.combine(reduced, self.empty())  # carries the summed words

    def read(self, data: Any) -> Any:
        """An accumulator's own value as a metric is what its read-outs see."""
        return self.value(data)

    def assemble(self, by_key: Mapping[str, Any]) -> Any:
        """Its data out of the data of several accumulators."""
        return by_key[self.key]

    def is_valid(self, data: Any) -> jax.Array | None:
        """Whether the data has a value: no NaN, nothing outside its domain."""
        flags = self.flags(data)
        return None if flags is None else jnp.all(flags[:, :2] == 0)

    def problems(self, data: Any) -> Any:
        """The `Validity` of the data."""
        flags = self.flags(data)
        if flags is None:
            flags = jnp.zeros((2, 3), jnp.uint32)
        return Validity(*words_to_int(carry(flags), np.dtype(np.int32)))

    def check_call(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """Refuses a call that `measure` cannot take, naming its inputs."""
        signature = inspect.signature(self.measure)
        try:
            signature.bind(*args, **kwargs)
        except TypeError as error:
            names = ", ".join(
                n if required else f"{n}=None" for n, required in self.inputs.items()
            )
            raise WrongKind(f"update takes ({names}); {error}.") from None


# --- details -------------------------------------------------------------------------


def _add_leaves(a: jax.Array, b: jax.Array) -> jax.Array:
    known = a.dtype == jnp.uint32 or jnp.issubdtype(a.dtype, jnp.floating)
    if a.shape[:1] != (2,) or not known:
        raise WrongKind(
            "what is added is words, uint32 (2, ...), or two-floats, float32 (2, ...); "
            f"the data has {a.dtype} {a.shape}. Define combine and reduce for it."
        )
    return add_counts(a, b) if a.dtype == jnp.uint32 else add_two_floats(a, b)


def together(name: str, given: Any, own: jax.Array) -> jax.Array:
    """Two masks, or two weights of each row, multiplied.

    Args:
      name: What errors call it.
      given: One of them, if it came. Each may cover the leading axes of the other.
      own: The other one: boolean, or float32.
    """
    if given is None:
        return own
    came = checks.array(given, name)
    if own.dtype != jnp.bool_:
        came = came.astype(own.dtype)
    rank = max(came.ndim, own.ndim)
    came, own = (x.reshape(*x.shape, *[1] * (rank - x.ndim)) for x in (came, own))
    return came * own
