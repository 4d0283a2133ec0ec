"""The fine score histogram: its cells, its areas and the bounds on their errors."""

import functools
import math
import warnings
from statistics import NormalDist
from typing import Any

import exact
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from score_suite import SUITE, Scores, make
from sklearn.metrics import average_precision_score, roc_auc_score

import jaxmetrics as jm
from jaxmetrics import sweeps
from jaxmetrics.score_cells import LEVELS, ScoreCells

# Where scores end abruptly: the highest cell holds many rows, which AP looks at first.
ABRUPT = "[0, 0.02]", "[0.5, 0.501], steep"
AREAS = {
    "auroc": jm.AUROC,
    "average precision": jm.AveragePrecision,
    "partial": functools.partial(jm.PartialAUROC, 0.1),
}


@functools.partial(jax.jit, static_argnums=0)
def update(metric: Any, state: Any, batch: dict[str, Any]) -> Any:
    """One compiled update."""
    return metric.update(state, **batch)


@functools.partial(jax.jit, static_argnums=0)
def read(metric: Any, state: Any) -> tuple[jax.Array, jax.Array]:
    """The value and its bound."""
    return metric.compute(state), metric.error_bound(state)


def batch_of(s: Scores) -> dict[str, Any]:
    """Inputs by name."""
    batch = {"y_true": s.y_true, "y_pred": s.y_pred}
    return batch if s.weight is None else {**batch, "sample_weight": s.weight}


def truths(s: Scores) -> dict[str, float]:
    """The areas by scikit-learn, in float64."""
    score, weight = s.y_pred.astype(np.float64), s.weight
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of scikit-learn about weights
        return {
            "auroc": roc_auc_score(s.y_true, score, sample_weight=weight),
            "average precision": average_precision_score(
                s.y_true, score, sample_weight=weight
            ),
            "partial": roc_auc_score(
                s.y_true, score, sample_weight=weight, max_fpr=0.1
            ),
        }


# --- cells ---------------------------------------------------------------------------


@pytest.mark.parametrize("logits", [False, True])
@pytest.mark.parametrize("number", [15, 64, 255, 2**14 - 3, 2**15 - 5])
def test_cells_increase_with_the_score_and_begin_at_their_edges(number, logits):
    """The least score of a cell is in it, and the one below it is not."""
    cells = ScoreCells(number, logits)
    edges, place = cells.edges(), jax.jit(cells.place)
    reached = np.append(edges[1:] > edges[:-1], True)  # cells that hold a score
    after, _ = place(edges)
    before, _ = place(cells.thresholds())
    np.testing.assert_array_equal(after[reached], np.arange(1, number)[reached])
    first = np.append(True, edges[1:] > edges[:-1])
    np.testing.assert_array_equal(before[first], np.arange(number - 1)[first])

    random = np.random.default_rng(0)
    scores = np.concatenate([random.random(1000), 10.0 ** random.uniform(-38, 0, 1000)])
    scores = np.float32(np.concatenate([scores, 1 - scores, -scores, 300 * scores]))
    cell, level = place(np.sort(scores))
    whole = np.asarray(cell) * LEVELS + np.asarray(level)
    assert np.all(np.diff(whole) >= 0)
    assert cell.min() >= 0
    assert cell.max() < number
    assert cells.distinct().sum() == pytest.approx(2**32 - 2**24, rel=0.01)


def test_ends_of_the_range_have_cells_of_their_own():
    """What is outside [0, 1] is never mixed with what is inside; 1 is alone."""
    cell, _ = ScoreCells(255).place(
        jnp.float32([-np.inf, -1e-30, -0.0, 0, 1e-38, 1 - 2**-24, 1, 1.0000001, np.inf])
    )
    assert cell.tolist()[:2] == [0, 0]
    assert cell.tolist()[2:4] == [1, 1]
    assert cell.tolist()[-4:] == [252, 253, 254, 254]


# --- areas ---------------------------------------------------------------------------


