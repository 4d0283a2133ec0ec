"""Standard errors and intervals by the Poisson bootstrap."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P

import jaxmetrics as jm
from jaxmetrics import poisson

ROWS = 400


def scored(seed: int, rows: int = ROWS) -> dict[str, np.ndarray]:
    """Labels, scores that tell something, and an id for each row."""
    rng = np.random.default_rng(seed)
    true = rng.random(rows) < 0.4
    score = np.clip(rng.normal(0.4 + 0.2 * true, 0.2), 0, 1)
    return {
        "y_true": np.float32(true),
        "y_pred": np.float32(score),
        "row_ids": np.arange(rows, dtype=np.int32),
    }


def without_ids(batch):
    """The same rows, without ids."""
    return {name: x for name, x in batch.items() if name != "row_ids"}


def in_one_step(metric, batch):
    """The result of one batch, compiled."""
    return jax.jit(lambda batch: metric(**batch))(batch)


def resampled(function, batch, replicates=4000):
    """Standard error and percentiles of NumPy's own bootstrap, which draws rows."""
    rng = np.random.default_rng(1)
    rows = len(batch["y_true"])
    draws = rng.integers(0, rows, (replicates, rows))
    found = [function(batch["y_true"][i], batch["y_pred"][i]) for i in draws]
    return np.std(found, ddof=1), np.quantile(found, [0.025, 0.975])


def recall(true, score):
    """Of the positives those above 0.5."""
    return np.mean(score[true > 0] > 0.5)


# --- numbers -------------------------------------------------------------------------


def test_rows_are_drawn_a_poisson_number_of_times():
    """Of mean 1 and variance 1, each number as often as it should, pairs apart."""
    draw = jax.jit(poisson.drawn_together)
    first, second = np.asarray(
        draw(jax.random.key(0), jnp.arange(200_000, dtype=jnp.uint32))
    )
    for times in (first, second):
        for k in range(6):
            share = np.exp(-1) / np.prod(np.arange(1, k + 1))
            error = np.sqrt(share * (1 - share) / len(times))
            assert abs(np.mean(times == k) - share) < 5 * error
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.01
    assert abs(np.corrcoef(first[1:], first[:-1])[0, 1]) < 0.01


@pytest.mark.parametrize("mean", [0, 1, 30, 4096, 5000, 3_000_000_000, 2**52])
def test_a_count_is_drawn_as_a_poisson_number_of_its_mean(mean):
    """Exact words, of the right mean and deviation, far above what float32 holds."""
    words = jnp.uint32([[mean % 2**21], [mean >> 21]]) * jnp.ones((1, 4000), jnp.uint32)
    drawn = np.asarray(jax.jit(poisson.poisson_words)(jax.random.key(1), words))
    assert drawn[0].max() < 2**21
    numbers = drawn[0].astype(np.int64) + (drawn[1].astype(np.int64) << 21)
    assert abs(np.mean(numbers - mean)) <= 5 * np.sqrt(mean / 4000)
    assert np.std(numbers - mean) == pytest.approx(np.sqrt(mean), rel=0.06)


@pytest.mark.parametrize("weighted", [False, True])
def test_errors_and_intervals_are_those_of_drawing_rows(weighted):
    """Of recall, against NumPy's bootstrap, from counts and from rows."""
    batch = scored(0)
    metric = jm.Bootstrap(jm.Recall(), 1000, weighted=weighted)
    found = in_one_step(metric, batch if weighted else without_ids(batch))
    error, ends = resampled(recall, batch)
    assert float(found.value) == pytest.approx(recall(batch["y_true"], batch["y_pred"]))
    assert float(found.standard_error) == pytest.approx(error, rel=0.12)
    np.testing.assert_allclose(found.percentile, ends, atol=0.4 * error)
    mirrored = 2 * float(found.value) - np.asarray(found.percentile)[::-1]
    np.testing.assert_allclose(found.basic, mirrored, rtol=1e-6)


def test_the_error_of_an_area_is_delongs():
    """Replicates of a score histogram, from counts and from rows, and no resampling."""
    batch, area = scored(2), jm.AUROC(num_cells=63)
    state = jax.jit(area.update)(area.init(), **without_ids(batch))
    delong = float(jax.jit(area.interval)(state).standard_error)
    counted = in_one_step(jm.Bootstrap(area, 300), without_ids(batch))
    drawn = in_one_step(jm.Bootstrap(area, 300, weighted=True), batch)
    for found in (counted, drawn):
        assert float(found.standard_error) == pytest.approx(delong, rel=0.2)


