"""The evaluation loop: every row once, one compile, and the host never in the way.

What several processes do is in `test_processes.py`.
"""

import itertools
import os
import re
import sys
import threading
import time
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec as P

import jaxmetrics as jm
from jaxmetrics import evaluation

METRICS = jm.Collection(
    auc=jm.AUC(num_thresholds=9),
    loss=jm.Mean().with_inputs(values="loss", sample_weight="weight"),
)
RNG = np.random.default_rng(0)
ROWS = {
    "x": RNG.standard_normal((100, 3), np.float32),
    "y": RNG.random(100) < 0.4,
    "weight": RNG.random(100, np.float32),
}
PARAMS = np.array([1.0, -2.0, 0.5], np.float32)
ONE = Mesh(np.array(jax.devices()[:1]), ("data",))


def cut(size, rows=ROWS):
    """The rows in batches, the last of which is shorter."""
    starts = range(0, len(rows["y"]), size)
    return [{name: x[i : i + size] for name, x in rows.items()} for i in starts]


def step(params, batch):
    """Scores and losses of a linear model; of no padding, if that should show."""
    scores = jax.nn.sigmoid(jnp.sum(batch["x"] * params, -1))
    loss = jnp.abs(batch["y"] - scores)
    return {
        "y_true": batch["y"],
        "y_pred": scores,
        "loss": loss,
        "weight": batch["weight"],
    }


def run(batches, **options):
    """An evaluation without a bar, on one device unless told."""
    options = {"mesh": ONE, "params": PARAMS, "progress": False} | options
    metrics = options.pop("metrics", METRICS)
    return jm.evaluate(metrics, options.pop("step", step), batches, **options)


def at_once():
    """The results of all rows in one update."""
    inputs = jax.jit(step)(PARAMS, ROWS)
    return jax.jit(lambda inputs: METRICS(**inputs))(inputs)


def assert_same_bits(state, other):
    """All leaves agree, bit for bit."""
    assert jax.tree.all(jax.tree.map(np.array_equal, state, other))


# --- every row once -------------------------------------------------------------------


@pytest.mark.parametrize("devices", [1, 2, 8])
def test_every_row_counts_once_on_any_number_of_devices(devices):
    """Batches of 12 rows are no multiple of 8, and the last has 4: both are padded."""
    mesh = Mesh(np.array(jax.devices()[:devices]), ("data",))
    results, state = run(cut(12), mesh=mesh)
    for name, value in at_once().items():
        np.testing.assert_allclose(results[name], value, rtol=1e-6, err_msg=name)
    assert_same_bits(jax.device_get(state), jax.device_get(run(cut(12)).state))
    for x in jax.tree.leaves(state):
        assert len(x.sharding.device_set) == devices
        assert x.is_fully_replicated


@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit])
def test_rows_are_split_over_all_axes_of_a_mesh(kind):
    """Of either type of axes, with params that are spread over the same mesh."""
    mesh = jax.make_mesh((2, 2), ("a", "b"), (kind,) * 2, devices=jax.devices()[:4])
    seen = []

    def look(params, batch):
        seen.append(jax.typeof(batch["y"]).sharding.spec)
        return step(params, batch)

    params = jax.device_put(PARAMS, NamedSharding(mesh, P()))
    _, state = run(cut(12), mesh=None, params=params, step=look)
    assert jax.tree.leaves(state)[0].sharding.mesh == mesh
    assert seen == [P(("a", "b")) if kind == AxisType.Explicit else P(None)]
    assert_same_bits(jax.device_get(state), jax.device_get(run(cut(12)).state))


def test_without_a_mesh_all_devices_take_part():
    """A dict of metrics is as good as a Collection of them."""
    _, state = run(cut(16), mesh=None, metrics=dict(METRICS.items()))
    assert len(jax.tree.leaves(state)[0].sharding.device_set) == jax.device_count()
    assert state.owner == METRICS.accumulator


def test_a_single_metric_has_a_single_result():
    """The value itself, where a Collection has a dict."""
    found = jm.evaluate(jm.Mean(), lambda b: {"values": b}, [np.arange(3.0)], mesh=ONE)
    assert isinstance(found, jm.Evaluation)
    assert float(found.results) == 1.0


class Record(NamedTuple):
    """A batch may be any pytree."""

    y: object
    rest: object


@pytest.mark.parametrize("array", [np.asarray, jnp.asarray])
def test_a_batch_is_any_pytree_of_arrays(array):
    """NumPy's or JAX's, which need not come to the host when the batch is full."""

    def named(params, batch):
        return step(params, {"y": batch.y, "x": batch.rest[0], "weight": batch.rest[1]})

    batches = (
        Record(array(b["y"]), [array(b["x"]), array(b["weight"])]) for b in cut(12)
    )
    _, state = run(batches, step=named)
    assert_same_bits(state, run(cut(12)).state)


