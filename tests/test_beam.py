"""Metrics as a CombineFn, on Beam's own local runner and by hand."""

import itertools
import pickle
import random
import re
from pathlib import Path

import jax
import numpy as np
import pytest

import jaxmetrics as jm

beam = pytest.importorskip(
    "apache_beam", reason="The extra `beam` is not in `test` from Python 3.12 on"
)

from apache_beam.options.pipeline_options import PipelineOptions  # noqa: E402
from apache_beam.runners.portability.fn_api_runner import fn_runner  # noqa: E402
from apache_beam.testing.util import assert_that  # noqa: E402

from jaxmetrics import beam as room  # noqa: E402
from jaxmetrics.beam import MetricCombineFn  # noqa: E402

ROOT = Path(__file__).parents[1]
BUNDLES = 8
THREADS = {"direct_num_workers": BUNDLES, "direct_running_mode": "multi_threading"}


class MissedShare(jm.ConfusionMetric):
    """A metric of a user's own, in a module that a worker may not have."""

    def formula(self, c):
        return self.ratio(c.false_negatives, c.false_negatives + c.true_positives)


METRICS = jm.Collection(
    precision=jm.Precision(),
    missed=MissedShare(),
    auc=jm.AUC(5),
    rows=jm.Count(dtype="int32").with_inputs(values="y_pred"),
)
ROWS = 1000
SIZE = 64  # rows to an update
ROW = {"y_true": 1, "y_pred": 0.7}


def table():
    """Labels, scores that tie, and a mask."""
    rng = np.random.default_rng(0)
    y_true = rng.random(ROWS) < 0.4
    return {
        "y_true": y_true,
        "y_pred": np.float32((rng.integers(0, 25, ROWS) + 8 * y_true) / 32),
        "mask": rng.random(ROWS) < 0.9,
    }


def rows_of(columns):
    """A dict of Python's own values for each row."""
    lists = [x.tolist() for x in columns.values()]
    return [dict(zip(columns, row, strict=True)) for row in zip(*lists, strict=True)]


COLUMNS = table()
ELEMENTS = rows_of(COLUMNS)
ONCE = jax.jit(METRICS.update)(METRICS.init(), **COLUMNS)


value_of = jax.jit(METRICS)  # what one update with all rows reads out


def same(value, wanted):
    """Whether two dicts of results agree bit for bit; no area is no area."""
    return value.keys() == wanted.keys() and all(
        np.array_equal(value[name], wanted[name], equal_nan=True) for name in wanted
    )


def check(elements, transform, predicate, **options):
    """Runs a pipeline on Beam's local runner and checks what comes out of it."""

    def checked(results):
        assert predicate(results), results

    with beam.Pipeline(
        runner=fn_runner.FnApiRunner(), options=PipelineOptions(**options)
    ) as pipeline:
        combined = pipeline | beam.Create(elements) | beam.Reshuffle() | transform
        assert_that(combined, checked)


@pytest.fixture
def read(monkeypatch):
    """The states that were sent as bytes, in order."""
    states, unpacked = [], room.unpacked

    def noted(metric, data):
        states.append(unpacked(metric, data))
        return states[-1]

    monkeypatch.setattr(room, "unpacked", noted)
    return states


# --- on the local runner --------------------------------------------------------------


@pytest.mark.parametrize("fanout", [None, 5])
def test_many_bundles_are_one_update(fanout, read):
    """Shuffled rows in several threads, and every bit of every result is the same."""
    wanted = value_of(**COLUMNS)
    combine = beam.CombineGlobally(MetricCombineFn(METRICS, batch_size=SIZE))
    combine = combine if fanout is None else combine.with_fanout(fanout)
    check(ELEMENTS, combine, lambda got: same(*got, wanted), **THREADS)
    assert len(read) >= BUNDLES


