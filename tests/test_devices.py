"""The ways of being parallel on simulated devices: one answer, and what it costs.

All ways see the same two batches. Counts must be those of one device bit for bit,
weights and losses within 1e-6. What travels between devices is read from the compiled
program. Every step is waited for: devices that run ahead of each other on few cores
can deadlock.
"""

import functools
import math
import re

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P

import jaxmetrics as jm
from jaxmetrics import reduction
from jaxmetrics.numerics import add_two_floats

METRICS = jm.Collection(
    precision=jm.Precision(),
    curve=jm.ROCCurve(num_thresholds=9),
    auc=jm.AUC(num_thresholds=9).with_inputs(sample_weight="weight"),
    auroc=jm.AUROC(num_cells=15),
    weighted_auroc=jm.AUROC(num_cells=15).with_inputs(sample_weight="weight"),
    loss=jm.Mean().with_inputs(values="loss", sample_weight="weight"),
)
ROWS = 64
REAL_ROWS = 50  # so that of 8 shards the last is padding alone, and one has both


def make_batch(seed, rows=ROWS, real_rows=REAL_ROWS):
    """A padded batch with garbage in the rows that its mask removes."""
    rng = np.random.default_rng(seed)
    batch, mask = jm.pad_batch(
        {
            "y_true": rng.integers(0, 2, real_rows, np.int32),
            "y_pred": rng.random(real_rows, np.float32),
            "loss": 2 + rng.standard_normal(real_rows, np.float32),
            "weight": rng.random(real_rows, np.float32),
        },
        rows,
    )
    for name, garbage in (("y_true", -1), ("y_pred", np.nan), ("loss", np.inf)):
        batch[name] = np.where(mask, batch[name], batch[name].dtype.type(garbage))
    return {**batch, "mask": mask}


BATCHES = [make_batch(0), make_batch(1)]
STACKED = jax.tree.map(lambda *x: np.stack(x), *BATCHES)  # (steps, rows)


def make_mesh(devices, kind=AxisType.Auto, shape=None, names=("data",)):
    """A mesh over the first so many devices."""
    shape = shape or (devices,)
    return jax.make_mesh(
        shape, names, (kind,) * len(names), devices=jax.devices()[:devices]
    )


@functools.partial(jax.jit, donate_argnums=0)
def step(state, batch):
    """One update, which may reuse the buffers of the state."""
    return METRICS.update(state, **batch)


def count_sharded(mesh):
    """The state after both batches, each sharded by rows over the mesh."""
    state = jax.device_put(METRICS.init(), NamedSharding(mesh, P()))
    for batch in BATCHES:
        batch = jax.device_put(batch, NamedSharding(mesh, P("data")))
        state = jax.block_until_ready(step(state, batch))
    return state


@functools.cache
def on_one_device():
    """The state after both batches on a single device."""
    return jax.device_get(count_sharded(make_mesh(1)))


def assert_same_state(state, expected):
    """Words agree bit for bit, two-float sums to 1e-6."""
    assert jax.tree.structure(state) == jax.tree.structure(expected)
    for ours, theirs in zip(*map(jax.tree.leaves, (state, expected)), strict=True):
        ours, theirs = np.asarray(ours), np.asarray(theirs)
        assert (ours.shape, ours.dtype) == (theirs.shape, theirs.dtype)
        if ours.dtype == np.uint32:
            np.testing.assert_array_equal(ours, theirs)
        else:
            sums = ours.astype(float).sum(0), theirs.astype(float).sum(0)
            np.testing.assert_allclose(*sums, rtol=1e-6)


# --- one answer -----------------------------------------------------------------------