@pytest.mark.optimized
@pytest.mark.parametrize("name", SUITE)
def test_areas_of_hard_scores_are_right_and_keep_their_bounds(name):
    """To 1e-5 whatever the scores, to 1e-6 usual ones, and none beyond its bound.

    Average precision says more of the order of few rows than cells can know; with
    the 10^6 of the tables it is as near.
    """
    for what, error, bound in errors_of(name, 10**5):
        usual = name in ("ordinary", "saturated", "logits to 100")
        assert error <= bound, what
        if what == "average precision" and not usual:
            assert error <= (3e-4 if name in ABRUPT else 5e-5)
        else:
            assert error <= (1e-6 if usual else 1e-5), (what, error)
        assert bound <= 1e-3 or not usual


@pytest.mark.soak
@pytest.mark.parametrize("rows", [10**6, 10**7])
@pytest.mark.parametrize("name", SUITE)
def test_areas_of_many_hard_scores(name, rows):
    """The goal, at the sizes that the tables show."""
    for what, error, bound in errors_of(name, rows, seed=1):
        abrupt = what == "average precision" and name in ABRUPT
        assert error <= bound, what
        assert error <= (1e-6 if name == "ordinary" else 5e-5 if abrupt else 1e-5), what


def errors_of(name: str, rows: int, seed: int = 0) -> list[tuple[str, float, float]]:
    """How far each area is from the truth, and at most."""
    s = make(name, rows, seed)
    wanted = truths(s)
    histogram = jm.ScoreHistogram(from_logits=s.logits)  # of all three
    state = update(histogram, histogram.init(), batch_of(s))
    values = {what: read(f(from_logits=s.logits), state) for what, f in AREAS.items()}
    return [
        (what, abs(float(value) - wanted[what]), float(bound))
        for what, (value, bound) in values.items()
    ]


@pytest.mark.parametrize("logits", [False, True])
def test_scores_crowd_where_a_model_starts(logits):
    """Hundreds of cells within a thousandth of 1/2, and as many of its logits."""
    cells = ScoreCells(2**14 - 3, logits)
    middle, width = (0.0, 4e-3) if logits else (0.5, 1e-3)
    ends = np.float32([middle - width, middle, middle + width])
    below, at, above = np.asarray(jax.jit(cells.place)(ends)[0]).tolist()
    assert min(at - below, above - at) >= 250
    assert np.float32(middle) in cells.edges()


def test_a_dozen_cells_of_two_bells_are_enough():
    """Curves inside cells are cubic: parabolas would be wrong by 2e-4."""
    normal = np.asarray(
        [NormalDist().inv_cdf((i + 0.5) / 20_000) for i in range(20_000)]
    )
    score = 0.3 + 0.002 * np.concatenate([normal, normal + 1])  # 1.5 cells wide each
    s = Scores(np.arange(40_000) >= 20_000, np.float32(score))
    histogram, wanted = jm.ScoreHistogram(1023), truths(s)
    state = update(histogram, histogram.init(), batch_of(s))
    for what, kind in AREAS.items():
        value, _ = read(kind(num_cells=1023), state)
        assert abs(float(value) - wanted[what]) <= 4e-5, what


def test_a_state_is_at_most_a_mebibyte():
    """With weights or without, alone or by class."""
    for metric in (
        jm.AUROC(),
        jm.AUROC(weighted=False),
        jm.AUROC(num_classes=10),
        jm.AUROC(num_classes=64, weighted=False),
    ):
        leaves = jax.tree.leaves(metric.init())
        assert 2**19 <= sum(x.nbytes for x in leaves) <= 2**20
    assert jm.AUROC().accumulator.num_cells == 2**14 - 3
    assert jm.AUROC(weighted=False).accumulator.num_cells == 2**15 - 5


few = st.lists(
    st.tuples(
        st.booleans(),
        st.sampled_from([0.0, 1.0, 0.5, 0.25, 1e-3])
        | st.floats(0, 1, width=32)
        | st.integers(-20, 20).map(lambda i: float(np.float32(0.5 + i * 2**-20))),
        st.integers(1, 8),
    ),
    min_size=2,
    max_size=24,
)


