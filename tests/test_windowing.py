"""Metrics whose unit is the update, against NumPy that keeps every batch."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, PartitionSpec as P

import jaxmetrics as jm

NAN = float("nan")
STEPS, ROWS = 7, 8
RANDOM = np.random.default_rng(0)
BATCHES = {
    "y_true": np.float32(RANDOM.random((STEPS, ROWS)) < 0.5),
    "y_pred": np.float32(RANDOM.integers(0, 32, (STEPS, ROWS)) / 32),
    "sample_weight": np.float32(RANDOM.integers(1, 5, (STEPS, ROWS)) / 4),
    "mask": RANDOM.random((STEPS, ROWS)) < 0.8,
}
VALUES = {"values": BATCHES["y_pred"]}
SEEN = np.float64(BATCHES["sample_weight"]) * BATCHES["mask"]
TRACES = []


@partial(jax.jit, static_argnums=0)
def running(metric, batches):
    """The states and results after each of the batches, from one scan."""

    def step(state, batch):
        TRACES.append(metric)
        state = metric.update(state, **batch)
        return state, (state, metric.compute(state))

    return jax.lax.scan(step, metric.init(), batches)[1]


def results(metric, batches):
    """The results after each of the batches."""
    return running(metric, batches)[1]


def mean(true, pred, weight):
    """The weighted mean of scores."""
    return np.sum(weight * pred) / np.sum(weight)


def recall(true, pred, weight):
    """Found by all positives."""
    return np.sum(weight * true * (pred > 0.5)) / np.sum(weight * true)


def area(true, pred, weight):
    """How often a positive scores higher than a negative."""
    pairs = np.outer(weight * true, weight * (1 - true))
    above = (pred[:, None] > pred) + (pred[:, None] == pred) / 2
    return np.sum(pairs * above) / np.sum(pairs)


OF = {"mean": mean, "recall": recall, "area": area}
METRICS = {
    "mean": jm.Mean().with_inputs(values="y_pred"),
    "recall": jm.Recall(),
    "area": jm.AUROC(num_cells=63),
}


def expected(of, age_to_weight):
    """The statistic after each step, of rows that weigh less by the age of a batch."""
    found = []
    for step in range(STEPS):
        ages = step - np.arange(step + 1)
        weight = SEEN[: step + 1] * np.vectorize(age_to_weight)(ages)[:, None]
        true, pred = (np.float64(BATCHES[k][: step + 1]) for k in ("y_true", "y_pred"))
        found.append(of(true.ravel(), pred.ravel(), weight.ravel()))
    return found


# --- values --------------------------------------------------------------------------


def test_windows_averages_and_periods_are_those_of_their_batches():
    """Of weighted and masked rows; decay by the closed form `2^(-age / half_life)`."""
    kinds = {
        "window": lambda m: jm.Windowed(m, updates=3),
        "average": lambda m: jm.ExponentialMovingAverage(m, half_life=1.5),
        "period": lambda m: jm.Every(m, n=2),
    }
    metric = jm.Collection(
        {
            kind: {
                name: make(m)
                for name, m in METRICS.items()
                if kind == "average" or name != "area"
            }
            for kind, make in kinds.items()
        }
    )
    found = results(metric, BATCHES)
    ways = {
        "window": lambda age: age < 3,
        "average": lambda age: 2.0 ** (-age / 1.5),
    }
    for name, of in OF.items():
        for kind in [kind for kind in ways if f"{kind}/{name}" in found]:
            way = ways[kind]
            np.testing.assert_allclose(
                found[f"{kind}/{name}"], expected(of, way), rtol=4e-6, err_msg=name
            )
        if name == "area":
            continue
        pairs = expected(of, lambda age: age < 2)
        whole = [NAN, *np.repeat(pairs[1::2], 2)]
        np.testing.assert_allclose(found[f"period/{name}"], whole, rtol=4e-6)


def test_what_else_is_read_of_a_metric_is_read_of_recent_updates():
    """Its interval and its bound, of the rows as they weigh; NaN before the first n."""
    area = jm.AUROC(num_cells=15)
    ways = {
        "window": jm.Windowed(area, updates=3),
        "average": jm.ExponentialMovingAverage(area, half_life=1e9),
        "period": jm.Every(area, n=3),
        "plain": area,
    }
    batches = [{k: x[i] for k, x in BATCHES.items()} for i in range(3)]
    found = {}
    for name, metric in ways.items():
        step = jax.jit(lambda s, b, m=metric: m.update(s, **b))
        read = jax.jit(lambda s, m=metric: (m.interval(s), m.error_bound(s)))
        state = metric.init()
        if name == "period":
            assert np.isnan(jax.tree.leaves(read(state))).all()
        for batch in batches:
            state = step(state, batch)
        found[name] = jax.tree.leaves(read(state))
        assert np.isfinite(found[name]).all()
    for name, values in found.items():
        np.testing.assert_allclose(values, found["plain"], rtol=1e-4, err_msg=name)


def test_an_average_without_weights_counts_rows_that_decay():
    """And a long one does not forget what it has seen."""
    average = jm.ExponentialMovingAverage
    metric = jm.Collection(
        count=average(jm.Count(), 2.0),
        total=average(jm.Sum(), 2),
        mean=average(jm.Mean(), 1000),
        soon=average(jm.Mean(), 1e-6),
    )
    found = results(metric, VALUES)
    factor = 2.0 ** (-np.arange(STEPS) / 2)
    sums = np.float64(VALUES["values"]).sum(1)
    for i in range(STEPS):
        decay = factor[i::-1] if i else factor[:1]
        np.testing.assert_allclose(found["count"][i], 8 * decay.sum(), rtol=1e-6)
        np.testing.assert_allclose(found["total"][i], sums[: i + 1] @ decay, rtol=1e-6)
    np.testing.assert_allclose(found["soon"], sums / 8, rtol=1e-6)
    slow = 2.0 ** (-np.arange(STEPS)[::-1] / 1000)
    long = sums @ slow / slow.sum() / 8
    np.testing.assert_allclose(found["mean"][-1], long, rtol=1e-6)


def test_metrics_of_one_accumulator_share_one_window():
    """And one average, and one period."""
    for make in (
        lambda m: jm.Windowed(m, 2),
        lambda m: jm.ExponentialMovingAverage(m, 2.0),
        lambda m: jm.Every(m, 2),
    ):
        both = jm.Collection(a=make(jm.Precision()), b=make(jm.Recall()))
        inside = make(jm.Collection(a=jm.Precision(), b=jm.Recall()))
        assert len(both.accumulator.parts) == 1
        assert both.accumulator.parts == inside.accumulator.parts


def test_what_has_left_a_window_no_longer_counts():
    """NaN included; an average keeps it, and a period for as long as it is read."""
    values = VALUES["values"].copy()
    values[1, 3] = NAN
    metric = jm.Collection(
        window=jm.Windowed(jm.Mean(), 2),
        average=jm.ExponentialMovingAverage(jm.Mean(), 1.0),
        period=jm.Every(jm.Mean(), 2),
        best=jm.BestSoFar(jm.Windowed(jm.Mean(), 2), "min"),
        low=jm.BestSoFar(jm.Mean(), "min"),
    )
    states, found = running(metric, {"values": values})
    bad = {
        "window": [0, 1, 1, 0, 0, 0, 0],
        "average": [0, 1, 1, 1, 1, 1, 1],
        "period": [1, 1, 1, 0, 0, 0, 0],  # the first of them because there is none
        "best/value": [0, 1, 1, 0, 0, 0, 0],
        "low/value": [0, 1, 1, 1, 1, 1, 1],
    }
    for name, nan in bad.items():
        np.testing.assert_array_equal(np.isnan(found[name]), nan, err_msg=name)
    last = jax.tree.map(lambda x: x[2], states)
    counted = {name: int(v.nan) for name, v in metric.validity(last).items()}
    assert counted == dict.fromkeys(metric, 1)
    means = VALUES["values"].reshape(STEPS, ROWS)
    kept = [means[0].mean(), *(means[i - 1 : i + 1].mean() for i in range(3, STEPS))]
    np.testing.assert_allclose(found["best/value"][-1], min(kept), rtol=1e-6)


# --- the best ------------------------------------------------------------------------


def test_the_best_is_the_first_of_equals_and_passes_over_what_has_no_value():
    """Higher or lower is better, and `update` says when."""
    last = jm.Windowed(jm.Mean(), 1)
    metric = jm.Collection(high=jm.BestSoFar(last), low=jm.BestSoFar(last, "MIN"))
    values = np.float32([5, 2, 9, 2, 9, 1])[:, None]
    mask = np.array([0, 1, 1, 1, 1, 1], bool)[:, None]
    found = results(metric, {"values": values, "mask": mask})
    np.testing.assert_array_equal(found["high/value"], [NAN, 2, 9, 9, 9, 9])
    np.testing.assert_array_equal(found["high/update"], [-1, 1, 2, 2, 2, 2])
    np.testing.assert_array_equal(found["low/value"], [NAN, 2, 2, 2, 2, 1])
    np.testing.assert_array_equal(found["low/update"], [-1, 1, 1, 1, 1, 5])
    best, state, news = jm.BestSoFar(last), jm.BestSoFar(last).init(), []
    for value in values:
        state = best.update(state, values=value)
        news.append(bool(best.is_new(state)))
    assert not best.is_new(best.init())
    assert news == [True, False, True, False, False, False]
    assert jm.BestSoFar(last, "MIN") == jm.BestSoFar(last, mode="min")
    assert isinstance(jm.BestSoFar(last).compute(jm.BestSoFar(last).init()), jm.Best)


def test_the_best_of_several_thresholds_is_taken_one_by_one():
    """And of a function of several metrics, whose states are kept together."""
    several = jm.BestSoFar(jm.Recall((0.25, 0.75)))
    f1 = jm.BestSoFar(
        jm.harmonic_mean(jm.Precision(), jm.Mean().with_inputs(values="y_true"))
    )
    batches = {k: BATCHES[k] for k in ("y_true", "y_pred", "mask")}
    found = results(jm.Collection(several=several, f1=f1), batches)
    plain = jm.Collection(a=jm.Recall((0.25, 0.75)), b=f1.metric)
    each = results(plain, batches)
    np.testing.assert_array_equal(
        found["several/value"], np.maximum.accumulate(each["a"], axis=0)
    )
    np.testing.assert_array_equal(
        found["several/update"][-1], np.argmax(each["a"], axis=0)
    )
    np.testing.assert_array_equal(found["f1/value"], np.maximum.accumulate(each["b"]))


# --- loops and devices ---------------------------------------------------------------


def test_every_emits_inside_a_scan_without_a_second_trace():
    """`is_new` is true where a period has become whole."""
    metric = jm.Every(jm.Collection(mean=jm.Mean(), total=jm.Sum()), n=3)
    TRACES.clear()
    for _ in range(2):
        states, found = running(
            jm.Every(jm.Collection(mean=jm.Mean(), total=jm.Sum()), 3), VALUES
        )
    assert [metric] == TRACES
    new = jax.jit(jax.vmap(metric.is_new))(states)
    np.testing.assert_array_equal(new, [0, 0, 1, 0, 0, 1, 0])
    values = VALUES["values"]
    means = [values[:3].mean(), values[3:6].mean()]
    np.testing.assert_allclose(found["mean"][new], means, rtol=1e-6)
    assert np.isnan(found["total"][:2]).all()


UPDATEWISE = jm.Collection(
    window=jm.Windowed(jm.Recall(), 2),
    average=jm.ExponentialMovingAverage(jm.Recall(), 2.0),
    period=jm.Every(jm.Recall(), 3),
    nested=jm.Windowed(jm.Sliced(jm.Recall(), 2).with_inputs(slice_ids="site"), 2),
    best=jm.BestSoFar(jm.Windowed(jm.Recall(), 2)),
)
SHARDABLE = {k: BATCHES[k] for k in ("y_true", "y_pred", "mask")}
SHARDABLE["site"] = RANDOM.integers(0, 2, (STEPS, ROWS)).astype(np.int32)


def last_of_all(batches):
    """The state after all batches."""
    return jax.tree.map(lambda x: x[-1], running(UPDATEWISE, batches)[0])


def test_shards_of_the_same_steps_merge_to_whole_batches():
    """In lockstep; the best is the better of what each had."""
    halves = [
        last_of_all({k: x[:, half] for k, x in SHARDABLE.items()})
        for half in (slice(0, 4), slice(4, 8))
    ]
    whole = last_of_all(SHARDABLE)
    merged = jax.jit(UPDATEWISE.merge)(*halves)
    shards = jax.jit(
        jax.shard_map(
            lambda batches: UPDATEWISE.all_reduce(last_of_varying(batches), "data"),
            mesh=jax.make_mesh(
                (2,), ("data",), (AxisType.Auto,), devices=jax.devices()[:2]
            ),
            in_specs=P(None, "data"),
            out_specs=P(),
        ),
    )(SHARDABLE)
    for state in (merged, jax.block_until_ready(shards)):
        for key, data in whole.data.items():
            if key.startswith("BestValue"):
                data, own = data.current, state.data[key].current
            else:
                own = state.data[key]
            for x, y in zip(*map(jax.tree.leaves, (own, data)), strict=True):
                np.testing.assert_allclose(x, y, 1e-6, 1e-9, err_msg=key)
    best = [half.data for half in halves]
    key = next(key for key in whole.data if key.startswith("BestValue"))
    better = max(float(data[key].value) for data in best)
    assert float(merged.data[key].value) == better
    assert float(shards.data[key].value) == better


def last_of_varying(batches):
    """The state of one device's share, after all steps."""
    start = jax.lax.pcast(UPDATEWISE.init(), "data", to="varying")
    return jax.lax.scan(
        lambda state, batch: (UPDATEWISE.update(state, **batch), None), start, batches
    )[0]


