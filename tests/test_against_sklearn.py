"""The same numbers as scikit-learn, in float64, where both define the metric."""

from functools import partial

import jax
import numpy as np
import pytest
from sklearn import metrics as sk

import jaxmetrics as jm

ROWS, CLASSES = 60, 4
SEEDS = range(3)


@jax.jit
def _update(owner, state, batch):
    return owner.update(state, **batch)


@jax.jit
def _compute(metrics, state):
    return [metric.compute(state) for metric in metrics]


def values(metrics, y_true, y_pred, sample_weight=None):
    """The values of metrics of one accumulator, from two halves of the rows."""
    owner, half = metrics[0].accumulator, len(y_true) // 2
    assert all(m.accumulator == owner for m in metrics)
    batch = {"y_true": y_true, "y_pred": y_pred, "sample_weight": sample_weight}
    batch = {k: np.asarray(v, np.float32) for k, v in batch.items() if v is not None}
    state = owner.init()
    for part in (slice(half), slice(half, None)):
        state = _update(owner, state, {k: v[part] for k, v in batch.items()})
    return [jax.tree.map(np.asarray, x) for x in _compute(tuple(metrics), state)]


def binary(seed, *, labels=2):
    """Labels, float32 scores with ties that are better than a coin, and weights."""
    rng = np.random.default_rng(seed)
    y_true = rng.integers(0, labels, ROWS)
    noise = rng.integers(0, 40, ROWS) + 12 * (y_true > 0)
    return (
        y_true,
        (noise / 64 + 1 / 128).astype(np.float32),
        rng.integers(0, 9, ROWS) / 4,
    )


def close(mine, expected, tolerance=2e-6):
    """Agreement to float32."""
    np.testing.assert_allclose(mine, expected, rtol=tolerance, atol=1e-7)


# --- labels --------------------------------------------------------------------------


@pytest.mark.parametrize("weighted", [False, True])
def test_binary_ratios(weighted):
    """Precision, recall, F, accuracy and their kin agree, with weights and without."""
    metrics = [
        jm.Precision(),
        jm.Recall(),
        jm.F1Score(),
        jm.FBetaScore(beta=0.5),
        jm.FBetaScore(beta=2.0),
        jm.BinaryAccuracy(),
    ]
    functions = [
        sk.precision_score,
        sk.recall_score,
        sk.f1_score,
        partial(sk.fbeta_score, beta=0.5),
        partial(sk.fbeta_score, beta=2.0),
        sk.accuracy_score,
    ]
    for seed in SEEDS:
        y_true, y_pred, weight = binary(seed)
        weight = weight if weighted else None
        for mine, function in zip(
            values(metrics, y_true, y_pred, weight), functions, strict=True
        ):
            close(mine, function(y_true, y_pred > 0.5, sample_weight=weight))


@pytest.mark.parametrize("weighted", [False, True])
def test_the_confusion_matrix_and_every_rate_of_it(weighted):
    """The four counts and the rates between them are those of the confusion matrix."""
    metrics = [
        jm.ConfusionCounts(),
        jm.Specificity(),
        jm.TrueNegativeRate(),
        jm.FalsePositiveRate(),
        jm.FalseNegativeRate(),
        jm.NegativePredictiveValue(),
        jm.FalseDiscoveryRate(),
        jm.FalseOmissionRate(),
        jm.Prevalence(),
    ]
    for seed in SEEDS:
        y_true, y_pred, weight = binary(seed)
        weight = weight if weighted else None
        matrix = sk.confusion_matrix(y_true, y_pred > 0.5, sample_weight=weight)
        (tn, fp), (fn, tp) = matrix
        counts, *rates = values(metrics, y_true, y_pred, weight)
        close(counts, (tp, fp, tn, fn))
        expected = [
            tn / (tn + fp),
            tn / (tn + fp),
            fp / (tn + fp),
            fn / (fn + tp),
            tn / (tn + fn),
            fp / (fp + tp),
            fn / (fn + tn),
            (tp + fn) / np.sum(matrix),
        ]
        close(rates, expected)


AVERAGES = ("micro", "macro", "weighted", None)


def one_hot(classes):
    """Class ids as rows of zeros and a one."""
    return np.eye(CLASSES, dtype=np.float32)[classes]


