"""The contract: accumulators own states, read-outs are formulas over them.

A metric is a frozen value of options with five pure functions: `init`, `update`,
`merge`, `all_reduce` and `compute`. There are two kinds:

* an `Accumulator` owns a state and says what is summed and how two states merge;
* a `Readout` is one formula over an accumulator's value. Read-outs whose accumulators
  are equal by value read the same state.

The rest are metrics made of metrics: `Mapped`, `Arithmetic`, `Wired`. They know only
the contract. What stands for a metric under other names is typed as that metric.
"""

import abc
import functools
from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Self

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import checkify

from jaxmetrics import checks
from jaxmetrics.checks import WrongKind
from jaxmetrics.eager import compiled, reading
from jaxmetrics.frozen import Frozen
from jaxmetrics.reduction import AxisName
from jaxmetrics.state import State, check_owner, check_template

if TYPE_CHECKING:
    from jaxmetrics.accumulator import Accumulator

__all__ = ["Metric", "Readout", "Validity"]


class Validity(NamedTuple):
    """How many bad values a state has seen; int32, saturating.

    Attributes:
      nan: Rows with a NaN in them; they make the result NaN.
      outside_domain: Rows with a label, class id or weight that cannot be; they make
        the result NaN.
      outside_range: Scores outside [0, 1]; counted, and compared as they are.
    """

    nan: jax.Array
    outside_domain: jax.Array
    outside_range: jax.Array