def test_one_device_counts_what_numpy_counts():
    """The state that all ways are compared with is itself right."""
    state = on_one_device()
    true, pred, loss, weight = (
        np.concatenate([b[name][b["mask"]] for b in BATCHES])
        for name in ("y_true", "y_pred", "loss", "weight")
    )

    @jax.jit
    def read(state):
        states = [
            METRICS.member_state(state, name) for name in ("curve", "auc", "loss")
        ]
        counts = METRICS["curve"].accumulator.compute(states[0])
        weights = METRICS["auc"].accumulator.compute(states[1])
        return counts, weights, METRICS["loss"].compute(states[2])

    counts, weights, mean = read(state)
    above = pred > np.array(jm.even_thresholds(9), np.float32)[:, None]
    np.testing.assert_array_equal(counts.true_positives, (above & (true == 1)).sum(1))
    np.testing.assert_array_equal(counts.true_negatives, (~above & (true == 0)).sum(1))
    positives = np.where(above & (true == 1), weight.astype(float), 0).sum(1)
    np.testing.assert_allclose(weights.true_positives, positives, rtol=1e-6)
    assert float(mean) == pytest.approx(np.average(loss, weights=weight), rel=1e-6)


@pytest.mark.parametrize("devices", [2, 4, 8])
def test_jit_over_auto_axes_counts_as_one_device_does(devices):
    """Sharded arrays under plain jit: the state is global, and nothing is written."""
    assert_same_state(count_sharded(make_mesh(devices)), on_one_device())


@pytest.mark.parametrize("devices", [4, 8])
def test_jit_over_explicit_axes_counts_as_one_device_does(devices):
    """Sharding in types, as `jax.make_mesh` has it unless told otherwise."""
    state = count_sharded(make_mesh(devices, AxisType.Explicit))
    assert_same_state(state, on_one_device())


def test_numpy_batches_under_in_shardings_count_as_one_device_does():
    """The sharding is known to jit alone: while tracing there is no mesh to see."""
    mesh = make_mesh(8)
    placed = tuple(NamedSharding(mesh, spec) for spec in (P(), P("data")))
    counting = jax.jit(
        lambda state, batch: METRICS.update(state, **batch), in_shardings=placed
    )
    state = jax.device_put(METRICS.init(), placed[0])
    for batch in BATCHES:
        state = jax.block_until_ready(counting(state, batch))
    assert_same_state(state, on_one_device())


def test_rows_that_the_devices_do_not_divide_count_the_same():
    """Rows cut off inside jit leave 50 rows on 8 devices, an uneven sharding."""
    mesh = make_mesh(8)

    @jax.jit
    def uneven(state, batch):
        return METRICS.update(state, **{k: x[:REAL_ROWS] for k, x in batch.items()})

    state = jax.device_put(METRICS.init(), NamedSharding(mesh, P()))
    for batch in BATCHES:
        batch = jax.device_put(batch, NamedSharding(mesh, P("data")))
        state = jax.block_until_ready(uneven(state, batch))
    assert_same_state(state, on_one_device())


WITH_SLICES = jm.Collection(
    auc=jm.AUC(num_thresholds=9),
    weighted_auroc=jm.AUROC(num_cells=15).with_inputs(sample_weight="weight"),
    slices=jm.Sliced(jm.Precision(), 3),
    areas=jm.Sliced(jm.AUROC(num_cells=15), 3),
    losses=jm.Sliced(jm.Mean(), 3).with_inputs(values="loss", sample_weight="weight"),
    window=jm.Windowed(jm.Precision(), 2),
    exact=jm.ExactAUROC(REAL_ROWS),
)


def test_a_batch_without_rows_changes_nothing_inside_shard_map():
    """Compiled from nothing, it has the types of one with rows."""
    metric = WITH_SLICES
    first = {**BATCHES[0], "slice_ids": np.arange(ROWS, dtype=np.int32) % 3}
    nothing = {name: x[:0] for name, x in first.items()}
    state = jax.jit(metric.update)(metric.init(), **first)

    @jax.shard_map(mesh=make_mesh(4), in_specs=(P(), P("data")), out_specs=P())
    def add(state, batch):
        latest = metric.update(metric.init(), **batch)
        return metric.merge(state, metric.all_reduce(latest, "data"))

    after = jax.block_until_ready(jax.jit(add)(state, nothing))
    compute = jax.jit(metric.compute)
    chex.assert_trees_all_equal(compute(jax.device_get(after)), compute(state))