def test_nothing_to_evaluate_is_what_init_computes():
    """No batches, or batches of no rows; these are passed over anywhere."""
    assert np.isnan(run([]).results["auc"])
    none = {name: x[:0] for name, x in ROWS.items()}
    assert_same_bits(run([none]).state, METRICS.init())
    assert_same_bits(run([none, *cut(50), none]).state, run(cut(50)).state)


# --- masks ----------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(-1,), (-1, 1), (), (1, 1)])
def test_a_mask_of_the_step_is_combined_with_the_padding(shape):
    """Rows count where both keep them, whatever the step's own looks like."""

    def masked(batch):
        keep = batch["y"] if np.prod(shape) < 0 else jnp.array(True)
        return {"values": batch["x"], "mask": keep.reshape(shape)}

    mean = run(cut(12), metrics=jm.Mean(), step=masked, params=None).results
    kept = ROWS["x"][ROWS["y"]] if np.prod(shape) < 0 else ROWS["x"]
    np.testing.assert_allclose(mean, kept.mean(dtype=float), rtol=1e-6)


def test_a_column_of_true_shows_the_padding_to_the_step():
    """For what is taken over the rows of a batch, such as a batch norm."""

    def centred(batch):
        mean = jnp.mean(batch["y"], where=batch["real"])
        return {"values": jnp.broadcast_to(mean, batch["y"].shape)}

    batches = [{"y": np.full(n, 3.0), "real": np.ones(n, bool)} for n in (8, 5)]
    mean = run(batches, metrics=jm.Mean(), step=centred, params=None).results
    assert float(mean) == 3.0


@pytest.mark.parametrize("source", [None, "keep"])
def test_a_metric_without_a_mask_is_refused_where_there_is_padding(source):
    """Full batches are fine; the padding of others would count."""
    metric = jm.Mean().with_inputs(mask=source)
    options = {"metrics": metric, "params": None, "step": lambda x: {"values": x}}
    full = np.ones(4, np.float32)
    assert float(run([full, full], **options).results) == 1.0
    with pytest.raises(
        ValueError,
        match=r"evaluate: a batch of 3 rows is padded to 4, but WeightedSum\[.*\] "
        "takes no mask .* by the name mask, or pass full batches",
    ):
        run([full, full[:3]], **options)


# --- one compile ----------------------------------------------------------------------


def test_one_trace_serves_all_batches_and_later_calls_with_other_params():
    """Params are arguments of the program and not constants in it."""
    traces = []

    def counted(params, batch):
        traces.append(1)
        return step(params, batch)

    first = run(cut(12), step=counted)
    assert len(traces) == 1
    _, twice = run(cut(12), step=counted, state=first.state)
    other = run(cut(12), step=counted, params=-PARAMS)
    assert len(traces) == 1
    assert float(other.results["loss"]) != float(first.results["loss"])
    np.testing.assert_allclose(
        METRICS.compute(twice)["loss"], first.results["loss"], rtol=1e-6
    )


def test_without_params_every_call_sees_what_the_step_refers_to_now():
    """A step that closes over params must not go on with those of an earlier epoch."""
    params, scores = PARAMS, np.sum(ROWS["x"] * PARAMS, -1)
    rows = {**ROWS, "y": scores > 0}

    def closing(batch):
        return step(params, batch)

    before = run(cut(12, rows), step=closing, params=None).results["auc"]
    params = -PARAMS
    after = run(cut(12, rows), step=closing, params=None).results["auc"]
    assert float(after) < 0.1 < 0.9 < float(before)


# --- the host and the devices ---------------------------------------------------------


def test_steps_are_queued_while_the_first_one_runs():
    """The host asks for the fourth of six batches long before three steps are done."""

    def slow(weight, batch):
        product = jax.lax.fori_loop(0, 40, lambda _, x: jnp.tanh(x @ weight), weight)
        return {"values": batch + 0 * product[0, 0]}

    def timed(asked):
        asked.append(time.perf_counter())
        for _ in range(6):
            yield np.ones(4, np.float32)
            asked.append(time.perf_counter())

    weight = np.full((300, 300), 0.001, np.float32)
    options = {"metrics": jm.Mean(), "params": weight, "step": slow}
    run([np.ones(4, np.float32)], **options)  # compiles
    shares = []
    for _ in range(3):
        asked = []
        run(timed(asked), **options)
        whole = time.perf_counter() - asked[0]
        shares.append((asked[evaluation.IN_FLIGHT] - asked[0]) / whole)
    assert min(shares) < 0.25  # half, if each step were waited for


