"""The evaluation loop: batches in, results out, on all devices of all processes.

    results, state = jm.evaluate(metrics, step, batches, params=params)

One compiled program counts batches of one size, which are padded where they are
shorter. Up to `IN_FLIGHT` of its runs are queued, so that the host reads the next batch
while the devices work on earlier ones: there is no thread, and what is in memory does
not depend on how many batches there are.

Every run also returns a mark, the largest of its rows'. Waiting for the mark of an
earlier run bounds the queue, and tells several processes, at the same run on each,
that none of them has rows left: they need no other word to each other.
"""

import contextlib
import functools
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxmetrics import checks, feeding
from jaxmetrics.checks import Mismatch, Refusal, WrongKind
from jaxmetrics.collection import as_metric
from jaxmetrics.feeding import FAILED, PADDING, ROW, Run
from jaxmetrics.metric import Metric
from jaxmetrics.state import State

__all__ = ["Evaluation", "evaluate"]

IN_FLIGHT = 3  # runs that are queued before the first of them is waited for

Program = Callable[..., tuple[State, jax.Array]]


class Evaluation(NamedTuple):
    """What `evaluate` returns.

    Attributes:
      results: `metrics.compute(state)`: of several metrics, a flat dict.
      state: What has been counted, for `merge`, `validity` or `evaluate` again.
    """

    results: Any
    state: State


def evaluate(
    metrics: Metric | Mapping[str, Any],
    step: Callable[..., Mapping[str, Any]],
    batches: Iterable[Any],
    *,
    params: Any = None,
    mesh: Mesh | None = None,
    state: State | None = None,
    batch_size: int | None = None,
    save: Callable[[State, int], object] | None = None,
    save_every: int = 1000,
    progress: bool = True,
) -> Evaluation:
    """Counts every row of every batch once, and returns the results.

    `step` and the metrics become one program that is compiled once. Batches are padded
    to one size, split by rows over the devices, and the padding is masked; the next
    batch is read and sent while the devices work on the last ones.

    Several processes call this together, each with batches of its own, of one kind and
    as many as it has, none included. They run one program over all devices, a process
    without rows with padding, until none has rows left, and all get the same results.
    Where one cannot read its batches, all raise.

    Args:
      metrics: A metric, a `Collection`, or a dict of metrics. All must take `mask`
        where there is padding.
      step: `step(batch)`, or with `params` `step(params, batch)`, returns the inputs of
        `metrics.update` by name. Pure and jittable. A `mask` among them, with an entry
        for each row, is combined with that of the padding. The rows that it sees are
        padded with zeros; a batch that has a column of True sees False there, for what
        is taken over rows, as a batch norm.
      batches: An iterable of pytrees of arrays whose first axes are the rows, read in
        the caller's thread. A batch of no rows is no update.
      params: What `step` needs besides, as an argument of the program. It stays where
        it is if it is on the mesh, and is copied to every device if not. Then the
        program is kept for the next call. Without `params`, `step` is compiled at
        every call, as what it refers to may have changed.
      mesh: The devices; rows are split over all of its axes. The mesh of `params`
        unless given, or else all devices of all processes. On a mesh of its own devices
        alone a process counts alone, for `merge_processes`.
      state: What to go on from, left as it is; in several processes, what all of them
        have counted. `metrics.init()` unless given.
      batch_size: How many rows of this process a run takes, rounded up to a multiple of
        its devices; those of the first batch unless given.
      save: Called as `save(state, batches)` with a copy of the state after the first
        `batches` ones, those of no rows included, in all processes together (where
        one has fewer, all of its own). To resume, pass on what it saved as `state`,
        the other batches, and the same `batch_size`: the result is the same bit for
        bit.
      save_every: How many batches lie between two calls of `save`.
      progress: Whether to show a bar on standard error, in the first process alone;
        it needs tqdm.

    Returns:
      The results and the state, on every device.

    Raises:
      ValueError: Where batches differ in kind or have too many rows, or padding cannot
        be masked; where the state is foreign, or the mesh is one of some
        processes; on all processes, where they do not agree or one fails.
      TypeError: Where an argument is of the wrong kind, or `step` returns no mapping.

    Note:
      Three runs are queued before the first is waited for. On several CPU devices it
      is one, because XLA can deadlock where simulated devices run ahead; the next
      batch is read meanwhile all the same.

    Example:
      >>> import jaxmetrics as jm
      >>> import numpy as np
      >>> batches = [np.array([0.0, 2.0]), np.array([4.0])]
      >>> step = lambda batch: {"values": batch}
      >>> results, state = jm.evaluate(jm.Mean(), step, batches, progress=False)
      >>> print(results)
      2.0
    """
    with checks.naming("evaluate"):
        metric = as_metric("metrics", metrics)
        iterates = hasattr(batches, "__iter__") or hasattr(batches, "__getitem__")
        if isinstance(batches, Mapping) or not iterates:
            raise WrongKind(
                f"batches must be an iterable of batches; got "
                f"{type(batches).__name__}. Of one batch, pass [batch]."
            )
        checks.takes(step, "step", "params, batch" if params is not None else "batch")
        if save is not None:
            checks.takes(save, "save", "state, batches")
        batch_size = checks.optional_integer(batch_size, "batch_size", 1)
        save_every = checks.integer(save_every, "save_every", 1)
        mesh = feeding.mesh_of(params) if mesh is None else mesh
        feeding.require_whole(mesh)
        whole = NamedSharding(mesh, PartitionSpec())
        state = metric.init() if state is None else state
        with _shown(batches, show=checks.boolean(progress, "progress")) as shown:
            plan, stream = feeding.agree(metric, mesh, state, shown, batch_size)
            state = _copy(jax.device_put(state, whole))
            if plan is not None:
                program = _bound(metric, step, whole, params)
                runs = feeding.runs(plan, stream)
                state = _count(program, state, runs, save, save_every)
        return Evaluation(_reader(metric)(state), state)


