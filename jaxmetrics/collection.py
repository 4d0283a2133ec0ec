"""Several metrics as one: one state for each distinct accumulator, one flat result."""

from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from jaxmetrics import checks
from jaxmetrics.checks import Mismatch, Refusal, WrongKind
from jaxmetrics.metric import Metric, Validity
from jaxmetrics.renaming import rename_each
from jaxmetrics.state import State
from jaxmetrics.wrapping import Joint

__all__ = ["Collection", "as_metric"]


class Collection(Metric, own_init=True):
    """Metrics by name, updated together; itself a metric.

    Metrics whose accumulators are equal share one state and one update: precision,
    recall and accuracy at one threshold cost what precision costs. What is shared is
    decided from options and input names, never from data. The state is a dict by
    accumulator, so adding or renaming a metric of a present accumulator leaves
    checkpoints valid.

    Inputs are passed by name and reach every metric that takes them; see
    `Metric.with_inputs` for renaming and withholding. An input that no metric takes, or
    that one misses, raises.

    Args:
      metrics: A dict of names to metrics, or to further dicts or collections.
      prefix: What to put in front of every name of the result.
      **named: The same by keyword.

    Returns:
      From `compute`, a flat dict: the names of nested collections, of curves' fields
      and of dict results are joined by "/". `scalars` gives the scalars alone. Under
      `jax.jit`, JAX sorts the names. A result is NaN where its own metric's is
      undefined.

    Example:
      >>> import jaxmetrics as jm
      >>> metrics = jm.Collection(precision=jm.Precision(), recall=jm.Recall())
      >>> state = metrics.init()
      >>> state = metrics.update(
      ...     state, y_true=[0, 1, 1, 1], y_pred=[0.1, 0.2, 0.7, 0.9]
      ... )
      >>> print(
      ...     {name: round(float(x), 3) for name, x in metrics.compute(state).items()}
      ... )
      {'precision': 1.0, 'recall': 0.667}
    """

    members: tuple[tuple[str, Metric], ...]
    prefix: str

    def __init__(
        self,
        metrics: Mapping[str, Any] | None = None,
        /,
        *more: Any,
        prefix: str = "",
        **named: Any,
    ) -> None:
        with checks.naming("Collection"):
            if more or (metrics is not None and not isinstance(metrics, Mapping)):
                given_types = ", ".join(type(m).__name__ for m in (metrics, *more))
                raise WrongKind(
                    f"metrics must be a dict; got {given_types}. Metrics have names "
                    "here: Collection(auc=AUC()), or Collection({'auc': AUC()})."
                )
            given = dict(metrics.items() if metrics is not None else ())
            for name in named:
                if name in given:
                    raise Mismatch(f"the name {name!r} is given twice.")
            members = {name: as_metric(name, m) for name, m in (given | named).items()}
            if not isinstance(prefix, str):
                raise WrongKind(f"prefix must be a string; got {prefix!r}.")
            if not members:
                raise Mismatch("at least one metric is needed.")
        self._set(members=tuple(members.items()), prefix=prefix)
        self.__post_init__()
        if any(name.startswith(f"{other}/") for name in members for other in members):
            jax.eval_shape(self.compute, jax.eval_shape(self.init))  # names may clash

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return _rebuild, (dict(self.members), self.prefix)

    def _shown(self) -> list[tuple[str, Any]]:
        return [*self.members, *[("prefix", self.prefix)] * bool(self.prefix)]

    def __getitem__(self, name: str) -> Metric:
        for member, metric in self.members:
            if member == name:
                return metric
        raise KeyError(f"Collection has no metric {name!r}; it has {list(self)}")

    def __iter__(self) -> Iterator[str]:
        return (name for name, _ in self.members)

    def __len__(self) -> int:
        return len(self.members)

    def __contains__(self, name: object) -> bool:
        return any(member == name for member, _ in self.members)

    def items(self) -> tuple[tuple[str, Metric], ...]:
        """Names and metrics, in order."""
        return self.members

    def with_prefix(self, prefix: str) -> "Collection":
        """The same metrics, reading the same states, under another prefix."""
        return Collection(dict(self.members), prefix=prefix)

    def with_inputs(self, **names: str | None) -> "Collection":
        """The same metrics with inputs renamed in each that takes them."""
        metrics = tuple(metric for _, metric in self.members)
        renamed = rename_each(metrics, names, self.label)
        return Collection(dict(zip(self, renamed, strict=True)), prefix=self.prefix)

    @property
    def accumulator(self) -> Joint:
        """The members' accumulators, each once."""
        return Joint.made_of([metric for _, metric in self.members])

    @property
    def gives_intervals(self) -> bool:
        """Whether any member does."""
        return any(metric.gives_intervals for _, metric in self.members)

    @property
    def refused(self) -> frozenset[str]:
        """What any member refuses."""
        return frozenset().union(*(metric.refused for _, metric in self.members))

    def admit(self, inputs: Mapping[str, Any]) -> None:
        """As every member; the one that refuses is named."""
        for name, metric in self.members:
            with checks.naming(f"{self.label}({name}={metric.label})", keep=True):
                metric.admit(inputs)

    def update(self, state: State, *args: Any, **kwargs: Any) -> State:
        """The state after one more batch, each accumulator fed what it takes."""
        try:
            return super().update(state, *args, **kwargs)
        except Refusal as error:
            if error.part is not None:
                error.name = f"{self.label}({', '.join(self._readers(error.part))})"
            raise

    def _readers(self, part: Any) -> list[str]:
        return [
            name if metric.label == name else f"{name}={metric.label}"
            for name, metric in self.members
            if part in metric.accumulator.parts
        ]

    def read(self, data: Any) -> dict[str, Any]:
        """Every member's result in one flat dict."""
        results: dict[str, Any] = {}
        for name, metric in self.members:
            value = metric.answered(metric.accumulator.assemble(data))
            for path, leaf in _flattened(value):
                key = self.prefix + "/".join([name, *path])
                if key in results:
                    raise Mismatch(
                        f"two results go by the name {key!r}; rename one metric."
                    )
                results[key] = leaf
        return results

    def answer(self, data: Any) -> dict[str, Any]:
        """As `read`: every member answers for its own bad rows."""
        return self.read(data)

    def answered(self, data: Any) -> dict[str, Any]:
        """As `read`, in the order of the members."""
        return self.read(data)

    def scalars(self, state: State) -> dict[str, jax.Array]:
        """The scalars of `compute` alone, as loggers take them."""
        return {name: x for name, x in self.compute(state).items() if jnp.ndim(x) == 0}

    def validity(self, state: State) -> dict[str, Validity | dict[str, Any]]:
        """The `Validity` of what each member reads, by name."""
        with checks.naming(self.label):
            self.check_state(state)
        return {
            name: metric.validity(self.member_state(state, name))
            for name, metric in self.members
        }

    def member_state(self, state: State, name: str) -> State:
        """The state of one member, for `metrics[name].compute` and its like."""
        with checks.naming(self.label):
            self.check_state(state)
        owner = self[name].accumulator
        return State(owner.assemble(state.data), owner)