@pytest.mark.parametrize("fanout", [None, 4])
def test_slices_are_keys(fanout):
    """Each key has the value of its own rows, also where a key has many or one."""
    keys = np.where(np.arange(ROWS) == 7, "one", np.where(COLUMNS["y_true"], "a", "b"))
    wanted = {
        key: value_of(**{**COLUMNS, "mask": COLUMNS["mask"] & (keys == key)})
        for key in ("a", "b", "one")
    }
    combine = beam.CombinePerKey(MetricCombineFn(METRICS, batch_size=SIZE))
    combine = combine if fanout is None else combine.with_hot_key_fanout(fanout)

    def as_wanted(got):
        got = dict(got)
        return got.keys() == wanted.keys() and all(
            same(got[key], wanted[key]) for key in wanted
        )

    check(list(zip(keys.tolist(), ELEMENTS, strict=True)), combine, as_wanted)


def test_batches_may_be_of_any_length():
    """They are cut and joined to the size of an update."""
    ends = [0, 1, 1, 65, 400, 401, ROWS]
    batches = [
        {name: x[a:b] for name, x in COLUMNS.items()}
        for a, b in itertools.pairwise(ends)
    ]
    combine = MetricCombineFn(METRICS, batch_size=SIZE, batched=True)
    wanted = value_of(**COLUMNS)
    check(batches, beam.CombineGlobally(combine), lambda got: same(*got, wanted))


def test_nothing_has_the_value_of_nothing():
    """As `compute(init())`: counts are 0 and areas NaN."""
    combine = MetricCombineFn(METRICS, batch_size=SIZE)
    wanted = jax.jit(METRICS.compute)(METRICS.init())
    check([], beam.CombineGlobally(combine), lambda got: same(*got, wanted))


def test_the_documents_pipeline_prints_what_it_shows(capsys, monkeypatch):
    """The only block of docs/metrics.md that makes a pipeline."""
    text = (ROOT / "docs" / "metrics.md").read_text()
    ((code, shown),) = re.findall(
        r"^```python\n([^`]*MetricCombineFn[^`]*)```\n\n```text\n([^`]*)```",
        text,
        re.MULTILINE,
    )
    local = {"runner": fn_runner.FnApiRunner()}  # the default one asks the network
    monkeypatch.setattr(beam, "Pipeline", lambda: beam.pipeline.Pipeline(**local))
    exec(compile(code, "docs/metrics.md", "exec"), {"__name__": "document"})
    assert sorted(capsys.readouterr().out.splitlines()) == sorted(shown.splitlines())


# --- by hand --------------------------------------------------------------------------


def bundle(combine, elements):
    """The bytes of a bundle, as they leave a worker."""
    accumulator = combine.create_accumulator()
    return combine.compact(combine.add_inputs(accumulator, elements))


@pytest.mark.parametrize("seed", range(3))
def test_any_bundles_in_any_order_end_in_one_state(seed):
    """Empty ones and ones of a row among them, merged in parts."""
    shuffle = random.Random(seed)
    rows = shuffle.sample(ELEMENTS, ROWS)
    ends = sorted([0, ROWS, 5, 5, 6, *(shuffle.randrange(ROWS) for _ in range(30))])
    combine = pickle.loads(pickle.dumps(MetricCombineFn(METRICS, batch_size=SIZE)))
    parts = [bundle(combine, rows[a:b]) for a, b in itertools.pairwise(ends)]
    shuffle.shuffle(parts)
    while len(parts) > 1:
        few, parts = parts[:3], parts[3:]
        parts.append(combine.merge_accumulators(iter(few)))
    assert parts == [jm.to_bytes(METRICS, ONCE)]