# --- refusals ------------------------------------------------------------------------

UNFIT = [
    (lambda: jm.Windowed(jm.Mean(), 0), "updates must be an integer >= 1; got 0"),
    (lambda: jm.Windowed(jm.Mean(), 2.5), "updates must be an integer >= 1; got 2.5"),
    (lambda: jm.Every(jm.Mean(), 0), "n must be an integer >= 1; got 0"),
    (lambda: jm.Every(jm.Mean, 2), "metric must be a metric; got"),
    (lambda: jm.ExponentialMovingAverage(jm.Mean(), 0), "half_life must be a positive"),
    (lambda: jm.ExponentialMovingAverage(jm.Mean(), np.inf), "number of updates; got"),
    (lambda: jm.ExponentialMovingAverage(jm.Mean(), "2"), "half_life must be a number"),
    (
        lambda: jm.ExponentialMovingAverage(jm.ExactAUROC(9), 2.0),
        "may be no weighted sum. Take Windowed instead",
    ),
    (
        lambda: jm.ExponentialMovingAverage(jm.AUROC(weighted=False), 2.0),
        "weighted=False counts whole rows, .* leave the option out",
    ),
    (
        lambda: jm.ExponentialMovingAverage(jm.Windowed(jm.Mean(), 2), 2.0),
        "may be no weighted sum",
    ),
    (
        lambda: jm.Windowed(jm.Sliced(jm.BestSoFar(jm.Mean()), 2), 2),
        "goes by updates, and to a window each is the first; put the window inside",
    ),
    (lambda: jm.BestSoFar(jm.Mean(), "most"), "mode must be one of"),
    (lambda: jm.BestSoFar("mean"), "metric must be a metric; got 'mean'"),
    (
        lambda: jm.BestSoFar(jm.Collection(a=jm.Mean())),
        "the best is one of floats; Collection computes .* with map",
    ),
    (lambda: jm.BestSoFar(jm.Count(dtype="int32")), "the best is one of floats"),
]


@pytest.mark.parametrize(("make", "words"), UNFIT)
def test_what_cannot_be_is_refused_when_it_is_made(make, words):
    """With the reason and the way out."""
    with pytest.raises((ValueError, TypeError), match=words):
        make()


def test_other_refusals_say_what_to_do():
    """What is known when a batch comes, or when the result is read."""
    whole = jm.Every(jm.Count(dtype="int32"), 2)
    with pytest.raises(TypeError, match=r"before the first period .* int32 has no NaN"):
        jax.eval_shape(whole.compute, whole.init())
    with pytest.raises(ValueError, match=r"Every\(Mean\): this state belongs to"):
        jm.Every(jm.Mean(), 2).is_new(jm.Every(jm.Mean(), 3).init())
    for make in (jm.Windowed, jm.ExponentialMovingAverage, jm.Every):
        metric = make(jm.Mean(), 2)
        with pytest.raises(TypeError, match=r"unknown \['value'\]"):
            jax.eval_shape(partial(metric, value=np.zeros(2)))
        with pytest.raises(ValueError, match=r"mask must be .* \(3,\)"):
            jax.eval_shape(partial(metric, values=np.zeros(2), mask=np.ones(3, bool)))
    assert jnp.isnan(metric.compute(metric.init()))