class Metric(Frozen):
    """A frozen value of options with pure functions over an immutable state.

    Every subclass becomes a frozen dataclass of its annotated fields, hashable, equal
    by type and options, and static under `jax.jit`: equal metrics share one trace,
    however often they are rebuilt. A class is abstract or final, never both.
    """

    laws_waived: ClassVar[Mapping[str, str]] = MappingProxyType({})

    def __init_subclass__(cls, **kwargs: Any) -> None:
        own = cls.__dict__.get("accumulator")
        if isinstance(own, property) and not own.__isabstractmethod__:
            # Made once: it is asked for in every step of every function.
            once: Any = functools.cached_property(own.fget)  # type: ignore[arg-type]
            once.__set_name__(cls, "accumulator")
            setattr(cls, "accumulator", once)  # noqa: B010  # a property to types
        super().__init_subclass__(**kwargs)

    def __post_init__(self) -> None:
        super().__post_init__()
        with checks.naming(type(self).__name__):
            _ = self.accumulator  # checks the options that it takes

    @property
    def label(self) -> str:
        """What errors call this metric."""
        return type(self).__name__

    # --- the contract ----------------------------------------------------------------

    @property
    @abc.abstractmethod
    def accumulator(self) -> "Accumulator":
        """What owns the state that this metric reads."""

    def init(self) -> State:
        """The state that has seen nothing: final shapes, strong dtypes, own buffers.

        Valid as the first carry of a `scan`, as a donated argument and as a template
        for restoring a checkpoint. A `scan` inside `shard_map` carries what differs
        between devices: `jax.lax.pcast(metric.init(), axis_name, to="varying")`.
        """
        return State(self.accumulator.empty(), self.accumulator)

    def update(self, state: State, *args: Any, **kwargs: Any) -> State:
        """The state after one more batch; `state` itself is left as it was.

        Args:
          state: What `init`, `update`, `merge` or `all_reduce` returned.
          *args: The batch: most metrics take `y_true` and `y_pred` of one shape,
            means `values`, and all `sample_weight` and, by name alone, `mask`. These
            two are scalars, have the shape of the others with any axis 1, or cover
            their leading axes. No gradient flows through any of them.
          **kwargs: The same by name, which reads better.

        Raises:
          ValueError: At trace time, where shapes disagree or the state is foreign.
          TypeError: At trace time, where an input is missing, unknown or no number.
        """
        with checks.naming(self.label):
            self.check_state(state)
            args = tuple(map(checks.numbers_as_array, args))
            kwargs = {n: checks.numbers_as_array(x) for n, x in kwargs.items()}
            data = _update(self.entrance, state.data, args, kwargs)
            return State(data, self.accumulator)

    def merge(self, state: State, other: State) -> State:
        """The state that has seen what both have; associative, `init()` is neutral.

        Of many: `functools.reduce(jax.jit(metric.merge), states, metric.init())`, which
        compiles once and holds two states at a time.
        """
        with checks.naming(self.label):
            self.check_state(state)
            self.check_state(other)
            owner = self.accumulator
            return State(_merge(owner, state.data, other.data), owner)

    def all_reduce(self, state: State, axis_name: AxisName) -> State:
        """The merge over all devices along `axis_name`, the same on each of them.

        Inside `shard_map`, `pmap` or `vmap(axis_name=...)`, once, after the last
        update. Under `check_vma=True` a state that is already reduced is returned as it
        is; elsewhere reducing twice counts every device twice.
        """
        with checks.naming(self.label):
            self.check_state(state)
            owner = self.accumulator
            return State(owner.reduce(state.data, axis_name), owner)

    def compute(self, state: State) -> Any:
        """The metric's value; a pure read, as often as you like.

        NaN where the state has seen a NaN, a label or weight outside its domain; see
        `validity`.
        """
        with checks.naming(self.label):
            self.check_state(state)
            return self.answered(state.data)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The value of one batch: `compute(update(init(), ...))`."""
        return self.compute(self.update(self.init(), *args, **kwargs))

    @reading
    def validity(self, state: State) -> Any:
        """How many bad values the state has seen since `init()`: a `Validity`."""
        return self.accumulator.problems(state.data)

    def debug_check(self, state: State) -> None:
        """Raises under `checkify` if the state has seen bad values; inert elsewhere.

        To be called where the error should be raised, inside a function that
        `jax.experimental.checkify.checkify` transforms. Without it the call is inert,
        but keeps a jitted function off JAX's fast dispatch; so `update` never does it.
        """
        with checks.naming(self.label):
            self.check_state(state)
        for part in self.accumulator.parts:
            flags = part.flags(part.assemble(by_key(self.accumulator, state.data)))
            if flags is None:
                continue
            for i, sentence in enumerate(_BAD_VALUES):
                none = jnp.all(flags[:, i] == 0)
                checkify.debug_check(none, f"{self.label}: {sentence}")

    if not TYPE_CHECKING:  # a type checker should go on finding what is not there

        def __getattr__(self, name: str) -> Any:
            """Says what stands for the methods of a metric that changes itself."""
            hint = _INSTEAD.get(name)
            raise AttributeError(
                f"{type(self).__name__} has no attribute {name!r}"
                + (f"; instead: {hint}." if hint else ".")
            )

    # --- for metrics made of metrics --------------------------------------------------

    @property
    def entrance(self) -> "Metric":
        """What takes batches as this metric does: the accumulator, if it admits all."""
        return self.accumulator if type(self).admit is Metric.admit else self

    @property
    def gives_intervals(self) -> bool:
        """Whether its value holds intervals, which are no numbers to compare."""
        return False

    @property
    def refused(self) -> frozenset[str]:
        """Optional inputs of the accumulator that `admit` never lets through."""
        return frozenset()

    def admit(self, inputs: Mapping[str, Any]) -> None:
        """Refuses inputs that the accumulator takes, but this read-out must not."""
        del inputs  # most take whatever their accumulator does

    @abc.abstractmethod
    def read(self, data: Any) -> Any:
        """The value of the accumulator's data, whatever bad rows it has seen."""

    def answer(self, data: Any) -> Any:
        """The value, NaN where the data has seen what has no value."""
        return self.poisoned(self.read(data), data)

    def answered(self, data: Any) -> Any:
        """`answer`, compiled where nothing is traced.

        Where it calls functions of the user's, these get what is computed, and what is
        below them is compiled.
        """
        return _compute(self, data)

    def poisoned(self, value: Any, data: Any) -> Any:
        """A value read from the data, NaN where these have seen what has no value."""
        return _poison(value, _is_valid(self.accumulator, data))

    def check_state(self, state: Any) -> None:
        """Refuses what is not a state of this metric's accumulator."""
        owner = self.accumulator
        check_owner(state, owner)
        check_template(state.data, functools.partial(_template, owner))

    def map(self, function: Callable[..., Any]) -> "Metric":
        """A metric whose value is `function` of this one's, over the same state.

        Args:
          function: Pure and jittable. A named function keeps the metric equal when it
            is rebuilt; each evaluation of a lambda is a new function and a new trace.
            A boolean result has no NaN: it says nothing once bad values have come.

        Example:
          >>> import jaxmetrics as jm
          >>> def missed(c):
          ...     return jm.divide(
          ...         c.false_negatives, c.false_negatives + c.true_positives
          ...     )
          >>> print(jm.ConfusionCounts().map(missed)(y_true=[1, 1], y_pred=[0.9, 0.1]))
          0.5
        """
        from jaxmetrics.algebra import Mapped

        return Mapped(self, function)

    def with_inputs(self, **names: str | None) -> Self:
        """The same metric under other input names, for `Collection` and its like.

        It has all read-outs of this one, such as `Sliced.gap` and `AUROC.interval`.

        Args:
          **names: For each of the metric's inputs the name it is passed by; None
            withholds an optional one, such as the mask of rows from a scalar loss.

        Example:
          >>> import jaxmetrics as jm
          >>> loss = jm.Mean().with_inputs(values="loss")
          >>> print(loss(loss=[1.0, 3.0]))
          2.0
        """
        from jaxmetrics.renaming import Wired

        return Wired(self, tuple(sorted(names.items())))  # type: ignore[return-value]

    def named(self, name: str) -> Self:
        """The same metric, over the same state, under a name in errors and labels.

        For heads and tasks, whose metrics would otherwise be told apart by their
        inputs alone.

        Example:
          >>> import jaxmetrics as jm
          >>> toxic = (
          ...     jm.Recall().with_inputs(y_pred="toxic_score").named("toxic recall")
          ... )
          >>> print(toxic.label)
          toxic recall
        """
        from jaxmetrics.renaming import Named

        return Named(self, name)  # type: ignore[return-value]  # a stand-in

    def of(self, function: Callable[..., Any]) -> Self:
        """The same metric of what a function makes of the batch.

        Args:
          function: Pure and jittable, and traced even where `update` is called
            outside of `jit`; takes inputs by name and returns the metric's
            inputs by name, or its one required input. Its parameters become the inputs
            of the metric; `sample_weight` and `mask` reach the metric as they are,
            unless the function takes them. Arrays come to it as float32 and int32
            where they are narrower; one of shape (rows, 1) is not broadcast against
            one of (rows,). What it returns replaces a weight, and a mask of its own
            joins the one that was passed. States know it by its name,
            so a lambda is for those that are not written to files.

        Example:
          >>> import jax.numpy as jnp
          >>> import jaxmetrics as jm
          >>> def error(y_true, y_pred):
          ...     return jnp.abs(y_true - y_pred)
          >>> print(jm.Mean().of(error)(y_true=jnp.ones(2), y_pred=jnp.zeros(2)))
          1.0
        """
        from jaxmetrics.computed import Computed

        return Computed(self, function)  # type: ignore[return-value]  # a stand-in

    def __add__(self, other: Any) -> "Metric":
        return _arithmetic("+", self, other)

    def __radd__(self, other: Any) -> "Metric":
        return _arithmetic("+", other, self)

    def __sub__(self, other: Any) -> "Metric":
        return _arithmetic("-", self, other)

    def __rsub__(self, other: Any) -> "Metric":
        return _arithmetic("-", other, self)

    def __mul__(self, other: Any) -> "Metric":
        return _arithmetic("*", self, other)

    def __rmul__(self, other: Any) -> "Metric":
        return _arithmetic("*", other, self)

    def __truediv__(self, other: Any) -> "Metric":
        return _arithmetic("/", self, other)

    def __rtruediv__(self, other: Any) -> "Metric":
        return _arithmetic("/", other, self)

    def __pow__(self, other: Any) -> "Metric":
        return _arithmetic("**", self, other)

    def __rpow__(self, other: Any) -> "Metric":
        return _arithmetic("**", other, self)

    def __lt__(self, other: Any) -> "Metric":
        return _arithmetic("<", self, other)

    def __le__(self, other: Any) -> "Metric":
        return _arithmetic("<=", self, other)

    def __gt__(self, other: Any) -> "Metric":
        return _arithmetic(">", self, other)

    def __ge__(self, other: Any) -> "Metric":
        return _arithmetic(">=", self, other)

    def __neg__(self) -> "Metric":
        return _arithmetic("*", -1.0, self)