@pytest.mark.parametrize("weighted", [False, True])
def test_intervals_hold_the_truth_as_often_as_they_say(weighted):
    """93 to 97 of 100, over data sets of 200 rows with a recall of 0.7."""
    # From counts all sets see the same random numbers: many, to be near their limit.
    metric = jm.Bootstrap(jm.Recall(), 200 if weighted else 4000, weighted=weighted)
    rows, share, sets = 200, 0.7, 500

    @jax.jit
    @jax.vmap
    def intervals(key, seed):
        score = jax.random.bernoulli(key, share, (rows,)).astype(jnp.float32)
        batch = {"y_true": jnp.ones_like(score), "y_pred": score}
        if weighted:  # other random numbers for each data set
            batch["row_ids"] = jnp.arange(rows) + rows * seed
        return metric(**batch).percentile

    found = intervals(jax.random.split(jax.random.key(3), sets), jnp.arange(sets))
    held = np.mean((found.lower <= share) & (share <= found.upper))
    assert 0.92 <= held <= 0.98  # 500 sets tell it to within 2 percent


def test_a_mean_has_the_error_of_the_textbook():
    """`sd / sqrt(n)`; with weights that of the ratio of sums."""
    rng = np.random.default_rng(4)
    values, weight = rng.normal(3, 2, 500), rng.integers(1, 5, 500).astype(np.float32)
    metric = jm.Bootstrap(jm.Mean(), 1000)
    plain = in_one_step(metric, {"values": np.float32(values)})
    assert float(plain.standard_error) == pytest.approx(2 / np.sqrt(500), rel=0.12)
    heavy = {"values": np.float32(values), "sample_weight": weight}
    mean = np.average(values, weights=weight)
    error = np.sqrt(np.sum((weight * (values - mean)) ** 2)) / weight.sum()
    found = in_one_step(metric, heavy)
    assert float(found.value) == pytest.approx(mean, rel=1e-6)
    assert float(found.standard_error) == pytest.approx(error, rel=0.12)


def test_a_cluster_is_drawn_together():
    """Ten copies of each row, of one id, are as uncertain as the rows."""
    batch = scored(5)
    metric = jm.Bootstrap(jm.Recall(), 400, weighted=True)
    copies = {name: np.repeat(x, 10) for name, x in batch.items()}
    found, once = in_one_step(metric, copies), in_one_step(metric, batch)
    np.testing.assert_allclose(found.standard_error, once.standard_error, rtol=1e-5)
    apart = in_one_step(metric, without_ids(copies))
    assert float(apart.standard_error) < 0.5 * float(found.standard_error)


def test_a_paired_difference_is_less_uncertain_than_either():
    """Two models that err alike; their difference has a p-value."""
    batch = scored(6)
    rng = np.random.default_rng(7)
    other = np.clip(batch["y_pred"] + rng.normal(0, 0.03, ROWS), 0, 1)
    far = np.clip(batch["y_pred"] + 0.2, 0, 1)
    models = jm.Repeated(jm.Recall(), 2, over="y_pred")
    paired = jm.Bootstrap(models.difference(), 500)
    both = jm.Collection(difference=paired, p=paired.p_value())
    assert len(both.accumulator.parts) == 1

    def compare(score):
        scores = np.float32([batch["y_pred"], score])
        return in_one_step(both, without_ids(batch) | {"y_pred": scores})

    alike, apart = compare(other), compare(far)
    error = resampled(recall, batch, 500)[0]
    assert float(alike["difference/standard_error"]) < 0.7 * error
    assert float(alike["p"]) > 0.1
    assert float(apart["p"]) < 0.01
    value = recall(batch["y_true"], other) - recall(batch["y_true"], batch["y_pred"])
    assert float(alike["difference/value"]) == pytest.approx(value, abs=1e-6)


def test_counts_of_several_states_are_of_the_same_rows():
    """A difference of two of them is drawn from rows: of a model and itself it is 0."""
    batch = scored(18) | {"other": scored(18)["y_pred"]}
    itself = jm.Precision() - jm.Precision().with_inputs(y_pred="other")
    metric = jm.Bootstrap(itself, 20)
    assert not metric.from_counts
    assert in_one_step(metric, batch).standard_error == 0


def test_ids_of_64_bits_are_those_of_32_where_they_fit():
    """And others are told apart, by their upper half too."""
    metric = jm.Bootstrap(jm.Mean(), 8)
    values = np.float32([1, 5, 9])

    def replicates(ids):
        with jax.enable_x64(True):
            state = jax.jit(metric.update)(metric.init(), values=values, row_ids=ids)
            return np.asarray(jax.jit(metric.replicates_of)(state))

    narrow = replicates(np.int32([0, -1, 7]))
    np.testing.assert_array_equal(replicates(np.int64([0, -1, 7])), narrow)
    wide = replicates(np.int64([0, -1, 7]) + 2**40)
    assert not np.array_equal(wide, narrow, equal_nan=True)