EXPLICIT = jm.Collection(
    rows=jm.Recall(),
    many=jm.Recall(thresholds=tuple(i / 10 for i in range(1, 10))),
    classes=jm.Recall(num_classes=4).with_inputs(y_true="labels", y_pred="scores"),
    flat=jm.Precision(top_k=2).with_inputs(y_true="labels", y_pred="scores"),
    area=jm.AUROC(num_cells=15),
    mean=jm.Mean().with_inputs(values="scores"),
    exact=jm.ExactAUROC(8),
    sliced=jm.Sliced(jm.Recall(), 3, minimum_count=1),
    several=jm.Sliced(jm.Recall(), 3).with_inputs(slice_ids="several"),
    flagged=jm.Sliced(jm.Mean(), 3).with_inputs(values="scores", slice_ids="flags"),
)


@pytest.mark.parametrize(
    ("devices", "rows", "whole"),
    [(1, 0, None), (1, 8, None), (2, 0, None), (2, 8, "sample_weight")],
)
def test_explicit_axes_of_any_size_split_some_inputs_and_not_others(
    devices, rows, whole
):
    """Of one device too, and of rows that there are none of."""
    rng = np.random.default_rng(7)
    batch = {
        "y_true": rng.integers(0, 2, rows).astype(np.float32),
        "y_pred": rng.random(rows, np.float32),
        "labels": rng.integers(0, 2, (rows, 4)).astype(np.float32),
        "scores": rng.random((rows, 4), np.float32),
        "sample_weight": np.float32(rng.integers(1, 5, rows)),
        "mask": rng.random(rows) < 0.7,
        "slice_ids": rng.integers(-1, 3, rows).astype(np.int32),
        "several": rng.integers(-1, 3, (rows, 2)).astype(np.int32),
        "flags": rng.random((rows, 3)) < 0.5,
    }
    update = jax.jit(lambda batch: EXPLICIT.update(EXPLICIT.init(), **batch))
    mesh = make_mesh(devices, AxisType.Explicit)
    placed = {
        name: jax.device_put(
            x, NamedSharding(mesh, P() if name == whole else P("data"))
        )
        for name, x in batch.items()
    }
    chex.assert_trees_all_close(update(placed), update(batch), rtol=1e-6)


@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit], ids=str)
def test_rows_and_classes_may_be_sharded_over_two_axes(kind):
    """Scores of shape (rows, classes) over a mesh of data by model."""
    metric = jm.ConfusionCounts(num_classes=4)
    rng = np.random.default_rng(2)
    batch = {
        "y_true": rng.integers(0, 2, (ROWS, 4), np.int32),
        "y_pred": rng.random((ROWS, 4), np.float32),
        "mask": np.arange(ROWS) < REAL_ROWS,
    }
    counting = jax.jit(lambda batch: metric.update(metric.init(), **batch))
    expected = counting(batch)
    mesh = make_mesh(8, kind, (4, 2), ("data", "model"))
    sharded = {
        name: jax.device_put(
            x, NamedSharding(mesh, P("data", "model") if x.ndim == 2 else P("data"))
        )
        for name, x in batch.items()
    }
    state = jax.block_until_ready(counting(sharded))
    assert_same_state(state, expected)
    positives = (batch["y_true"] * batch["mask"][:, None]).sum(0)
    counts = jax.jit(metric.compute)(jax.device_get(state))
    np.testing.assert_array_equal(
        counts.true_positives + counts.false_negatives, positives
    )


SPLIT_OTHERWISE = {
    "the second axis": (P(None, "data"), {}),
    "two axes": (P("data", "model"), {}),
    "the last two axes": (P(None, "data", "model"), {}),
    "two axes, by class": (P("model", "data"), {"num_classes": 4}),
    "the classes": (P("data", None, "model"), {"num_classes": 4}),
}


