"""The family table: every metric with batches for it and an independent reference.

A row is a metric, batches of inputs by name, and a function of the concatenated inputs
and of one weight for each row that returns, in float64 NumPy and without any code of
the package, what `compute` should. Adding a metric means adding a row.

Batches have 8 rows, classes are 3, even grids have 5 thresholds: shapes are few,
because every new one is compiled. Scores are multiples of 1/32, so that many equal a
threshold.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import exact
import numpy as np

import jaxmetrics as jm
from jaxmetrics.testing.subject import Subject

ROWS, CLASSES = 8, 3


class Case(NamedTuple):
    """A row of the table."""

    metric: jm.Metric
    batches: list[dict[str, np.ndarray]]
    reference: Callable[..., Any]


# --- batches -------------------------------------------------------------------------


def three(
    make: Callable[[np.random.Generator], dict[str, Any]], seed: int
) -> list[Any]:
    """Three batches of float32."""
    random = np.random.default_rng(seed)
    batches = [make(random) for _ in range(3)]
    return [{k: np.asarray(x, np.float32) for k, x in b.items()} for b in batches]


def scored(random: np.random.Generator, *shape: int) -> dict[str, Any]:
    """Labels, and scores in [0, 1] that know a little of them."""
    y_true = random.random(shape) < 0.4
    y_pred = (random.integers(0, 25, shape) + 8 * y_true) / 32
    y_true.flat[:2], y_pred.flat[:2] = (True, False), 0.5
    return {"y_true": y_true, "y_pred": y_pred}


def logits(random: np.random.Generator, *shape: int) -> dict[str, Any]:
    """Labels, and scores on both sides of 0."""
    batch = scored(random, *shape)
    return {**batch, "y_pred": 8 * batch["y_pred"] - 4}


def hard(random: np.random.Generator) -> dict[str, Any]:
    """Labels, and predictions that are 0 or 1."""
    return {k: x > 0.4 for k, x in scored(random, ROWS).items()}


def signed(random: np.random.Generator) -> dict[str, Any]:
    """Small values of both signs."""
    return {"values": random.integers(-32, 32, ROWS) / 8}


BINARY = three(lambda r: scored(r, ROWS), 1)
BY_CLASS = three(lambda r: scored(r, ROWS, CLASSES), 2)
LOGITS = three(lambda r: logits(r, ROWS), 3)
HARD = three(hard, 4)
VALUES = three(signed, 5)
# The large cancel and the small remain, but not within each of three parts.
VALUES[0]["values"][[0, 2]] = 2.0**27, -(2.0**27)
MATRICES = three(lambda r: {"values": r.integers(-64, 64, (ROWS, CLASSES)) / 8}, 6)
MIXED = [
    {**scores, "loss": values["values"]}
    for scores, values in zip(BINARY, VALUES, strict=True)
]

# --- references ----------------------------------------------------------------------


FIELDS = ("true_positives", "false_positives", "true_negatives", "false_negatives")


def cells(
    y_true: np.ndarray,
    y_pred: np.ndarray,
    weight: np.ndarray,
    *,
    thresholds: tuple[float, ...] = (0.5,),
    top_k: int | None = None,
    class_id: int | None = None,
    by_class: bool = False,
    from_logits: bool = False,
    highest: bool = False,
) -> np.ndarray:
    """TP, FP, TN and FN by threshold and class, from their definitions."""
    score = np.asarray(y_pred, np.float64)
    if from_logits:
        score = 1 / (1 + np.exp(-score))
    allowed = np.ones(score.shape, bool)
    if top_k is not None:
        best = np.argsort(-score, axis=-1, kind="stable")[..., :top_k]
        allowed = np.zeros(score.shape, bool)
        np.put_along_axis(allowed, best, values=True, axis=-1)
    if highest:
        allowed = (score == score.max(axis=-1, keepdims=True)) & (score != 0)
    weight = np.broadcast_to(np.asarray(weight, np.float64), score.T.shape).T
    columns = [np.asarray(y_true) == 1, score, allowed, weight]
    if class_id is not None:
        columns = [x[:, class_id] for x in columns]
    columns = [x.reshape((-1, CLASSES) if by_class else (-1, 1)) for x in columns]
    true, score, allowed, weight = columns
    counts = []
    for threshold in thresholds:
        called = allowed & (score > threshold)
        kinds = (true & called, ~true & called, ~true & ~called, true & ~called)
        counts.append([np.sum(np.where(kind, weight, 0), axis=0) for kind in kinds])
    return np.swapaxes(np.asarray(counts), 0, 1)  # (4, thresholds, classes)


def squeezed(counts: np.ndarray, by_class: bool) -> np.ndarray:
    """Without the axes that nobody asked for."""
    counts = counts if by_class else counts[..., 0]
    return counts[:, 0] if counts.shape[1] == 1 else counts


def over(top: Any, bottom: Any, undefined: float = 0.0) -> np.ndarray:
    """A ratio with a value for 0/0."""
    top, bottom = np.broadcast_arrays(np.float64(top), np.float64(bottom))
    return np.where(bottom == 0, undefined, top / np.where(bottom == 0, 1, bottom))


RATIOS: dict[type, Callable[..., tuple[Any, Any]]] = {
    jm.Precision: lambda tp, fp, tn, fn: (tp, tp + fp),
    jm.Recall: lambda tp, fp, tn, fn: (tp, tp + fn),
    jm.FalseNegativeRate: lambda tp, fp, tn, fn: (fn, fn + tp),
    jm.FalsePositiveRate: lambda tp, fp, tn, fn: (fp, fp + tn),
    jm.TrueNegativeRate: lambda tp, fp, tn, fn: (tn, tn + fp),
    jm.NegativePredictiveValue: lambda tp, fp, tn, fn: (tn, tn + fn),
    jm.FalseDiscoveryRate: lambda tp, fp, tn, fn: (fp, fp + tp),
    jm.FalseOmissionRate: lambda tp, fp, tn, fn: (fn, fn + tn),
    jm.Prevalence: lambda tp, fp, tn, fn: (tp + fn, tp + fp + tn + fn),
    jm.PredictedPositiveRate: lambda tp, fp, tn, fn: (tp + fp, tp + fp + tn + fn),
    jm.BinaryAccuracy: lambda tp, fp, tn, fn: (tp + tn, tp + fp + tn + fn),
    jm.F1Score: lambda tp, fp, tn, fn: (2 * tp, 2 * tp + fp + fn),
}
COUNTS = (jm.TruePositives, jm.FalsePositives, jm.TrueNegatives, jm.FalseNegatives)


def count(which: int, **how: Any) -> Callable[..., Any]:
    """One of the four counts."""

    def reference(**inputs: Any) -> Any:
        return squeezed(cells(**inputs, **how), how.get("by_class", False))[which]

    return reference


def ratio(
    of: Callable[..., tuple[Any, Any]],
    *,
    average: str | None = None,
    undefined: float = 0.0,
    **how: Any,
) -> Callable[..., Any]:
    """A ratio of counts, averaged over the classes."""

    def reference(**inputs: Any) -> Any:
        counts = squeezed(cells(**inputs, **how), how.get("by_class", False))
        if average == "micro":
            counts = counts.sum(axis=-1)
        values = over(*of(*counts), undefined)
        if average in (None, "micro"):
            return values
        weight = counts[0] + counts[3] if average == "weighted" else np.ones(CLASSES)
        return over(
            np.sum(weight * values, axis=-1), np.sum(weight, axis=-1), undefined
        )

    return reference


def f_score(beta: float) -> Callable[..., tuple[Any, Any]]:
    """The harmonic mean of precision and recall, multiplied out."""
    b = beta**2
    return lambda tp, fp, tn, fn: ((1 + b) * tp, (1 + b) * tp + b * fn + fp)


EVEN = (0.0, 0.25, 0.5, 0.75, 1.0)
ENDS = (-np.inf, 0.25, 0.5, 0.75, np.inf)  # an even grid whose ends are everything


def area(
    curve: str, method: str = "interpolation", thresholds: Any = ENDS, **how: Any
) -> Callable[..., Any]:
    """The area under a curve through the points at the thresholds."""

    def reference(**inputs: Any) -> Any:
        return one_area(
            cells(**inputs, thresholds=thresholds, **how)[..., 0], curve, method
        )

    return reference


def one_area(counts: np.ndarray, curve: str, method: str) -> float:
    """The area of one problem, from counts (4, thresholds); NaN where there is none."""
    tp, fp, tn, fn = counts
    positives, negatives = tp[0] + fn[0], fp[0] + tn[0]
    if positives == 0 or (negatives == 0 and curve != "PR"):
        return np.nan
    recall, precision = tp / positives, over(tp, tp + fp)
    if curve == "PR" and method == "interpolation":
        return davis_goadrich(tp, fp) / positives
    x, y = recall, precision
    if curve == "ROC":
        x, y = fp / negatives, recall
    if curve == "PRGAIN":
        rate = positives / (positives + negatives)
        x = np.maximum(over(recall - rate, (1 - rate) * recall), 0)
        y = over(precision - rate, (1 - rate) * precision, 1)
    mean = {"interpolation": lambda a, b: (a + b) / 2, "minoring": min, "majoring": max}
    steps = range(len(x) - 1)
    return sum((x[i] - x[i + 1]) * mean[method](y[i], y[i + 1]) for i in steps)


def davis_goadrich(tp: np.ndarray, fp: np.ndarray) -> float:
    """The integral of tp / (tp + fp) over tp, fp linear in between, by quadrature."""
    nodes, weights = np.polynomial.legendre.leggauss(60)
    total = 0.0
    for i in range(len(tp) - 1):
        share = (nodes + 1) / 2
        t = tp[i + 1] + share * (tp[i] - tp[i + 1])
        f = fp[i + 1] + share * (fp[i] - fp[i + 1])
        total += np.sum(weights / 2 * over(t, t + f)) * (tp[i] - tp[i + 1])
    return total


def label_area(curve: str, weights: Any = (1, 1, 1)) -> Callable[..., Any]:
    """The weighted mean of the labels' areas."""

    def reference(**inputs: Any) -> Any:
        counts = cells(**inputs, thresholds=ENDS, by_class=True)
        areas = [
            one_area(counts[..., i], curve, "interpolation") for i in range(CLASSES)
        ]
        return np.average(areas, weights=weights)

    return reference


