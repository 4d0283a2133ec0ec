"""The contract beside its laws: classes, composition, checkpoints, bad values."""

import pickle
from pathlib import Path
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest
from jax.experimental import checkify
from registry import BINARY, VALUES

import jaxmetrics as jm
from jaxmetrics.testing import CHEAP_LAWS, EAGER_LAWS, LAWS, check_metric

BATCH = BINARY[0]


class MissRate(jm.ConfusionMetric):
    """The share of the positives that were missed, in the four lines of the README."""

    def formula(self, c: jm.Counts) -> jax.Array:
        return jm.divide(c.false_negatives, c.false_negatives + c.true_positives)


def miss_rate(c: jm.Counts) -> jax.Array:
    """The same as a function."""
    return jm.divide(c.false_negatives, c.false_negatives + c.true_positives)


def same(tree: Any, other: Any) -> bool:
    """Whether two trees have the same structure and bits."""
    pairs = jax.tree.map(lambda a, b: np.array_equal(a, b, equal_nan=True), tree, other)
    return all(jax.tree.leaves(pairs))


# --- classes -------------------------------------------------------------------------


def test_a_metric_of_ones_own_takes_all_options_and_keeps_all_laws() -> None:
    """Weights, masks, thresholds, merging and sharding come for nothing."""
    compiled = [law for law in LAWS if law not in EAGER_LAWS]
    check_metric(MissRate(), BINARY, laws=compiled)
    check_metric(MissRate((0.25, 0.5), name="missed"), BINARY, laws=CHEAP_LAWS)
    weight = np.arange(8, dtype=np.float32)
    ours = MissRate()(**BATCH, sample_weight=weight)
    assert ours == jm.FalseNegativeRate()(**BATCH, sample_weight=weight)
    assert MissRate().accumulator == jm.FalseNegativeRate().accumulator


def test_a_class_with_its_own_init_is_refused() -> None:
    """Its options would be hidden from equality, and all its instances equal."""
    body = {"__init__": lambda self, beta: None, "formula": miss_rate}
    with pytest.raises(TypeError, match=r"Own defines __init__.*annotated fields"):
        type("Own", (jm.ConfusionMetric,), body)


def test_a_final_class_is_not_subclassed() -> None:
    """A class is abstract or final, and the error names what to derive from."""
    with pytest.raises(TypeError, match=r"Stricter derives from Precision.*final"):
        type("Stricter", (jm.Precision,), {})


def test_an_abstract_class_cannot_be_made() -> None:
    """Only what has a formula is a metric."""
    with pytest.raises(TypeError, match="abstract"):
        jm.ConfusionMetric()


def test_options_are_neither_set_nor_unhashable_nor_traced() -> None:
    """What a compiled program depends on cannot change under it."""
    with pytest.raises(AttributeError):
        jm.Precision().thresholds = (0.1,)
    with pytest.raises(TypeError, match="thresholds"):
        jax.jit(lambda t: jm.Precision(t)(**BATCH))(0.5)


def test_equal_options_of_any_spelling_make_equal_metrics() -> None:
    """Lists, arrays and tuples of one grid share a trace, other numbers do not."""
    grid = [0.25, 0.5]
    spellings = [grid, tuple(grid), np.array(grid), jnp.array(grid)]
    assert len({jm.Precision(thresholds) for thresholds in spellings}) == 1
    assert jm.Precision(1) == jm.Precision(1.0) != jm.Precision(0)


# --- states --------------------------------------------------------------------------


class Chosen(jm.ConfusionMetric):
    """True positives, and an option of any kind."""

    option: Any = ()

    def formula(self, c: jm.Counts) -> Any:
        return c.true_positives


def test_options_are_equal_by_type_inside_tuples_too() -> None:
    """1, 1.0 and True differ, lists and tuples do not; there is one NaN, one zero."""
    one, number, flag = (Chosen(option=(x,)) for x in (1, 1.0, True))
    assert len({one, number, flag}) == 3
    assert Chosen(option=[(1, 2)]) == Chosen(option=([1, 2],)) != Chosen(option=(1, 2))
    assert Chosen(option=(np.nan,)) == Chosen(option=(float("nan"),))
    assert Chosen(option=-0.0).option == 0
    assert str(Chosen(option=(-0.0,)).option) == "(0.0,)"


def test_a_state_is_immutable() -> None:
    """Neither its data nor its owner can be set or deleted."""
    state = jm.Precision().init()
    for change in (lambda: setattr(state, "data", 1), lambda: delattr(state, "owner")):
        with pytest.raises(AttributeError, match="a State is immutable"):
            change()
    assert same(pickle.loads(pickle.dumps(state)), state)