@pytest.mark.parametrize("how", SPLIT_OTHERWISE)
def test_explicit_axes_may_split_any_axis_of_the_inputs(how):
    """Tokens (batch, time, labels), however sharded, count where they are."""
    spec, options = SPLIT_OTHERWISE[how]
    rng = np.random.default_rng(3)
    shape = (4, 8, 4)
    batch = {
        "y_true": rng.integers(0, 2, shape, np.int32),
        "y_pred": rng.random(shape, np.float32),
        "sample_weight": rng.random((*shape[:2], 1), np.float32),
    }
    metrics = jm.Collection(
        counts=jm.ConfusionCounts(**options),
        mean=jm.Mean().with_inputs(values="y_pred"),
    )
    mask = np.arange(4) < 3  # not sharded, unlike what it belongs to
    counting = jax.jit(lambda b: metrics.update(metrics.init(), **b, mask=mask))
    mesh = make_mesh(8, AxisType.Explicit, (4, 2), ("data", "model"))
    whole = P(*spec[:2])
    sharded = {
        name: jax.device_put(
            x, NamedSharding(mesh, whole if name == "sample_weight" else spec)
        )
        for name, x in batch.items()
    }
    compiled = counting.lower(sharded).compile()
    if how != "the classes":
        assert "all-gather" not in compiled.as_text()
    state = jax.block_until_ready(compiled(sharded))
    assert_same_state(state, counting(batch))


def test_classes_that_explicit_axes_split_cannot_be_compared():
    """The k best of a row are not to be seen where a device has a part of the row."""
    mesh = make_mesh(2, AxisType.Explicit)
    scores = jax.device_put(np.ones((4, 6)), NamedSharding(mesh, P(None, "data")))
    with pytest.raises(ValueError, match=r"mesh axes \('data',\) split it; gather"):
        jax.eval_shape(jm.Recall(top_k=2), y_true=scores, y_pred=scores)


DISAGREEING = {
    "rows": (P("data"), P("model")),
    "rows by one and by two axes": (P("data"), P(("data", "model"))),
    "rows and columns": (P("data", None), P(None, "data")),
}


@pytest.mark.parametrize("what", DISAGREEING)
def test_inputs_that_are_sharded_in_different_ways_are_refused(what):
    """With the ways named, and the way out."""
    mesh = make_mesh(8, AxisType.Explicit, (4, 2), ("data", "model"))
    specs = DISAGREEING[what]
    shape = (8,) * max(map(len, specs))
    true, pred = (
        jax.device_put(np.ones(shape), NamedSharding(mesh, spec)) for spec in specs
    )
    for names, metric in (
        (("y_true", "y_pred"), jm.Precision()),
        (("values", "sample_weight"), jm.Mean()),
    ):
        with pytest.raises(ValueError, match=r"in different ways.*reshard"):
            jax.eval_shape(metric, **dict(zip(names, (true, pred), strict=True)))


def scanned(batches, *, varying=()):
    """The state of one device's share: a scan over its steps."""
    start = METRICS.init()
    if varying:
        start = jax.lax.pcast(start, varying, to="varying")

    def one_step(state, batch):
        return METRICS.update(state, **batch), None

    return jax.lax.scan(one_step, start, batches)[0]


REPLICATED = P()


def over_shards(function, mesh, *, out_specs=REPLICATED, **options):
    """A jitted `shard_map` of a function of (steps, rows) batches, split by rows."""
    return jax.jit(
        jax.shard_map(
            function,
            mesh=mesh,
            in_specs=P(None, "data"),
            out_specs=out_specs,
            **options,
        )
    )


@pytest.mark.parametrize("devices", [2, 8])
def test_shard_map_counts_as_one_device_does(devices):
    """Each device scans its rows and reduces once; the types say what still varies."""

    def counting(batches):
        return METRICS.all_reduce(scanned(batches, varying="data"), "data")

    state = over_shards(counting, make_mesh(devices))(STACKED)
    assert_same_state(jax.block_until_ready(state), on_one_device())


def test_shard_map_without_types_counts_as_one_device_does():
    """With `check_vma=False` a fresh state is a carry as it is."""

    def counting(batches):
        return METRICS.all_reduce(scanned(batches), "data")

    state = over_shards(counting, make_mesh(8), check_vma=False)(STACKED)
    assert_same_state(jax.block_until_ready(state), on_one_device())


def per_device(devices):
    """The batches as (devices, steps, rows of one device)."""
    return jax.tree.map(
        lambda x: np.moveaxis(x.reshape(len(x), devices, -1), 1, 0), STACKED
    )