def pooled_area(weights: Any) -> Callable[..., Any]:
    """The area of all labels as one problem, their entries weighted."""

    def reference(**inputs: Any) -> Any:
        counts = cells(**inputs, thresholds=ENDS, by_class=True)
        return one_area(counts @ np.asarray(weights), "ROC", "interpolation")

    return reference


SPECIFICITY, PRECISION, RECALL = (
    RATIOS[kind] for kind in (jm.TrueNegativeRate, jm.Precision, jm.Recall)
)


def at_fixed(
    value: Any, held: Any, target: Any, thresholds: Any = EVEN, **how: Any
) -> Any:
    """The best value where the held statistic reaches the target, or its threshold."""

    def reference(*, place: bool = False, **inputs: Any) -> Any:
        counts = cells(**inputs, thresholds=thresholds, **how)[..., 0]
        values, holds = over(*value(*counts)), np.float32(over(*held(*counts)))
        answers = []
        for one in np.atleast_1d(np.float32(target)):
            able = [i for i in range(len(thresholds)) if holds[i] >= one]
            best = max(able, key=lambda i: (values[i], holds[i], -i), default=None)
            found = (thresholds if place else values)[best] if able else np.nan * place
            answers.append(found)
        return answers[0] if np.ndim(target) == 0 else np.asarray(answers)

    return reference