def test_sums_and_weights_are_those_of_any_cut_into_batches():
    """Rows may be arrays, with weights; sums agree to 1e-6, counts of rows exactly."""
    rng = np.random.default_rng(1)
    columns = {
        "y_true": rng.random((ROWS, 3)) < 0.4,
        "y_pred": rng.random((ROWS, 3), np.float32),
        "loss": rng.normal(1e6, 1, ROWS).astype(np.float32),
        "sample_weight": rng.random(ROWS, np.float32),
    }
    metric = jm.Collection(
        f1=jm.F1Score("macro", num_classes=3),
        loss=jm.Mean().with_inputs(values="loss"),
        mean=jm.Mean().with_inputs(values="loss", sample_weight=None),
    )
    rows = [{name: x[i] for name, x in columns.items()} for i in range(ROWS)]
    combine = MetricCombineFn(metric, batch_size=SIZE)
    parts = [bundle(combine, rows[i::7]) for i in range(7)]
    found = combine.extract_output(combine.merge_accumulators(parts))
    for name, wanted in jax.jit(metric)(**columns).items():
        assert isinstance(found[name], float)
        np.testing.assert_allclose(found[name], wanted, rtol=1e-6, err_msg=name)


def test_results_are_pythons_numbers_and_arrays_of_numpy():
    """Nothing of JAX goes on down the pipeline."""
    value = MetricCombineFn(METRICS, batch_size=SIZE).apply(ELEMENTS)
    assert type(value["precision"]) is float
    assert type(value["rows"]) is int
    roc = MetricCombineFn(jm.ROCCurve(5)).apply(ELEMENTS)
    assert isinstance(roc, jm.ROCPoints)
    assert {type(x) for x in roc} == {np.ndarray}


def test_bundles_of_all_lengths_are_one_program():
    """Padding makes one shape of them; equal metrics share it."""
    metric = jm.Precision(thresholds=0.25)
    for rows in (1, 2, SIZE, SIZE + 1, 3 * SIZE):
        bundle(MetricCombineFn(metric, batch_size=SIZE), ELEMENTS[:rows])
    update = room._programs(jm.Precision(thresholds=1 / 4)).update
    assert update._cache_size() == 1


def test_rows_are_added_to_whatever_came_before():
    """To rows that wait, to bytes, and to a pickle, as a stream keeps them."""
    combine = MetricCombineFn(METRICS, batch_size=SIZE)
    accumulator = combine.create_accumulator()
    for start in range(0, ROWS, 10):
        accumulator = combine.add_inputs(accumulator, ELEMENTS[start : start + 10])
        if start % 30 == 0:
            accumulator = combine.compact(accumulator)
        elif start % 40 == 0:
            accumulator = pickle.loads(pickle.dumps(accumulator))
    assert combine.compact(accumulator) == jm.to_bytes(METRICS, ONCE)


def test_merging_changes_none_and_takes_none():
    """Beam may go on with them, and may have nothing to merge."""
    combine = MetricCombineFn(METRICS, batch_size=SIZE)
    parts = [
        combine.add_inputs(combine.create_accumulator(), ELEMENTS[start:stop])
        for start, stop in ((0, 3), (3, 200), (200, 210))
    ]
    before = [(x.state, list(x.elements), x.rows) for x in parts]
    merged = combine.merge_accumulators(parts)
    assert [(x.state, list(x.elements), x.rows) for x in parts] == before
    assert merged == bundle(combine, ELEMENTS[:210])
    assert combine.merge_accumulators([]) == jm.to_bytes(METRICS, METRICS.init())


def test_no_python_runs_while_beam_encodes():
    """Beam's sender may cut an element in two while a coder in Python works."""
    combine = MetricCombineFn(METRICS, batch_size=SIZE)
    data = bundle(combine, ELEMENTS)
    coder = combine.get_accumulator_coder()
    assert type(data) is type(combine.merge_accumulators([data, data])) is bytes
    assert coder.decode(coder.encode(data)) == data
    assert type(coder) is type(beam.coders.registry.get_coder(object))


def test_a_lambda_goes_where_the_function_of_a_module_goes():
    """Beam pickles the metric with its own pickler, and accumulators have none."""
    halved = jm.AUC(5).map(lambda area: area / 2)
    itself = jm.AUC(5).of(lambda y_true, y_pred: {"y_true": y_true, "y_pred": y_pred})
    metrics = jm.Collection(halved=halved, itself=itself)
    combine = MetricCombineFn(metrics, batch_size=SIZE)
    wanted = value_of(**COLUMNS)["auc"]
    transform = beam.CombineGlobally(combine).with_fanout(3)
    values = {"halved": float(np.float32(wanted / 2)), "itself": float(wanted)}
    check(ELEMENTS, transform, lambda got: got == [values])