class Readout(Metric):
    """One formula over an accumulator's value.

    Args:
      name: What errors call the metric; the class name unless given.
      dtype: The dtype of the result; the default float dtype unless given.
    """

    _: KW_ONLY
    name: str | None = None
    dtype: Any = None

    integer_results: ClassVar[bool] = False

    @property
    def label(self) -> str:
        """The name that it was given, or its class's."""
        return self.name or type(self).__name__

    def checked(self) -> dict[str, Any]:
        """Checks the name and the dtype."""
        if self.name is not None and not isinstance(self.name, str):
            raise WrongKind(f"name must be a string; got {self.name!r}.")
        return {"dtype": checks.dtype(self.dtype, integers=self.integer_results)}

    @abc.abstractmethod
    def formula(self, value: Any, /) -> Any:
        """The metric, from the accumulator's value."""

    def read(self, data: Any) -> Any:
        """The formula's result in the metric's dtype."""
        result = self.formula(self.accumulator.value(data))
        return result if self.dtype is None else jax.tree.map(self._cast, result)

    def _cast(self, x: Any) -> jax.Array:
        return jnp.asarray(x).astype(self.dtype)


_INSTEAD = MappingProxyType(
    {
        "update_state": "state = metric.update(state, y_true=..., y_pred=...)",
        "reset": "state = metric.init()",
        "reset_state": "state = metric.init()",
        "reset_states": "state = metric.init()",
        "result": "metric.compute(state)",
        "error_bound": "areas under curves of scores have one, as AUROC",
        "interval": "proportions and AUROC have one; of any other metric, "
        "jm.Bootstrap(metric)",
    }
)