def roc(*, thresholds: Any = ENDS, missed: bool = False, **inputs: Any) -> Any:
    """Both rates and the thresholds, from nothing to everything."""
    counts = cells(**inputs, thresholds=thresholds)[..., 0]
    kind, name = jm.Recall, "true_positive_rate"
    if missed:
        kind, name = jm.FalseNegativeRate, "false_negative_rate"
    points = {
        "false_positive_rate": over(*RATIOS[jm.FalsePositiveRate](*counts)),
        name: over(*RATIOS[kind](*counts)),
        "thresholds": np.asarray(thresholds),
    }
    return {name: x[::-1] for name, x in points.items()}


def precision_recall(
    *, thresholds: Any = ENDS, by_class: bool = False, **inputs: Any
) -> Any:
    """Both and the thresholds; where nothing is predicted, precision is 1."""
    counts = cells(**inputs, thresholds=thresholds, by_class=by_class)
    counts = counts if by_class else counts[..., 0]
    hits, predicted = PRECISION(*counts)
    precision = np.where(predicted == 0, 1.0, over(hits, predicted))
    recall = over(*RECALL(*counts))
    return {
        "precision": precision,
        "recall": recall,
        "thresholds": np.asarray(thresholds),
    }


def best_of(statistic: Callable[..., Any], *, place: bool = False) -> Any:
    """The highest of a statistic over the thresholds, or the first that has it."""

    def reference(**inputs: Any) -> Any:
        values = statistic(*cells(**inputs, thresholds=FINE)[..., 0])
        first = np.argmax(values >= np.max(values) - 1e-9)
        return FINE[first] if place else np.max(values)

    return reference