# --- what is refused ------------------------------------------------------------------


def test_accumulators_of_another_metric_are_refused():
    """As bytes, and as an object that was passed on."""
    combine, other = MetricCombineFn(jm.Precision()), MetricCombineFn(jm.Precision(0.4))
    data = bundle(combine, ELEMENTS[:3])
    words = r"ConfusionCounts\(thresholds=\(0\.5,\)\), not (of|to) .*0\.4"
    for refused in (
        lambda: other.add_input(data, ROW),
        lambda: other.merge_accumulators([data]),
        lambda: other.extract_output(data),
    ):
        with pytest.raises(ValueError, match="from_bytes: .*" + words):
            refused()
    partials = [other.create_accumulator(), combine.create_accumulator()]
    for partial in partials:
        partial.flush()
    with pytest.raises(ValueError, match="Precision: .*" + words):
        other.merge_accumulators(partials)


UNFIT = {
    "tuple": (
        False,
        [(1, 2)],
        r"an element must be a dict .*; got \(1, 2\)\. Map",
    ),
    "empty": (False, [{}], r"an element must be a dict .*; got \{\}\. Map"),
    "names": (
        False,
        [ROW, {**ROW, "sample_weight": 2.0}],
        r"all rows must have the same inputs; some have \['y_pred', 'y_true'\], some "
        r"\['sample_weight', .*Give a weight of 1 to rows that have none",
    ),
    "shapes": (
        False,
        [{**ROW, "y_pred": np.ones(n)} for n in (2, 3)],
        r"y_pred must have one shape in all rows; got \[\(2,\), \(3,\)\]\. Pad rows",
    ),
    "lengths": (
        True,
        [{"y_true": np.ones(2), "y_pred": np.ones(3)}],
        r"one entry per row; got rows \{'y_true': 2, 'y_pred': 3\}\. Repeat what",
    ),
    "scalars": (
        True,
        [ROW],
        r"got rows \{'y_true': None, 'y_pred': None\}\. Repeat .* drop batched=True",
    ),
    "widths": (
        True,
        [{name: np.ones((2, n)) for name in ROW} for n in (2, 3)],
        r"y_true must have one shape in all rows; got \[\(2,\), \(3,\)\]",
    ),
}


@pytest.mark.parametrize("what", UNFIT)
def test_elements_that_do_not_fit_are_refused(what):
    """Before an update, by the name of the adapter."""
    batched, elements, words = UNFIT[what]
    combine = MetricCombineFn(jm.Precision(), batched=batched)
    kind = TypeError if "dict" in words else ValueError
    with pytest.raises(kind, match="^MetricCombineFn: .*" + words):
        combine.apply(elements)


def test_what_a_metric_refuses_is_said_in_its_own_name():
    """The adapter adds nothing to it."""
    with pytest.raises(TypeError, match=r"^Precision: update takes .* y_pred"):
        MetricCombineFn(jm.Precision()).apply([{"y_true": 1}])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"metric": jm.Precision}, "metric must be a metric; got ABCMeta"),
        (
            {"metric": jm.Mean().with_inputs(mask=None)},
            r"every metric must take mask, .* Renamed.* takes \['values', .*Leave mask",
        ),
        ({"metric": jm.Mean(), "batch_size": 0}, "batch_size must be an integer >= 1"),
        ({"metric": jm.Mean(), "batched": 1}, "batched must be"),
    ],
)
def test_options_that_cannot_be_are_refused(options, words):
    """A metric that would count the padding among them."""
    with pytest.raises((TypeError, ValueError), match="^MetricCombineFn: " + words):
        MetricCombineFn(**options)