# --- where rows are ------------------------------------------------------------------


def test_ids_give_the_same_replicates_whatever_the_batches_and_devices():
    """Bit for bit: in another order, in batches, on 8 devices, in shard_map."""
    metric = jm.Bootstrap(
        jm.Collection(a=jm.Recall(), b=jm.Precision()), 6, weighted=True
    )
    batch = scored(8)
    update = jax.jit(metric.update)
    whole = jax.device_get(update(metric.init(), **batch))
    order = np.random.default_rng(9).permutation(ROWS)
    state = metric.init()
    for rows in np.split(order, 4):
        state = update(state, **{name: x[rows] for name, x in batch.items()})
    states = [state]
    for kind in (AxisType.Auto, AxisType.Explicit):
        mesh = jax.make_mesh((8,), ("data",), (kind,))
        sharded = jax.device_put(batch, NamedSharding(mesh, P("data")))
        states.append(jax.block_until_ready(update(metric.init(), **sharded)))

    def on_device(batch):
        own = jax.tree.map(
            lambda x: jax.lax.pcast(x, "data", to="varying"), metric.init()
        )
        return metric.all_reduce(metric.update(own, **batch), "data")

    mesh = jax.make_mesh((8,), ("data",), (AxisType.Auto,))
    mapped = jax.shard_map(on_device, mesh=mesh, in_specs=P("data"), out_specs=P())
    states.append(jax.block_until_ready(jax.jit(mapped)(batch)))
    for found in states:
        jax.tree.map(np.testing.assert_array_equal, jax.device_get(found), whole)


def test_a_running_number_that_would_repeat_is_refused_or_nan():
    """On the devices of shard_map, and where two numbered states are merged."""
    metric = jm.Bootstrap(jm.Recall(), 4, weighted=True)
    batch = without_ids(scored(10, 16))
    mesh = jax.make_mesh((2,), ("data",), (AxisType.Auto,))

    def on_device(batch):
        return metric.all_reduce(metric.update(metric.init(), **batch), "data")

    mapped = jax.shard_map(
        on_device, mesh=mesh, in_specs=P("data"), out_specs=P(), check_vma=False
    )
    with pytest.raises(ValueError, match="a running number of rows would repeat"):
        jax.eval_shape(mapped, batch)
    state = jax.jit(metric.update)(metric.init(), **batch)
    merged = jax.jit(lambda a, b: metric.compute(metric.merge(a, b)))
    assert np.isfinite(merged(state, metric.init()).standard_error)
    assert np.isnan(jax.tree.leaves(merged(state, state))).all()


