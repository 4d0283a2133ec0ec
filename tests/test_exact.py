"""Exact areas: of arrays, and of a sample that scans, merges and overflows."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P
from sklearn.metrics import average_precision_score, roc_auc_score

import jaxmetrics as jm

PAIRS = {
    "auroc": (jm.auroc, jm.ExactAUROC, roc_auc_score),
    "average_precision": (
        jm.average_precision,
        jm.ExactAveragePrecision,
        average_precision_score,
    ),
}


def rows(kind: str, number: int = 1000) -> dict[str, np.ndarray]:
    """Labels, scores of some kind, and weights."""
    random = np.random.default_rng(5)
    true = random.random(number) < 0.3
    normal = random.standard_normal(number) + true
    scores = {
        "logits": 30 * normal,
        "any range": np.sign(normal) * 10 ** (37 * np.tanh(np.abs(normal))),
        "ties": np.round(normal),
        "neighbours": 1 + np.round(4 * normal) * 2**-23,
        "infinite": np.where(np.abs(normal) > 2, np.sign(normal) * np.inf, normal),
    }
    weight = 10 ** random.uniform(-3, 3, number) * (random.random(number) < 0.9)
    return {
        "y_true": true,
        "y_pred": np.float32(scores[kind]),
        "sample_weight": np.float32(weight),
    }


@pytest.mark.optimized
@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize(
    "kind", ["logits", "any range", "ties", "neighbours", "infinite"]
)
def test_areas_of_arrays_are_scikit_learns(name, kind):
    """With weights and without, for any float range."""
    function, _, reference = PAIRS[name]
    batch = rows(kind)
    finite = np.clip(batch["y_pred"].astype(np.float64), -1e300, 1e300)
    for weighted in (False, True):
        inputs = dict(batch)
        weight = inputs["sample_weight"] if weighted else inputs.pop("sample_weight")
        found = jax.jit(function)(**inputs)
        wanted = reference(
            batch["y_true"], finite, sample_weight=weight if weighted else None
        )
        assert float(found) == pytest.approx(wanted, abs=1e-6)


def test_both_zeros_are_one_score():
    """And a tie counts one half."""
    assert float(jm.auroc([0, 1], np.float32([0.0, -0.0]))) == 0.5


@pytest.mark.parametrize("name", PAIRS)
def test_what_has_no_area(name):
    """NaN without positives, for NaN, for bad labels; masked rows may hold anything."""
    function = jax.jit(PAIRS[name][0])
    assert np.isnan(function(y_true=np.zeros(3), y_pred=np.ones(3)))
    assert np.isnan(function(y_true=np.ones(0), y_pred=np.ones(0)))
    given = functools.partial(PAIRS[name][0], zero_division=0.25)
    assert float(given(np.zeros(3), np.ones(3))) == 0.25
    assert float(given(np.zeros(0), np.ones(0))) == 0.25
    good = {"y_true": np.float32([0, 1, 1]), "y_pred": np.float32([0.1, 0.2, 0.0])}
    for field, bad in (("y_pred", np.nan), ("y_true", np.nan), ("y_true", 2)):
        spoiled = {**good, field: np.float32([*good[field][:2], bad])}
        assert np.isnan(function(**spoiled))
        kept = function(**spoiled, mask=np.asarray([True, True, False]))
        assert float(kept) == 1.0
    assert np.isnan(function(**good, sample_weight=np.float32([1, 1, -1])))


@pytest.mark.parametrize("name", PAIRS)
def test_a_sample_scans_merges_and_reduces(name):
    """One value, whatever way the rows came."""
    _, kind, reference = PAIRS[name]
    metric, batch = kind(1200), rows("logits", 1024)
    wanted = reference(
        batch["y_true"], batch["y_pred"], sample_weight=batch["sample_weight"]
    )
    read = jax.jit(metric.compute)
    stacked = {k: x.reshape(8, -1) for k, x in batch.items()}

    def step(state: Any, batch: Any) -> Any:
        return metric.update(state, **batch), None

    scanned = jax.jit(lambda b: jax.lax.scan(step, metric.init(), b)[0])(stacked)
    assert float(read(scanned)) == pytest.approx(wanted, abs=1e-6)

    parts = jax.jit(jax.vmap(lambda b: metric.update(metric.init(), **b)))(stacked)
    parts = [jax.tree.map(lambda x, i=i: x[i], parts) for i in range(8)]
    merged = functools.reduce(jax.jit(metric.merge), parts[::-1])
    assert float(read(merged)) == pytest.approx(wanted, abs=1e-6)

    for axis in (AxisType.Auto, AxisType.Explicit):
        mesh = jax.make_mesh((8,), ("data",), (axis,))
        sharded = jax.device_put(batch, NamedSharding(mesh, P("data")))
        state = jax.device_put(metric.init(), NamedSharding(mesh, P()))
        update = jax.jit(lambda state, batch: metric.update(state, **batch))
        state = jax.block_until_ready(update(state, sharded))
        assert float(read(jax.device_get(state))) == pytest.approx(wanted, abs=1e-6)

    def on_device(batch: Any) -> Any:
        return metric.all_reduce(metric.update(metric.init(), **batch), "data")

    mesh = jax.make_mesh((8,), ("data",), (AxisType.Auto,))
    mapped = jax.shard_map(on_device, mesh=mesh, in_specs=P("data"), out_specs=P())
    state = jax.block_until_ready(jax.jit(mapped)(batch))
    assert float(read(jax.device_get(state))) == pytest.approx(wanted, abs=1e-6)
    assert int(metric.overflow(jax.device_get(state))) == 0


def test_what_finds_no_room_is_counted_and_spoils_the_value():
    """In an update, a merge and a reduction; rows of weight 0 take no room."""
    metric = jm.ExactAUROC(capacity=4)
    batch = {"y_true": np.float32([0, 1, 1]), "y_pred": np.float32([1, 2, 3])}
    update = jax.jit(lambda state, batch: metric.update(state, **batch))
    state = update(metric.init(), batch)
    assert float(metric.compute(state)) == 1.0
    assert int(metric.overflow(state)) == 0
    weighted = {**batch, "sample_weight": np.float32([0, 1, 0])}
    assert float(metric.compute(update(state, weighted))) == 1.0
    for full in (update(state, batch), metric.merge(state, state)):
        assert int(metric.overflow(full)) == 2
        assert np.isnan(metric.compute(full))
        assert np.isnan(metric.compute(metric.merge(metric.init(), full)))
    reduced = jax.vmap(lambda s: metric.all_reduce(s, "i"), axis_name="i")(
        jax.tree.map(lambda x: jnp.stack([x, x]), state)
    )
    assert np.isnan(metric.compute(jax.tree.map(lambda x: x[1], reduced)))


def test_a_sample_of_weights_with_x64_on():
    """Wide inputs, the same state, a float64 result."""
    metric, batch = jm.ExactAUROC(1000), rows("logits")
    evaluate = jax.jit(metric)
    narrow = evaluate(**batch)
    with jax.enable_x64(True):
        wide = {k: x.astype(np.float64) for k, x in batch.items()}
        value = evaluate(**wide)
        assert value.dtype == np.float64
        wanted = roc_auc_score(
            batch["y_true"], batch["y_pred"], sample_weight=batch["sample_weight"]
        )
        assert float(value) == pytest.approx(wanted, abs=1e-12)
    assert float(narrow) == pytest.approx(float(value), abs=1e-7)