@pytest.mark.parametrize("weighted", [False, True])
def test_averages_over_classes(weighted):
    """Every average over classes agrees, for the class with the highest score."""
    metrics = [
        metric
        for average in AVERAGES
        for metric in (
            jm.F1Score(average, num_classes=CLASSES),
            jm.FBetaScore(average, 2.0, num_classes=CLASSES),
        )
    ]
    functions = (sk.f1_score, partial(sk.fbeta_score, beta=2.0))
    for seed in SEEDS:
        rng = np.random.default_rng(seed)
        y_true = rng.integers(0, CLASSES, ROWS)
        y_pred = rng.random((ROWS, CLASSES)) + 0.5 * one_hot(y_true)
        weight = rng.integers(0, 5, ROWS) / 2 if weighted else None
        results = iter(values(metrics, one_hot(y_true), y_pred, weight))
        for average in AVERAGES:
            for function in functions:
                predicted = np.argmax(y_pred, axis=-1)
                expected = function(
                    y_true, predicted, average=average, sample_weight=weight
                )
                close(next(results), expected)


@pytest.mark.parametrize("zero_division", [0.0, 1.0, np.nan])
def test_zero_division_over_labels(zero_division):
    """Labels without positives or predictions count as `zero_division` in averages."""
    rng = np.random.default_rng(4)
    y_true = rng.integers(0, 2, (ROWS, CLASSES))
    y_pred = rng.random((ROWS, CLASSES))
    y_true[:, 1] = 0  # no positives: recall is undefined
    y_pred[:, 2] = 0.25  # nothing predicted: precision is
    y_true[:, 3], y_pred[:, 3] = 0, 0.25  # neither: F1 is as well
    options = {"num_classes": CLASSES, "zero_division": zero_division}
    metrics, expected = [], []
    for average in ("macro", "weighted", "micro", None):
        metrics += [
            jm.Precision(average=average, **options),
            jm.Recall(average=average, **options),
            jm.F1Score(average, 0.5, **options),
        ]
        expected += [
            function(y_true, y_pred > 0.5, average=average, zero_division=zero_division)
            for function in (sk.precision_score, sk.recall_score, sk.f1_score)
        ]
    for metric, mine, theirs in zip(
        metrics, values(metrics, y_true, y_pred), expected, strict=True
    ):
        np.testing.assert_allclose(mine, theirs, rtol=2e-6, err_msg=repr(metric))


def test_accuracy_per_label():
    """With num_classes, accuracy has one value per label, and an average over them."""
    y_true, y_pred = np.random.default_rng(5).integers(0, 2, (2, ROWS, CLASSES))
    metrics = [
        jm.BinaryAccuracy(num_classes=CLASSES),
        jm.BinaryAccuracy(num_classes=CLASSES, average="macro"),
    ]
    each, mean = values(metrics, y_true, y_pred)
    expected = [sk.accuracy_score(y_true[:, i], y_pred[:, i]) for i in range(CLASSES)]
    close(each, expected)
    close(mean, np.mean(expected))


# --- scores --------------------------------------------------------------------------


@pytest.mark.parametrize("weighted", [False, True])
def test_areas_at_all_distinct_scores_are_exact(weighted):
    """With a threshold at each distinct score, the binned areas are the exact ones.

    Recall falls by steps of average precision; "minoring" and "majoring" bound it.
    """
    y_true, y_pred, weight = binary(0)
    weight = weight if weighted else None
    thresholds = tuple(np.unique(y_pred).tolist())
    metrics = [
        jm.AUC(thresholds=thresholds),
        jm.AUC(curve="PR", thresholds=thresholds, summation_method="minoring"),
        jm.AUC(curve="PR", thresholds=thresholds, summation_method="majoring"),
    ]
    area, low, high = values(metrics, y_true, y_pred, weight)
    close(area, sk.roc_auc_score(y_true, y_pred, sample_weight=weight))
    precise = sk.average_precision_score(y_true, y_pred, sample_weight=weight)
    assert low - 1e-6 <= precise <= high + 1e-6


def test_the_default_grid_comes_near():
    """On 200 even thresholds the area of 60 scores is within 0.01 of the exact one."""
    y_true, y_pred, _ = binary(1)
    (area,) = values([jm.AUC()], y_true, y_pred)
    assert area == pytest.approx(sk.roc_auc_score(y_true, y_pred), abs=0.01)


