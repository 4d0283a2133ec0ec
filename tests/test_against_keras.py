"""The same numbers as Keras, and every place where they differ on purpose.

The first half runs random inputs through both libraries. The second half shows each
deliberate difference with both results side by side.
"""

import itertools

import jax
import keras
import numpy as np
import pytest

import jaxmetrics as jm

ROWS, CLASSES = 48, 3
BATCHES = 2


@jax.jit
def _update(owner, state, batch):
    return owner.update(state, **batch)


@jax.jit
def _compute(metrics, state):
    return [metric.compute(state) for metric in metrics]


def state_of(metric, batches):
    """The state after some batches, compiled once for each accumulator."""
    state = metric.init()
    for batch in batches:
        state = _update(metric.accumulator, state, batch)
    return state


def ours(metrics, batches):
    """The values of metrics of one accumulator, from one state."""
    owner = metrics[0].accumulator
    assert all(m.accumulator == owner for m in metrics)
    state = state_of(metrics[0], batches)
    return [np.asarray(x) for x in _compute(tuple(metrics), state)]


def theirs(metric, batches):
    """The value of a Keras metric."""
    for batch in batches:
        metric.update_state(**batch)
    return np.asarray(metric.result())


def as_batch(y_true, y_pred, sample_weight=None):
    """Arrays of one dtype, so that few programs are compiled."""
    batch = {"y_true": y_true, "y_pred": y_pred, "sample_weight": sample_weight}
    return {k: np.asarray(v, np.float32) for k, v in batch.items() if v is not None}


def value(metric, *inputs):
    """Our value of one batch."""
    return ours([metric], [as_batch(*inputs)])[0]


def validity(metric, *inputs):
    """What we counted of bad values."""
    return metric.validity(state_of(metric, [as_batch(*inputs)]))


def keras_value(metric, y_true, y_pred, sample_weight=None):
    """Keras's value of one batch."""
    batch = {"y_true": y_true, "y_pred": y_pred, "sample_weight": sample_weight}
    return theirs(metric, [{k: v for k, v in batch.items() if v is not None}])


def scores(rng, shape):
    """Scores with ties, on odd multiples of 1/1042: never on a grid of the tests.

    521 is prime, so that (2k + 1) / 1042 = i / (T - 1) has no solution for T < 522
    but k = 260, one half, which is left out.
    """
    k = rng.integers(0, 520, shape)
    return ((2 * (k + (k >= 260)) + 1) / 1042).astype(np.float32)


def random_batches(seed, shape, weight=None, **others):
    """Batches of labels and scores, with weights of the shape given."""
    rng = np.random.default_rng(seed)
    batches = []
    for _ in range(BATCHES):
        batch = {
            "y_true": rng.integers(0, 2, shape).astype(np.float32),
            "y_pred": scores(rng, shape),
        }
        if weight is not None:
            batch["sample_weight"] = rng.integers(0, 8, weight).astype(np.float32) / 4
        batches.append(batch | others)
    return batches


def assert_same(metrics, make_keras, batches, rtol=2e-6, atol=1e-7):
    """Each of our metrics agrees with the Keras metric at its place."""
    for metric, mine, other in zip(
        metrics, ours(metrics, batches), make_keras, strict=True
    ):
        expected = theirs(other, batches)
        assert mine.shape == expected.shape, metric
        np.testing.assert_allclose(
            mine, expected, rtol=rtol, atol=atol, err_msg=repr(metric)
        )


# --- agreement -----------------------------------------------------------------------

COUNTS = ("TruePositives", "FalsePositives", "TrueNegatives", "FalseNegatives")
THRESHOLDS = [
    None,
    0.3,
    [0.7, 0.2],
    [0.0, 0.25, 0.5, 0.75, 1.0],  # Keras's bucket path
    [0.9, 0.31, 0.32, 0.01, 0.31],  # unsorted, with a duplicate
]


@pytest.mark.parametrize(
    ("thresholds", "weight"),
    [(None, None), (None, ()), *((t, (ROWS,)) for t in THRESHOLDS)],
    ids=str,
)
def test_counts_precision_and_recall(thresholds, weight):
    """The four counts, precision and recall agree at any thresholds and weights."""
    names = (*COUNTS, "Precision", "Recall")
    batches = random_batches(1, (ROWS,), weight)
    metrics = [getattr(jm, name)(thresholds) for name in names]
    assert_same(
        metrics, [getattr(keras.metrics, n)(thresholds) for n in names], batches
    )


