"""Metrics by slice, against NumPy that takes the rows of each slice by themselves."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P

import jaxmetrics as jm
from jaxmetrics import groups, histogram

ROWS, SLICES = 24, 3
NAN = float("nan")


@partial(jax.jit, static_argnums=0)
def update(metric, state, batch):
    """One update, compiled once for equal metrics and shapes."""
    return metric.update(state, **batch)


@partial(jax.jit, static_argnums=0)
def compute(metric, state):
    """The result."""
    return metric.compute(state)


def after(metric, *batches):
    """The state after these batches."""
    state = metric.init()
    for batch in batches:
        state = update(metric, state, batch)
    return state


def made(seed):
    """A batch with ids of all slices, of which some rows are in none."""
    random = np.random.default_rng(seed)
    return {
        "y_true": np.float32(random.random(ROWS) < 0.5),
        "y_pred": np.float32(random.integers(0, 32, ROWS) / 32),
        "slice_ids": random.integers(-1, SLICES + 1, ROWS).astype(np.int32),
        "sample_weight": np.float32(random.integers(0, 5, ROWS) / 4),
        "mask": random.random(ROWS) < 0.75,
    }


BATCHES = [made(0), made(1)]
WHOLE = {name: np.concatenate([b[name] for b in BATCHES]) for name in BATCHES[0]}
MEMBER = WHOLE["slice_ids"][:, None] == np.arange(SLICES)
SEEN = np.float64(WHOLE["sample_weight"]) * WHOLE["mask"]


def recall(true, pred, weight):
    """Found by all positives."""
    return np.sum(weight * true * (pred > 0.5)) / np.sum(weight * true)


def by_slice(of, member, weight, whole=WHOLE):
    """A statistic of all rows, and of those of each slice."""
    true, pred = np.float64(whole["y_true"]), np.float64(whole["y_pred"])
    return of(true, pred, weight), [of(true, pred, weight * m) for m in member.T]


def assert_slices(result, expected):
    """Total and slices agree with float64."""
    np.testing.assert_allclose(result.total, expected[0], rtol=1e-6)
    np.testing.assert_allclose(result.slices, expected[1], rtol=1e-6)


# --- values --------------------------------------------------------------------------


def test_weighted_and_masked_slices_are_those_of_their_rows():
    """A ratio of counts, a mean and an area, each by slice and in total."""

    def mean(true, pred, weight):
        return np.average(pred, weights=weight)

    def area(true, pred, weight):
        pairs = np.outer(weight * true, weight * (1 - true))
        above = (pred[:, None] > pred) + (pred[:, None] == pred) / 2
        return np.sum(pairs * above) / np.sum(pairs)

    metrics = {
        "recall": (jm.Recall(), recall),
        "mean": (jm.Mean().with_inputs(values="y_pred"), mean),
        "area": (jm.AUROC(num_cells=63), area),
        "exact": (jm.ExactAUROC(2 * ROWS), area),
    }
    metric = jm.Collection({k: jm.Sliced(m, SLICES) for k, (m, _) in metrics.items()})
    result = compute(metric, after(metric, *BATCHES))
    for name, (_, of) in metrics.items():
        slices = jm.Recall, result[f"{name}/total"], result[f"{name}/slices"]
        expected = by_slice(of, MEMBER, SEEN)
        np.testing.assert_allclose(slices[1], expected[0], rtol=2e-6, err_msg=name)
        np.testing.assert_allclose(slices[2], expected[1], rtol=2e-6, err_msg=name)


def test_only_rows_that_count_are_counted_and_outside():
    """Masked rows and rows of weight 0 are in no slice, and outside none."""
    counted = jm.RowsBySlice(SLICES)
    rows = {k: WHOLE[k] for k in ("slice_ids", "sample_weight", "mask")}
    there = SEEN > 0
    found = compute(counted, after(counted, rows))
    np.testing.assert_array_equal(found, MEMBER[there].sum(0))
    metric = jm.Sliced(jm.Recall(), SLICES)
    outside = metric.outside(after(metric, *BATCHES))
    assert outside.dtype == jnp.int32
    assert outside == np.sum(~MEMBER[there].any(1)) > 0
    some = {**BATCHES[0], "sample_weight": np.float32(1), "mask": np.False_}
    assert metric.outside(after(metric, some)) == 0


@pytest.mark.parametrize(
    "metric", [jm.Recall(zero_division=1), jm.AUROC(num_cells=15), jm.ExactAUROC(24)]
)
def test_ids_that_are_equal_on_all_devices_are_counted_on_each(metric):
    """Rows differ there, of which neither the ids nor the mask say anything."""
    few = jm.Sliced(metric, SLICES, minimum_count=3)
    ids = np.int32([0, 1, -1, SLICES, 1, 2])
    true = np.repeat(np.float32([0, 1]), 6)
    rows = {"y_true": true, "y_pred": 1 - true}

    def read(rows, ids):
        state = few.all_reduce(few.update(few.init(), **rows, slice_ids=ids), "data")
        return few.compute(state).slices, few.outside(state)

    mesh = jax.make_mesh((2,), ("data",), (AxisType.Auto,))
    for of_ids, given in ((P(), ids), (P("data"), np.tile(ids, 2))):
        specs = P("data"), of_ids
        mapped = jax.shard_map(read, mesh=mesh, in_specs=specs, out_specs=P())
        slices, outside = jax.jit(mapped)(rows, given)
        assert outside == 4
        assert np.isnan(slices).tolist() == [True, False, True]


def test_a_weight_that_is_nothing_in_float32_is_no_row_in_any_path():
    """Of a row of one entry, of several ids, and of entries side by side."""
    with jax.enable_x64(True):
        rows = {"y_true": np.ones(9), "sample_weight": np.full(9, 1e-60)}
        ids = np.zeros(9, np.int32)
        metric = jm.Sliced(jm.Recall(), 3, minimum_count=1)
        for pred, named in ((1, ids), (1, ids[:, None]), (np.ones((9, 1)), ids)):
            pred = np.broadcast_to(pred, np.shape(pred) or 9)
            state = after(metric, {**rows, "y_pred": pred, "slice_ids": named})
            assert np.isnan(compute(metric, state).slices).all()


def test_a_row_counts_if_one_of_its_entries_is_kept_and_weighs_something():
    """Not if one is kept, and another weighs something."""
    metric = jm.RowsBySlice(2)
    weight, mask = np.float32([[0, 1], [1, 0]]), np.array([[True, False]] * 2)
    ids = np.array([0, 1], np.int32)
    rows = {"slice_ids": ids, "sample_weight": weight, "mask": mask}
    found = compute(metric, after(metric, rows))
    np.testing.assert_array_equal(found, [0, 1])


# --- ids -----------------------------------------------------------------------------


def several():
    """Two slices a row, some named twice and some -1."""
    random = np.random.default_rng(5)
    ids = random.integers(-1, SLICES, (2 * ROWS, 2)).astype(np.int32)
    ids[:6] = [[0, 0], [1, 1], [2, -1], [-1, 2], [-1, -1], [9, 0]]
    return ids, (ids[:, :, None] == np.arange(SLICES)).any(1)


def id_kinds():
    """Ids of every kind, with the slices that each row belongs to."""
    ids = WHOLE["slice_ids"]
    for dtype in ("int8", "uint8", "uint32"):  # -1 is 255, or 2^32 - 1
        yield dtype, ids.astype(dtype), MEMBER
    yield "several", *several()
    random = np.random.default_rng(6)
    yield "booleans", *[random.random((2 * ROWS, SLICES)) < 0.4] * 2


KINDS = {name: (ids, member) for name, ids, member in id_kinds()}


@pytest.mark.parametrize("kind", KINDS)
def test_ids_of_every_kind_put_rows_where_they_belong(kind):
    """Any integer dtype, several ids a row (each once), or a boolean for each slice."""
    ids, member = KINDS[kind]
    metric = jm.Sliced(jm.Recall(zero_division=NAN), SLICES, minimum_count=1)
    metric = jm.Collection(recall=metric, rows=jm.RowsBySlice(SLICES))
    state = after(metric, {**WHOLE, "slice_ids": ids})
    result = compute(metric, state)
    total, slices = by_slice(recall, member, SEEN)
    np.testing.assert_allclose(result["recall/total"], total, rtol=1e-6)
    np.testing.assert_allclose(result["recall/slices"], slices, rtol=1e-6)
    np.testing.assert_array_equal(result["rows"], member[SEEN > 0].sum(0))
    there = ids[SEEN > 0]
    outside = 0 if kind == "booleans" else np.sum((there < 0) | (there >= SLICES))
    found = metric["recall"].outside(metric.member_state(state, "recall"))
    assert found == outside


BEYOND = [2**31, 2**31 + 1, 2**32 - 1, 2**32, 2**32 + 1, 2**40, -(2**32), -1]


def test_ids_beyond_32_bits_are_outside_and_never_wrapped():
    """2^32 is not slice 0, under x64; nor is 2^31 + 1 without it."""
    metric = jm.Sliced(jm.Mean(), 2)
    with jax.enable_x64(True):
        ids = np.array([*BEYOND, 0], np.int64)
        state = after(metric, {"values": np.arange(9.0), "slice_ids": ids})
        assert metric.outside(state) == len(BEYOND)
        np.testing.assert_array_equal(compute(metric, state).slices, [8, NAN])
    ids = np.array([2**31, 2**31 + 1, 2**32 - 1, 2**32 - 2, 1], np.uint32)
    state = after(metric, {"values": np.arange(5.0), "slice_ids": ids})
    assert metric.outside(state) == 4
    np.testing.assert_array_equal(compute(metric, state).slices, [NAN, 4])
    ids = np.array([2**32, 1], np.int64)
    with pytest.raises(ValueError, match=r"slice_ids holds integers that do not fit"):
        jax.eval_shape(lambda: metric(values=np.zeros(2), slice_ids=ids))


def test_a_scalar_id_goes_with_scalar_values():
    """As in a loop over rows."""
    metric = jm.Sliced(jm.Mean(), 2, minimum_count=1)
    state = metric.init()
    for i, value in enumerate([1.0, 2.0, 6.0]):
        state = update(
            metric, state, {"values": np.float32(value), "slice_ids": np.int32(i % 2)}
        )
    assert_slices(compute(metric, state), (3, [3.5, 2]))


# --- bad values and few rows ---------------------------------------------------------


def test_a_nan_spoils_its_slice_the_total_and_what_is_read_over_all():
    """And no other slice."""
    sliced = jm.Sliced(jm.Recall(), SLICES)
    over = {"gap": sliced.gap(), "ratio": sliced.ratio(), "worst": sliced.worst()}
    metric = jm.Collection(over, best=sliced.worst("min"), by=sliced)
    batch = {
        k: x[:ROWS] for k, x in WHOLE.items() if k not in ("mask", "sample_weight")
    }
    clean = compute(metric, after(metric, batch))
    assert all(np.isfinite(x).all() for x in clean.values())
    place = np.flatnonzero(batch["slice_ids"] == 1)[0]
    bad = {**batch, "y_pred": batch["y_pred"].copy()}
    bad["y_pred"][place] = NAN
    state = after(metric, bad)
    result = compute(metric, state)
    np.testing.assert_array_equal(np.isnan(result["by/slices"]), [False, True, False])
    np.testing.assert_array_equal(result["by/slices"][::2], clean["by/slices"][::2])
    for name in ("by/total", "gap", "ratio", "worst", "best"):
        assert np.isnan(result[name]), name
    assert metric.validity(state)["by"].nan == 1
    # A bad row in no slice is one of the total.
    bad["slice_ids"] = np.where(np.arange(ROWS) == place, -1, batch["slice_ids"])
    result = compute(metric, after(metric, bad))
    assert np.isfinite(result["by/slices"]).all()
    assert np.isnan(result["by/total"])
    assert np.isnan(result["gap"])


def test_worst_gap_and_ratio_are_of_the_slices_with_a_value():
    """Of recalls 1/2, 1 and none at all."""
    batch = {"y_true": [1, 1, 1, 0], "y_pred": [0.9, 0.1, 0.8, 0.3]}
    batch = {k: np.float32(x) for k, x in batch.items()}
    batch["slice_ids"] = np.array([0, 0, 1, 2], np.int32)
    sliced = jm.Sliced(jm.Recall(zero_division=NAN), 3)
    metric = jm.Collection(
        low=sliced.worst("MAX"),
        high=sliced.worst(mode="min"),
        gap=sliced.gap(),
        ratio=sliced.ratio(),
        nothing=jm.Sliced(jm.Recall(zero_division=NAN), 3)
        .with_inputs(slice_ids="nowhere")
        .map(lambda by: by.slices),
    )
    assert len(metric.accumulator.parts) == 2
    batch["nowhere"] = np.full(4, 7, np.int32)
    result = compute(metric, after(metric, batch))
    assert [float(result[k]) for k in ("low", "high", "gap", "ratio")] == [
        0.5,
        1,
        0.5,
        0.5,
    ]
    assert np.isnan(result["nothing"]).all()
    nothing = compute(metric, metric.init())
    assert np.isnan([nothing["low"], nothing["gap"], nothing["ratio"]]).all()
    zero = jm.Sliced(jm.Recall(), 2).ratio()
    assert np.isnan(compute(zero, zero.init()))  # 0/0


def test_slices_of_few_rows_are_suppressed_and_left_out():
    """Rows of weight 0 are not among them; the total is that of all rows."""
    batch = {
        "y_true": np.ones(6, np.float32),
        "y_pred": np.float32([0.9, 0.1, 0.9, 0.9, 0.1, 0.1]),
        "slice_ids": np.array([0, 0, 1, 1, 2, 2], np.int32),
        "keep": np.array([1, 1, 1, 1, 1, 0], bool),
    }
    few = jm.Sliced(jm.Recall().with_inputs(mask="keep"), 3, minimum_count=2)
    metric = jm.Collection(
        by=few,
        gap=few.gap(),
        low=few.worst(),
        bf=jm.Sliced(
            jm.Recall(dtype="bfloat16").with_inputs(mask="keep"), 3, minimum_count=2
        ),
    )
    result = compute(metric, after(metric, batch))
    np.testing.assert_allclose(result["by/total"], 3 / 5)
    np.testing.assert_array_equal(result["by/slices"], [0.5, 1, NAN])
    assert (result["gap"], result["low"]) == (0.5, 0.5)
    assert result["bf/slices"].dtype == jnp.bfloat16
    once = {**batch, "slice_ids": batch["slice_ids"][:, None].repeat(2, 1)}
    np.testing.assert_array_equal(  # named twice, a row is one row
        compute(metric, after(metric, once))["by/slices"], [0.5, 1, NAN]
    )


def test_minimum_count_is_of_rows_in_every_part_and_of_any_age():
    """Of two parts with masks of their own, and in a moving average."""
    both = jm.Recall().with_inputs(mask="a") + jm.Precision().with_inputs(mask="b")
    metric = jm.Sliced(both, 3, minimum_count=2)
    batch = {
        "y_true": np.ones(6, np.float32),
        "y_pred": np.ones(6, np.float32),
        "slice_ids": np.array([0, 0, 1, 1, 2, 2], np.int32),
        "a": np.array([1, 1, 1, 0, 1, 1], bool),
        "b": np.array([1, 1, 1, 1, 0, 1], bool),
    }
    slices = compute(metric, after(metric, batch)).slices
    np.testing.assert_array_equal(slices, [2, NAN, NAN])
    few = jm.ExponentialMovingAverage(jm.Sliced(jm.Mean(), 2, minimum_count=3), 1)
    steps = [{"values": np.ones(2), "slice_ids": np.array([0, 1])}] * 3
    assert np.isnan(compute(few, after(few, *steps[:2])).slices).all()
    np.testing.assert_array_equal(compute(few, after(few, *steps)).slices, [1, 1])


def test_what_else_is_read_of_a_metric_is_read_of_each_slice():
    """Intervals and bounds, none of slices of few rows, and none where none is."""
    random = np.random.default_rng(5)
    rows = {
        "y_true": random.random(300) < 0.4,
        "y_pred": random.random(300, dtype=np.float32),
    }
    ids = np.where(np.arange(300) < 10, 2, np.arange(300) % 2)
    for plain, name, options in (
        (jm.Recall(), "interval", {"confidence": 0.9}),
        (jm.AUROC(num_cells=255), "interval", {}),
        (jm.AUROC(num_cells=255), "error_bound", {}),
    ):
        sliced = jm.Sliced(plain, 3, minimum_count=20)
        state = after(sliced, {**rows, "slice_ids": ids})
        found = getattr(sliced, name)(state, **options)
        for i in range(2):
            mine = {key: x[ids == i] for key, x in rows.items()}
            wanted = getattr(plain, name)(after(plain, mine), **options)
            for a, b in zip(*map(jax.tree.leaves, (found.slices, wanted)), strict=True):
                np.testing.assert_allclose(a[i], b, rtol=1e-6)
                assert np.isnan(a[2])
        total = getattr(plain, name)(after(plain, rows), **options)
        for a, b in zip(*map(jax.tree.leaves, (found.total, total)), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-6)
    means = jm.Sliced(jm.Mean(), 2)
    with pytest.raises(AttributeError, match=r"Mean has no .* jm.Bootstrap\(metric\)"):
        means.interval(means.init())


def test_fairness_is_one_line():
    """Demographic parity, equal opportunity and equalised odds, from one state."""

    def called(counts):
        predicted = counts.true_positives + counts.false_positives
        rest = counts.true_negatives + counts.false_negatives
        return jm.divide(predicted, predicted + rest)

    metrics = jm.Collection(
        parity=jm.Sliced(jm.ConfusionCounts().map(called), 2).gap(),
        opportunity=jm.Sliced(jm.Recall(), 2).gap(),
        odds=jm.apply(
            jnp.maximum,
            jm.Sliced(jm.Recall(), 2).gap(),
            jm.Sliced(jm.FalsePositiveRate(), 2).gap(),
        ),
        impact=jm.Sliced(jm.ConfusionCounts().map(called), 2).ratio(),
    )
    assert len(metrics.accumulator.parts) == 1
    random = np.random.default_rng(8)
    true, group = random.integers(0, 2, (2, 40))
    pred = np.float32(random.random(40))
    batch = {"y_true": np.float32(true), "y_pred": pred, "slice_ids": group}
    batch["slice_ids"] = group.astype(np.int32)
    result = compute(metrics, after(metrics, batch))
    yes = pred > 0.5
    rates, found, false = (
        [np.mean(yes[(group == g) & rows]) for g in (0, 1)]
        for rows in (True, true == 1, true == 0)
    )
    expected = {
        "parity": abs(rates[0] - rates[1]),
        "opportunity": abs(found[0] - found[1]),
        "odds": max(abs(found[0] - found[1]), abs(false[0] - false[1])),
        "impact": min(rates) / max(rates),
    }
    for name, value in expected.items():
        np.testing.assert_allclose(result[name], value, rtol=1e-5, err_msg=name)


# --- one sweep -----------------------------------------------------------------------

GROUPED = {
    "counts": (jm.ConfusionCounts((0.25, 0.5, 0.75)), ()),
    "even grid, logits": (jm.ConfusionCounts((0.3, 0.6), from_logits=True), ()),
    "classes": (jm.ConfusionCounts(num_classes=3), (3,)),
    "top k of one class": (jm.ConfusionCounts(0.5, top_k=2, class_id=1), (3,)),
    "sums": (jm.WeightedSum(), ()),
    "window": (jm.Windowed(jm.WeightedSum(), 3).accumulator, ()),
    "period": (jm.Every(jm.ConfusionCounts(0.5), 2).accumulator, ()),
    "whole period": (jm.Every(jm.ConfusionCounts(0.5), 1).accumulator, ()),
    "histogram": (jm.ScoreHistogram(15), ()),
    "histogram of logits": (jm.ScoreHistogram(15, from_logits=True), ()),
    "histogram by class": (jm.ScoreHistogram(15, num_classes=3), (3,)),
    "histogram of a class": (jm.ScoreHistogram(15, class_id=1), (3,)),
    "histogram of rows": (jm.ScoreHistogram(15, weighted=False), ()),
}


@pytest.mark.parametrize("what", GROUPED)
def test_one_sweep_counts_as_a_masked_one_for_each_group(what):
    """Bad rows, weights and masks included, and rows that name no group."""
    owner, classes = GROUPED[what]
    random = np.random.default_rng(9)
    shape = (ROWS, *classes)
    true = np.float32(random.integers(0, 2, shape))
    pred = np.float32(random.integers(-1, 34, shape) / 32)
    pred.flat[3], pred.flat[10], true.flat[20] = NAN, NAN, 2
    inputs = {"y_true": true, "y_pred": pred}
    if "values" in owner.inputs:
        inputs = {"values": pred}
    group = random.integers(-1, 6, ROWS).astype(np.int32)
    mask = random.random(ROWS) < 0.8
    weight = np.float32(random.integers(0, 5, ROWS) / 4)
    weight[[2, 5, 7]] = -1, NAN, np.inf

    @jax.jit
    def both(inputs):
        default = jm.Accumulator.measure_groups(owner, group, 4, **inputs)
        return owner.measure_groups(group, 4, **inputs), default.data

    ways = [inputs, {**inputs, "mask": mask}]
    if "rows" not in what:
        ways += [{**inputs, "sample_weight": weight, "mask": mask}]
    for batch in ways:
        found, expected = both(batch)
        compare_sums(found.data, expected)
        weighted = "sample_weight" in batch
        if classes:
            assert found.rows is None
            continue
        here = mask | ("mask" not in batch)
        if weighted:
            here &= weight != 0
        of = np.where((group >= 0) & (group < 4), group, 3)[here]
        assert found.rows.tolist() == np.bincount(of, minlength=4).tolist()


def never_apart(plan, batch):
    """Stands in for the sums of groups one after the other: nobody may use these."""
    zero = jnp.sum(jax.tree.leaves(batch)[0].reshape(-1)[:0])  # local to a device
    weights = (jnp.full((plan.groups, plan.cells), NAN) + zero,) * 2
    square = (weights[0][:, :1],) * 2 if plan.squares else None
    flags = jnp.zeros((plan.groups, plan.flags), jnp.uint32) + zero.astype(jnp.uint32)
    none = jnp.zeros((plan.groups, plan.cells), jnp.uint32)
    rows = jnp.zeros((plan.groups,), jnp.uint32) + zero.astype(jnp.uint32)
    return histogram.Tally(none, flags, weights, square, rows)


# What one scatter cannot sum: a row with a flag; a group that a large row rounds away.
SPOILT = {"nothing": {}, "a NaN": {5: NAN}, "a large row": {6: 1e30}}


@pytest.mark.parametrize("spoilt", SPOILT)
@pytest.mark.parametrize("what", ["counts", "classes", "sums"])
def test_one_scatter_sums_what_a_masked_sweep_sums_for_each_group(
    what, spoilt, monkeypatch
):
    """Of rows, weights and squares, unless these take more than it can hold."""
    monkeypatch.setattr(groups, "BLOCK_ROWS", ROWS // 2)
    monkeypatch.setattr(groups, "TERM_ROWS", ROWS // 2 + 1)
    owner, classes = GROUPED[what]
    random = np.random.default_rng(10)
    shape = (ROWS, *classes)
    inputs = {
        "y_true": np.float32(random.integers(0, 2, shape)),
        "y_pred": np.float32(random.random(shape)),
    }
    if "values" in owner.inputs:
        inputs = {"values": np.float32(random.standard_normal(shape))}
        inputs["values"][8] = 0
    weight = np.float32(random.random(ROWS))
    weight[4] = 0
    for row, value in SPOILT[spoilt].items():
        weight[row] = value
    inputs |= {"sample_weight": weight, "mask": random.random(ROWS) < 0.9}
    inputs["mask"][list(SPOILT[spoilt])] = True
    group = np.int32(np.arange(ROWS) % 5 - 1)
    if spoilt == "nothing":
        monkeypatch.setattr(groups, "_apart", never_apart)

    def both(inputs):
        default = jm.Accumulator.measure_groups(owner, group, 4, **inputs)
        return owner.measure_groups(group, 4, **inputs).data, default.data

    mesh = jax.make_mesh((1,), ("data",), (AxisType.Auto,))
    alone = jax.shard_map(
        lambda x: jax.tree.map(lambda y: y[None], both(x)),
        mesh=mesh,
        in_specs=P("data"),
        out_specs=P("data"),
    )
    compare_sums(*jax.jit(alone)(inputs))


@pytest.mark.parametrize(
    ("most", "number"), [("TERM_ROWS", 2), ("MOST_CELLS", 1), ("MOST_TERM_PLACES", 9)]
)
def test_what_one_scatter_cannot_hold_is_summed_apart(most, number, monkeypatch):
    """Rows wider than a block of it, and groups of more cells than limbs add up."""

    def never(plan, batch):
        raise AssertionError("one scatter was asked for")

    monkeypatch.setattr(groups, "BLOCK_ROWS", ROWS // 2)
    monkeypatch.setattr(groups, most, number)
    monkeypatch.setattr(groups, "_at_once", never)
    owner, classes = GROUPED["classes"]
    random = np.random.default_rng(11)
    inputs = {
        "y_true": np.float32(random.integers(0, 2, (ROWS, *classes))),
        "y_pred": np.float32(random.random((ROWS, *classes))),
        "sample_weight": np.float32(random.random(ROWS)),
    }
    group = np.int32(np.arange(ROWS) % 5 - 1)
    mesh = jax.make_mesh((1,), ("data",), (AxisType.Auto,))

    @jax.jit
    @jax.shard_map(mesh=mesh, in_specs=P(), out_specs=P(), check_vma=False)
    def both(inputs):
        default = jm.Accumulator.measure_groups(owner, group, 4, **inputs)
        return owner.measure_groups(group, 4, **inputs).data, default.data

    compare_sums(*both(inputs))


def test_squares_of_a_very_wide_row_are_summed():
    """More of them than a single cell can hold."""
    classes = 70_000
    owner = jm.ConfusionCounts(num_classes=classes)
    inputs = {
        "y_true": np.ones((3, classes), bool),
        "y_pred": np.ones((3, classes), np.float32),
        "sample_weight": np.full(3, 1.999, np.float32),
    }
    one = jnp.zeros((3,), jnp.int32)
    data = jax.jit(lambda: owner.measure_groups(one, 1, **inputs).data)()
    found = owner.typical_weight(jax.tree.map(lambda x: x[0], data))
    np.testing.assert_allclose(found, 1.999, rtol=1e-6)


def test_light_positives_beside_heavy_negatives_keep_their_bits(monkeypatch):
    """One scatter of all terms tells what it lacks by each cell of a slice."""
    monkeypatch.setattr(groups, "BLOCK_ROWS", ROWS // 2)
    owner = jm.ConfusionCounts()
    positive = np.arange(ROWS) % 2 == 0
    inputs = {
        "y_true": np.float32(positive),
        "y_pred": np.float32(np.arange(ROWS) % 4 == 0),
        "sample_weight": np.float32(np.where(positive, 1.3e-10, 1.7)),
    }

    def alone(inputs):
        groups = jnp.zeros((ROWS,), jnp.int32)
        data = owner.measure_groups(groups, 1, **inputs).data
        return owner.value(jax.tree.map(lambda x: x[0], data)).true_positives

    mesh = jax.make_mesh((1,), ("data",), (AxisType.Auto,))
    inside = jax.shard_map(
        alone, mesh=mesh, in_specs=P(), out_specs=P(), check_vma=False
    )
    np.testing.assert_allclose(jax.jit(inside)(inputs), ROWS / 4 * 1.3e-10, rtol=1e-4)


def compare_sums(found, expected):
    """Integers bit for bit; two-floats, whose errors are behind their sums."""
    pairs = zip(*map(jax.tree.leaves, (found, expected)), strict=True)
    for ours, theirs in pairs:
        assert (ours.shape, ours.dtype) == (theirs.shape, theirs.dtype)
        ours, theirs = np.asarray(ours), np.asarray(theirs)
        if ours.dtype != np.float32:
            np.testing.assert_array_equal(ours, theirs)
        else:
            axis = ours.shape.index(2)
            sums = (x.astype(np.float64).sum(axis) for x in (ours, theirs))
            np.testing.assert_allclose(*sums, rtol=1e-6, atol=1e-9)


# --- devices -------------------------------------------------------------------------

SHARDED = jm.Collection(
    precision=jm.Sliced(jm.Precision(), SLICES, minimum_count=1),
    area=jm.Sliced(jm.AUROC(num_cells=15), SLICES),
    heavy=jm.Sliced(jm.AUROC(num_cells=15).with_inputs(sample_weight="weight"), SLICES),
    several=jm.Sliced(jm.Precision(), SLICES).with_inputs(slice_ids="flags"),
    mean=jm.Sliced(jm.Mean(), SLICES).with_inputs(values="y_pred"),
    window=jm.Sliced(jm.Windowed(jm.Precision(), 2), SLICES),
)


def on_devices(seed):
    """32 rows of any slice, and of none."""
    random = np.random.default_rng(seed)
    return {
        "y_true": random.integers(0, 2, 32).astype(np.float32),
        "y_pred": random.random(32).astype(np.float32),
        "slice_ids": random.integers(-1, SLICES + 1, 32).astype(np.int32),
        "flags": random.random((32, SLICES)) < 0.5,
        "mask": random.random(32) < 0.8,
        "weight": np.float32(random.random(32)),
    }


DEVICE_BATCHES = [on_devices(seed) for seed in (0, 1, 2)]


def mesh_of(devices, kind=AxisType.Auto):
    """A mesh over the first so many devices."""
    return jax.make_mesh(
        (devices,), ("data",), (kind,), devices=jax.devices()[:devices]
    )


def assert_same_words(state, expected):
    """Counts bit for bit, sums of floats to 1e-6."""
    for ours, theirs in zip(*map(jax.tree.leaves, (state, expected)), strict=True):
        if ours.dtype == np.uint32:
            np.testing.assert_array_equal(ours, theirs)
        else:
            np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-6)


@pytest.fixture(scope="module")
def on_one_device():
    """The state of the three batches."""
    return jax.device_get(after(SHARDED, *DEVICE_BATCHES))


def test_any_batching_counts_the_same(on_one_device):
    """All but the window, whose unit is the update."""
    names = ("precision", "area", "heavy", "several", "mean")
    rest = jm.Collection({name: SHARDED[name] for name in names})
    whole = {k: np.concatenate([b[k] for b in DEVICE_BATCHES]) for k in on_devices(0)}
    thirds = {k: x.reshape(3, 32, *x.shape[1:]) for k, x in whole.items()}
    state = jax.jit(
        lambda batches: jax.lax.scan(
            lambda state, batch: (rest.update(state, **batch), None),
            rest.init(),
            batches,
        )[0],
    )(thirds)
    assert_same_words(state, after(rest, whole))
    kept = {key: on_one_device.data[key] for key in state.data}
    assert_same_words(state.data, kept)


@pytest.mark.parametrize(
    ("kind", "devices"), [(AxisType.Auto, 8), (AxisType.Explicit, 2)], ids=str
)
def test_sharded_rows_count_as_on_one_device(kind, devices, on_one_device):
    """Auto and Explicit axes, nothing written."""
    mesh = mesh_of(devices, kind)
    state = jax.device_put(SHARDED.init(), NamedSharding(mesh, P()))
    for batch in DEVICE_BATCHES:
        placed = jax.device_put(batch, NamedSharding(mesh, P("data")))
        state = jax.block_until_ready(update(SHARDED, state, placed))
    assert_same_words(state, on_one_device)


@pytest.mark.parametrize("devices", [8])
def test_shards_that_are_reduced_count_as_on_one_device(devices, on_one_device):
    """Each scans its rows and reduces once; the types say what still varies."""

    def counted(batches):
        start = jax.lax.pcast(SHARDED.init(), "data", to="varying")
        state = jax.lax.scan(
            lambda state, batch: (SHARDED.update(state, **batch), None), start, batches
        )[0]
        return SHARDED.all_reduce(state, "data")

    sharded = jax.shard_map(
        counted, mesh=mesh_of(devices), in_specs=P(None, "data"), out_specs=P()
    )
    stacked = jax.tree.map(lambda *x: np.stack(x), *DEVICE_BATCHES)
    state = jax.block_until_ready(jax.jit(sharded)(stacked))
    assert_same_words(state, on_one_device)


# --- sharing and nesting -------------------------------------------------------------


def test_metrics_of_one_accumulator_share_the_slices():
    """Whether slices of few rows are left out or not."""
    metrics = jm.Collection(
        a=jm.Sliced(jm.Precision(), 3),
        b=jm.Sliced(jm.Recall(), 3).worst(),
        c=jm.Sliced(jm.Precision(), 3, minimum_count=2),
    )
    assert len(metrics.accumulator.parts) == 1
    inside = jm.Sliced(jm.Collection(a=jm.Precision(), b=jm.Recall()), 3)
    assert inside.accumulator.parts == metrics.accumulator.parts


def test_slices_of_slices():
    """By site, and at each site by group."""
    by_group = jm.Sliced(jm.Recall(zero_division=NAN), 2)
    metric = jm.Sliced(by_group.with_inputs(slice_ids="site"), SLICES)
    random = np.random.default_rng(3)
    site = random.integers(0, 2, 2 * ROWS).astype(np.int32)
    result = compute(metric, after(metric, {**WHOLE, "site": site}))
    for g in range(2):
        expected = by_slice(recall, MEMBER, SEEN * (site == g))
        np.testing.assert_allclose(result.total.slices[g], expected[0], rtol=1e-6)
        np.testing.assert_allclose(result.slices.slices[:, g], expected[1], rtol=1e-6)


@partial(jax.jit, static_argnums=0)
def running(metric, batches):
    """The results after each of the batches, from one scan."""

    def step(state, batch):
        state = metric.update(state, **batch)
        return state, metric.compute(state)

    return jax.lax.scan(step, metric.init(), batches)[1]


RANDOM = np.random.default_rng(11)
STEPS = {  # five of eight rows
    "values": np.float32(RANDOM.integers(0, 64, (5, 8))),
    "slice_ids": RANDOM.integers(0, 3, (5, 8)).astype(np.int32),
}
STEPS["member"] = np.moveaxis(STEPS["slice_ids"][..., None] == np.arange(3), 2, 1)
WITHIN = {
    "window": jm.Windowed(jm.Mean(), 2),
    "average": jm.ExponentialMovingAverage(jm.Mean(), 1.5),
    "period": jm.Every(jm.Mean(), 2),
    "best": jm.BestSoFar(jm.Mean(), "min").map(lambda best: best.value),
}
AROUND = {
    "window": jm.Windowed(jm.Sliced(jm.Mean(), 3), 2),
    "average": jm.ExponentialMovingAverage(jm.Sliced(jm.Mean(), 3), 1.5),
    "period": jm.Every(jm.Sliced(jm.Mean(), 3), 2),
}


def test_what_goes_by_updates_does_so_in_every_slice():
    """Slices of it, it of slices, side by side: each as if there were no other rows."""
    side_by_side = {
        name: jm.Repeated(own, 3, over="mask").with_inputs(mask="member")
        for name, own in WITHIN.items()
    }
    plain = jm.Collection(WITHIN)
    sliced = jm.Collection(
        inside={name: jm.Sliced(own, 3) for name, own in WITHIN.items()},
        around=AROUND,
        beside=side_by_side,
    )
    assert len(sliced.accumulator.parts) == 4 + 3 + 4
    assert (
        jm.Sliced(plain, 3).accumulator.parts
        == jm.Collection(
            {name: jm.Sliced(own, 3) for name, own in WITHIN.items()}
        ).accumulator.parts
    )
    found = running(sliced, STEPS)
    masks = [*np.moveaxis(STEPS["member"], 1, 0), np.ones((5, 8), bool)]
    for i, mask in enumerate(masks):
        wanted = running(plain, {"values": STEPS["values"], "mask": mask})
        for name, x in wanted.items():
            kinds = ["inside", "around"] if name in AROUND else ["inside"]
            for kind in kinds:
                which = "slices" if i < 3 else "total"
                value = found[f"{kind}/{name}/{which}"]
                value = value[:, i] if i < 3 else value
                np.testing.assert_allclose(value, x, rtol=1e-6, err_msg=name)
            if i < 3:
                value = found[f"beside/{name}"][:, i]
                np.testing.assert_allclose(value, x, rtol=1e-6, err_msg=name)


# --- refusals ------------------------------------------------------------------------


def values(**ids):
    """Four values and their ids."""
    return {"values": np.zeros(4, np.float32), **ids}


REFUSED = [
    # metric, inputs, words
    (jm.Mean(), {"slice_ids": np.zeros(4)}, r"must be integers, or booleans.*float"),
    (jm.Mean(), {"slice_ids": np.zeros(3, int)}, r"each row of values; got.*\(3,\)"),
    (jm.Mean(), {"slice_ids": np.zeros((), int)}, r"each row of values; got.*\(\)"),
    (jm.Mean(), {"slice_ids": np.zeros((4, 2), bool)}, r"or booleans \(rows, 3\)"),
    (jm.Mean(), {"slice_ids": np.zeros(4, bool)}, r"or booleans \(rows, 3\)"),
    (jm.Mean(), {"slice_ids": np.zeros((4, 1, 1), int)}, r"\(rows,\) or \(rows, k\)"),
    (jm.Mean(), {"slice_ids": np.zeros((4, 0), int)}, r"\(rows,\) or \(rows, k\)"),
    (jm.Mean(), {}, r"missing \['slice_ids'\]"),
    (
        jm.Mean(),
        {"slice_ids": np.zeros(4, int), "mask": np.ones(3, bool)},
        r"mask must be a scalar or have an entry.*\(3,\) and slice_ids \(4,\)",
    ),
    (
        jm.Mean(),
        {"slice_ids": np.zeros(4, int), "sample_weight": np.ones((2, 2))},
        r"sample_weight must be a scalar or have.*\(2, 2\) and slice_ids",
    ),
]


@pytest.mark.parametrize(("metric", "inputs", "words"), REFUSED)
def test_ids_that_do_not_fit_are_refused_while_tracing(metric, inputs, words):
    """With the metric, both shapes and the way out."""
    metric = jm.Sliced(metric, 3)
    inputs = {k: np.asarray(x) for k, x in values(**inputs).items()}
    with pytest.raises((ValueError, TypeError), match=words) as caught:
        jax.eval_shape(metric, **inputs)
    assert str(caught.value).startswith("Sliced(Mean): ")


def renamed_mask():
    """A mask that each model has of its own, its models in front of the rows."""
    return jm.Repeated(jm.Mean(), 2, over=("values", "mask"))


UNFIT = [
    (lambda: jm.Sliced(jm.Sliced(jm.Mean(), 2), 2), r"with_inputs\(slice_ids='group_"),
    (lambda: jm.Sliced(jm.Mean().with_inputs(mask=None), 2), "mask, and .* takes none"),
    (lambda: jm.Sliced(renamed_mask(), 2), "told apart by a mask, and .* takes none"),
    (lambda: jm.Sliced(jm.Mean(), 0), "num_slices must be an integer >= 1"),
    (lambda: jm.Sliced(jm.Mean(), True), "num_slices must be an integer >= 1"),
    (lambda: jm.Sliced(jm.Mean(), 2, minimum_count=-1), "minimum_count must be an"),
    (lambda: jm.Sliced("mean", 2), "metric must be a metric; got 'mean'"),
    (lambda: jm.Sliced(jm.Mean(), 2).worst("most"), "mode must be one of"),
    (
        lambda: jm.Sliced(jm.Windowed(jm.Bootstrap(jm.Recall()), 2), 2).gap(),
        r"intervals of slices cannot .* jm.Bootstrap\(jm.Sliced\(metric, num_slices\)",
    ),
    (
        lambda: jm.Sliced(jm.Collection(b=jm.Bootstrap(jm.Recall())), 2).worst(),
        "intervals of slices cannot be compared",
    ),
    (lambda: jm.RowsBySlice(0), "num_slices must be an integer >= 1"),
]


@pytest.mark.parametrize(("make", "words"), UNFIT)
def test_what_cannot_be_sliced_is_refused_when_it_is_made(make, words):
    """With the way out."""
    with pytest.raises((ValueError, TypeError), match=words):
        make()


def test_other_refusals_say_what_to_do():
    """What is only known when it is computed, and the states of others."""
    whole = jm.Sliced(jm.Count(dtype="int32"), 2, minimum_count=1)
    with pytest.raises(TypeError, match="minimum_count needs results that can be NaN"):
        jax.eval_shape(whole.compute, whole.init())
    sliced = jm.Sliced(jm.Mean(), 2)
    with pytest.raises(ValueError, match=r"Sliced\(Mean\): this state belongs to"):
        sliced.outside(jm.Sliced(jm.Mean(), 3).init())
    large = jm.Sliced(jm.AUROC(), 50_000)
    batch = {"y_true": np.zeros(4), "y_pred": np.zeros(4)}
    with pytest.raises(ValueError, match=r"cells are more than .*num_cells=1023"):
        large.accumulator.inner.measure_groups(np.zeros(4, np.int32), 50_000, **batch)
    with pytest.raises(TypeError, match=r"given twice \['values'\]"):
        sliced.update(sliced.init(), np.zeros(2), values=np.zeros(2), slice_ids=[0, 1])


@pytest.mark.parametrize(("mode", "which"), [("max", 1), ("min", 2)])
def test_the_worst_slice_is_told(mode, which):
    """By its number; a slice without a value is none, and -1 stands for no slice."""
    recall = jm.Sliced(jm.Recall(zero_division=float("nan")), 4).worst_slice(mode)
    rows = {
        "y_true": np.float32([1, 1, 1, 1, 0]),
        "y_pred": np.float32([1, 0, 0, 1, 1]),
        "slice_ids": np.int32([0, 0, 1, 2, 3]),
    }
    found = jax.jit(recall)
    assert found(**rows) == which
    assert found(**rows | {"y_true": np.zeros(5, np.float32)}) == -1


def test_a_large_value_elsewhere_does_not_round_a_slice():
    """Each slice's sums are relative to its own largest entry, weights too."""
    mean = jm.Sliced(jm.Mean(), 2)
    single = np.int32([0, 0, 1])
    for ids in (single, single[:, None]):
        found = jax.jit(mean)(values=np.float32([1e-4, 3e-4, 3e38]), slice_ids=ids)
        np.testing.assert_allclose(found.slices, [2e-4, 3e38], rtol=1e-6)
    found = jax.jit(jm.Sliced(jm.Precision(), 2))(
        y_true=np.float32([1, 0, 1]),
        y_pred=np.ones(3, np.float32),
        sample_weight=np.float32([1e-10, 3e-10, 1e10]),
        slice_ids=np.int32([0, 0, 1]),
    )
    np.testing.assert_allclose(found.slices, [0.25, 1], rtol=1e-6)


def test_a_gap_of_integers_does_not_wrap():
    """It is a float."""
    total = jm.Sliced(jm.Sum(dtype="int32"), 2).gap()
    rows = {"values": np.int32([-2e9, 2e9]), "slice_ids": np.int32([0, 1])}
    assert jax.jit(total)(**rows) == np.float32(4e9)