@pytest.mark.parametrize(("way", "devices"), [(jax.pmap, 8), (jax.vmap, 4)])
def test_pmap_and_vmap_with_an_axis_name_count_as_one_device_does(way, devices):
    """Every device, or lane, ends with the same state; one copy is the answer."""

    def counting(batches):
        return METRICS.all_reduce(scanned(batches), "data")

    mapped = jax.jit(way(counting, axis_name="data"))
    stacked = jax.block_until_ready(mapped(per_device(devices)))
    for copy in (0, devices - 1):
        state = jax.tree.map(lambda x, copy=copy: np.asarray(x)[copy], stacked)
        assert_same_state(state, on_one_device())


def test_a_donated_state_gives_its_buffers_to_the_next():
    """Under jit with a sharded batch the old state is gone and the new one right."""
    mesh = make_mesh(8)
    state = jax.device_put(METRICS.init(), NamedSharding(mesh, P()))
    for batch in BATCHES:
        batch = jax.device_put(batch, NamedSharding(mesh, P("data")))
        old, state = state, step(state, batch)
        jax.block_until_ready(state)
        assert all(x.is_deleted() for x in jax.tree.leaves(old))
    assert_same_state(state, on_one_device())


# --- small metrics in odd places ------------------------------------------------------


SMALL = jm.Collection(
    precision=jm.Precision(),
    loss=jm.Mean().with_inputs(values="loss", sample_weight="weight"),
)


def test_a_step_may_return_a_reduced_state():
    """If it merges the reduced state of its batch alone, as README has it."""
    mesh = make_mesh(4)

    @jax.jit
    @jax.shard_map(mesh=mesh, in_specs=(P(), P("data")), out_specs=P())
    def reducing_step(state, batch):
        own = METRICS.update(METRICS.init(), **batch)
        return METRICS.merge(state, METRICS.all_reduce(own, "data"))

    state = METRICS.init()
    for batch in BATCHES:
        state = jax.block_until_ready(reducing_step(state, batch))
    assert_same_state(state, on_one_device())


def test_a_reduced_state_is_returned_as_it_is():
    """Where types tell, reducing again multiplies nothing and sends nothing."""

    def counting(batch):
        reduced = SMALL.all_reduce(SMALL.update(SMALL.init(), **batch), "data")
        return reduced, SMALL.all_reduce(reduced, "data")

    mesh = make_mesh(8)
    mapped = jax.jit(
        jax.shard_map(counting, mesh=mesh, in_specs=P("data"), out_specs=P())
    )
    compiled = mapped.lower(BATCHES[0]).compile()
    once, twice = jax.block_until_ready(compiled(BATCHES[0]))
    for a, b in zip(*map(jax.tree.leaves, (once, twice)), strict=True):
        np.testing.assert_array_equal(a, b)
    assert len(collectives(compiled)) == 1


def test_two_axes_reduce_at_once_or_one_after_the_other():
    """A mesh of data by model, with the rows over both."""
    mesh = make_mesh(8, shape=(4, 2), names=("data", "model"))

    def counting(batch):
        state = SMALL.update(SMALL.init(), **batch)
        at_once = SMALL.all_reduce(state, ("data", "model"))
        in_turn = SMALL.all_reduce(SMALL.all_reduce(state, "data"), "model")
        return at_once, in_turn

    mapped = jax.shard_map(
        counting, mesh=mesh, in_specs=P(("data", "model")), out_specs=P()
    )
    at_once, in_turn = jax.block_until_ready(jax.jit(mapped)(BATCHES[0]))
    expected = jax.jit(lambda batch: SMALL.update(SMALL.init(), **batch))(BATCHES[0])
    assert_same_state(at_once, expected)
    assert_same_state(in_turn, expected)