SELECTIONS = [
    (None, 2, None),
    (None, 1, 2),
    ([0.6, 0.1], 2, 1),
    ([0.2, 0.8], None, 2),
]


@pytest.mark.parametrize("selection", SELECTIONS, ids=lambda s: "-".join(map(str, s)))
def test_precision_and_recall_of_top_k_and_class_id(selection):
    """Selections agree, ties in the top k and weights by row included."""
    thresholds, top_k, class_id = selection
    batches = random_batches(2, (ROWS, CLASSES), (ROWS,))
    for batch in batches:
        batch["y_pred"] = np.round(batch["y_pred"] * 5) / 5 + np.float32(0.05)
    names = ("Precision", "Recall")
    options = {"thresholds": thresholds, "top_k": top_k, "class_id": class_id}
    metrics = [getattr(jm, name)(**options) for name in names]
    peers = [getattr(keras.metrics, name)(**options) for name in names]
    assert_same(metrics, peers, batches)


def test_top_k_of_one_example_of_rank_1():
    """A vector is one example with as many classes, in both libraries."""
    batch = {
        "y_true": np.array([0, 1, 1, 0, 1], np.float32),
        "y_pred": np.array([0.1, 0.9, 0.2, 0.8, 0.2], np.float32),
    }
    assert_same([jm.Recall(top_k=3)], [keras.metrics.Recall(top_k=3)], [batch])


def test_whatever_is_among_the_top_k_is_positive():
    """A log-probability of minus infinity too; 0 and -0 are equal scores."""
    for k, scores in ((2, [[0.3, -np.inf]]), (1, [[-0.0, 0.0]])):
        labels = [[0, 1]] if k == 2 else [[1, 0]]
        assert jm.Recall(top_k=k)(y_true=labels, y_pred=scores) == 1


def test_the_highest_logit_may_be_zero():
    """Keras's rule that a highest score of zero predicts nothing is for scores."""
    batch = {"y_true": [[1, 0, 0]], "y_pred": [[0.0, -1.0, -2.0]]}
    assert jm.F1Score("micro", num_classes=3, from_logits=True)(**batch) == 1
    assert jm.F1Score("micro", num_classes=3)(**batch) == 0


@pytest.mark.parametrize(
    "shapes", [((ROWS, 1), (ROWS,)), ((ROWS,), (ROWS, 1))], ids=str
)
def test_a_trailing_axis_of_one_is_dropped(shapes):
    """Labels and scores whose ranks differ by an axis of size 1 are matched by row."""
    true, pred = shapes
    batch = random_batches(3, (ROWS,))[0]
    batch = {
        "y_true": batch["y_true"].reshape(true),
        "y_pred": batch["y_pred"].reshape(pred),
    }
    assert_same([jm.TruePositives()], [keras.metrics.TruePositives()], [batch])


@pytest.mark.parametrize("weight", [(ROWS, CLASSES), (1, CLASSES), (ROWS, 1)], ids=str)
def test_weights_of_the_rank_of_the_scores(weight):
    """Weights that broadcast axis by axis agree."""
    batches = random_batches(4, (ROWS, CLASSES), weight)
    names = ("TruePositives", "FalseNegatives")
    peers = [getattr(keras.metrics, n)() for n in names]
    assert_same([getattr(jm, n)() for n in names], peers, batches)


AVERAGES = (None, "micro", "macro", "weighted")