def difference(tp: Any, fp: Any, tn: Any, fn: Any) -> Any:
    """The true positive rate less the false positive rate."""
    return tp / (tp + fn) - fp / (fp + tn)


def equal_errors(*, place: bool = False, **inputs: Any) -> Any:
    """Where the line from corner to corner meets that between two points."""
    thresholds = (-np.inf, *FINE, np.inf)
    tp, fp, tn, fn = cells(**inputs, thresholds=thresholds)[..., 0]
    called, missed = fp / (fp + tn), fn / (tp + fn)
    i = np.flatnonzero(called > missed + 1e-9)[-1]
    if place:
        return thresholds[np.clip(i + 1, 1, len(FINE))]
    gap = called[i : i + 2] - missed[i : i + 2]
    return called[i] + (called[i + 1] - called[i]) * gap[0] / (gap[0] - gap[1])


def gain(shares: Any, *, lift: bool = False, **inputs: Any) -> Any:
    """The share of positives among a share of the rows."""
    thresholds = (np.inf, *FINE[::-1], -np.inf)
    tp, fp, tn, fn = cells(**inputs, thresholds=thresholds)[..., 0]
    found = np.interp(shares, (tp + fp) / (tp + fp + tn + fn), tp / (tp + fn))
    return found / shares if lift else found


def mean(*, values: np.ndarray, weight: np.ndarray) -> Any:
    """The weighted mean of all entries."""
    weight = np.broadcast_to(np.float64(weight), values.T.shape).T
    return np.sum(weight * values) / np.sum(weight)


def total(*, values: np.ndarray, weight: np.ndarray) -> Any:
    """The weighted sum of all entries."""
    return np.sum(np.float64(values).T * weight)


def size(*, values: np.ndarray, weight: np.ndarray) -> Any:
    """The weight of all entries."""
    return np.sum(np.broadcast_to(np.float64(weight), values.T.shape))


def two_floats(**inputs: Any) -> Any:
    """Total and weight, each with an error of nothing."""
    return {"total": [total(**inputs), 0.0], "weight": [size(**inputs), 0.0]}


def whole(reference: Callable[..., Any]) -> Callable[..., Any]:
    """The same, to the nearest integer."""
    return lambda **inputs: np.rint(reference(**inputs))


# --- the table -----------------------------------------------------------------------


def missed(c: jm.Counts) -> Any:
    """The share of the positives that were missed, and their number."""
    positives = c.false_negatives + c.true_positives
    return {
        "number": c.false_negatives,
        "rate": jm.divide(c.false_negatives, positives),
    }


def halved(x: Any) -> Any:
    """A half of it."""
    return x / 2


FINE = jm.ScoreHistogram(255).threshold_values  # at which counts must be exact
FINE_ENDS = (-np.inf, *FINE, np.inf)
BEST: list[tuple[Any, Any]] = [
    (jm.BestFBetaScore(2.0, num_cells=255), lambda *c: over(*f_score(2)(*c))),
    (jm.YoudenIndex(num_cells=255), difference),
    (jm.KolmogorovSmirnov(num_cells=255), lambda *c: np.abs(difference(*c))),
]
SCORE_AREAS: list[tuple[Any, tuple[float, ...], Any]] = [
    (jm.AUROC, (), exact.auroc),
    (jm.AveragePrecision, (), exact.average_precision),
    (jm.PartialAUROC, (0.3,), exact.partial_auroc(0.3)),
]
THREE = (0.75, 0.25, 0.5)
HOW_BY_CLASS: dict[str, Any] = {"by_class": True}
precision, recall = jm.Precision(), jm.Recall()