def test_readouts_of_one_accumulator_read_each_others_state() -> None:
    """And those of others refuse it, naming both."""
    state = jm.Precision().update(jm.Precision().init(), **BATCH)
    assert jm.Recall().compute(state) == jm.Recall()(**BATCH)
    words = r"thresholds=\(0\.5,\)\), not to ConfusionCounts\(thresholds=\(0\.9,\)\)"
    with pytest.raises(ValueError, match=words):
        jm.Recall(0.9).compute(state)


# --- composition ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "hint"),
    [
        ("update_state", r"state = metric\.update\(state"),
        ("reset_state", r"state = metric\.init\(\)"),
        ("result", r"metric\.compute\(state\)"),
    ],
)
def test_methods_of_metrics_that_change_themselves_are_pointed_at(
    method: str, hint: str
) -> None:
    """Whoever comes from Keras is told what stands for them."""
    with pytest.raises(AttributeError, match=f"{method}.*{hint}"):
        getattr(jm.Precision(), method)
    assert not hasattr(jm.Precision(), "something")


def test_states_end_to_end_are_refused_with_the_way_out() -> None:
    """As `shard_map` returns them under `out_specs=P(axis)`."""
    metric = jm.AUC()
    states = jax.tree.map(lambda x: jnp.concatenate([x, x]), metric.init())
    with pytest.raises(ValueError, match=r"end to end.*all_reduce\(state, axis_name\)"):
        metric.compute(states)


def test_a_mapped_metric_is_equal_when_it_is_rebuilt() -> None:
    """With a named function; each lambda is a function of its own."""
    mapped = jm.ConfusionCounts().map(miss_rate)
    assert mapped == jm.ConfusionCounts().map(miss_rate)
    assert hash(mapped) == hash(jm.ConfusionCounts().map(miss_rate))
    assert jm.Mean().map(lambda x: x) != jm.Mean().map(lambda x: x)
    assert mapped(**BATCH) == MissRate()(**BATCH)


def test_arithmetic_shares_the_state_of_its_operands() -> None:
    """F1 from precision and recall, beside them, adds no state."""
    p, r = jm.Precision(), jm.Recall()
    harmonic = 2 * p * r / (p + r)
    metrics = jm.Collection(p=p, r=r, f=harmonic, f1=jm.F1Score())
    state = metrics.update(metrics.init(), **BATCH)
    assert len(state.data) == 1
    results = metrics.compute(state)
    np.testing.assert_allclose(results["f"], results["f1"], rtol=1e-6)


def test_arithmetic_over_two_accumulators_merges_and_reduces() -> None:
    """The difference of a loss and a precision is a metric like any other."""
    gap = jm.Mean().with_inputs(values="loss") - jm.Precision()
    batches = [{**a, "loss": b["values"]} for a, b in zip(BINARY, VALUES, strict=True)]
    update, merge, compute = map(jax.jit, (gap.update, gap.merge, gap.compute))
    parts = [update(gap.init(), **batch) for batch in batches]
    merged = merge(merge(parts[0], parts[1]), parts[2])
    stacked = jax.tree.map(lambda *x: np.stack(x), *parts)
    all_reduce = jax.vmap(lambda s: gap.all_reduce(s, "i"), axis_name="i")
    reduced = jax.jit(all_reduce)(stacked)
    whole = {k: np.concatenate([b[k] for b in batches]) for k in batches[0]}
    loss = np.mean(whole.pop("loss"), dtype=np.float64)
    expected = loss - jax.jit(jm.Precision())(**whole)
    for state in (merged, jax.tree.map(lambda x: x[0], reduced)):
        np.testing.assert_allclose(compute(state), expected, rtol=1e-6)


def test_arithmetic_takes_metrics_and_numbers_alone() -> None:
    """Anything else is a TypeError, as in Python."""
    with pytest.raises(TypeError, match="unsupported operand"):
        jm.Precision() + "0.5"
    with pytest.raises(TypeError, match="unsupported operand"):
        True * jm.Precision()
    with pytest.raises(TypeError, match="unsupported operand"):
        jm.Precision() * jnp.ones(2)
    for two in (2, np.float32(2), jnp.float32(2)):
        assert jm.Precision() * two == jm.Precision() * 2.0
        assert two * jm.Precision() == 2.0 * jm.Precision()


# --- checkpoints ---------------------------------------------------------------------

METRICS = jm.Collection(
    loss=jm.Mean().with_inputs(values="loss"), precision=jm.Precision(), auc=jm.AUC(5)
)
STEPS = [{**a, "loss": b["values"]} for a, b in zip(BINARY, VALUES, strict=True)]