@pytest.mark.parametrize(("devices", "queued"), [(1, evaluation.IN_FLIGHT), (8, 1)])
def test_the_next_batch_is_read_before_an_earlier_step_is_waited_for(
    monkeypatch, devices, queued
):
    """So many steps are queued, on several CPU devices one; batches come before."""
    events, inner = [], evaluation._is_last

    def waited(mark, failure):
        events.append("wait")
        return inner(mark, failure)

    def batches():
        for batch in cut(16):
            events.append("read")
            yield batch

    monkeypatch.setattr(evaluation, "_is_last", waited)
    mesh = Mesh(np.array(jax.devices()[:devices]), ("data",))
    run(batches(), mesh=mesh)
    number = len(cut(16))
    waits = ["read", "wait"] * (number - queued)
    assert events == ["read"] * queued + waits


def test_memory_does_not_grow_with_the_number_of_batches():
    """Ten thousand batches; kept, they would be 80 MB."""
    seen = []
    batch = np.ones(2000, np.float32)

    def batches():
        for number in range(10_000):
            if number in (1000, 9999):
                with open("/proc/self/statm") as statm:
                    pages = int(statm.read().split()[1])
                memory = pages * os.sysconf("SC_PAGE_SIZE")
                seen.append((len(jax.live_arrays()), memory))
            yield batch + number % 2

    options = {"metrics": jm.Mean(), "params": None, "step": lambda x: {"values": x}}
    assert float(run(batches(), **options).results) == 1.5
    (arrays, memory), (arrays_later, memory_later) = seen
    assert arrays_later - arrays < 20
    assert memory_later - memory < 20e6


def test_a_loader_may_fill_one_array_again_and_again():
    """A run that is queued has a copy of what came."""
    buffer = np.empty(2**18, np.float32)

    def batches():
        for i in range(20):
            buffer[:] = i
            yield buffer

    found = jm.evaluate(
        jm.Mean(),
        lambda batch: {"values": batch},
        batches(),
        mesh=jax.make_mesh((1,), ("data",), devices=jax.devices()[:1]),
        progress=False,
    )
    assert found.results == 9.5


def test_a_loader_may_have_its_batches_by_number_alone():
    """As Python iterates over what has no iterator."""

    class Loader:
        def __getitem__(self, i):
            if i > 2:
                raise IndexError(i)
            return {"values": np.float32([i])}

    found = jm.evaluate(jm.Mean(), lambda batch: batch, Loader(), progress=False)
    assert found.results == 1


def test_an_error_of_the_batches_comes_through_and_nothing_is_left_behind():
    """The generator is closed, and there is no thread that waits for more."""
    threads, closed = threading.active_count(), []

    def batches():
        try:
            yield from cut(12)
            raise KeyError("no such file")
        finally:
            closed.append(True)

    with pytest.raises(KeyError, match="no such file"):
        run(batches())
    assert closed == [True]
    assert threading.active_count() == threads


# --- states ---------------------------------------------------------------------------


def test_interrupted_and_resumed_from_what_was_saved_it_has_the_same_bits():
    """States handed to `save` outlive the steps after them; so does the one given."""
    saved = {}

    def interrupted():
        yield from cut(12)[:7]
        raise KeyboardInterrupt

    def save(state, batches):
        saved[batches] = state

    with pytest.raises(KeyboardInterrupt):
        run(interrupted(), save=save, save_every=3)
    assert list(saved) == [3, 6]
    whole = run(cut(12))
    for done, state in saved.items():
        for given in (state, jax.device_get(state), state):
            rest = itertools.islice(cut(12), done, None)
            resumed = run(rest, state=given, batch_size=12)
            assert_same_bits(resumed.state, whole.state)
            assert_same_bits(resumed.results, whole.results)


def test_a_batch_of_no_rows_is_one_of_those_that_were_saved():
    """Or the rest of the source would be counted from one batch too early."""
    none = {name: x[:0] for name, x in ROWS.items()}
    batches = [none, *cut(50)[:1], none, none, *cut(50)[1:], none]
    saved = {}
    whole = run(
        batches, save=lambda state, done: saved.update({done: state}), save_every=1
    )
    assert list(saved) == list(range(1, len(batches) + 1))
    for done, state in saved.items():
        rest = run(batches[done:], state=state, batch_size=50)
        assert_same_bits(rest.state, whole.state)


# --- the bar --------------------------------------------------------------------------