def test_several_models_are_counted_side_by_side_on_each_device():
    """`vmap` over models inside `shard_map` over rows, reduced inside the `vmap`."""
    metric = jm.Precision()
    batch = BATCHES[0]
    scores = np.stack([batch["y_pred"], 1 - batch["y_pred"], np.sqrt(batch["y_pred"])])

    def counting(scores, true, mask):
        def one_model(scores):
            state = metric.update(metric.init(), true, scores, mask=mask)
            return metric.all_reduce(state, "data")

        return jax.vmap(one_model)(scores)

    mapped = jax.jit(
        jax.shard_map(
            counting,
            mesh=make_mesh(8),
            in_specs=(P(None, "data"), P("data"), P("data")),
            out_specs=P(),
        )
    )
    states = jax.block_until_ready(mapped(scores, batch["y_true"], batch["mask"]))
    values = jax.jit(jax.vmap(metric.compute))(jax.device_get(states))
    keep = batch["mask"]
    for value, model in zip(values, scores, strict=True):
        predicted = model[keep] > 0.5
        hits = batch["y_true"][keep][predicted]
        assert float(value) == pytest.approx(hits.sum() / len(hits))


# --- what travels ---------------------------------------------------------------------


COLLECTIVE = re.compile(
    r"= (\S.*?) ((?:ragged-)?all-[a-z-]+|reduce-scatter|collective-[a-z]+)(?:-start)?\("
)
BYTES = {"pred": 1, "s8": 1, "u8": 1, "bf16": 2, "s32": 4, "u32": 4, "f32": 4}
BYTES |= {"u64": 8}


def collectives(compiled):
    """The kind and the bytes of each collective in a compiled program."""
    found = []
    for line in compiled.as_text().splitlines():
        for shapes, kind in COLLECTIVE.findall(line):
            sizes = re.findall(r"(\w+)\[([\d,]*)\]", shapes)
            size = sum(
                BYTES[dtype] * math.prod(int(n) for n in dims.split(",") if n)
                for dtype, dims in sizes
            )
            found.append((kind, size))
    return found


def bytes_of(tree):
    """How large the arrays of a state are."""
    return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(tree))


MANY_ROWS = 2**17


@pytest.fixture(scope="module")
def many_rows():
    """A batch in which any column is far larger than the state."""
    batch = make_batch(3, MANY_ROWS, MANY_ROWS - 3)
    assert min(x.nbytes for x in batch.values()) > 30 * bytes_of(METRICS.init())
    return batch


def test_a_sort_of_sharded_rows_is_seen_to_gather_them(many_rows):
    """What the other tests look for is found where it is known to be."""
    x = jax.device_put(many_rows["y_pred"], NamedSharding(make_mesh(8), P("data")))
    found = collectives(jax.jit(jnp.sort).lower(x).compile())
    assert sum(size for _, size in found) >= x.nbytes


@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit], ids=str)
def test_an_update_over_sharded_rows_sends_states_and_no_rows(kind, many_rows):
    """All that travels is of the size of the state, whatever the number of rows."""
    mesh = make_mesh(8, kind)
    batch = jax.device_put(many_rows, NamedSharding(mesh, P("data")))
    state = jax.device_put(METRICS.init(), NamedSharding(mesh, P()))
    found = collectives(step.lower(state, batch).compile())
    assert found
    assert {kind for kind, _ in found} == {"all-reduce"}
    assert sum(size for _, size in found) <= 3 * bytes_of(state)


def test_an_update_inside_shard_map_sends_nothing():
    """A device sees its own rows only, until the state is reduced."""

    def counting(batches):
        state = scanned(batches, varying="data")
        return jax.tree.map(lambda x: x[None], state)

    mapped = over_shards(counting, make_mesh(8), out_specs=P("data"))
    assert collectives(mapped.lower(STACKED).compile()) == []


def test_reducing_a_collection_is_one_all_reduce():
    """Words are added and two-floats gathered by one collective for all metrics."""
    mesh = make_mesh(8)
    stacked = jax.tree.map(lambda x: jnp.stack([x] * 8), METRICS.init())

    def reduce(stacked):
        return METRICS.all_reduce(jax.tree.map(lambda x: x[0], stacked), "data")

    mapped = jax.shard_map(reduce, mesh=mesh, in_specs=P("data"), out_specs=P())
    found = collectives(jax.jit(mapped).lower(stacked).compile())
    assert [kind for kind, _ in found] == ["all-reduce"]
    floats = [x for x in jax.tree.leaves(METRICS.init()) if x.dtype != jnp.uint32]
    assert found[0][1] <= bytes_of(METRICS.init()) + 8 * bytes_of(floats)


