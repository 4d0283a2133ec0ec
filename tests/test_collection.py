"""Several metrics as one: what is shared, how inputs are routed, what comes out."""

import pickle
import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxmetrics as jm

ROWS = 8
RNG = np.random.default_rng(0)
BATCH = {
    "y_true": RNG.integers(0, 2, ROWS).astype(np.float32),
    "y_pred": RNG.random(ROWS).astype(np.float32),
}
LOSSES = RNG.random(ROWS).astype(np.float32)
MASK = np.arange(ROWS) < 5

AT_HALF = {
    "precision": jm.Precision(),
    "recall": jm.Recall(),
    "f1": jm.F1Score(),
    "accuracy": jm.BinaryAccuracy(),
    "missed": jm.FalseNegativeRate(),
    "hits": jm.TruePositives(dtype="int32"),
    "counts": jm.ConfusionCounts(),
}
ON_THE_GRID = {
    "auc": jm.AUC(),
    "pr": jm.AUC(curve="PR", summation_method="minoring"),
    "roc_curve": jm.ROCCurve(200),
    "pr_curve": jm.PrecisionRecallCurve(200),
    "p_at_r": jm.PrecisionAtRecall(0.5),
    "r_at_p": jm.RecallAtPrecision((0.5, 0.9)),
    "sensitivity": jm.SensitivityAtSpecificity(0.9),
    "specificity": jm.SpecificityAtSensitivity(0.9),
    "threshold": jm.PrecisionAtRecall(0.5).operating_threshold,
    "precision_on_it": jm.Precision(jm.even_thresholds(200)),
}


@jax.jit
def updated(metric, batch):
    """The state after one batch."""
    return metric.update(metric.init(), **batch)


@jax.jit
def computed(metric, state):
    """The value of a state."""
    return metric.compute(state)


def results(metric, **batch):
    """The value of one batch."""
    return computed(metric, updated(metric, batch))


def number_of_states(metrics):
    """How many accumulators a collection keeps."""
    return len(metrics.init().data)


# --- sharing -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("metrics", "states"),
    [
        (AT_HALF, 1),
        (ON_THE_GRID, 1),
        (AT_HALF | ON_THE_GRID, 2),
        ({"a": jm.Precision(0.4), "b": jm.Precision(0.5)}, 2),
        ({"a": jm.Precision((0.4, 0.6)), "b": jm.Recall([0.6, 0.4])}, 1),
        ({"a": jm.Precision(name="x"), "b": jm.Recall(dtype="float16")}, 1),
        ({"a": jm.Precision(zero_division=1.0), "b": jm.Precision()}, 1),
        ({"a": jm.Precision(), "b": jm.Precision(class_id=0)}, 2),
        ({"a": jm.Precision(), "b": jm.Precision(from_logits=True)}, 2),
        ({"a": jm.AUC(), "b": jm.AUC(100)}, 2),
        ({"a": jm.Mean(), "b": jm.Sum(), "c": jm.Count()}, 1),
        ({"a": jm.Mean(), "b": jm.Precision()}, 2),
        ({"a": jm.Mean(), "b": jm.Mean().with_inputs(values="loss")}, 2),
        ({"a": jm.Precision(), "b": jm.Recall().with_inputs(y_pred="probs")}, 2),
        (
            {
                "a": jm.Precision().with_inputs(y_pred="probs"),
                "b": jm.Recall().with_inputs(y_pred="probs"),
            },
            1,
        ),
        ({"a": jm.Precision(), "b": jm.Recall().with_inputs(mask=None)}, 2),
        ({"a": {"b": jm.Precision()}, "c": jm.Recall()}, 1),
        ({"a": jm.Precision() * jm.Recall(), "b": jm.F1Score().map(jnp.sqrt)}, 1),
        ({"a": jm.Precision() - jm.Precision(0.4), "b": jm.Recall(0.4)}, 2),
        ({"a": jm.Precision() / jm.AUC(), "b": jm.PrecisionAtRecall(0.5)}, 2),
    ],
    ids=lambda x: "-".join(x) if isinstance(x, dict) else str(x),
)
def test_one_state_for_each_distinct_accumulator(metrics, states):
    """Equal accumulators of equal inputs share a state; options of read-outs do not."""
    assert number_of_states(jm.Collection(metrics)) == states