def test_a_bar_counts_the_batches_and_shows_their_rate(capsys):
    """On standard error, with the number of batches where it is known."""
    run(cut(12), progress=True)
    shown = capsys.readouterr().err
    assert re.search(r"evaluate: 100%.* 9/9 .*batch/s", shown)
    run(iter(cut(12)), progress=True)
    assert re.search(r"evaluate: 9batch .*batch/s", capsys.readouterr().err)
    run(cut(12), progress=False)
    assert capsys.readouterr().err == ""


def test_without_tqdm_there_is_no_bar(monkeypatch, capsys):
    """It is optional, and nothing is said."""
    monkeypatch.setitem(sys.modules, "tqdm", None)
    assert_same_bits(run(cut(12), progress=True).state, run(cut(12)).state)
    assert capsys.readouterr().err == ""


# --- refusals -------------------------------------------------------------------------

BATCH = {name: x[:4] for name, x in ROWS.items()}


@pytest.mark.parametrize(
    ("options", "kind", "words"),
    [
        (
            {"batches": [BATCH, {name: x[:6] for name, x in ROWS.items()}]},
            ValueError,
            "a batch has 6 rows, and a run takes 4, .* pass batch_size=6, or cut",
        ),
        (
            {"batches": [BATCH, {**BATCH, "x": BATCH["x"][:, :2]}]},
            ValueError,
            r"batch\['x'\] float32\[rows,3\], .*; got .*batch\['x'\] float32\[rows,2\]",
        ),
        (
            {"batches": [{**BATCH, "y": BATCH["y"][:3]}]},
            ValueError,
            r"the same number of rows; got batch\['weight'\] 4, .*batch\['y'\] 3",
        ),
        (
            {"step": lambda params, batch: (batch["y"], batch["x"] @ params)},
            TypeError,
            "step must return a mapping of the inputs .*; got tuple",
        ),
        (
            {"step": "auc"},
            TypeError,
            r"step must be a function of \(params, batch\); got str",
        ),
        (
            {"step": lambda p, b: step(p, b) | {"mask": jnp.ones(3, bool)}},
            ValueError,
            r"mask that step returns .* each of the 4 rows of the batch; got .*\(3,\)",
        ),
        (
            {"step": lambda p, b: step(p, b) | {"y_pred": jnp.float32(1)}},
            ValueError,
            "an entry of y_pred for each row of the batch, as losses .*; got a single",
        ),
        (
            {"metrics": 3},
            TypeError,
            "'metrics' must be a metric, or a dict of metrics by name; got int",
        ),
        ({"mesh": "data"}, TypeError, "mesh must be a jax.sharding.Mesh; got str"),
        (
            {"state": jm.Recall().init()},
            ValueError,
            "this state belongs to ConfusionCounts.* not to Joint",
        ),
        ({"batch_size": 0}, ValueError, "batch_size must be an integer >= 1; got 0"),
        ({"save_every": 0.5}, TypeError, "save_every must be an integer >= 1; got 0.5"),
        ({"batches": BATCH}, TypeError, r"iterable of batches; got dict. Of one"),
        ({"batches": 3}, TypeError, "must be an iterable of batches; got int"),
        (
            {"step": lambda batch: batch},
            TypeError,
            r"step is called as step\(params, batch\); got a function of \(batch\)",
        ),
        (
            {"save": lambda state: None},
            TypeError,
            r"save is called as save\(state, batches\); got a function of \(state\)",
        ),
        ({"progress": 1}, TypeError, "progress must be True or False; got 1"),
    ],
)
def test_what_cannot_be_evaluated_raises(options, kind, words):
    """Each refusal names evaluate, what was expected, what came and the way out."""
    options = {"batches": [BATCH], **options}
    with pytest.raises(kind, match=f"evaluate: .*{words}"):
        run(**options)


def test_a_refusal_of_the_metrics_names_them():
    """It says more than the name of the loop."""

    def wrong(params, batch):
        return step(params, batch) | {"y_pred": batch["x"][:, :2], "mask": True}

    with pytest.raises(ValueError, match=r"^Collection\(auc=AUC\): y_true and y_pred"):
        run([BATCH], step=wrong)


@pytest.mark.parametrize(
    ("column", "error", "words"),
    [
        (np.arange(4) + 2**40, ValueError, "user.* holds integers that do not fit"),
        (np.array(["a", "b", "c", "d"]), TypeError, "user.* must hold numbers; got"),
    ],
)
def test_columns_that_jax_would_cut_or_refuse_are_named(column, error, words):
    """Ids of 64 bits would become other ids without a word."""
    batch = {"values": np.ones(4, np.float32), "user": column}
    with pytest.raises(error, match=words):
        jm.evaluate(jm.Mean(), lambda b: {"values": b["values"]}, [batch])