# --- folded leaves --------------------------------------------------------------------


def folded(stack):
    """Two-float sums of several devices, merged one after the other."""
    return functools.reduce(jax.jit(add_two_floats), list(stack))


def reduce_record(record):
    """Adds words, and merges two-floats in rank order."""

    def merge(a, b):
        return {"words": a["words"] + b["words"], "sums": add_two_floats(*pair(a, b))}

    return reduction.reduce_over(record, "data", merge)


def pair(a, b):
    """The two-floats of two records."""
    return a["sums"], b["sums"]


def records(length, ranks):
    """A record of each device: words, and two-floats of widely different size."""
    rng = np.random.default_rng(length)
    sums = rng.standard_normal((ranks, 2, length)) * 10.0 ** rng.integers(-9, 9, length)
    sums[:, 1] *= 2.0**-30
    words = rng.integers(0, 2**21, (ranks, 2, 5), np.uint32)
    return {"words": words, "sums": sums.astype(np.float32)}


# 10,000 elements in all, and a length that 8 devices do not divide.
@pytest.mark.parametrize("length", [3, 5_000, 5_001])
def test_folded_leaves_merge_in_rank_order_whatever_their_length(length):
    """Short leaves are gathered and long ones cut in pieces; the bits are the same."""
    stacked = records(length, 8)

    def reduce(stacked):
        return reduce_record(jax.tree.map(lambda x: x[0], stacked))

    mapped = jax.shard_map(reduce, mesh=make_mesh(8), in_specs=P("data"), out_specs=P())
    compiled = jax.jit(mapped).lower(stacked).compile()
    result = jax.block_until_ready(compiled(stacked))
    np.testing.assert_array_equal(result["words"], stacked["words"].sum(0))
    np.testing.assert_array_equal(result["sums"], folded(stacked["sums"]))
    kinds = {kind for kind, _ in collectives(compiled)}
    long = length > 3
    assert kinds == ({"all-reduce", "all-to-all"} if long else {"all-reduce"})
    own = bytes_of(jax.tree.map(lambda x: x[0], stacked))
    if long:  # the pieces in, the merged pieces out: not one state for each device
        assert sum(size for _, size in collectives(compiled)) <= 2.1 * own


@pytest.mark.parametrize("length", [3, 5_000])
def test_folded_leaves_merge_the_same_under_vmap(length):
    """An axis of `vmap` is no mesh axis, and its ranks are lanes."""
    stacked = records(length, 4)
    result = jax.jit(jax.vmap(reduce_record, axis_name="data"))(stacked)
    for lane in range(4):
        np.testing.assert_array_equal(result["sums"][lane], folded(stacked["sums"]))


def test_bits_of_folded_leaves_survive_the_journey():
    """Negative zero, NaN, infinity and the smallest numbers arrive as they were."""
    values = np.array([-0.0, np.nan, np.inf, -np.inf, 1e-45, 3e38], np.float32)
    stacked = np.stack([values, values[::-1]])

    def last(x):
        return reduction.reduce_over(x, "data", lambda a, b: b)

    result = jax.jit(jax.vmap(last, axis_name="data"))(stacked)
    np.testing.assert_array_equal(
        np.asarray(result).view(np.uint32), np.stack([values[::-1]] * 2).view(np.uint32)
    )


@pytest.mark.parametrize("rows", [24, 40_000])
def test_a_mesh_of_one_device_with_explicit_axes_is_no_special_case(rows: int) -> None:
    """An axis of size 1 is in every type all the same."""
    mesh = jax.make_mesh((1,), ("data",), devices=jax.devices()[:1])
    rng = np.random.default_rng(0)
    batch = {"y_true": rng.random(rows) < 0.5, "y_pred": rng.random(rows, np.float32)}
    update = jax.jit(jm.AUC(20).update)
    sharded = jax.device_put(batch, NamedSharding(mesh, P("data")))
    one, other = (update(jm.AUC(20).init(), **x) for x in (batch, sharded))
    assert all(map(np.array_equal, jax.tree.leaves(one), jax.tree.leaves(other)))
