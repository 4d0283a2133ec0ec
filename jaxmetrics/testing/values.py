"""The laws of states and values: what is refused, saved, equal and read."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxmetrics.accumulator import Accumulator
from jaxmetrics.eager import operation_by_operation
from jaxmetrics.metric import Metric
from jaxmetrics.testing.subject import Broken, Subject, close, require, same, stack


def _compute_is_a_pure_read(s: Subject) -> None:
    state = s.state(s.batch(s.chunks[0]))
    before = jax.tree.map(np.array, state)
    with operation_by_operation():
        first = s.metric.compute(state)
        same("a second result", s.metric.compute(state), first)
    same("the state after compute", jax.tree.map(np.asarray, state), before)
    for chunk in s.chunks[1:]:
        state = s.update(state, s.batch(chunk))
        s.result(state)
    unread = s.result(s.state(*map(s.batch, s.chunks)))
    close("the result of a state that was read in between", s.result(state), unread)


def _checkpoint_resumes(s: Subject) -> None:
    uninterrupted = s.state(*s.batches)
    for metric, first in ((s.rebuilt(), s.batches[0]), (s.metric, s.batches[0])):
        leaves = jax.tree_util.tree_leaves_with_path(s.state(first))
        saved = {jax.tree_util.keystr(path): np.array(x) for path, x in leaves}
        require(len(saved) == len(leaves), "two leaves of the state have one key path")
        for template in (metric.init(), jax.eval_shape(metric.init)):
            state = jax.tree_util.tree_map_with_path(
                lambda path, _, saved=saved: jnp.asarray(
                    saved[jax.tree_util.keystr(path)]
                ),
                template,
            )
            for batch in s.batches[1:]:
                state = s.update(state, batch)
            same("a state that was saved and restored", state, uninterrupted)


def _is_a_value(s: Subject) -> None:
    metric, twin = s.metric, s.rebuilt()
    require(metric == twin and twin == metric, "not equal to its unpickled copy")
    require(hash(metric) == hash(twin), "its unpickled copy has another hash")
    require(repr(metric) == repr(twin), f"its unpickled copy prints as {twin!r}")
    require(" at 0x" not in repr(metric), "its repr holds an address")
    owner = metric.accumulator
    require(
        owner == twin.accumulator, f"{owner!r} is not equal to {twin.accumulator!r}"
    )
    require(owner.key == twin.accumulator.key, "a copy has another key in checkpoints")
    require(not jax.tree.leaves(metric), "some of its options are leaves of a pytree")
    require(
        metric != object() and metric != metric.map(np.negative), "equal to another"
    )
    try:
        metric.no_such_option = 1  # type: ignore[attr-defined]
    except AttributeError:
        pass
    else:
        raise Broken("attributes can be set")
    for other in _others(metric):
        require(other != metric, f"equal to {other!r}")
        require(repr(other) != repr(metric), f"prints as another metric: {metric!r}")
        if other.accumulator != owner:
            keys = [part.key for part in other.accumulator.parts]
            own = [part.key for part in owner.parts]
            require(keys != own, f"{other!r} has its keys {keys} in checkpoints")


def _others(metric: Metric) -> list[Metric]:
    """The metric with one option changed, for each that accepts a change."""
    others = []
    # Every metric is a dataclass, but no type checker knows.
    options: Any = metric
    for field in dataclasses.fields(options):
        value = getattr(metric, field.name)
        for option in _other_values(value):
            try:
                other = dataclasses.replace(options, **{field.name: option})
            except (TypeError, ValueError):
                continue
            if repr(getattr(other, field.name)) != repr(value):
                others.append(other)
                break
    return others


def _other_values(value: Any) -> list[Any]:
    """Values to try in its place; of which the metric may refuse any."""
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, int | float):
        return [value + 1, value / 2 + 0.125, 0.25]
    if isinstance(value, tuple) and all(isinstance(x, float) for x in value):
        return [(*value, 0.125), value[:-1], (0.125,)]
    if isinstance(value, str):
        return ["other", "PR"]
    return [0.25, 2, "bfloat16", "macro"] if value is None else []


class _Strange(Accumulator):
    """Owns states that no other metric may read."""

    def empty(self) -> Any:
        """One number."""
        return jnp.zeros((), jnp.float32)

    def measure(self, strange: Any) -> Any:
        """Its sum."""
        return jnp.sum(strange)

    def value(self, data: Any) -> Any:
        """The number."""
        return data


def _foreign_states_are_refused(s: Subject) -> None:
    foreign = [_Strange().init()]
    owners = [other.accumulator for other in _others(s.metric)]
    foreign += [owner.init() for owner in owners if owner != s.metric.accumulator]
    for state in foreign:
        names = repr(state.owner), repr(s.metric.accumulator)
        for way, error in _refusals(s, state):
            require(
                isinstance(error, ValueError), f"{way} took the state of {names[0]}"
            )
            said = all(name in str(error) for name in names)
            require(said, f"{way} refused a foreign state, but named not both: {error}")
    for way, error in _refusals(s, s.metric.init().data):
        require(isinstance(error, TypeError), f"{way} took what is no state")


def _damaged_states_are_refused(s: Subject) -> None:
    state = s.metric.init()
    damaged = {"stacked": stack([state, state])}
    if any(not jnp.issubdtype(x.dtype, jnp.floating) for x in jax.tree.leaves(state)):
        damaged["averaged"] = jax.tree.map(lambda x: x.astype(jnp.float32), state)
    if any(x.ndim and x.shape[-1] for x in jax.tree.leaves(state)):
        damaged["truncated"] = jax.tree.map(
            lambda x: x[..., :-1] if x.ndim else x, state
        )
    for what, broken in damaged.items():
        for way, error in _refusals(s, broken):
            require(isinstance(error, ValueError), f"{way} took a {what} state")


class _Attempt(NamedTuple):
    way: str
    error: Exception | None


def _refusals(s: Subject, state: Any) -> list[_Attempt]:
    """What each way to use a state says to this one."""
    metric, good = s.metric, s.metric.init()
    attempts: dict[str, Callable[[], Any]] = {
        "compute": lambda: metric.compute(state),
        "update": lambda: metric.update(state, **s.batches[0]),
        "merge": lambda: metric.merge(good, state),
        "merge, from the left,": lambda: metric.merge(state, good),
        "all_reduce": lambda: metric.all_reduce(state, "i"),
    }
    results = []
    for way, attempt in attempts.items():
        try:
            attempt()
            results.append(_Attempt(way, None))
        except Exception as error:
            results.append(_Attempt(way, error))
    return results


VALUE_LAWS: Mapping[str, Callable[[Subject], None]] = {
    "value": _is_a_value,
    "foreign states": _foreign_states_are_refused,
    "damaged states": _damaged_states_are_refused,
}
STATE_LAWS: Mapping[str, Callable[[Subject], None]] = {
    "checkpoint": _checkpoint_resumes,
}
READ_LAWS: Mapping[str, Callable[[Subject], None]] = {
    "pure compute": _compute_is_a_pure_read,
}