@pytest.mark.parametrize("weighted", [False, True])
def test_curves_at_all_distinct_scores_hold_the_exact_points(weighted):
    """Both curves pass through scikit-learn's points.

    A prediction here is strictly above its threshold, there at or above: the point of
    the threshold t there is that of the next lower score here.
    """
    y_true, y_pred, weight = binary(2)
    weight = weight + 0.25 if weighted else None  # there rows of weight 0 lose points
    distinct = np.unique(y_pred)
    thresholds = tuple(distinct.tolist())
    roc, pr = values(
        [
            jm.ROCCurve(thresholds=thresholds),
            jm.PrecisionRecallCurve(thresholds=thresholds),
        ],
        y_true,
        y_pred,
        weight,
    )
    fpr, tpr, _ = sk.roc_curve(
        y_true, y_pred, sample_weight=weight, drop_intermediate=False
    )
    # Ours: above +inf, above the highest score, ..., above the lowest, above -inf.
    np.testing.assert_array_equal(roc.thresholds[1:-1], distinct[::-1])
    close(roc.false_positive_rate[1:], fpr)
    close(roc.true_positive_rate[1:], tpr)
    assert (roc.false_positive_rate[0], roc.true_positive_rate[0]) == (0, 0)

    precision, recall, _ = sk.precision_recall_curve(
        y_true, y_pred, sample_weight=weight
    )
    # Here nothing lies above the highest score, and precision of nothing is 0.
    close(pr.precision[: len(precision) - 1], precision[:-1])
    close(pr.recall[: len(recall)], recall)
    assert (pr.precision[-1], pr.recall[-1]) == (precision[-1], 0)


@pytest.mark.parametrize("weighted", [False, True])
def test_areas_averaged_over_labels(weighted):
    """Multi-label areas average to scikit-learn's macro average, weighted as well."""
    rng = np.random.default_rng(6)
    y_true = rng.integers(0, 2, (ROWS, CLASSES))
    y_pred = (rng.integers(0, 10, (ROWS, CLASSES)) + 4 * y_true) / 16 + 1 / 32
    weight = rng.integers(0, 9, ROWS) / 4 if weighted else None
    options = {
        "thresholds": tuple(np.unique(y_pred).tolist()),
        "multi_label": True,
        "num_labels": CLASSES,
    }
    support = np.sum(y_true, axis=0)
    metrics = [jm.AUC(**options), jm.AUC(**options, label_weights=support)]
    mean, by_support = values(metrics, y_true, y_pred, weight)
    close(mean, sk.roc_auc_score(y_true, y_pred, sample_weight=weight))
    each = sk.roc_auc_score(y_true, y_pred, average=None, sample_weight=weight)
    close(by_support, np.average(each, weights=support))


def test_values_at_a_fixed_point_are_read_from_the_curves():
    """On a grid of all scores, they are the best points of the curves."""
    grid = np.asarray(jm.even_thresholds(33), np.float32)
    rng = np.random.default_rng(7)
    y_true = rng.integers(0, 2, ROWS)
    y_pred = grid[np.minimum(rng.integers(1, 24, ROWS) + 8 * y_true, 31)]
    targets = (0.1, 0.5, 0.85)
    metrics = [
        jm.PrecisionAtRecall(targets, num_thresholds=33),
        jm.RecallAtPrecision(targets, num_thresholds=33),
        jm.SensitivityAtSpecificity(targets, num_thresholds=33),
        jm.SpecificityAtSensitivity(targets, num_thresholds=33),
    ]
    found = values(metrics, y_true, y_pred)
    precision, recall, _ = sk.precision_recall_curve(y_true, y_pred)
    precision, recall = precision[:-1], recall[:-1]
    fpr, tpr, _ = sk.roc_curve(y_true, y_pred, drop_intermediate=False)
    pairs = [(precision, recall), (recall, precision), (tpr, 1 - fpr), (1 - fpr, tpr)]
    for mine, (best, held) in zip(found, pairs, strict=True):
        close(mine, [np.max(best[held >= t], initial=0) for t in targets])


# --- values --------------------------------------------------------------------------


@pytest.mark.parametrize("weighted", [False, True])
def test_means(weighted):
    """The mean of squared errors is that of float64, weighted as well."""
    rng = np.random.default_rng(8)
    x, y = rng.normal(size=(2, ROWS)).astype(np.float32)
    weight = rng.random(ROWS).astype(np.float32) if weighted else None
    result = jax.jit(jm.Mean())(values=(x - y) ** 2, sample_weight=weight)
    close(result, sk.mean_squared_error(x, y, sample_weight=weight))