@pytest.mark.optimized
@settings(deadline=None, max_examples=60)
@given(rows=few, weighted=st.booleans())
def test_no_area_is_ever_beyond_its_bound(rows, weighted):
    """Any few rows: ties, neighbours in one cell, zeros and ones."""
    true, score, weight = (np.asarray(x) for x in zip(*rows, strict=True))
    if true.all() or not true.any():
        return
    pad = 24 - len(rows)
    score = np.where(np.abs(score) < 1e-37, 0, score)  # subnormal numbers are 0
    weight = weight if weighted else np.ones_like(weight)
    batch = {
        "y_true": np.pad(true, (0, pad)),
        "y_pred": np.pad(np.float32(score), (0, pad)),
        "mask": np.arange(24) < len(rows),
    }
    if weighted:
        batch["sample_weight"] = np.pad(np.float32(weight), (0, pad))
    of = {
        "auroc": exact.auroc,
        "average precision": exact.average_precision,
        "partial": exact.partial_auroc(0.1),
    }
    few = jm.ScoreHistogram(63)
    state = update(few, few.init(), batch)
    for what, kind in AREAS.items():
        value, bound = read(kind(num_cells=63), state)
        wanted = of[what](np.float64(true), np.float32(score), np.float64(weight))
        assert abs(float(value) - wanted) <= float(bound), what
        assert 0 <= float(value) <= 1


def test_the_rare_events_that_peers_get_wrong():
    """All scores below 0.024: 200 thresholds see next to nothing of the order."""
    random = np.random.default_rng(4)
    true = random.random(50_000) < 0.01
    score = np.float32(0.024 * random.beta(np.where(true, 3, 1.5), 6))
    wanted = roc_auc_score(true, score)
    binned, fine = (
        jax.jit(metric)(y_true=true, y_pred=score) for metric in (jm.AUC(), jm.AUROC())
    )
    assert abs(float(binned) - wanted) > 0.04
    assert abs(float(fine) - wanted) < 1e-5