# --- the program ---------------------------------------------------------------------


def _bound(
    metric: Metric, step: Callable[..., Any], whole: NamedSharding, params: Any
) -> Program:
    """The program with params as its last argument, if there are any."""
    if params is None:
        return _program(metric, step, whole)
    program, placed = _kept_program(metric, step, whole), feeding.place(params, whole)
    return lambda *args: program(*args, placed)


def _program(metric: Metric, step: Callable[..., Any], whole: NamedSharding) -> Program:
    """One batch more: the state, and the largest mark of the rows."""

    def run(
        state: State, batch: Any, marks: jax.Array, *params: Any
    ) -> tuple[State, jax.Array]:
        inputs = step(*params, batch)
        if not isinstance(inputs, Mapping):
            raise WrongKind(
                "step must return a mapping of the inputs of the metrics by name, as "
                f"in {{'y_true': ..., 'y_pred': ...}}; got {type(inputs).__name__}."
            )
        if "mask" in metric.accumulator.inputs:
            _require_rows(metric, inputs)
            mask = _both(inputs.get("mask"), marks == ROW)
            inputs = {**inputs, "mask": mask}
        try:
            after = metric.update(state, **inputs)
        except Refusal as error:
            error.named = True  # the metric's name says more than "evaluate"
            raise
        mark = jnp.max(marks)
        if feeding.is_shared(whole):  # padding alone is not even a batch
            counts = functools.partial(jnp.where, mark == ROW)
            after = jax.tree.map(counts, after, state)
        return after, mark

    return jax.jit(run, donate_argnums=0, out_shardings=whole)


# One for each of the last evaluations of a training, as after every epoch. Programs
# hold on to what `step` refers to, so there are few.
_kept_program = functools.lru_cache(maxsize=8)(_program)


def _require_rows(metric: Metric, inputs: Mapping[str, Any]) -> None:
    """Refuses a single number, of which the padding could not be left out."""
    for part in metric.accumulator.parts:
        for name in part.row_inputs if part.input_for("mask") == "mask" else ():
            if name in inputs and np.shape(inputs[name]) == ():
                raise Mismatch(
                    f"step must return an entry of {name} for each row of the batch, "
                    "as losses before their mean, so that padding can be left out; got "
                    "a single one."
                )


def _both(mask: Any, real: jax.Array) -> jax.Array:
    """The mask of step, if there is one, without the padding."""
    if mask is None:
        return real
    own = checks.array(mask, "mask")
    if own.dtype != jnp.bool_:
        return own  # update refuses it, and says why
    if own.ndim and own.shape[0] not in (1, len(real)):
        raise Mismatch(
            f"the mask that step returns must have an entry for each of the {len(real)}"
            f" rows of the batch; got shape {own.shape}. Keep the rows on its first "
            "axis."
        )
    return own & jnp.expand_dims(real, range(1, own.ndim))


@jax.jit
def _copy(state: State) -> State:
    """The same in buffers of its own, so that one of both can be donated."""
    copy: State = jax.tree.map(jnp.copy, state)
    return copy


@functools.lru_cache(maxsize=64)
def _reader(metric: Metric) -> Callable[[State], Any]:
    return jax.jit(metric.compute)


# --- the loop ------------------------------------------------------------------------


def _count(
    program: Program,
    state: State,
    runs: Iterable[Run | None],
    save: Callable[[State, int], object] | None,
    save_every: int,
) -> State:
    """The state after all runs, of which a few are queued at a time."""
    queued: deque[jax.Array] = deque()
    for number, run in enumerate(runs, 1):
        if run is not None:
            batch, marks, failure = run
            if len(queued) == _limit(marks) and _is_last(queued.popleft(), failure):
                break
            state, mark = program(state, batch, marks)
            queued.append(mark)
        if save is not None and number % save_every == 0:
            save(_copy(state), number)
    jax.block_until_ready(state)
    return state


def _limit(marks: jax.Array) -> int:
    """How many runs may be queued: one on CPU devices, which must not run ahead."""
    devices: Any = marks.sharding.device_set  # their type has no stub
    several_cpus = len(devices) > 1 and next(iter(devices)).platform == "cpu"
    return 1 if several_cpus else IN_FLIGHT


def _is_last(mark: jax.Array, failure: Exception | None) -> bool:
    """Whether no process had rows in that run; raises where one has failed."""
    found = int(jax.device_get(mark))
    if found == FAILED:
        raise failure or Mismatch(
            "another process failed to read its batches; its own error says why."
        )
    return found == PADDING


def _shown(
    batches: Iterable[Any], *, show: bool
) -> contextlib.AbstractContextManager[Iterable[Any]]:
    """The batches, with a bar if it is wanted and there is tqdm."""
    if show and jax.process_index() == 0:
        with contextlib.suppress(ImportError):
            from tqdm import tqdm

            bar: contextlib.AbstractContextManager[Iterable[Any]]
            bar = tqdm(batches, desc="evaluate", unit="batch")
            return bar
    return contextlib.nullcontext(batches)