@pytest.mark.parametrize(("threshold", "weight"), [(None, (ROWS,)), (0.3, None)])
def test_f_scores(threshold, weight):
    """F1 and F-beta agree for every average; Keras has an epsilon in its ratios."""
    batches = random_batches(5, (ROWS, CLASSES), weight)
    for batch in batches:  # ties: several classes then are the highest
        batch["y_pred"] = np.round(batch["y_pred"] * 5) / 5 + np.float32(0.05)
    metrics, peers = [], []
    for average in AVERAGES:
        options = {"average": average, "threshold": threshold}
        metrics += [
            jm.F1Score(**options, num_classes=CLASSES),
            jm.FBetaScore(**options, beta=2.0, num_classes=CLASSES),
        ]
        peers += [
            keras.metrics.F1Score(**options),
            keras.metrics.FBetaScore(**options, beta=2.0),
        ]
    assert_same(metrics, peers, batches, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("threshold", [0.5, 0.3])
def test_binary_accuracy(threshold):
    """Accuracy agrees with weights by row and without, over (rows, classes) too."""
    for shape, weight in [
        ((ROWS,), (ROWS,)),
        ((ROWS,), None),
        ((ROWS, CLASSES), (ROWS,)),
    ]:
        metric = jm.BinaryAccuracy(threshold)
        peer = keras.metrics.BinaryAccuracy(threshold=threshold)
        assert_same([metric], [peer], random_batches(6, shape, weight))


KINDS = list(
    itertools.product(
        ("ROC", "PR", "PRGAIN"), ("interpolation", "minoring", "majoring")
    )
)
LABELS = {"num_thresholds": 5, "multi_label": True, "num_labels": CLASSES}


@pytest.mark.parametrize(
    ("options", "weight", "shape", "kinds"),
    [
        ({}, (ROWS,), (ROWS,), KINDS[::4]),
        ({"num_thresholds": 5}, None, (ROWS,), KINDS),
        ({"thresholds": [0.8, 0.1, 0.35]}, (ROWS,), (ROWS,), KINDS[1::3]),
        ({"num_thresholds": 5, "from_logits": True}, None, (ROWS,), KINDS[:1]),
        (LABELS, (ROWS,), (ROWS, CLASSES), KINDS[::3]),
        (LABELS | {"label_weights": [1, 0, 2.5]}, None, (ROWS, CLASSES), KINDS[1::4]),
        (
            {"num_thresholds": 5, "label_weights": [1.0, 0.5, 2.5]},
            (ROWS,),
            (ROWS, CLASSES),
            KINDS[3::4],
        ),
    ],
    ids=(
        "default grid",
        "five thresholds",
        "uneven thresholds",
        "logits",
        "labels",
        "weighted areas",
        "weighted labels",
    ),
)
def test_auc(options, weight, shape, kinds):
    """Every kind of area agrees on any grid, over labels and their weights."""
    batches = random_batches(7, shape, weight)
    for batch in batches:  # better than a coin
        batch["y_pred"] = np.sqrt(batch["y_pred"] * (0.4 + 0.6 * batch["y_true"]))
        if options.get("from_logits"):
            p = batch["y_pred"]
            batch["y_pred"] = np.log(p / (1 - p))
    metrics = [jm.AUC(curve=c, summation_method=m, **options) for c, m in kinds]
    peers = [
        keras.metrics.AUC(curve=c, summation_method=m, **options) for c, m in kinds
    ]
    assert_same(metrics, peers, batches, rtol=3e-6, atol=1e-6)


AT_FIXED = (
    ("PrecisionAtRecall", "recall"),
    ("RecallAtPrecision", "precision"),
    ("SensitivityAtSpecificity", "specificity"),
    ("SpecificityAtSensitivity", "sensitivity"),
)


@pytest.mark.parametrize(
    ("options", "weight", "shape"),
    [
        ({}, (ROWS,), (ROWS,)),
        ({"num_thresholds": 1}, None, (ROWS,)),
        ({"num_thresholds": 10, "class_id": 2}, (ROWS,), (ROWS, CLASSES)),
    ],
    ids=str,
)
def test_values_at_a_fixed_point(options, weight, shape):
    """All four agree at targets that are easy, exact, hard and out of reach."""
    batches = random_batches(8, shape, weight)
    targets = (0.0, 0.2, 0.5, 0.7, 0.95, 1.0)
    metrics = [getattr(jm, name)(targets, **options) for name, _ in AT_FIXED]
    for result, (name, _) in zip(ours(metrics, batches), AT_FIXED, strict=True):
        peer = getattr(keras.metrics, name)
        expected = [theirs(peer(target, **options), batches) for target in targets]
        np.testing.assert_allclose(result, expected, rtol=2e-6, err_msg=name)


@pytest.mark.parametrize("weight", [None, (ROWS,)], ids=["none", "rows"])
def test_mean_and_sum(weight):
    """The mean and the sum of values of both signs agree."""
    rng = np.random.default_rng(9)
    batches = []
    for _ in range(BATCHES):
        batch = {"values": rng.normal(3, 2, ROWS).astype(np.float32)}
        if weight is not None:
            batch["sample_weight"] = rng.random(weight).astype(np.float32)
        batches.append(batch)
    assert_same(
        [jm.Mean(), jm.Sum()], [keras.metrics.Mean(), keras.metrics.Sum()], batches
    )


def test_undefined_ratios_are_zero():
    """Precision, recall and F of nothing are 0 in both."""
    batch = {
        "y_true": np.zeros((ROWS, CLASSES), np.float32),
        "y_pred": np.full((ROWS, CLASSES), 0.25, np.float32),
    }
    names = ("Precision", "Recall")
    peers = [getattr(keras.metrics, n)() for n in names]
    assert_same([getattr(jm, n)() for n in names], peers, [batch])


# --- differences on purpose ----------------------------------------------------------


def test_a_score_on_a_threshold_is_not_above_it():
    """Keras's bucket formula rounds 31/199 to above the 31st of 200 even thresholds."""
    even = [i / 199 for i in range(200)]
    score = np.full((4,), 31 / 199, np.float32)
    above = np.sum(score[0] > np.asarray(even, np.float32))
    assert above == 31
    assert np.sum(value(jm.TruePositives(even), np.ones(4), score)) == 4 * 31
    keras_sum = np.sum(
        keras_value(keras.metrics.TruePositives(even), np.ones(4), score)
    )
    assert keras_sum == 4 * 32


def test_nearly_even_thresholds_are_taken_as_they_are():
    """Keras replaces [0, .500004, 1] by [0, .5, 1] without a word."""
    near, score = [0.0, 0.500004, 1.0], np.full((4,), 0.500002, np.float32)
    assert value(jm.TruePositives(near), np.ones(4), score).tolist() == [4, 0, 0]
    peer = keras_value(keras.metrics.TruePositives(near), np.ones(4), score)
    assert peer.tolist() == [4, 4, 0]


def test_scores_outside_0_and_1_are_compared_as_they_are():
    """Keras clips 1.5 to 1 on even thresholds and does not on others."""
    even, uneven, score = [0.0, 0.5, 1.0], [0.0, 0.5, 0.99], np.full((4,), 1.5)
    for thresholds, peer in ((even, [4, 4, 0]), (uneven, [4, 4, 4])):
        found = keras_value(keras.metrics.TruePositives(thresholds), np.ones(4), score)
        assert found.tolist() == peer
        metric = jm.TruePositives(thresholds)
        assert value(metric, np.ones(4), score).tolist() == [4, 4, 4]
    assert validity(metric, np.ones(4), score).outside_range == 4


@pytest.mark.parametrize("kind", [tuple, np.array])
def test_thresholds_may_be_tuples_and_arrays(kind):
    """Keras documents a tuple, and fails on tuples and arrays."""
    y_true, y_pred, thresholds = np.ones(4), np.full((4,), 0.5), kind([0.2, 0.9])
    assert value(jm.Recall(thresholds), y_true, y_pred).tolist() == [1, 0]
    with pytest.raises((TypeError, ValueError)):
        keras_value(keras.metrics.Recall(thresholds), y_true, y_pred)


def test_thresholds_of_an_area_must_be_in_0_and_1():
    """Keras takes any, and leaves them unsorted beside its end points."""
    peer = keras.metrics.AUC(thresholds=[-0.5, 2.0])
    assert np.asarray(peer.thresholds).tolist() == pytest.approx(
        [-1e-7, -0.5, 2, 1 + 1e-7]
    )
    with pytest.raises(ValueError, match=r"thresholds must be in \[0, 1\].*-0.5, 2.0"):
        jm.AUC(thresholds=[-0.5, 2.0])


@pytest.mark.parametrize(
    ("true", "pred"), [((4,), (2, 2)), ((3, 1), (1, 3)), ((1,), (2, 3))], ids=str
)
def test_shapes_that_disagree_raise(true, pred):
    """Keras flattens or broadcasts labels and scores of different shapes."""
    y_true, y_pred = np.ones(true), np.full(pred, 0.75)
    assert keras_value(keras.metrics.TruePositives(), y_true, y_pred) > 0
    with pytest.raises(ValueError, match="must have one shape"):
        value(jm.TruePositives(), y_true, y_pred)


def test_integer_labels_beside_a_row_of_scores_raise():
    """Keras indexes class ids along the wrong axis; we name jax.nn.one_hot."""
    labels, scored = np.array([0, 2, 1, 1]), np.eye(3, dtype=np.float32)[[0, 2, 1, 1]]
    with pytest.raises(ValueError, match=r"jax\.nn\.one_hot\(y_true, 3\)"):
        value(jm.Recall(class_id=1), labels, scored)
    one_hot = np.asarray(jax.nn.one_hot(labels, 3))
    assert value(jm.Recall(class_id=1), one_hot, scored) == 1


@pytest.mark.parametrize(("class_id", "column"), [(7, 2), (-1, 2)])
def test_class_id_beyond_the_classes_raises(class_id, column):
    """Keras reads the last of three classes for class_id 7 as well as -1."""
    batch = random_batches(10, (ROWS, CLASSES))[0]
    peer = keras.metrics.Recall(class_id=class_id)
    last = keras.metrics.Recall(class_id=column)
    assert theirs(peer, [batch]) == theirs(last, [batch])
    with pytest.raises(ValueError, match="class_id"):
        value(jm.Recall(class_id=class_id), batch["y_true"], batch["y_pred"])


def test_top_k_of_zero_raises():
    """Keras's precision at the top 0 is 0."""
    batch = random_batches(10, (ROWS, CLASSES))[0]
    assert theirs(keras.metrics.Precision(top_k=0), [batch]) == 0
    with pytest.raises(ValueError, match="top_k must be an integer >= 1; got 0"):
        jm.Precision(top_k=0)


def test_nan_is_never_a_finite_result():
    """Keras counts a NaN score as negative on one path and as low on the other."""
    y_true, y_pred = np.ones(4), np.array([np.nan, 0.6, 0.6, 0.6], np.float32)
    for thresholds, peer in (([0.0, 0.5, 1.0], [4, 3, 0]), ([0.1, 0.5], [3, 3])):
        found = keras_value(keras.metrics.TruePositives(thresholds), y_true, y_pred)
        assert found.tolist() == peer
        metric = jm.TruePositives(thresholds)
        assert np.all(np.isnan(value(metric, y_true, y_pred)))
    assert validity(metric, y_true, y_pred).nan == 1


def test_labels_that_are_neither_0_nor_1_have_no_value():
    """Keras counts every label but 0 as positive, -1 and 0.3 as well."""
    y_true, y_pred = np.array([0.3, -1, 1, 0]), np.full((4,), 0.75)
    assert keras_value(keras.metrics.TruePositives(), y_true, y_pred) == 3
    metric = jm.TruePositives()
    assert np.isnan(value(metric, y_true, y_pred))
    assert validity(metric, y_true, y_pred).outside_domain == 2


def test_negative_weights_have_no_value():
    """Keras subtracts rows of negative weight."""
    y_true, y_pred, weight = np.ones(4), np.full((4,), 0.75), np.array([1, 1, 1, -2])
    assert keras_value(keras.metrics.TruePositives(), y_true, y_pred, weight) == 1
    assert np.isnan(value(jm.TruePositives(), y_true, y_pred, weight))


def test_counts_do_not_stop_at_2_to_the_24():
    """Keras's float32 variables take no more ones from 16,777,216 on."""
    y_true = y_pred = np.ones(1, np.float32)
    peer = keras.metrics.TruePositives()
    peer.update_state(y_true, y_pred)  # makes its variables
    (total,) = peer.variables
    total.assign(np.full((1,), 2**24, np.float32))
    for _ in range(3):
        peer.update_state(y_true, y_pred)
    assert float(peer.result()) == 2**24

    metric = jm.TruePositives(dtype="int32")
    one = state_of(metric, [as_batch(y_true, y_pred)])
    merge = jax.jit(metric.merge)
    state = one
    for _ in range(24):
        state = merge(state, state)
    for _ in range(3):
        state = merge(state, one)
    assert _compute((metric,), state)[0] == 2**24 + 3


ONE_CLASS = [
    # curve, label, Keras's area, ours
    ("ROC", 0, 0.0, np.nan),
    ("ROC", 1, 0.0, np.nan),
    ("PR", 0, 0.0, np.nan),
    ("PR", 1, 1.0, 1.0),
    ("PRGAIN", 0, 0.0, np.nan),
    ("PRGAIN", 1, 1.0, np.nan),
]


@pytest.mark.parametrize(("curve", "label", "peer", "mine"), ONE_CLASS)
def test_the_area_of_one_class_does_not_exist(curve, label, peer, mine):
    """Keras calls it 0 or 1; we NaN, unless `zero_division` says otherwise."""
    y_true, y_pred = np.full((4,), label), np.array([0.1, 0.4, 0.6, 0.9])
    found = keras_value(keras.metrics.AUC(5, curve), y_true, y_pred)
    assert found == pytest.approx(peer)
    metric = jm.AUC(5, curve)
    np.testing.assert_allclose(value(metric, y_true, y_pred), mine)
    as_keras = jm.AUC(5, curve, zero_division=peer)
    assert value(as_keras, y_true, y_pred) == pytest.approx(peer)


def test_a_label_of_one_class_is_left_out_of_the_mean_area():
    """Keras averages it in as 0; `zero_division=0.0` does so too."""
    y_true = np.array([[0, 1], [1, 1], [0, 1], [1, 1]])
    y_pred = np.array([[0.1, 0.6], [0.9, 0.2], [0.2, 0.2], [0.8, 0.7]])
    options = {"num_thresholds": 5, "multi_label": True, "num_labels": 2}
    assert keras_value(keras.metrics.AUC(**options), y_true, y_pred) == 0.5
    assert value(jm.AUC(**options), y_true, y_pred) == 1.0
    assert value(jm.AUC(**options, zero_division=0.0), y_true, y_pred) == 0.5


def test_the_mean_of_nothing_does_not_exist():
    """Keras's mean of nothing is 0, ours NaN unless `zero_division` says otherwise."""
    assert float(keras.metrics.Mean().result()) == 0
    assert np.isnan(jm.Mean().compute(jm.Mean().init()))
    zero = jm.Mean(zero_division=0.0)
    assert zero.compute(zero.init()) == 0


def test_f1_score_without_num_classes_is_binary():
    """Keras refuses rank 1; we count entry by entry unless num_classes is given."""
    y_true, y_pred = np.array([1.0, 1, 0, 0]), np.array([0.9, 0.2, 0.8, 0.1])
    with pytest.raises(ValueError, match="y_pred"):
        keras_value(keras.metrics.F1Score(), y_true, y_pred)
    # TP 1, FP 1, FN 1
    assert value(jm.F1Score(), y_true, y_pred) == 0.5
    assert value(jm.F1Score(), y_true[:, None], y_pred[:, None]) == 0.5


def test_weights_speak_for_rows_whatever_the_sizes():
    """Keras applies (N,) weights along the second axis of (N, T, C) when N is T."""
    y_true = np.ones((2, 2, 1), np.float32)
    y_pred = np.array([[[0.9], [0.1]], [[0.9], [0.9]]], np.float32)
    weight = np.array([1, 10], np.float32)  # by row: 1 + 10 + 10
    assert keras_value(keras.metrics.TruePositives(), y_true, y_pred, weight) == 12
    assert value(jm.TruePositives(), y_true, y_pred, weight) == 21


@pytest.mark.parametrize(
    ("shape", "weight", "options"),
    [
        ((4,), (4, 1), {}),
        ((4, 3), (4, 3), {"class_id": 1}),
        ((4, 2, 3), (4,), {}),
    ],
    ids=str,
)
def test_weights_that_keras_documents_and_refuses(shape, weight, options):
    """Weights that cover the rows, or have the rank of the labels, are taken by us."""
    y_true, y_pred = np.ones(shape), np.full(shape, 0.75)
    weights = np.broadcast_to(0.5, weight)
    with pytest.raises((ValueError, TypeError)):
        keras_value(keras.metrics.Recall(**options), y_true, y_pred, weights)
    assert value(jm.Recall(**options), y_true, y_pred, weights) == 1


def test_dtype_is_the_dtype_of_the_result():
    """Keras records the dtype of a count and returns float32."""
    y_true = y_pred = np.ones(4, np.float32)
    found = keras_value(keras.metrics.TruePositives(dtype="int32"), y_true, y_pred)
    assert found.dtype == np.float32
    assert value(jm.TruePositives(dtype="int32"), y_true, y_pred).dtype == np.int32


def test_masks_are_read():
    """Keras's confusion metrics know no mask; ours drop what is not kept."""
    batch = as_batch(np.ones(4), [0.9, 0.9, np.nan, 0.1])
    batch["mask"] = np.array([True, True, False, True])
    assert ours([jm.TruePositives()], [batch])[0] == 2
    with pytest.raises(TypeError, match="mask"):
        keras.metrics.TruePositives().update_state(**batch)