@pytest.mark.parametrize("size", [100, 10_000])
def test_counts_are_the_same_however_rows_are_cut_and_ordered(size):
    """Bit for bit, whether a batch touches a few cells or passes over all."""
    s = make("ordinary", 30_000)
    whole = jm.AUROC()
    together = update(whole, whole.init(), batch_of(s))
    order = np.random.default_rng(1).permutation(30_000)
    parts = [x[order].reshape(-1, size) for x in (s.y_true, s.y_pred)]

    @jax.jit
    def scanned(state: Any, parts: Any) -> Any:
        def step(state: Any, batch: Any) -> Any:
            return whole.update(state, *batch), None

        return jax.lax.scan(step, state, parts)[0]

    in_turn = scanned(whole.init(), parts)
    for a, b in zip(*map(jax.tree.leaves, (together, in_turn)), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_table_too_small_for_a_batch_is_filled_in_parts(monkeypatch):
    """More rows than the amounts of a cell have room for are counted in halves."""
    s = make("a constant", 2**13 + 5)
    metric = jm.AUROC(num_cells=63)
    wanted = jax.jit(metric.update)(metric.init(), **batch_of(s))
    monkeypatch.setattr(sweeps, "WIDE_ROWS", 1000)
    found = jax.jit(lambda state, batch: metric.update(state, **batch))(
        metric.init(), batch_of(s)
    )
    for a, b in zip(*map(jax.tree.leaves, (wanted, found)), strict=True):
        np.testing.assert_array_equal(a, b)


def test_weights_and_rows_may_be_mixed():
    """Rows without weights are rows of weight 1."""
    s = make("all over [0, 1]", 2000)
    metric = jm.AUROC()
    first, second = (
        {name: x[part] for name, x in batch_of(s).items()}
        for part in (slice(0, 1000), slice(1000, 2000))
    )
    weight = np.float32(np.random.default_rng(2).uniform(0.1, 9, 1000))
    state = update(metric, metric.init(), first)
    state = update(metric, state, {**second, "sample_weight": weight})
    value, bound = read(metric, state)
    wanted = roc_auc_score(
        s.y_true, s.y_pred, sample_weight=np.append(np.ones(1000), weight)
    )
    assert abs(float(value) - wanted) <= min(float(bound), 1e-5)


def test_many_labels_have_one_area_each_and_absent_ones_are_counted():
    """What a label lacks leaves it out of the mean, unless it is given a value."""
    random = np.random.default_rng(3)
    true = random.random((500, 5)) < 0.3
    true[:, 1], true[:, 3] = False, True
    score = np.float32(random.random((500, 5)) ** np.where(true, 0.7, 1.2))
    batch = {"y_true": true, "y_pred": score}
    areas = [roc_auc_score(true[:, i], score[:, i]) for i in (0, 2, 4)]
    each = jm.AUROC(num_classes=5)
    state = update(each, each.init(), batch)
    values, bounds = read(each, state)
    errors = np.abs(np.asarray(values)[[0, 2, 4]] - areas)
    assert np.all(errors <= np.asarray(bounds)[[0, 2, 4]])
    assert np.isnan(values[1])
    assert np.isnan(values[3])
    assert np.isnan(bounds[1])
    macro = jm.AUROC(num_classes=5, average="macro")
    assert int(jax.jit(macro.classes_without_value)(state)) == 2
    value, bound = read(macro, state)
    assert abs(float(value) - np.mean(areas)) <= float(bound)
    known = jm.AUROC(num_classes=5, average="macro", zero_division=0.5)
    wanted = (sum(areas) + 1) / 5
    assert float(read(known, state)[0]) == pytest.approx(wanted, abs=1e-4)
    one = jm.AUROC(class_id=2)
    value, bound = read(one, update(one, one.init(), batch))
    assert abs(float(value) - areas[1]) <= float(bound)
    micro = jm.AUROC(num_classes=5, average="micro")
    wanted = roc_auc_score(true.ravel(), score.ravel())
    assert float(read(micro, state)[0]) == pytest.approx(wanted, abs=1e-4)


def test_scores_outside_are_counted_in_both_kinds_of_update():
    """Rows with weights and rows without; logits are never outside."""
    batch = {
        "y_true": np.float32([0, 1, 1, 0, np.nan, 2]),
        "y_pred": np.float32([-1, 2, 0.5, np.inf, 0.5, -3]),
    }
    metric = jm.AUROC(num_cells=63)
    state = update(metric, metric.init(), batch)
    assert [int(x) for x in metric.validity(state)] == [1, 1, 3]
    state = update(metric, state, {**batch, "sample_weight": np.ones(6, np.float32)})
    assert [int(x) for x in metric.validity(state)] == [2, 2, 6]
    value, bound = read(metric, state)
    assert np.isnan(value)
    assert np.isnan(bound)
    metric = jm.AUROC(num_cells=63, from_logits=True)
    state = update(metric, metric.init(), batch)
    assert [int(x) for x in metric.validity(state)] == [1, 1, 0]


def test_scores_outside_keep_their_order_and_the_bound():
    """A score below 0 is below every other, one above 1 above."""
    true, score = np.float32([1, 0, 1, 0, 1]), np.float32([7, 1, 0.5, -3, -2])
    metric = jm.AUROC()
    value, bound = read(
        metric, update(metric, metric.init(), {"y_true": true, "y_pred": score})
    )
    wanted = roc_auc_score(true, score)
    assert abs(float(value) - wanted) <= float(bound)


@pytest.mark.parametrize(
    ("make_it", "words"),
    [
        (lambda: jm.AUROC(num_cells=14), "num_cells must be an integer >= 15"),
        (lambda: jm.AUROC(average="macro"), "average='macro' needs num_classes"),
        (lambda: jm.PartialAUROC(0), "max_fpr must be above 0"),
        (lambda: jm.PartialAUROC(1e-30), "max_fpr must be above 0"),
        (lambda: jm.PartialAUROC(1.5), "max_fpr must be in"),
        (lambda: jm.AUROC(num_classes=17_000), "17000 classes of num_cells=255 are"),
        (lambda: jm.AUROC(num_cells=10**10), "more than 2097152 cells"),
        (lambda: jm.ScoreHistogram(class_id=0, num_classes=2), "give one"),
        (lambda: jm.ROCCurve(5, num_cells=20), "for num_thresholds=None"),
        (lambda: jm.PrecisionAtRecall(0.5, weighted=False), "num_thresholds=None"),
        (lambda: jm.BestFBetaScore(0), "beta must be a positive number"),
        (lambda: jm.Lift(0), "share must be above 0"),
        (lambda: jm.ExactAUROC(0), "capacity must be an integer >= 1"),
        (lambda: jm.auroc([0, 1], [0.1, 0.2, 0.3]), "auroc: y_true and y_pred must"),
        (
            lambda: jm.AUROC(weighted=False)([0, 1], [0.1, 0.2], sample_weight=2),
            "AUROC: weighted=False takes no sample_weight",
        ),
        (
            lambda: jm.OperatingThreshold(jm.Precision()),
            "metric must be the best of all thresholds",
        ),
    ],
)
def test_what_cannot_be_is_refused(make_it, words):
    """With the name of the metric and the way out."""
    with pytest.raises((ValueError, TypeError), match=words.replace("(", r"\(")):
        make_it()


# --- intervals -----------------------------------------------------------------------


def delong(true: np.ndarray, score: np.ndarray) -> float:
    """The standard error from the means over pairs, row by row."""
    won = (score[true][:, None] > score[~true]) + 0.5 * (
        score[true][:, None] == score[~true]
    )
    parts = (
        won.mean(axis=1).var(ddof=1) / true.sum(),
        won.mean(axis=0).var(ddof=1) / np.sum(~true),
    )
    return math.sqrt(sum(parts))


@pytest.mark.parametrize("name", ["ordinary", "101 values", "logits to 100"])
def test_the_standard_error_of_auroc_is_delongs(name):
    """From the state alone, to half a percent."""
    s = make(name, 1500)
    metric = jm.AUROC(from_logits=s.logits)
    state = update(metric, metric.init(), batch_of(s))
    found = jax.jit(metric.interval)(state)
    wanted = delong(s.y_true, s.y_pred)
    assert float(found.standard_error) == pytest.approx(wanted, rel=5e-3)
    value = float(read(metric, state)[0])
    assert float(found.lower) < value < float(found.upper)
    narrow = jax.jit(functools.partial(metric.interval, confidence=0.5))(state)
    assert float(found.lower) < float(narrow.lower) < float(narrow.upper)


NORMAL = {  # distance, share of positives, rows
    "fair": (1.0, 0.3, 300),
    "good, rare": (2.0, 0.1, 600),
    "poor": (0.3, 0.5, 500),
}


@pytest.mark.parametrize("kind", NORMAL)
def test_intervals_of_auroc_hold_the_truth_as_often_as_they_say(kind):
    """93 to 97 of 100 intervals of 95 percent, over 2000 data sets."""
    distance, share, rows = NORMAL[kind]
    truth = 0.5 * (1 + math.erf(distance / 2))
    metric = jm.AUROC(num_cells=255, from_logits=True)

    @jax.jit
    @jax.vmap
    def intervals(key: jax.Array) -> jm.Interval:
        one, two = jax.random.split(key)
        true = jax.random.bernoulli(one, share, (rows,))
        score = jax.random.normal(two, (rows,)) + distance * true
        return metric.interval(metric.update(metric.init(), true, score))

    found = intervals(jax.random.split(jax.random.key(0), 2000))
    held = np.mean((found.lower <= truth) & (truth <= found.upper))
    assert 0.93 <= held <= 0.97


@pytest.mark.parametrize("share", [0.5, 0.2, 0.05])
def test_intervals_of_shares_hold_the_truth_as_often_as_they_say(share):
    """Wilson's, of recall."""
    rows, metric = 400, jm.Recall()

    @jax.jit
    @jax.vmap
    def intervals(key: jax.Array) -> jm.Interval:
        score = jax.random.bernoulli(key, share, (rows,)).astype(jnp.float32)
        true = jnp.ones_like(score)
        return metric.interval(metric.update(metric.init(), true, score))

    found = intervals(jax.random.split(jax.random.key(1), 2000))
    held = np.mean((found.lower <= share) & (share <= found.upper))
    assert 0.93 <= held <= 0.97


@pytest.mark.parametrize("spread", [0.5, 1.5])
def test_intervals_of_weighted_shares_are_of_the_effective_number_of_rows(spread):
    """They hold the truth as often as they say, of weights of any unit."""
    rows, share, metric = 1000, 0.2, jm.Recall()

    @jax.jit
    @jax.vmap
    def intervals(key: jax.Array) -> tuple[jm.Interval, jm.Interval]:
        first, second = jax.random.split(key)
        score = jax.random.bernoulli(first, share, (rows,)).astype(jnp.float32)
        weight = jnp.exp(spread * jax.random.normal(second, (rows,)))
        update = functools.partial(metric.update, metric.init(), jnp.ones_like(score))
        weighted = metric.interval(update(score, weight * 1e-6))
        return weighted, metric.interval(update(score))

    found, plain = intervals(jax.random.split(jax.random.key(2), 2000))
    held = np.mean((found.lower <= share) & (share <= found.upper))
    assert 0.93 <= held <= 0.97
    width = np.mean(found.upper - found.lower) / np.mean(plain.upper - plain.lower)
    assert width == pytest.approx(math.exp(spread**2 / 2), rel=0.15)


def test_the_effective_number_of_rows_is_kishs():
    """Rows with weights and without, in one batch and in several."""
    metric, weight = jm.BinaryAccuracy(), np.float32([1, 2, 0, 5, 0.25, 7])
    rows = {"y_true": np.float32([0, 1, 1, 1, 0, 1]), "y_pred": np.full(6, 0.6)}
    state = metric.update(metric.init(), **rows, sample_weight=weight)
    state = metric.update(state, **rows)
    typical = metric.accumulator.typical_weight(state.data)
    assert float(typical) == pytest.approx((sum(weight**2) + 6) / (sum(weight) + 6))
    for huge in (1e-30, 1e30):  # whose squares are no float32
        state = metric.update(metric.init(), **rows, sample_weight=weight * huge)
        assert all(np.isnan(x) for x in metric.interval(state))


def test_wilsons_interval_by_hand():
    """3 of 4 at 95 percent: 0.3006 to 0.9544, as statsmodels and R have it."""
    batch = {"y_true": [1, 1, 1, 1], "y_pred": [1, 1, 1, 0]}
    metric = jm.Recall()
    found = metric.interval(metric.update(metric.init(), **batch))
    assert float(found.lower) == pytest.approx(0.3006, abs=1e-4)
    assert float(found.upper) == pytest.approx(0.9544, abs=1e-4)
    assert float(found.standard_error) == pytest.approx(math.sqrt(3 / 64))


def test_intervals_of_nothing_and_of_all():
    """NaN without a row; within [0, 1] always; no interval of an average."""
    metric = jm.Precision()
    assert all(np.isnan(x) for x in metric.interval(metric.init()))
    state = metric.update(metric.init(), y_true=[1, 1], y_pred=[1, 1])
    lower, upper, error = metric.interval(state)
    assert 0 < float(lower) < float(upper) == 1
    assert float(error) == 0
    auroc = jm.AUROC(num_cells=63)
    interval = jax.jit(auroc.interval)
    assert all(np.isnan(x) for x in interval(auroc.init()))
    state = update(
        auroc,
        auroc.init(),
        {"y_true": np.float32([0, 1]), "y_pred": np.float32([0.1, 0.9])},
    )
    assert np.isnan(interval(state).standard_error)
    for several in (
        jm.Recall(num_classes=3, average="macro"),
        jm.AUROC(num_classes=3, average="micro", num_cells=63),
    ):
        with pytest.raises(TypeError, match="has no interval, because the classes"):
            several.interval(several.init())
    for confidence in (95, 0.9999999999999999):
        with pytest.raises(ValueError, match="confidence must be between 0 and 1"):
            metric.interval(metric.init(), confidence=confidence)


def test_intervals_hold_their_value_and_stay_within_0_and_1():
    """Perfect and hopeless rankings, few effective rows, all right and all wrong."""
    metric = jm.AUROC(num_cells=255)
    interval = jax.jit(lambda s: (metric.compute(s), metric.interval(s)))
    random = np.random.default_rng(6)
    rows = 43
    order = (np.arange(rows) + 0.5) / rows
    for true, weight in (
        (np.arange(rows) >= 21, np.ones(rows)),
        (np.arange(rows) < 21, np.ones(rows)),
        (np.arange(rows) % 2 > 0, np.where(np.arange(rows) == 41, 1000, 0.01)),
        *((random.random(rows) < 0.5, np.exp(3 * order)) for _ in range(5)),
    ):
        batch = {
            "y_true": true,
            "y_pred": np.float32(random.permutation(order) if weight[0] > 1 else order),
            "sample_weight": np.float32(weight),
        }
        value, (lower, upper, error) = interval(update(metric, metric.init(), batch))
        assert 0 <= float(lower) <= float(value) <= float(upper) <= 1
        assert not np.isnan(error)
    shares = jm.Precision()
    wilson = jax.jit(shares.interval)
    for number in (1, 6, 43):
        for right in (0.0, 1.0):
            batch = {
                "y_true": np.full(43, np.float32(right)),
                "y_pred": np.ones(43, np.float32),
                "mask": np.arange(43) < number,
            }
            lower, upper, _ = wilson(update(shares, shares.init(), batch))
            assert float(lower) <= right <= float(upper)
            batch["sample_weight"] = np.full(43, np.float32(3))  # as many rows
            weighted = wilson(update(shares, shares.init(), batch))
            np.testing.assert_allclose(weighted[:2], [lower, upper], atol=1e-6)


def test_weighted_curves_rise_and_fall_without_a_step_back():
    """Rates of sums that are rounded are made monotone."""
    random = np.random.default_rng(38)
    batch = {
        "y_true": random.random(20_000) < 0.5,
        "y_pred": random.random(20_000, np.float32),
        "sample_weight": np.float32(np.exp(3 * random.standard_normal(20_000))),
    }
    histogram = jm.ScoreHistogram()
    state = update(histogram, histogram.init(), batch)
    read_all = jax.jit(
        lambda s: [
            kind().compute(s)
            for kind in (jm.ROCCurve, jm.DETCurve, jm.PrecisionRecallCurve)
        ]
    )
    roc, det, pr = read_all(state)
    for rising in (roc.false_positive_rate, roc.true_positive_rate, pr.thresholds):
        assert np.all(np.diff(rising) >= 0)
    for falling in (det.false_negative_rate, pr.recall, roc.thresholds):
        assert np.all(np.diff(falling) <= 0)


def test_a_result_of_low_precision_has_a_wider_bound():
    """bfloat16 has 8 bits."""
    s = make("ordinary", 1000)
    metric = jm.AUROC(dtype="bfloat16")
    value, bound = read(metric, update(metric, metric.init(), batch_of(s)))
    assert abs(float(value) - truths(s)["auroc"]) <= float(bound)


def test_weights_far_apart_have_a_bound():
    """What float32 can hold: the precision of a row of next to no weight."""
    metric = jm.AveragePrecision(num_cells=63)
    state = metric.init()
    for true, weight in ((1.0, 1e20), (0.0, 1e-20)):
        row = {"y_true": [true], "y_pred": [0.5], "sample_weight": [weight]}
        state = update(metric, state, jax.tree.map(jnp.float32, row))
    value, bound = read(metric, state)
    assert float(value) == 1.0
    assert not np.isnan(bound)