def as_metric(name: Any, metric: Any) -> Metric:
    """A metric as it is, or the Collection of a dict of them; refuses all else."""
    if not isinstance(name, str):
        raise WrongKind(f"names must be strings; got {name!r}.")
    if isinstance(metric, Mapping):
        return Collection(metric)
    if isinstance(metric, type) and issubclass(metric, Metric):
        raise WrongKind(
            f"{name!r} is the class {metric.__name__}; make it: {metric.__name__}()."
        )
    if not isinstance(metric, Metric):
        raise WrongKind(
            f"{name!r} must be a metric, or a dict of metrics by name; got "
            f"{type(metric).__name__}."
        )
    return metric


def _rebuild(members: Mapping[str, Metric], prefix: str) -> Collection:
    return Collection(members, prefix=prefix)


def _flattened(value: Any) -> list[tuple[list[str], Any]]:
    """Leaves with their names, in order: fields of records, keys of dicts, places."""
    if hasattr(value, "_asdict"):
        value = value._asdict()
    if isinstance(value, tuple | list):
        value = {str(i): x for i, x in enumerate(value)}
    if not isinstance(value, Mapping):
        return [([], value)]
    return [
        ([str(name), *path], leaf)
        for name, inner in value.items()
        for path, leaf in _flattened(inner)
    ]