CASES = [
    # Means, sums and counts
    Case(jm.Mean(), VALUES, mean),
    Case(jm.Mean(dtype="bfloat16").map(halved), VALUES, lambda **i: mean(**i) / 2),
    Case(jm.Mean(name="loss", zero_division=1.0), VALUES, mean),
    Case(jm.Sum(), VALUES, total),
    Case(jm.Sum(dtype="int32"), VALUES, whole(total)),
    Case(jm.Count(), VALUES, size),
    Case(jm.Count(dtype="uint32"), VALUES, whole(size)),
    Case(jm.WeightedSum(), MATRICES, two_floats),
    # Counts
    *(Case(kind(), BINARY, count(i)) for i, kind in enumerate(COUNTS)),
    *(
        Case(kind(THREE), BINARY, count(i, thresholds=THREE))
        for i, kind in enumerate(COUNTS)
    ),
    Case(jm.TruePositives(dtype="int32"), BINARY, whole(count(0))),
    Case(
        jm.FalsePositives(EVEN, from_logits=True),
        LOGITS,
        count(1, thresholds=EVEN, from_logits=True),
    ),
    Case(jm.TrueNegatives(num_classes=CLASSES), BY_CLASS, count(2, **HOW_BY_CLASS)),
    Case(
        jm.ConfusionCounts(),
        BINARY,
        lambda **i: dict(zip(FIELDS, squeezed(cells(**i), False), strict=True)),
    ),
    Case(
        jm.ConfusionCounts().map(missed),
        BINARY,
        lambda **i: {
            "number": count(3)(**i),
            "rate": ratio(RATIOS[jm.FalseNegativeRate])(**i),
        },
    ),
    # Ratios
    *(Case(kind(), BINARY, ratio(of)) for kind, of in RATIOS.items()),
    *(
        Case(kind(THREE), BINARY, ratio(RATIOS[kind], thresholds=THREE))
        for kind in (jm.Precision, jm.Recall, jm.FalseNegativeRate)
    ),
    *(
        Case(
            kind(num_classes=CLASSES, average=average),
            BY_CLASS,
            ratio(RATIOS[kind], average=average, **HOW_BY_CLASS),
        )
        for kind in (jm.Precision, jm.Specificity, jm.BinaryAccuracy)
        for average in (None, "micro", "macro", "weighted")
    ),
    Case(jm.Precision(dtype="bfloat16"), BINARY, ratio(PRECISION)),
    Case(
        jm.Precision(EVEN, from_logits=True),
        LOGITS,
        ratio(PRECISION, thresholds=EVEN, from_logits=True),
    ),
    *(
        Case(
            kind(top_k=2, **options),
            BY_CLASS,
            ratio(
                RATIOS[kind],
                top_k=2,
                thresholds=(at,),
                class_id=options.get("class_id"),
            ),
        )
        for kind in (jm.Precision, jm.Recall)
        for at, options in (
            (-np.inf, {}),
            (0.5, {"thresholds": 0.5, "class_id": 1}),
        )
    ),
    Case(
        jm.Recall(EVEN, class_id=1),
        BY_CLASS,
        ratio(RECALL, thresholds=EVEN, class_id=1),
    ),
    # F scores
    Case(jm.FBetaScore(beta=2.0), BINARY, ratio(f_score(2))),
    Case(jm.FBetaScore(beta=0.5, threshold=0.5), BINARY, ratio(f_score(0.5))),
    *(
        Case(
            kind(num_classes=CLASSES, average=average, **options),
            BY_CLASS,
            ratio(
                f_score(options.get("beta", 1)),
                average=average,
                thresholds=(-np.inf,),
                highest=True,
                **HOW_BY_CLASS,
            ),
        )
        for kind, options in ((jm.F1Score, {}), (jm.FBetaScore, {"beta": 2.0}))
        for average in (None, "micro", "macro", "weighted")
    ),
    Case(
        jm.F1Score(num_classes=CLASSES, average="macro", threshold=0.5),
        BY_CLASS,
        ratio(f_score(1), average="macro", **HOW_BY_CLASS),
    ),
    # Areas
    *(
        Case(jm.AUC(5, curve, method), BINARY, area(curve, method))
        for curve in ("ROC", "PR", "PRGAIN")
        for method in ("interpolation", "minoring", "majoring")
    ),
    Case(jm.AUC(5, from_logits=True), LOGITS, area("ROC", from_logits=True)),
    Case(
        jm.AUC(thresholds=[0.75, 0.25, 0.5]),
        BINARY,
        area("ROC", thresholds=(-np.inf, 0.25, 0.5, 0.75, np.inf)),
    ),
    *(
        Case(
            jm.AUC(5, curve, multi_label=True, num_labels=CLASSES),
            BY_CLASS,
            label_area(curve),
        )
        for curve in ("ROC", "PR")
    ),
    Case(
        jm.AUC(5, multi_label=True, label_weights=[1, 2, 0.5]),
        BY_CLASS,
        label_area("ROC", (1, 2, 0.5)),
    ),
    Case(jm.AUC(5, label_weights=[1, 2, 0.5]), BY_CLASS, pooled_area([1, 2, 0.5])),
    # Areas of all scores
    *(
        Case(kind(*rate, num_cells=255), BINARY, exact.scored(of))
        for kind, rate, of in SCORE_AREAS
    ),
    *(
        Case(
            kind(*rate, num_cells=255, num_classes=CLASSES, average=average),
            BY_CLASS,
            exact.scored(of, average=average or "none"),
        )
        for kind, rate, of, averages in (
            (*SCORE_AREAS[0], (None, "micro", "macro", "weighted")),
            (*SCORE_AREAS[1], (None, "micro")),
            (*SCORE_AREAS[2], ("macro",)),
        )
        for average in averages
    ),
    Case(
        jm.PartialAUROC(1.0, standardized=False, num_cells=255),
        BINARY,
        exact.scored(exact.auroc),
    ),
    Case(jm.AUROC(num_cells=255, from_logits=True), LOGITS, exact.scored(exact.auroc)),
    Case(jm.ScoreHistogram(255), BINARY, exact.ranks(255)),
    # Exact areas
    *(
        Case(kind(1024), batches, exact.scored(of, average="micro"))
        for kind, of in (
            (jm.ExactAUROC, exact.auroc),
            (jm.ExactAveragePrecision, exact.average_precision),
        )
        for batches in (LOGITS, BY_CLASS)
    ),
    # Values at a fixed point
    *(
        Case(metric, BINARY, partial(reference, place=place))
        for at, reference in (
            (jm.PrecisionAtRecall(0.5, 5), at_fixed(PRECISION, RECALL, 0.5)),
            (
                jm.RecallAtPrecision((0.5, 1.0), 5),
                at_fixed(RECALL, PRECISION, (0.5, 1.0)),
            ),
            (jm.SensitivityAtSpecificity(0.7, 5), at_fixed(RECALL, SPECIFICITY, 0.7)),
            (
                jm.SpecificityAtSensitivity([0.2, 0.9], 5),
                at_fixed(SPECIFICITY, RECALL, (0.2, 0.9)),
            ),
        )
        for metric, place in ((at, False), (at.operating_threshold, True))
    ),
    Case(
        jm.PrecisionAtRecall(0.5, 5, class_id=1),
        BY_CLASS,
        at_fixed(PRECISION, RECALL, 0.5, class_id=1),
    ),
    Case(
        jm.RecallAtPrecision(0.4, num_thresholds=1),
        BINARY,
        at_fixed(RECALL, PRECISION, 0.4, thresholds=(0.5,)),
    ),
    # Curves
    Case(jm.ROCCurve(5), BINARY, roc),
    Case(jm.PrecisionRecallCurve(5), BINARY, precision_recall),
    Case(
        jm.PrecisionRecallCurve(5, num_classes=CLASSES),
        BY_CLASS,
        partial(precision_recall, by_class=True),
    ),
    Case(jm.ROCCurve(num_cells=255), BINARY, partial(roc, thresholds=FINE_ENDS)),
    *(
        Case(
            jm.DETCurve(*size, **options),
            BINARY,
            partial(roc, thresholds=thresholds, missed=True),
        )
        for size, options, thresholds in (
            ((5,), {}, ENDS),
            ((), {"num_cells": 255}, FINE_ENDS),
        )
    ),
    Case(
        jm.PrecisionRecallCurve(num_cells=255, num_classes=CLASSES),
        BY_CLASS,
        partial(precision_recall, by_class=True, thresholds=FINE_ENDS),
    ),
    # Points of curves
    *(
        Case(metric, BINARY, best_of(statistic, place=place))
        for best, statistic in BEST
        for metric, place in ((best, False), (best.operating_threshold, True))
    ),
    *(
        Case(metric, BINARY, partial(equal_errors, place=place))
        for best in (jm.EqualErrorRate(num_cells=255),)
        for metric, place in ((best, False), (best.operating_threshold, True))
    ),
    *(
        Case(kind(share, num_cells=255), BINARY, partial(gain, share, lift=lift))
        for kind, lift in ((jm.Gain, False), (jm.Lift, True))
        for share in (0.3, (0.25, 1.0))
    ),
    *(
        Case(metric, BINARY, partial(reference, place=place))
        for at, reference in (
            (
                jm.PrecisionAtRecall((0.5, 0.9), None, num_cells=255),
                at_fixed(PRECISION, RECALL, (0.5, 0.9), thresholds=FINE),
            ),
        )
        for metric, place in ((at, False), (at.operating_threshold, True))
    ),
    # Metrics made of metrics
    Case(2 * precision * recall / (precision + recall), BINARY, ratio(f_score(1))),
    Case(
        1 - jm.Precision() ** 2,
        BINARY,
        lambda **i: 1 - ratio(PRECISION)(**i) ** 2,
    ),
    Case(
        jm.Collection(
            {"a": {"f1": jm.F1Score(), "loss": jm.Sum().with_inputs(values="loss")}},
            auc=jm.AUC(5),
            gap=jm.Mean().with_inputs(values="loss") - jm.Precision(),
            prefix="val_",
        ),
        MIXED,
        lambda *, loss, weight, **i: {
            "val_a/f1": ratio(f_score(1))(weight=weight, **i),
            "val_a/loss": total(values=loss, weight=weight),
            "val_auc": area("ROC")(weight=weight, **i),
            "val_gap": mean(values=loss, weight=weight)
            - ratio(PRECISION)(weight=weight, **i),
        },
    ),
]