@flax.struct.dataclass
class TrainState:
    """What a training loop saves."""

    step: jax.Array
    params: dict[str, jax.Array]
    metrics: jm.State


def train(state: TrainState, steps: list[Any]) -> TrainState:
    """Some steps."""
    update = jax.jit(METRICS.update)
    for batch in steps:
        metrics = update(state.metrics, **batch)
        state = state.replace(step=state.step + 1, metrics=metrics)
    return state


def fresh(metrics: jm.Metric = METRICS) -> TrainState:
    """The state to start from."""
    return TrainState(jnp.int32(0), {"w": jnp.ones((3,))}, metrics.init())


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint after two steps."""
    path = tmp_path_factory.mktemp("checkpoint") / "two"
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(path, train(fresh(), STEPS[:2]))
    return path


def restore(path: Path, template: Any) -> Any:
    """What Orbax makes of a checkpoint, in the template's form."""
    with ocp.StandardCheckpointer() as checkpointer:
        return checkpointer.restore(path, template)


@pytest.mark.parametrize("shapes_only", [False, True], ids=["init", "eval_shape"])
def test_a_train_state_resumes_from_orbax_bit_for_bit(
    saved: Path, shapes_only: bool
) -> None:
    """With `init()` as the template, or only its shapes."""
    template = jax.eval_shape(fresh) if shapes_only else fresh()
    resumed = train(restore(saved, template), STEPS[2:])
    uninterrupted = train(fresh(), STEPS)
    assert same(resumed, uninterrupted)
    compute = jax.jit(METRICS.compute)
    assert same(compute(resumed.metrics), compute(uninterrupted.metrics))


def test_orbax_refuses_a_checkpoint_of_other_options_by_its_key(saved: Path) -> None:
    """The shapes are the same, so that only the key can tell 0.9 from 0.5."""
    others = jm.Collection(
        loss=jm.Mean().with_inputs(values="loss"),
        precision=jm.Precision(0.9),
        auc=jm.AUC(5),
    )
    with pytest.raises(ValueError, match=jm.Precision(0.9).accumulator.key):
        restore(saved, fresh(others))


def test_renaming_or_adding_a_readout_leaves_a_checkpoint_valid(saved: Path) -> None:
    """States go by accumulator, not by the names of metrics."""
    renamed = jm.Collection(
        mean_loss=jm.Mean().with_inputs(values="loss"),
        p=jm.Precision(),
        recall=jm.Recall(),
        area=jm.AUC(5),
    )
    restored = restore(saved, fresh(renamed))
    recall = jm.Recall()
    state = recall.init()
    for batch in BINARY[:2]:
        state = recall.update(state, **batch)
    results = jax.jit(renamed.compute)(restored.metrics)
    assert results["recall"] == recall.compute(state)


# --- bad values ----------------------------------------------------------------------

BAD = {
    "nan": {"y_true": [0.0, 1.0, 1.0], "y_pred": [0.2, np.nan, 0.9]},
    "outside_domain": {"y_true": [0.0, 2.0, 1.0], "y_pred": [0.2, 0.7, 0.9]},
    "outside_range": {"y_true": [0.0, 1.0, 1.0], "y_pred": [0.2, 1.5, 0.9]},
}
GOOD = {"y_true": [0.0, 1.0, 1.0], "y_pred": [0.2, 0.7, 0.9]}


@pytest.mark.parametrize("what", BAD)
def test_validity_counts_what_a_state_has_seen(what: str) -> None:
    """One row of one kind, twice, and nothing of the others."""
    metric = jm.Precision()
    state = metric.update(metric.init(), **GOOD)
    assert metric.validity(state) == (0, 0, 0)
    for _ in range(2):
        state = metric.update(state, **BAD[what])
    counted = metric.validity(state)._asdict()
    assert counted == {name: 2 * (name == what) for name in BAD}


def test_validity_of_a_collection_goes_by_member() -> None:
    """So that a NaN in the loss is not held against the labels."""
    state = METRICS.update(METRICS.init(), **GOOD, loss=[1.0, np.nan, 2.0])
    validity = METRICS.validity(state)
    assert (validity["loss"].nan, validity["precision"].nan) == (1, 0)
    results = jax.jit(METRICS.compute)(state)
    assert np.isnan(results["loss"])
    assert results["precision"] == 1.0


@pytest.mark.parametrize("what", ["nan", "outside_domain"])
def test_a_bad_row_spoils_every_result_until_the_next_init(what: str) -> None:
    """Floats are NaN and integers their least likely value, whatever follows."""
    state = jm.Precision().update(jm.Precision().init(), **BAD[what])
    for _ in range(3):
        state = jm.Precision().update(state, **GOOD)
    assert np.isnan(jm.Precision().compute(state))
    assert np.all(np.isnan(jm.ConfusionCounts().compute(state)))
    least = np.iinfo(np.int32).min
    assert jm.TruePositives(dtype="int32").compute(state) == least
    assert jm.Precision()(**GOOD) == 1.0