def test_sharing_is_decided_before_any_data():
    """Metrics that agree on a batch stay apart if their options differ."""
    metrics = jm.Collection(a=jm.Precision(0.4), b=jm.Precision(0.5))
    first = updated(metrics, {"y_true": np.ones(2), "y_pred": np.full(2, 0.9)})
    second = updated(metrics, {"y_true": np.zeros(2), "y_pred": np.full(2, 0.45)})
    found = computed(metrics, jax.jit(metrics.merge)(first, second))
    assert found == {"a": 0.5, "b": 1.0}


def test_a_collection_computes_what_its_members_do():
    """Every member's result is the one it has alone."""
    everything = AT_HALF | ON_THE_GRID
    names = ("precision", "hits", "counts", "auc", "roc_curve", "p_at_r")
    members = {name: everything[name] for name in names}
    together = results(jm.Collection(members), **BATCH)
    for name, metric in members.items():
        alone = results(metric, **BATCH)
        fields = alone._asdict() if isinstance(alone, tuple) else {"": alone}
        for field, expected in fields.items():
            found = together.pop(f"{name}/{field}".rstrip("/"))
            np.testing.assert_array_equal(found, expected, err_msg=name)
    assert not together


def compiled_update(metric, batch):
    """The optimised program of one update, without what says where it came from."""
    lowered = jax.jit(lambda s, b: metric.update(s, **b)).lower(metric.init(), batch)
    return re.sub(r", metadata=\{.*\}", "", lowered.compile().as_text())


def passes_over(program, argument):
    """How many instructions of the main computation read an argument."""
    entry = program[program.index("ENTRY") :].splitlines()[1:]
    (name,) = [
        line.split("=")[0].strip()
        for line in entry
        if "parameter(" in line and argument in line.split("=")[0]
    ]
    used = re.compile(re.escape(name) + r"\b(?! =)")
    return sum(bool(used.search(line)) for line in entry)


@pytest.mark.parametrize(
    ("one", "all_"),
    [("precision", AT_HALF), ("auc", ON_THE_GRID)],
    ids=["at one half", "on the grid"],
)
@pytest.mark.parametrize("weighted", [False, True])
def test_metrics_that_share_read_the_data_as_often_as_one(one, all_, weighted):
    """In the compiled program a family on one accumulator is the program of one."""
    batch = {name: np.ones(1024, np.float32) for name in ("y_true", "y_pred")}
    if weighted:
        batch["sample_weight"] = np.ones(1024, np.float32)
    single = compiled_update(jm.Collection({one: all_[one]}), batch)
    family = compiled_update(jm.Collection(all_), batch)
    assert passes_over(family, "y_pred") == passes_over(single, "y_pred") >= 1
    assert len(family.splitlines()) == len(single.splitlines())


def test_metrics_that_do_not_share_read_the_data_again():
    """Two accumulators are two passes: what the test above counts can differ."""
    batch = {name: np.ones(1024, np.float32) for name in ("y_true", "y_pred")}
    one = jm.Collection(a=jm.Precision(), b=jm.Recall())
    two = jm.Collection(a=jm.Precision(), b=jm.Recall(0.4))
    once = passes_over(compiled_update(one, batch), "y_pred")
    assert passes_over(compiled_update(two, batch), "y_pred") == 2 * once


def test_checkpoints_survive_a_renamed_or_added_read_out():
    """The paths of a state name accumulators, not the metrics that read them."""

    def paths(metrics):
        leaves = jax.tree_util.tree_leaves_with_path(metrics.init())
        return [jax.tree_util.keystr(path) for path, _ in leaves]

    before = paths(jm.Collection(precision=jm.Precision(), auc=jm.AUC()))
    renamed = jm.Collection(area=jm.AUC(), p=jm.Recall(), specificity=jm.Specificity())
    assert paths(renamed) == before
    assert paths(jm.Collection(a=jm.Precision(0.4), auc=jm.AUC())) != before


# --- inputs --------------------------------------------------------------------------