def test_rows_are_numbered_on_from_batch_to_batch():
    """Two batches in turn are the one of both, without ids."""
    metric = jm.Bootstrap(jm.Recall(), 4, weighted=True)
    batch = without_ids(scored(11))
    update = jax.jit(metric.update)
    whole = update(metric.init(), **batch)
    state = metric.init()
    for half in (slice(0, ROWS // 2), slice(ROWS // 2, None)):
        state = update(state, **{name: x[half] for name, x in batch.items()})
    jax.tree.map(np.testing.assert_array_equal, state, whole)


def test_a_bootstrap_from_counts_shares_the_metrics_state():
    """And its update is the metric's own."""
    metrics = jm.Collection(recall=jm.Recall(), drawn=jm.Bootstrap(jm.Recall(), 10))
    assert metrics.accumulator.parts == jm.Recall().accumulator.parts
    found = in_one_step(metrics, without_ids(scored(12)))
    assert found["recall"] == found["drawn/value"]
    assert set(found) == {
        "recall",
        "drawn/value",
        "drawn/standard_error",
        "drawn/percentile/lower",
        "drawn/percentile/upper",
        "drawn/basic/lower",
        "drawn/basic/upper",
    }


def test_a_bootstrap_of_weighted_counts_has_no_error():
    """Weights that came by another metric of the same state: NaN, not a guess."""
    batch = without_ids(scored(13, 16))
    plain, metric = jm.Recall(), jm.Bootstrap(jm.Recall(), 10)
    update = jax.jit(functools.partial(plain.update, plain.init()))
    state = update(**batch, sample_weight=np.float32(2))
    found = jax.jit(metric.compute)(state)
    assert np.isfinite(found.value)
    assert np.isnan(found.standard_error)
    assert np.isnan(found.percentile).all()


def test_bad_rows_make_all_of_it_nan():
    """A NaN in a row that no replicate may have drawn."""
    batch = scored(14, 16)
    batch["y_pred"][3] = np.nan
    for weighted in (False, True):
        metric = jm.Bootstrap(jm.Recall(), 4, weighted=weighted)
        rows = batch if weighted else without_ids(batch)
        state = jax.jit(metric.update)(metric.init(), **rows)
        found, drawn = jax.jit(lambda s, m=metric: (m.compute(s), m.replicates_of(s)))(
            state
        )
        assert np.isnan(jax.tree.leaves(found)).all()
        assert np.isnan(drawn).all()
        assert metric.validity(state).nan == 1


# --- refusals ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: jm.Bootstrap(jm.Recall(), 1), ValueError, "replicates must be"),
        (lambda: jm.Bootstrap(jm.Recall(), seed=-1), ValueError, "seed must be"),
        (
            lambda: jm.Bootstrap(jm.Recall(), confidence=95),
            ValueError,
            "confidence must be between 0 and 1; got 95",
        ),
        (
            lambda: jm.Bootstrap(jm.Recall(), weighted="yes"),
            TypeError,
            "weighted must be",
        ),
        (lambda: jm.Bootstrap("recall"), TypeError, "metric must be a metric"),
        (
            lambda: jm.Bootstrap(jm.RowsBySlice(2).with_inputs(sample_weight=None)),
            TypeError,
            "rows are drawn by their weights, and .* takes none",
        ),
        (
            lambda: jm.ExponentialMovingAverage(jm.Bootstrap(jm.Recall()), 2),
            TypeError,
            r"Bootstrap\(Recall\) takes no weights, so that its past cannot",
        ),
        (
            lambda: jm.Bootstrap(jm.Bootstrap(jm.Mean())),
            ValueError,
            "there is an input 'row_ids' already; rename it",
        ),
    ],
)
def test_options_that_cannot_be_are_refused(make, error, words):
    """At construction, with the way out."""
    with pytest.raises(error, match=words):
        make()


@pytest.mark.parametrize(
    ("metric", "more", "words"),
    [
        (jm.Recall(), {"sample_weight": np.ones(16)}, "and sample_weight came; set"),
        (jm.Recall(), {"row_ids": np.arange(16)}, "row_ids cannot change; leave"),
        (
            jm.Recall(),
            {"y_true": np.ones((16, 3)), "y_pred": np.ones((16, 3))},
            r"entries of a row are drawn together, and y_true has \(3,\)",
        ),
        (jm.Mean(), {"row_ids": np.arange(3)}, r"row of values; got 3 for values \(16"),
        (jm.Mean(), {"row_ids": np.ones((16, 1), int)}, r"row_ids must be .*\(16, 1\)"),
        (jm.Mean(), {"row_ids": np.ones(16)}, "row_ids must be an integer for each"),
        (jm.Mean(), {"values": np.float32(1)}, "values has no axis of rows"),
    ],
)
def test_inputs_that_cannot_be_drawn_are_refused(metric, more, words):
    """While tracing, naming the metric and the input."""
    batch = without_ids(scored(17, 16))
    if isinstance(metric, jm.Mean):
        batch = {"values": batch["y_pred"]}
    drawn = jm.Bootstrap(metric, 4)
    if "row_ids" in more:  # as a member that draws rows would take them
        other = jm.Bootstrap(metric, 4, weighted=True)
        drawn = jm.Collection(drawn=drawn, other=other)
    with pytest.raises((TypeError, ValueError), match=words):
        jax.eval_shape(functools.partial(drawn.update, drawn.init()), **batch | more)


@pytest.mark.parametrize(
    "metric",
    [
        jm.Sliced(jm.Bootstrap(jm.Mean(), 4), 2).with_inputs(slice_ids="ids"),
        jm.Windowed(jm.Bootstrap(jm.Mean(), 4), 2),
    ],
    ids=["slices", "window"],
)
def test_batches_that_are_measured_apart_need_ids(metric):
    """In slices and windows a running number would repeat, and NaN be the result."""
    batch = {"values": np.ones(4, np.float32)}
    if "ids" in metric.accumulator.inputs:
        batch["ids"] = np.int32([0, 1, 1, 0])
    update = functools.partial(metric.update, metric.init())
    with pytest.raises(ValueError, match=r"measured apart here, .*; pass row_ids"):
        jax.eval_shape(update, **batch)
    jax.eval_shape(update, **batch, row_ids=np.arange(4))
