"""The laws of updates: how they merge, run and treat rows."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import Mesh, PartitionSpec

from jaxmetrics.eager import operation_by_operation
from jaxmetrics.metric import Metric
from jaxmetrics.slice_ids import IDS
from jaxmetrics.state import State
from jaxmetrics.testing.subject import (
    CHUNKS,
    MASK,
    WEIGHT,
    Array,
    Batch,
    Subject,
    close,
    kinds,
    require,
    same,
    stack,
)

FLOAT16_MAX = 65504.0

# --- merging and cutting -------------------------------------------------------------


def _merge_is_associative(s: Subject) -> None:
    a, b, c = s.parts
    left, right = s.merge(s.merge(a, b), c), s.merge(a, s.merge(b, c))
    s.same_answer("merge(merge(a, b), c)", left, right)


def _init_is_the_identity(s: Subject) -> None:
    for state in (s.parts[0], s.total):
        same("merge(init(), state)", s.merge(s.metric.init(), state), state)
        same("merge(state, init())", s.merge(state, s.metric.init()), state)


def _update_merges_the_batch(s: Subject) -> None:
    batch = s.batch(s.chunks[1])
    merged = s.merge(s.parts[0], s.state(batch))
    s.same_answer("update(state, batch)", s.update(s.parts[0], batch), merged)


def _cuts_do_not_matter(s: Subject) -> None:
    in_turn = s.state(*map(s.batch, s.chunks))
    s.same_answer("a cut into masked batches", in_turn, s.total)
    one_by_one = [s.batch(np.arange(s.rows) == i) for i in range(s.rows)]
    s.same_answer("a cut into single rows", s.state(*one_by_one), s.total)
    s.same_answer("the merge of batches", functools.reduce(s.merge, s.parts), s.total)
    plain = s.state(*s.batches)
    s.same_answer("a cut into plain batches", plain, s.state(s.whole))
    if s.masks or s.weighs:
        ones = np.ones_like(s.weight)
        whole = s.result(s.state(s.batch(weight=ones)))
        close("the result of unweighted batches", s.result(plain), whole)


def _type_never_changes(s: Subject) -> None:
    init = s.metric.init()
    wanted = kinds(init)
    require(
        not any(weak for *_, weak in wanted[1]), f"init() has weak dtypes: {wanted}"
    )
    merged = s.merge(s.update(s.total, s.batches[0]), s.total)
    for what, state in (("update", s.total), ("merge", merged)):
        require(kinds(state) == wanted, f"{what} makes {kinds(state)} of {wanted}")


# --- ways to run ---------------------------------------------------------------------


def _eager_is_jit(s: Subject) -> None:
    with operation_by_operation():
        eager = s.metric.update(s.metric.init(), **s.batch())
    wanted = kinds(s.metric.init())
    require(kinds(eager) == wanted, f"an eager update makes {kinds(eager)} of {wanted}")
    s.same_answer("an eager update", eager, s.total)
    for _ in range(2):
        with operation_by_operation():
            result = s.metric.compute(s.total)
        close("an eager result", jax.tree.map(jnp.asarray, result), s.result(s.total))


def _loops_are_updates(s: Subject) -> None:
    """One program holds a while_loop of a vmap of a scan of updates."""
    streams = [[s.batches[0]] * CHUNKS] * 2
    if s.masks or s.weighs:
        streams = [
            [s.batch(chunk) for chunk in cs] for cs in (s.chunks, s.chunks[::-1])
        ]
    stacked = stack([stack(stream) for stream in streams])

    def step(state: State, batch: Batch) -> tuple[State, None]:
        return s.metric.update(state, **batch), None

    def epoch(state: State, stream: Batch) -> State:
        return lax.scan(step, state, stream)[0]

    @jax.jit
    def run(states: State, streams: Batch) -> State:
        def body(carry: tuple[jax.Array, State]) -> tuple[jax.Array, State]:
            return carry[0] + 1, jax.vmap(epoch)(carry[1], streams)

        start = jnp.int32(0), states
        looped: State = lax.while_loop(lambda carry: carry[0] < 2, body, start)[1]
        return looped

    states = run(stack([s.metric.init(), s.metric.init()]), stacked)
    jax.eval_shape(epoch, s.metric.init(), stack(streams[0]))
    for i, stream in enumerate(streams):
        looped = jax.tree.map(lambda x, i=i: x[i], states)
        s.same_answer("while_loop, vmap and scan", looped, s.state(*stream, *stream))


def _equal_metrics_share_a_trace(s: Subject) -> None:
    traces = []

    @functools.partial(jax.jit, static_argnums=0)
    def step(metric: Metric, state: State, batch: Batch) -> Any:
        traces.append(metric)
        return metric.update(state, **batch)

    for _ in range(3):
        metric = s.rebuilt()
        step.trace(metric, metric.init(), s.batches[0])
    step.trace(s.metric, s.metric.init(), s.batches[0])
    require(
        len(traces) == 1, f"{len(traces)} traces for one metric, made anew each step"
    )


def _strict_types_pass(s: Subject) -> None:
    with (
        jax.numpy_dtype_promotion("strict"),
        jax.numpy_rank_promotion("raise"),
    ):
        for batch in (s.batches[0], s.batch()):
            jax.eval_shape(lambda b: s.metric.update(s.metric.init(), **b), batch)
        jax.eval_shape(s.metric.merge, s.total, s.total)
        jax.eval_shape(s.metric.compute, s.total)


def _guards_pass(s: Subject) -> None:
    batch, result = jax.device_put(s.batch()), s.result(s.total)
    state = s.metric.init()
    answers = [np.all(~np.isnan(x)) for x in map(np.asarray, jax.tree.leaves(result))]
    with jax.transfer_guard("disallow"), jax.debug_nans(all(answers)):
        state = s.merge(s.update(state, batch), state)
        result = s.result(state)
    close("the result under guards", result, s.result(s.total))


def _x64_changes_precision_alone(s: Subject) -> None:
    batch = s.batch()
    wide = {
        k: x.astype(np.dtype(x.dtype.kind + "8")) if x.dtype.kind in "fiu" else x
        for k, x in batch.items()
    }
    wanted, expected = kinds(s.metric.init()), s.result(s.total)
    with jax.enable_x64(True):
        state = s.state(wide)
        result = s.result(state)
        require(kinds(state) == wanted, f"the state is {kinds(state)}, not {wanted}")
    # An accumulator's value may be two-floats, for its read-outs to read in full.
    default = getattr(s.metric, "dtype", None) is None
    required = default and s.metric is not s.metric.accumulator
    for x, y in zip(jax.tree.leaves(result), jax.tree.leaves(expected), strict=True):
        if y.dtype == jnp.float32 and required:
            require(x.dtype == jnp.float64, f"a result is {x.dtype}, not float64")
    narrow = jax.tree.map(lambda x, y: np.asarray(x).astype(y.dtype), result, expected)
    close("the result with x64", narrow, jax.tree.map(np.asarray, expected))


def _donation(s: Subject) -> None:
    donating = jax.jit(s.metric.merge, donate_argnums=0)
    state = s.metric.init()
    merged = donating(state, s.total)
    same("merge(init(), state), donated", merged, s.total)
    require(
        all(x.is_deleted() for x in jax.tree.leaves(state)),
        "a donated state was not used: its shapes or dtypes are not the result's",
    )
    same(
        "merge(init(), state), donated again",
        donating(s.metric.init(), merged),
        s.total,
    )


def _all_reduce_is_merge(s: Subject) -> None:
    reduce_all = functools.partial(s.metric.all_reduce, axis_name="i")
    vmapped = jax.jit(jax.vmap(reduce_all, axis_name="i"))
    ones = np.ones_like(s.weight)  # then what cancels does so exactly
    for parts in (s.parts, [s.state(s.batch(chunk, ones)) for chunk in s.chunks]):
        _require_on_all(s, "all_reduce under vmap", vmapped(stack(parts)), parts)
    for devices in s.devices:
        chunks = [np.arange(s.rows) % devices == i for i in range(devices)]
        parts = [s.state(s.batch(chunk)) for chunk in chunks]
        on_devices = jax.devices()[:devices]
        for way, function in (
            ("shard_map", _sharded(reduce_all, on_devices)),
            ("pmap", jax.pmap(reduce_all, axis_name="i", devices=on_devices)),
        ):
            states = jax.device_get(jax.block_until_ready(function(stack(parts))))
            _require_on_all(s, f"all_reduce under {way} on {devices}", states, parts)


def _sharded(reduce_all: Callable[[State], State], devices: list[Any]) -> Any:
    """The same on stacked states, one to a device."""

    def on_device(states: State) -> State:
        own = jax.tree.map(lambda x: x[0], states)
        stacked: State = jax.tree.map(lambda x: x[None], reduce_all(own))
        return stacked

    mesh, spec = Mesh(np.asarray(devices), ("i",)), PartitionSpec("i")
    return jax.jit(jax.shard_map(on_device, mesh=mesh, in_specs=spec, out_specs=spec))


def _require_on_all(s: Subject, what: str, states: Any, parts: list[State]) -> None:
    """Requires the merge of the parts on every device, with the same bits on each."""
    ranks = range(len(parts))
    on_each = [jax.tree.map(lambda x, i=i: jnp.asarray(x[i]), states) for i in ranks]
    s.same_answer(what, on_each[0], functools.reduce(s.merge, parts))
    for other in on_each[1:]:
        same(f"{what}, on another device,", other, on_each[0])


# --- rows ----------------------------------------------------------------------------


def _weights_are_repetitions(s: Subject) -> None:
    if not s.weighs:
        return
    half = np.arange(s.rows) < s.rows // 2
    zero = np.where(half, s.weight, np.float32(0))
    s.same_answer("weight 0", s.state(s.batch(weight=zero)), s.state(s.batch(half)))
    index = np.arange(s.rows) % (s.rows // 2)
    twice = {name: x[index] for name, x in s.whole.items()}
    pairs = np.arange(s.rows) < 2 * (s.rows // 2)
    once = s.state(s.batch(half, 2 * s.weight))
    repeated = s.state(s.batch(pairs, s.weight[index], twice))
    close("the result of weight 2", s.result(once), s.result(repeated))


def _order_does_not_matter(s: Subject) -> None:
    order = s.random.permutation(s.rows)
    shuffled = {name: x[order] for name, x in s.whole.items()}
    keep = np.arange(s.rows) % 4 != 1
    state = s.state(s.batch(keep[order], s.weight[order], shuffled))
    s.same_answer("rows in another order", state, s.state(s.batch(keep)))
    backwards = s.state(*[s.batch(chunk) for chunk in s.chunks[::-1]])
    s.same_answer("batches in another order", backwards, s.total)
    inside = {name: x[::-1] for name, x in s.batches[0].items()}
    s.same_answer("a batch backwards", s.state(inside), s.state(s.batches[0]))


def _masked_rows_may_hold_anything(s: Subject) -> None:
    drop = np.arange(s.rows) % 3 == 1
    dirty = {name: _garbage(x, drop) for name, x in s.whole.items()}
    if s.masks:
        weight = _garbage(s.weight, drop)
        clean = s.state(s.batch(~drop))
        same(
            "a state with garbage masked", s.state(s.batch(~drop, weight, dirty)), clean
        )
        nothing = s.batch(np.zeros_like(drop), weight, dirty)
        same("a state after a wholly masked batch", s.update(clean, nothing), clean)
    if s.weighs:
        zero = np.where(drop, np.float32(0), s.weight)
        clean = s.state(s.batch(weight=zero))
        same(
            "a state with garbage of weight 0",
            s.state(s.batch(None, zero, dirty)),
            clean,
        )


def _garbage(x: Array, where: Array) -> Array:
    """The same with values in these rows that no metric can take."""
    x = x.copy()
    if x.dtype == bool:
        x[where] = ~x[where]
        return x
    if jnp.issubdtype(x.dtype, jnp.floating):
        wild: list[Any] = [np.nan, -1, np.inf, -np.inf, 1e30, 0.7]
    else:
        info = np.iinfo(x.dtype)
        wild = [info.min, info.max, 99, max(info.min, -1)]
    count = int(np.sum(where))
    rows = np.resize(np.asarray(wild, x.dtype), (count,))
    x[where] = rows.reshape(count, *[1] * (x.ndim - 1))
    return x


def _nan_is_never_swallowed(s: Subject) -> None:
    row = np.arange(s.rows) == 2
    batches = []
    for name, x in s.whole.items():
        if jnp.issubdtype(x.dtype, jnp.floating):
            poisoned = {**s.whole, name: np.where(_rows(row, x), np.float32(np.nan), x)}
            batches.append((name, s.batch(None, None, poisoned)))
    if s.weighs:
        nan = np.where(row, np.float32(np.nan), s.weight)
        batches.append((WEIGHT, s.batch(weight=nan)))
    some = all if len(s.metric.accumulator.parts) == 1 else any
    for name, batch in batches:
        state = s.merge(s.update(s.state(batch), s.batch()), s.total)
        leaves = [_spoiled(np.asarray(x)) for x in jax.tree.leaves(s.result(state))]
        result = s.result(state)
        require(some(leaves), f"NaN in an unmasked row of {name} gives {result}")


def _rows(rows: Array, like: Array) -> Array:
    return rows.reshape(-1, *[1] * (like.ndim - 1))


def _spoiled(x: Array) -> bool:
    """NaN, or the integer that stands for it."""
    if jnp.issubdtype(x.dtype, jnp.floating):
        return bool(np.all(np.isnan(x)))
    if jnp.issubdtype(x.dtype, jnp.integer):
        info = np.iinfo(x.dtype)
        return bool(np.all(x == (info.min if info.min < 0 else info.max)))
    return True


def _low_precision_is_widened(s: Subject) -> None:
    for dtype in (jnp.bfloat16, jnp.float16, jnp.int8, jnp.uint8):
        low = {name: _lowered(x, np.dtype(dtype)) for name, x in s.batch().items()}
        what = f"an update with {np.dtype(dtype)} inputs"
        close(what, *_low_and_wide(s, low), two_floats=True)


def _booleans_are_numbers(s: Subject) -> None:
    """Inputs that hold nothing but 0 and 1 may be boolean, unless they name slices."""
    binary = [k for k, x in s.whole.items() if np.all((x == 0) | (x == 1))]
    flags = [name for name in binary if name != IDS]
    if flags:
        low = s.batch()
        low |= {name: low[name].astype(bool) for name in flags}
        states = _low_and_wide(s, low)
        close(f"an update with boolean {', '.join(flags)}", *states, two_floats=True)


def _low_and_wide(s: Subject, low: Batch) -> tuple[State, State]:
    wide = {k: x if k == MASK else x.astype(s.batch()[k].dtype) for k, x in low.items()}
    return s.metric.update(s.metric.init(), **low), s.state(wide)


def _lowered(x: Array, dtype: np.dtype[Any]) -> Array:
    """Floats in the dtype; integers too, where they fit and it is an integer dtype."""
    if x.dtype == bool:
        return x
    if jnp.issubdtype(dtype, jnp.floating):
        real = jnp.issubdtype(x.dtype, jnp.floating)
        return np.clip(x, -FLOAT16_MAX, FLOAT16_MAX).astype(dtype) if real else x
    info = np.iinfo(dtype)
    if jnp.issubdtype(x.dtype, jnp.floating):
        return np.clip(np.rint(x), info.min, info.max).astype(dtype)
    fits = not x.size or (x.min() >= info.min and x.max() <= info.max)
    return x.astype(dtype) if fits else x


def _inputs_are_left_alone(s: Subject) -> None:
    batch = s.batch()
    before = {name: x.copy() for name, x in batch.items()}
    given = s.state(s.batches[0])
    state = jax.tree.map(lambda x: jnp.array(x, copy=True), given)
    with operation_by_operation():
        s.metric.update(state, **batch)
        s.metric.merge(state, state)
    same("the batch after update", batch, before)
    same("the state after update and merge", state, given)


UPDATE_LAWS: Mapping[str, Callable[[Subject], None]] = {
    "strict types": _strict_types_pass,
    "state type": _type_never_changes,
    "init identity": _init_is_the_identity,
    "merge associative": _merge_is_associative,
    "update merges": _update_merges_the_batch,
    "batch cuts": _cuts_do_not_matter,
    "row order": _order_does_not_matter,
    "weights": _weights_are_repetitions,
    "masks": _masked_rows_may_hold_anything,
    "NaN": _nan_is_never_swallowed,
    "loops": _loops_are_updates,
    "one trace": _equal_metrics_share_a_trace,
    "guards": _guards_pass,
    "x64": _x64_changes_precision_alone,
    "donation": _donation,
    "all_reduce": _all_reduce_is_merge,
}
RUN_LAWS: Mapping[str, Callable[[Subject], None]] = {
    "eager": _eager_is_jit,
    "inputs": _inputs_are_left_alone,
    "low precision": _low_precision_is_widened,
    "booleans": _booleans_are_numbers,
}