def test_a_score_outside_its_range_is_compared_as_it_is() -> None:
    """It is counted, and spoils nothing."""
    assert jm.Recall()(**BAD["outside_range"]) == 1.0


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("nan", "a row holds NaN"),
        ("outside_domain", "outside its domain"),
        ("outside_range", r"a score lies outside \[0, 1\]"),
    ],
)
def test_debug_check_raises_under_checkify_and_is_inert_under_jit(
    what: str, words: str
) -> None:
    """The same function, with and without the transformation."""
    metric = jm.Precision(name="hits")

    def checked(y_true: jax.Array, y_pred: jax.Array) -> jax.Array:
        state = metric.update(metric.init(), y_true, y_pred)
        metric.debug_check(state)
        return metric.compute(state)

    batch = {name: jnp.asarray(x) for name, x in BAD[what].items()}
    error, _ = checkify.checkify(jax.jit(checked))(**batch)
    with pytest.raises(checkify.JaxRuntimeError, match=f"hits: .*{words}"):
        error.throw()
    error, _ = checkify.checkify(jax.jit(checked))(**jax.tree.map(jnp.asarray, GOOD))
    error.throw()
    plain = jax.jit(checked)(**batch)
    assert np.array_equal(plain, metric(**batch), equal_nan=True)


EMPTY = {
    "Precision": (jm.Precision(), (0,), 0.0),
    "at thresholds": (jm.Recall(thresholds=(0.2, 0.4)), (0,), 0.0),
    "by class": (jm.Recall(num_classes=3, top_k=1), (0, 3), 0.0),
    "AUC": (jm.AUC(), (0,), np.nan),
    "Mean": (jm.Mean().with_inputs(values="y_pred"), (0,), np.nan),
    "Sum": (jm.Sum().with_inputs(values="y_pred"), (0,), 0.0),
}


@pytest.mark.parametrize("extra", [(), ("sample_weight",), ("mask",)], ids=str)
@pytest.mark.parametrize("what", EMPTY)
def test_a_batch_without_rows_changes_nothing(
    what: str, extra: tuple[str, ...]
) -> None:
    """Nothing is seen, whatever comes with it."""
    metric, shape, value = EMPTY[what]
    batch = {"y_pred": np.zeros(shape, np.float32)}
    if "y_true" in metric.accumulator.inputs:
        batch["y_true"] = np.zeros(shape, np.float32)
    batch |= {
        name: np.zeros(shape, bool if name == "mask" else np.float32) for name in extra
    }
    state = jax.jit(metric.update)(metric.init(), **batch)
    assert jax.tree.all(jax.tree.map(np.array_equal, state, metric.init()))
    np.testing.assert_array_equal(jax.jit(metric.compute)(state), value)


def test_integer_readouts_are_exact_beyond_float32() -> None:
    """16,777,217 through float32 would be 16,777,216."""
    metric = jm.TruePositives(dtype="int32")
    state = metric.update(metric.init(), y_true=np.ones(1), y_pred=np.ones(1))
    for _ in range(24):
        state = metric.merge(state, state)
    state = metric.update(state, y_true=np.ones(1), y_pred=np.ones(1))
    assert metric.compute(state) == 2**24 + 1
    assert metric.compute(state).dtype == jnp.int32
    assert jm.TruePositives().compute(state) == 2**24
    unsigned = jm.TruePositives(dtype="uint32").compute(state)
    assert (unsigned, unsigned.dtype) == (2**24 + 1, jnp.uint32)


def test_integer_readouts_saturate() -> None:
    """What does not fit is the largest that does."""
    metric = jm.TruePositives(dtype="int32")
    state = metric.update(metric.init(), y_true=np.ones(1), y_pred=np.ones(1))
    for _ in range(31):
        state = metric.merge(state, state)
    assert metric.compute(state) == 2**31 - 1
    assert jm.TruePositives().compute(state) == 2.0**31


def test_dtypes_that_cannot_be_are_refused() -> None:
    """float64 without x64, and integers for a ratio."""
    with pytest.raises(ValueError, match="float64 needs 64-bit types"):
        jm.Precision(dtype="float64")
    with pytest.raises(TypeError, match="dtype must be a float dtype; got int32"):
        jm.Precision(dtype="int32")
    assert jm.Precision(dtype="bfloat16")(**GOOD).dtype == jnp.bfloat16