_BAD_VALUES = (
    "a row holds NaN",
    "a label, class id or weight lies outside its domain",
    "a score lies outside [0, 1]; from_logits=True takes logits",
)


# --- details -------------------------------------------------------------------------


def by_key(owner: "Accumulator", data: Any) -> Mapping[str, Any]:
    """The data of each part by its key."""
    return {owner.key: data} if owner.parts == (owner,) else data


@compiled
def _compute(metric: Metric, data: Any) -> Any:
    return metric.answer(data)


@compiled
def _update(metric: Metric, data: Any, args: Any, kwargs: Any) -> Any:
    owner = metric.accumulator
    metric.admit(dict(zip(owner.inputs, args, strict=False)) | kwargs)
    return owner.extend(data, *args, **kwargs)


@compiled
def _merge(owner: "Accumulator", data: Any, other: Any) -> Any:
    return owner.combine(data, other)


@compiled
def _is_valid(owner: "Accumulator", data: Any) -> jax.Array | None:
    return owner.is_valid(data)


@functools.lru_cache(maxsize=1024)
def _template(owner: "Accumulator") -> Any:
    return jax.eval_shape(owner.empty)


def _poison(value: Any, valid: jax.Array | None) -> Any:
    """Makes every float of a result NaN, and every integer its least likely value."""
    if valid is None:
        return value

    def spoil(leaf: Any) -> jax.Array:
        x: jax.Array = jnp.asarray(leaf)
        if jnp.issubdtype(x.dtype, jnp.floating):
            return jnp.where(valid, x, jnp.asarray(jnp.nan, x.dtype))
        if jnp.issubdtype(x.dtype, jnp.integer):
            info = np.iinfo(x.dtype)
            worst = info.min if info.min < 0 else info.max
            return jnp.where(valid, x, jnp.asarray(worst, x.dtype))
        return x

    return jax.tree.map(spoil, value)


def _arithmetic(operation: str, left: Any, right: Any) -> Metric:
    from jaxmetrics.algebra import arithmetic  # it needs the class above

    return arithmetic(operation, left, right)