def test_inputs_reach_the_metrics_that_take_them():
    """Each input goes by name to those whose signature has it."""
    metrics = jm.Collection(mean=jm.Mean(), recall=jm.Recall())
    found = results(metrics, values=LOSSES, **BATCH)
    assert found["mean"] == results(jm.Mean(), values=LOSSES)
    assert found["recall"] == results(jm.Recall(), **BATCH)


def test_inputs_are_renamed():
    """A metric reads what `with_inputs` says, and nothing under the old name."""
    metrics = jm.Collection(
        loss=jm.Mean().with_inputs(values="loss"),
        teacher=jm.BinaryAccuracy().with_inputs(y_pred="teacher_probs"),
        student=jm.BinaryAccuracy(),
    )
    teacher = 1 - BATCH["y_pred"]
    found = results(metrics, loss=LOSSES, teacher_probs=teacher, **BATCH)
    assert found["loss"] == results(jm.Mean(), values=LOSSES)
    expected = results(jm.BinaryAccuracy(), y_true=BATCH["y_true"], y_pred=teacher)
    assert found["teacher"] == expected
    assert found["student"] == results(jm.BinaryAccuracy(), **BATCH)
    with pytest.raises(TypeError, match="nothing takes the input 'values'"):
        results(metrics, values=LOSSES, loss=LOSSES, teacher_probs=teacher, **BATCH)


def test_a_collection_is_renamed_as_a_whole():
    """`with_inputs` of a collection renames in each member that has the input."""
    metrics = jm.Collection(mean=jm.Mean(), recall=jm.Recall(), auc=jm.AUC(5))
    renamed = metrics.with_inputs(y_pred="probs")
    found = results(
        renamed, values=LOSSES, y_true=BATCH["y_true"], probs=BATCH["y_pred"]
    )
    assert found == results(metrics, values=LOSSES, **BATCH)
    with pytest.raises(TypeError, match="there is no input 'logits' to rename"):
        metrics.with_inputs(logits="x")


def test_a_scalar_loss_beside_a_mask_of_rows():
    """The mask is withheld from the loss, which is a scalar, and masks the rows."""
    metrics = jm.Collection(
        loss=jm.Mean().with_inputs(values="loss", mask=None), recall=jm.Recall()
    )
    found = results(metrics, loss=np.float32(0.25), mask=MASK, **BATCH)
    assert found["loss"] == 0.25
    assert found["recall"] == results(jm.Recall(), mask=MASK, **BATCH)
    plain = jm.Collection(loss=jm.Mean().with_inputs(values="loss"), recall=jm.Recall())
    with pytest.raises(ValueError, match=r"with_inputs\(mask=None\)"):
        results(plain, loss=np.float32(0.25), mask=MASK, **BATCH)


def test_weights_may_go_to_some_metrics_only():
    """A weighted and an unweighted precision stand side by side."""
    metrics = jm.Collection(
        weighted=jm.Precision(), plain=jm.Precision().with_inputs(sample_weight=None)
    )
    found = results(metrics, sample_weight=LOSSES, **BATCH)
    assert found["weighted"] == results(jm.Precision(), sample_weight=LOSSES, **BATCH)
    assert found["plain"] == results(jm.Precision(), **BATCH)
    assert found["weighted"] != found["plain"]


def test_an_input_that_nobody_takes_raises_and_names_it():
    """A misspelt input is not dropped in silence."""
    metrics = jm.Collection(precision=jm.Precision(), auc=jm.AUC())
    with pytest.raises(
        TypeError, match=r"Collection: nothing takes the input 'weight'"
    ):
        jax.eval_shape(metrics, weight=LOSSES, **BATCH)


def test_a_missing_input_raises_and_names_it_and_who_needs_it():
    """The message names the input and the members that wait for it."""
    metrics = jm.Collection(
        precision=jm.Precision(), loss=jm.Mean().with_inputs(values="loss")
    )
    with pytest.raises(TypeError, match=r"\(loss=Mean\): the input 'loss' is miss"):
        jax.eval_shape(metrics, **BATCH)
    with pytest.raises(TypeError, match=r"\(precision=Precision\): the input 'y_pred'"):
        jax.eval_shape(metrics, y_true=BATCH["y_true"], loss=LOSSES)