# --- checking ------------------------------------------------------------------------


def identity(case: Case) -> str:
    """What a test of the row is called."""
    return repr(case.metric).replace("jaxmetrics.", "")


def together(cases: list[Case]) -> jm.Metric:
    """Several metrics as one, by the names of their rows."""
    if len(cases) == 1:
        return cases[0].metric
    return jm.Collection({identity(case): case.metric for case in cases})


def check_references(cases: list[Case]) -> None:
    """Compares results with references, plain and with weights and a mask.

    All rows read one accumulator on the same batches. What is compiled is shared with
    the laws.
    """
    batches = cases[0].batches
    subject = Subject(together(cases), batches, ())
    mask = np.random.default_rng(7).random(subject.rows) < 0.75
    ones = np.ones(subject.rows)
    for steps, weight in (
        (batches, ones),
        ([subject.batch(mask)], subject.weight * mask),
    ):
        value = fields(subject.result(subject.state(*steps)))
        for case in cases:
            name = identity(case)
            found = value if len(cases) == 1 else below(name, value)
            wanted = fields(case.reference(weight=weight, **subject.whole))
            assert set(found) == set(wanted), name
            for field, x in found.items():
                assert_near(f"{name} {field}", np.asarray(x), wanted[field])


def fields(value: Any) -> dict[str, Any]:
    """A record as a dict, and anything else under no name."""
    if isinstance(value, tuple):
        return value._asdict()
    return value if isinstance(value, dict) else {"": value}


def below(name: str, results: dict[str, Any]) -> dict[str, Any]:
    """The results of one member of a Collection."""
    if name in results:
        return {"": results[name]}
    inside = name + "/"
    own = {key: x for key, x in results.items() if key.startswith(inside)}
    return {key.removeprefix(inside): x for key, x in own.items()}


def assert_near(name: str, value: np.ndarray, wanted: Any) -> None:
    """A result agrees with float64 as far as its dtype goes."""
    relative = 2e-6 if value.dtype.itemsize >= 4 else 0.01
    assert value.shape == np.shape(wanted), name
    value = value.astype(np.float64)
    np.testing.assert_allclose(value, wanted, rtol=relative, atol=1e-7, err_msg=name)