def test_inputs_go_by_position_only_where_all_take_the_same():
    """Positions mean something where the signatures agree, and raise elsewhere."""
    same = jm.Collection(precision=jm.Precision(), auc=jm.AUC(5))
    by_name = jax.eval_shape(same, **BATCH)
    assert jax.eval_shape(same, BATCH["y_true"], BATCH["y_pred"]) == by_name
    mixed = jm.Collection(precision=jm.Precision(), loss=jm.Mean())
    with pytest.raises(TypeError, match="inputs go by name here"):
        jax.eval_shape(mixed, BATCH["y_true"], BATCH["y_pred"])


def test_a_refusal_names_the_members_that_read_the_refused_state():
    """The error says which members could not take the batch."""
    metrics = jm.Collection(p=jm.Precision(), r=jm.Recall(), auc=jm.AUC())
    batch = {"y_true": np.zeros(4), "y_pred": np.zeros(5)}
    with pytest.raises(
        ValueError, match=r"Collection\((auc=AUC|p=Precision, r=Recall)\):"
    ):
        jax.eval_shape(metrics, **batch)


# --- results -------------------------------------------------------------------------


def test_names_are_flat_and_joined_by_slashes():
    """Nested names and fields of curves are joined by "/", after the prefix."""
    metrics = jm.Collection(
        {
            "loss": jm.Mean().with_inputs(values="loss"),
            "head": {"a": jm.Precision(), "deep": jm.Collection(b=jm.Recall())},
        },
        roc=jm.ROCCurve(5),
        prefix="val/",
    )
    found = results(metrics, loss=LOSSES, **BATCH)
    assert sorted(found) == [
        "val/head/a",
        "val/head/deep/b",
        "val/loss",
        "val/roc/false_positive_rate",
        "val/roc/thresholds",
        "val/roc/true_positive_rate",
    ]
    assert found["val/head/a"] == results(jm.Precision(), **BATCH)
    assert found["val/roc/thresholds"].shape == (5,)


def test_a_nested_prefix_is_kept():
    """The prefix of a nested collection comes after the outer name."""
    inner = jm.Collection(a=jm.Precision(), prefix="in_")
    assert list(jax.eval_shape(jm.Collection(x=inner), **BATCH)) == ["x/in_a"]


def test_with_prefix_reads_the_same_state():
    """One state serves "train/" and "val/" names alike."""
    train = jm.Collection(precision=jm.Precision(), prefix="train/")
    val = train.with_prefix("val/")
    state = updated(train, BATCH)
    (a,), (b,) = computed(train, state).items(), computed(val, state).items()
    assert (a[0], b[0]) == ("train/precision", "val/precision")
    assert a[1] == b[1]


def test_two_results_of_one_name_raise():
    """A name that comes out twice is refused, and named."""
    with pytest.raises(ValueError, match="two results go by the name 'a/b'"):
        jm.Collection({"a/b": jm.Precision(), "a": {"b": jm.Recall()}})
    several = jm.Collection({"a/b": jm.Precision(), "a": {"c": jm.Recall()}})
    assert list(several) == ["a/b", "a"]


def test_scalars_are_for_loggers():
    """`scalars` has the same scalars, without curves and vectors."""
    metrics = jm.Collection(
        precision=jm.Precision(),
        several=jm.Recall((0.2, 0.8)),
        roc=jm.ROCCurve(5),
        hits=jm.TruePositives(dtype="int32"),
    )
    state = updated(metrics, BATCH)
    scalars = jax.jit(metrics.scalars)(state)
    assert sorted(scalars) == ["hits", "precision"]
    everything = computed(metrics, state)
    assert scalars == {name: everything[name] for name in scalars}


def test_members_are_read_like_a_dict():
    """Names, length, membership, items and getitem are those of a dict."""
    metrics = jm.Collection(precision=jm.Precision(), auc=jm.AUC())
    assert metrics["auc"] == jm.AUC()
    assert list(metrics) == ["precision", "auc"]
    assert len(metrics) == 2
    assert "auc" in metrics
    assert "roc" not in metrics
    assert dict(metrics.items()) == {"precision": jm.Precision(), "auc": jm.AUC()}
    with pytest.raises(
        KeyError, match=r"no metric 'roc'; it has \['precision', 'auc'\]"
    ):
        metrics["roc"]


def test_one_members_state_is_its_own():
    """`member_state` is what the member computes from, and takes back."""
    metrics = jm.Collection(
        precision=jm.Precision(), ratio=jm.Recall() / jm.Recall(0.4), auc=jm.AUC(5)
    )
    state = updated(metrics, BATCH)
    everything = computed(metrics, state)
    for name, metric in metrics.items():
        assert computed(metric, metrics.member_state(state, name)) == everything[name]


def test_validity_is_reported_by_name():
    """Every member tells of the bad values that its own state has seen."""
    metrics = jm.Collection(
        loss=jm.Mean().with_inputs(values="loss"), precision=jm.Precision()
    )
    losses = LOSSES.copy()
    losses[:2] = np.nan
    batch = {"y_true": BATCH["y_true"], "y_pred": BATCH["y_pred"] + 1}
    state = updated(metrics, {"loss": losses, **batch})
    validity = jax.jit(metrics.validity)(state)
    assert validity["loss"] == (2, 0, 0)
    assert validity["precision"] == (0, 0, ROWS)
    found = computed(metrics, state)
    assert np.isnan(found["loss"])
    assert found["precision"] == np.mean(BATCH["y_true"], dtype=np.float32)


# --- itself a metric -----------------------------------------------------------------


def test_a_collection_is_a_value():
    """Equal members make equal collections: one trace, one pickle, one hash."""
    make = partial(jm.Collection, precision=jm.Precision(), auc=jm.AUC(5), prefix="x/")
    assert make() == make()
    assert hash(make()) == hash(make())
    assert pickle.loads(pickle.dumps(make())) == make()
    assert make() != jm.Collection(precision=jm.Precision(), auc=jm.AUC(5))
    assert repr(make()) == (
        "Collection(precision=Precision(), auc=AUC(num_thresholds=5), prefix='x/')"
    )

    traces = []

    @jax.jit
    def step(metrics, state):
        traces.append(metrics)
        return metrics.update(state, **BATCH)

    state = make().init()
    for _ in range(3):
        state = step(make(), state)
    assert len(traces) == 1


def test_a_collection_may_be_the_carry_of_a_scan():
    """Its state goes through scan, merge and one compute, whatever the cut."""
    metrics = jm.Collection(
        loss=jm.Mean().with_inputs(values="loss"),
        nested={"precision": jm.Precision(), "auc": jm.AUC(5)},
    )
    batch = {"loss": LOSSES, **BATCH}
    halves = {name: x.reshape(2, -1) for name, x in batch.items()}

    @jax.jit
    def scanned(state, halves):
        return jax.lax.scan(lambda s, b: (metrics.update(s, **b), None), state, halves)[
            0
        ]

    whole = updated(metrics, batch)
    state = scanned(metrics.init(), halves)
    assert jax.tree.structure(state) == jax.tree.structure(whole)
    for name, x in computed(metrics, state).items():
        np.testing.assert_allclose(x, computed(metrics, whole)[name], rtol=1e-6)
    merged = jax.jit(metrics.merge)(whole, metrics.init())
    for a, b in zip(jax.tree.leaves(merged), jax.tree.leaves(whole), strict=True):
        np.testing.assert_array_equal(a, b)


def test_the_state_of_other_metrics_is_refused():
    """A state of other accumulators raises and names both."""
    metrics = jm.Collection(precision=jm.Precision())
    for other in (jm.Precision(), jm.Collection(precision=jm.Precision(0.4))):
        with pytest.raises(ValueError, match="Collection: this state belongs to"):
            metrics.compute(other.init())


def test_members_come_as_a_dict_or_by_keyword():
    """Both ways make the same collection, and may be mixed."""
    members = {"precision": jm.Precision(), "recall": jm.Recall()}
    assert jm.Collection(members) == jm.Collection(**members)
    more = jm.Collection(dict(jm.Collection(members).items()), auc=jm.AUC())
    assert list(more) == ["precision", "recall", "auc"]
    assert jm.Collection(a=members) == jm.Collection(a=jm.Collection(members))
