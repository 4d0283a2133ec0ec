"""What is refused, when, and in which words; and what bad values do.

Shapes and dtypes that disagree are refused while tracing, options when a metric is
made. Values cannot be: they make the result NaN and are counted.
"""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxmetrics as jm


@jax.jit
def _update(owner, batch):
    return owner.update(owner.init(), **batch)


@jax.jit
def _compute(metric, state):
    return metric.compute(state)


# --- shapes and dtypes ---------------------------------------------------------------

PAIRS = [
    ((4,), (5,)),
    ((4,), (1,)),
    ((4,), (2, 2)),
    ((4,), (1, 4)),
    ((4,), (4, 3)),
    ((4, 1), (1, 4)),
    ((4, 1), (4, 3)),
    ((4, 3), (4,)),
    ((4, 3), (3, 4)),
    ((4, 2), (4, 2, 2)),
    ((4, 1, 1), (4,)),
    ((), (3,)),
]
WEIGHTS = [  # of rows, and shapes that do not fit them
    ((4,), (3,)),
    ((4,), (1, 4)),
    ((4,), (4, 2)),
    ((4, 3), (3,)),
    ((4, 3), (3, 4)),
    ((4, 3), (2, 1)),
    ((4, 3), (1, 4, 3)),
    ((4, 3, 2), (3, 2)),
    ((4, 3, 2), (3,)),
    ((), (2,)),
]
SELECTIONS = [
    # metric, the shape of both, the start of the sentence, the way out
    (jm.Precision(class_id=3), (4, 3), "class_id=3 is not one of", "use 0 <= class_id"),
    (jm.Recall(class_id=7), (4, 2, 3), "class_id=7 is not one of", "use 0 <= class_id"),
    (jm.Recall(class_id=0), (4,), "class_id=0 needs", "Pass one score per class"),
    (jm.PrecisionAtRecall(0.5, class_id=3), (4, 3), "class_id=3 is", "use 0 <= class_"),
    (jm.ROCCurve(class_id=1), (4,), "class_id=1 needs", "Pass one score per class"),
    (jm.Precision(top_k=4), (4, 3), "top_k=4 exceeds", "use top_k <= 3"),
    (jm.Recall(top_k=4), (3,), "top_k=4 exceeds", "use top_k <= 3"),
    (jm.Recall(top_k=1), (), "top_k=1 needs an axis of classes", "shape ()"),
    (jm.Recall(num_classes=3), (4, 2), "num_classes=3, but", "num_classes=2"),
    (jm.F1Score(num_classes=3), (4, 5), "num_classes=3, but", "num_classes=5"),
    (
        jm.F1Score(num_classes=3),
        (3,),
        "num_classes=3 needs",
        "Pass one score per class",
    ),
    (jm.BinaryAccuracy(num_classes=2), (4, 3), "num_classes=2, but", "num_classes=3"),
    # (rows, classes) without num_classes: Keras's one value per class was meant.
    (jm.F1Score(), (4, 3), "num_classes", "num_classes=3"),
    (jm.FBetaScore(beta=2.0), (2, 4, 5), "num_classes", "num_classes=5"),
    (jm.TruePositives(num_classes=2), (4, 3), "num_classes=2, but", "num_classes=3"),
    (
        jm.AUC(multi_label=True, num_labels=2),
        (4, 3),
        "num_classes=2, but",
        "num_classes=3",
    ),
]

OF_PAIRS = [
    jm.Precision(),
    jm.FalseNegatives((0.2, 0.7)),
    jm.F1Score("macro", num_classes=3),
    jm.BinaryAccuracy(name="accuracy"),
    jm.AUC(),
    jm.PrecisionAtRecall(0.5),
    jm.ROCCurve(),
    jm.ConfusionCounts(),
    jm.Specificity().map(jnp.sqrt),
    jm.Collection(recall=jm.Recall(), fnr=jm.FalseNegativeRate()),
]
OF_WEIGHTS = [
    jm.Precision(),
    jm.AUC(),
    jm.BinaryAccuracy(),
    jm.Collection(a=jm.Recall()),
]
OF_VALUES = [jm.Mean(), jm.Sum(), jm.Count(), jm.WeightedSum()]
OF_DTYPES = [jm.Precision(), jm.AUC(), jm.Collection(a=jm.Recall())]
BAD_DTYPES = {
    "complex": np.zeros(4, np.complex64),
    "strings": np.array(["0", "1", "0", "1"]),
    "objects": np.array([None, 1, 0, 1], object),
    "dates": np.zeros(4, "datetime64[s]"),
}


def zeros(shape, dtype=np.float32):
    """An array of a shape; no row is ever looked at."""
    return np.zeros(shape, dtype)


def table():
    """Rows of metric, batch, exception, and the words that the message must hold."""
    for metric in OF_PAIRS:
        for true, pred in PAIRS:
            way_out = "nothing is broadcast"
            if pred[:-1] == true:
                way_out = f"jax.nn.one_hot(y_true, {pred[-1]})"
            words = [f"y_true {true}", f"y_pred {pred}", way_out]
            yield metric, {"y_true": zeros(true), "y_pred": zeros(pred)}, words
    for metric, shape, start, way_out in SELECTIONS:
        batch = {"y_true": zeros(shape), "y_pred": zeros(shape)}
        yield metric, batch, [start, str(shape), way_out]
    for argument, dtype in (("sample_weight", np.float32), ("mask", bool)):
        for shape, other in WEIGHTS:
            extra = {argument: zeros(other, dtype)}
            way_out = f"Reshape {argument}, or withhold it with with_inputs"
            words = [f"{argument} {other}", way_out]
            for metric in OF_WEIGHTS:
                batch = {"y_true": zeros(shape), "y_pred": zeros(shape)}
                yield metric, batch | extra, [*words, f"y_true and y_pred {shape}"]
            for metric in OF_VALUES:
                yield (
                    metric,
                    {"values": zeros(shape)} | extra,
                    [*words, f"values {shape}"],
                )
    for argument in ("y_true", "y_pred", "sample_weight", "mask"):
        for bad in BAD_DTYPES.values():
            for metric in OF_DTYPES:
                batch = {"y_true": zeros(4), "y_pred": zeros(4), argument: bad}
                yield metric, batch, [argument, "must"]
    for dtype in (np.float32, np.int32, np.uint8):
        for metric in (*OF_DTYPES, *OF_VALUES):
            inputs = ("values",) if metric in OF_VALUES else ("y_true", "y_pred")
            batch = {name: zeros(4) for name in inputs} | {"mask": zeros(4, dtype)}
            yield (
                metric,
                batch,
                ["mask must be boolean", np.dtype(dtype).name, "mask != 0"],
            )
    for metric in OF_DTYPES:
        both = {"y_true": zeros(4), "y_pred": zeros(4)}
        yield metric, {"y_true": zeros(4)}, ["y_pred", "missing"]
        yield metric, {"y_pred": zeros(4)}, ["y_true", "missing"]
        yield metric, both | {"weights": zeros(4)}, ["weights", "y_true", "y_pred"]
        yield metric, both | {"values": zeros(4)}, ["values", "y_true", "y_pred"]
    for metric in OF_VALUES:
        yield metric, {}, ["values", "missing"]
        yield metric, {"values": zeros(4), "y_pred": zeros(4)}, ["y_pred", "values"]


TABLE = list(table())


def test_the_table_is_long():
    """The table holds at least 200 rows, none of them twice."""
    keys = {
        (
            repr(metric),
            *((k, v.shape, str(v.dtype)) for k, v in sorted(batch.items())),
        )
        for metric, batch, _ in TABLE
    }
    assert len(keys) == len(TABLE) >= 200


def eager(metric, arrays, constants):
    """As a line of plain Python."""
    metric.update(metric.init(), **arrays, **constants)


def jitted(metric, arrays, constants):
    """Inside a compiled function."""
    jax.jit(lambda s, x: metric.update(s, **x, **constants))(metric.init(), arrays)


def scanned(metric, arrays, constants):
    """With the state as the carry of a scan over two batches."""

    def step(state, batch):
        return metric.update(state, **batch, **constants), None

    stacked = {name: np.stack([x, x]) for name, x in arrays.items()}
    jax.lax.scan(step, metric.init(), stacked, length=2)


def shaped(metric, arrays, constants):
    """With shapes alone."""
    jax.eval_shape(
        lambda s, x: metric.update(s, **x, **constants), metric.init(), arrays
    )


@pytest.mark.parametrize("way", [eager, jitted, scanned, shaped])
@pytest.mark.parametrize("row", range(len(TABLE)))
def test_disagreements_raise_while_tracing(row, way):
    """A row of the table is refused, by name and with both sides and a way out."""
    metric, batch, words = TABLE[row]
    traced = {k: v for k, v in batch.items() if v.dtype.kind in "fiubc"}
    constants = {k: v for k, v in batch.items() if k not in traced}
    with pytest.raises((ValueError, TypeError)) as refusal:
        way(metric, traced, constants)
    message = str(refusal.value)
    assert message.startswith(metric.label)
    for word in words:
        assert word in message


def test_the_message_reads_well():
    """Three sentences in full, as a user sees them."""
    with pytest.raises(ValueError, match="accuracy: ") as refusal:
        jm.BinaryAccuracy(name="accuracy")(zeros(4), zeros((4, 3)))
    assert str(refusal.value) == (
        "accuracy: y_true and y_pred must have one shape; got y_true (4,) and y_pred "
        "(4, 3). If y_true holds class ids, pass jax.nn.one_hot(y_true, 3); if y_pred "
        "should have one score per row, select it first."
    )
    metrics = jm.Collection(a=jm.Recall(), auc=jm.AUC())
    with pytest.raises(ValueError, match="sample_weight") as refusal:
        metrics(y_true=zeros((4, 2)), y_pred=zeros((4, 2)), sample_weight=zeros(2))
    assert re.match(
        r"Collection\((a=Recall|auc=AUC)\): sample_weight", str(refusal.value)
    )
    with pytest.raises(
        TypeError, match=r"update takes \(y_true, y_pred, sample_weight="
    ):
        jm.Precision()(zeros(4))


def test_integer_labels_beside_rows_of_scores_name_one_hot():
    """Class ids are for one_hot, which the message names with the number of classes."""
    labels, scores = np.array([0, 2, 1, 1]), np.eye(3)[[0, 2, 1, 1]]
    for metric in OF_PAIRS:
        with pytest.raises(ValueError, match=r"jax\.nn\.one_hot\(y_true, 3\)"):
            jax.eval_shape(metric, y_true=labels, y_pred=scores)


# --- what is legal -------------------------------------------------------------------

LEGAL = [
    # of labels, of scores, and of weights and masks
    ((4,), (4,), [(), (1,), (4,), (4, 1)]),
    ((4, 1), (4,), [(), (4,), (4, 1)]),
    ((4,), (4, 1), [(4,)]),
    ((4, 3), (4, 3), [(), (1,), (1, 1), (4,), (4, 1), (1, 3), (4, 3), (4, 3, 1)]),
    ((3, 3), (3, 3), [(3,), (3, 1), (1, 3)]),
    (
        (4, 2, 3),
        (4, 2, 3),
        [(4,), (4, 1), (4, 2), (4, 2, 1), (1, 2, 1), (4, 1, 3), (1, 1, 3)],
    ),
]


def spread(weight, shape):
    """The weight of every entry: by explicit broadcasting over the leading axes."""
    while weight.ndim > len(shape):
        weight = weight[..., 0]
    if weight.ndim < len(shape):  # (rows, 1) covers rows, as (rows,) does
        weight = weight.reshape(weight.shape + (1,) * (len(shape) - weight.ndim))
    return np.broadcast_to(weight, shape)


@pytest.mark.parametrize(
    ("true", "pred", "weight"),
    [(true, pred, weight) for true, pred, all_ in LEGAL for weight in all_],
    ids=str,
)
def test_legal_weights_and_masks_broadcast_explicitly(true, pred, weight):
    """Weights and masks of legal shapes give the sums of their explicit broadcast."""
    rng = np.random.default_rng(0)
    y_true = rng.integers(0, 2, true).astype(np.float32)
    y_pred = rng.random(pred).astype(np.float32)
    w, keep = rng.integers(1, 9, weight).astype(np.float32), rng.random(weight) < 0.7
    batch = {"y_true": y_true, "y_pred": y_pred, "sample_weight": w, "mask": keep}
    counts = _compute(jm.ConfusionCounts(), _update(jm.ConfusionCounts(), batch))
    shape = min(true, pred, key=len)
    above, label = y_pred.reshape(shape) > 0.5, y_true.reshape(shape) == 1
    size = spread(w, shape) * spread(keep, shape)
    expected = [
        np.sum(size[cell])
        for cell in (label & above, ~label & above, ~label & ~above, label & ~above)
    ]
    np.testing.assert_array_equal(counts, expected)


@pytest.mark.parametrize(
    "dtype", [bool, np.int8, np.uint8, np.int32, np.float16, jnp.bfloat16, np.float64]
)
def test_every_real_dtype_is_legal(dtype):
    """Labels and scores of any real dtype count alike, in the same kind of state."""
    y_true, y_pred = np.array([0, 1, 1, 1]), np.array([1, 0, 1, 1])
    batch = {"y_true": y_true.astype(dtype), "y_pred": y_pred.astype(dtype)}
    state = _update(jm.ConfusionCounts(), batch)
    np.testing.assert_array_equal(_compute(jm.ConfusionCounts(), state), [2, 1, 0, 1])
    assert [x.dtype for x in jax.tree.leaves(state)] == [np.uint32, np.float32]


# --- options -------------------------------------------------------------------------

OPTIONS = [
    # thresholds
    (
        lambda: jm.Precision(1.5),
        ValueError,
        r"thresholds must be in \[0, 1\]; got \[1.5\]",
    ),
    (lambda: jm.Recall([0.5, -0.1]), ValueError, r"thresholds must .* got \[-0.1\]"),
    (lambda: jm.TruePositives(np.nan), ValueError, r"thresholds must .* got \[nan\]"),
    (lambda: jm.TruePositives([0.1, None]), ValueError, r"thresholds .* got \[None\]"),
    (lambda: jm.TruePositives([]), ValueError, "thresholds must hold at least one"),
    (lambda: jm.Precision("0.5"), TypeError, "thresholds must be a number or a seq"),
    (lambda: jm.Precision(["0.5"]), ValueError, r"thresholds .* got \['0.5'\]"),
    (lambda: jm.Precision(True), ValueError, r"thresholds must .* got \[True\]"),
    (
        lambda: jm.Precision({0.5}),
        TypeError,
        "thresholds must be a number or a sequence",
    ),
    # Fails while arrays become lists before checks.numbers sees their axes.
    (
        lambda: jm.Precision(np.zeros((2, 2))),
        ValueError,
        "thresholds must have one axis",
    ),
    (lambda: jm.Precision([[0.1], [0.2]]), ValueError, "must have one axis"),
    (
        lambda: jm.ConfusionCounts(2),
        ValueError,
        "ConfusionCounts: thresholds must be in",
    ),
    (
        lambda: jm.AUC(thresholds=[]),
        ValueError,
        "AUC: thresholds must hold at least one",
    ),
    (lambda: jm.AUC(thresholds=[0, np.inf]), ValueError, r"thresholds .* got \[inf\]"),
    (
        lambda: jm.ROCCurve(thresholds=[-1]),
        ValueError,
        r"ROCCurve: thresholds .* \[-1\]",
    ),
    (lambda: jm.BinaryAccuracy(1.01), ValueError, r"threshold must be in \[0, 1\]"),
    (
        lambda: jm.BinaryAccuracy(None),
        TypeError,
        "threshold must be a number; got None",
    ),
    (
        lambda: jm.F1Score(threshold=2),
        ValueError,
        r"threshold must be in \[0, 1\]; got 2",
    ),
    # numbers of things
    (
        lambda: jm.AUC(num_thresholds=1),
        ValueError,
        "num_thresholds .* integer >= 2; got 1",
    ),
    (lambda: jm.AUC(2.5), TypeError, "num_thresholds must be an integer >= 2; got 2.5"),
    (
        lambda: jm.ROCCurve(1),
        ValueError,
        "num_thresholds must be an integer >= 2; got 1",
    ),
    (
        lambda: jm.PrecisionRecallCurve(0),
        ValueError,
        "num_thresholds must be an integer",
    ),
    (lambda: jm.PrecisionAtRecall(0.5, 0), ValueError, "num_thresholds .* >= 1; got 0"),
    (
        lambda: jm.even_thresholds(1),
        ValueError,
        "even_thresholds: num_thresholds must be",
    ),
    (lambda: jm.Precision(class_id=-1), ValueError, "class_id must be an integer >= 0"),
    (
        lambda: jm.Precision(class_id=1.0),
        TypeError,
        "class_id must be an integer >= 0; got 1.0",
    ),
    (lambda: jm.Precision(class_id=True), TypeError, "class_id .* got True"),
    (lambda: jm.RecallAtPrecision(0.5, class_id=-2), ValueError, "class_id must be"),
    (lambda: jm.Recall(top_k=0), ValueError, "top_k must be an integer >= 1; got 0"),
    (lambda: jm.Recall(top_k=-1), ValueError, "top_k must be an integer >= 1; got -1"),
    (lambda: jm.Recall(top_k="2"), TypeError, "top_k must be an integer >= 1; got '2'"),
    (
        lambda: jm.Recall(num_classes=0),
        ValueError,
        "num_classes must be an integer >= 1",
    ),
    (lambda: jm.Recall(class_id=1, num_classes=3), ValueError, "class_id selects one"),
    # words
    (
        lambda: jm.AUC(curve="DET"),
        ValueError,
        "curve must be one of .*ROC.*; got 'DET'",
    ),
    # Fails while the message shows the upper-case text instead of what was given.
    (lambda: jm.AUC(curve=None), ValueError, "curve must be one of .* got None"),
    (
        lambda: jm.AUC(summation_method="simpson"),
        ValueError,
        "summation_method must be",
    ),
    (
        lambda: jm.F1Score("samples", num_classes=2),
        ValueError,
        "average must be one of",
    ),
    (
        lambda: jm.Recall(average="mean", num_classes=2),
        ValueError,
        "average must be one",
    ),
    (
        lambda: jm.Recall(average="macro"),
        TypeError,
        "average='macro' needs num_classes",
    ),
    (lambda: jm.Precision(name=3), TypeError, "name must be a string; got 3"),
    # labels
    (lambda: jm.AUC(multi_label=True), TypeError, "multi_label=True needs num_labels"),
    (
        lambda: jm.AUC(multi_label=1, num_labels=2),
        TypeError,
        "multi_label must be True or",
    ),
    (lambda: jm.AUC(num_labels=2), ValueError, "num_labels needs multi_label=True"),
    (
        lambda: jm.AUC(label_weights=[1, -1]),
        ValueError,
        "label_weights must not be neg",
    ),
    (
        lambda: jm.AUC(label_weights=[]),
        ValueError,
        "label_weights must hold at least one",
    ),
    (lambda: jm.AUC(label_weights=[np.nan, 1]), ValueError, "label_weights .* got NaN"),
    (
        lambda: jm.AUC(multi_label=True, num_labels=3, label_weights=[1, 2]),
        ValueError,
        "label_weights must hold num_labels=3 weights; got 2",
    ),
    # targets
    (lambda: jm.PrecisionAtRecall(1.5), ValueError, r"recall must be in \[0, 1\]"),
    (
        lambda: jm.RecallAtPrecision([0.5, -1]),
        ValueError,
        "precision must .* got \\[-1\\]",
    ),
    (lambda: jm.SensitivityAtSpecificity(np.nan), ValueError, "specificity must be in"),
    (
        lambda: jm.SpecificityAtSensitivity(()),
        ValueError,
        "sensitivity must hold at least",
    ),
    # numbers
    (
        lambda: jm.FBetaScore(beta=0),
        ValueError,
        "beta must be above 0 and finite; got 0",
    ),
    (
        lambda: jm.FBetaScore(beta=-2.0),
        ValueError,
        "beta must be above 0 and finite; got -2",
    ),
    (lambda: jm.FBetaScore(beta=np.nan), ValueError, "beta must be a number; got NaN"),
    (lambda: jm.FBetaScore(beta="2"), TypeError, "beta must be a number; got '2'"),
    (
        lambda: jm.Precision(zero_division="warn"),
        TypeError,
        "zero_division must be a num",
    ),
    (lambda: jm.Mean(zero_division=None), TypeError, "zero_division must be a number"),
    (
        lambda: jm.Precision(from_logits=1),
        TypeError,
        "from_logits must be True or False",
    ),
    # dtypes
    (
        lambda: jm.Precision(dtype="float64"),
        ValueError,
        "float64 needs 64-bit types; ena",
    ),
    (
        lambda: jm.Precision(dtype="int32"),
        TypeError,
        "must be a float dtype; got int32",
    ),
    (lambda: jm.AUC(dtype=np.uint32), TypeError, "must be a float dtype; got uint32"),
    (lambda: jm.Mean(dtype=int), TypeError, "dtype must be a float dtype; got int64"),
    (
        lambda: jm.TruePositives(dtype="int8"),
        TypeError,
        "a float dtype, int32 or uint32",
    ),
    (lambda: jm.Sum(dtype=bool), TypeError, "a float dtype, int32 or uint32; got bool"),
    (lambda: jm.Count(dtype="complex64"), TypeError, "int32 or uint32; got complex64"),
    (lambda: jm.Count(dtype="number"), TypeError, "dtype must be a dtype or None"),
    # composition
    (jm.Collection, ValueError, "Collection: at least one metric is needed"),
    (
        lambda: jm.Collection(a=jm.AUC),
        TypeError,
        r"'a' is the class AUC; make it: AUC\(\)",
    ),
    (
        lambda: jm.Collection(a=0.5),
        TypeError,
        "'a' must be a metric, or a dict of metrics by name; got float",
    ),
    (lambda: jm.Collection([jm.AUC()]), TypeError, "metrics must be a dict; got list"),
    (
        lambda: jm.Collection(jm.AUC(), jm.Recall()),
        TypeError,
        "got AUC, Recall. Metrics have names here",
    ),
    (lambda: jm.Collection({1: jm.AUC()}), TypeError, "names must be strings; got 1"),
    (
        lambda: jm.Collection({"a": jm.AUC()}, a=jm.AUC()),
        ValueError,
        "'a' is given twice",
    ),
    (lambda: jm.Collection(a=jm.AUC(), prefix=1), TypeError, "prefix must be a string"),
    (lambda: jm.AUC().with_inputs(values="x"), TypeError, "there is no input 'values'"),
    (
        lambda: jm.AUC().with_inputs(y_true=None),
        ValueError,
        "is required and cannot be",
    ),
    (
        lambda: jm.AUC().with_inputs(mask=1),
        TypeError,
        "mask must be renamed by a string",
    ),
    (lambda: jm.Precision() - "2", TypeError, "unsupported operand"),
    (lambda: jm.Precision() + True, TypeError, "unsupported operand"),
    (
        lambda: jm.Precision(threshold=0.5),
        TypeError,
        "^Precision: .* unexpected keyword argument 'threshold'; the options are: thre",
    ),
    (
        lambda: jm.ExponentialMovingAverage(jm.Mean(), decay=0.9),
        TypeError,
        "unexpected keyword argument 'decay'; the options are: metric, half_life",
    ),
    (lambda: jm.Precision(None, None, None, 3), TypeError, "positional argument"),
]


@pytest.mark.parametrize("row", range(len(OPTIONS)))
def test_options_that_cannot_be_are_refused_when_the_metric_is_made(row):
    """An option outside its domain raises at construction, in words of its own."""
    make, kind, words = OPTIONS[row]
    with pytest.raises(kind, match=words):
        make()


@pytest.mark.parametrize(
    "make",
    [
        jm.Precision,
        lambda x: jm.Precision([0.1, x]),
        lambda x: jm.AUC(thresholds=x),
        jm.PrecisionAtRecall,
        lambda x: jm.FBetaScore(beta=x),
        lambda x: jm.Mean(zero_division=x),
        lambda x: jm.Precision(top_k=x),
        lambda x: jm.Precision(class_id=x),
        jm.AUC,
        lambda x: jm.AUC(curve=x),
        lambda x: jm.AUC(multi_label=x, num_labels=2),
        lambda x: jm.AUC(multi_label=True, num_labels=2, label_weights=[x, 1]),
    ],
)
def test_options_are_not_traced(make):
    """A traced option raises; the metric belongs outside, or the argument is static."""
    with pytest.raises(TypeError, match=r"known before tracing.*outside the jitted"):
        jax.jit(lambda x: make(x).init())(0.5)


def test_a_class_body_with_init_is_refused():
    """A class with its own `__init__` would hide options from equality."""
    with pytest.raises(TypeError, match=r"MyMetric defines __init__.*annotated fields"):

        class MyMetric(jm.ConfusionMetric):
            def __init__(self, beta):
                self.beta = beta

            def formula(self, c):
                return c.true_positives


def test_a_final_class_is_not_derived_from():
    """A metric that can be made is final; the message names its base and `map`."""
    with pytest.raises(TypeError, match=r"Precision, which is final.*ConfusionMetric"):

        class MyPrecision(jm.Precision):
            pass


def test_a_metric_is_frozen():
    """Options cannot be changed, nor anything added."""
    for name in ("thresholds", "anything"):
        with pytest.raises(AttributeError, match="assign"):
            setattr(jm.Precision(), name, 0.5)


# --- values --------------------------------------------------------------------------

GOOD = {
    "y_true": np.array([1, 0, 1, 0], np.float32),
    "y_pred": np.array([0.9, 0.8, 0.3, 0.2], np.float32),
    "sample_weight": np.array([1, 2, 1, 1], np.float32),
    "mask": np.array([True, True, True, True]),
}
NAN, DOMAIN, RANGE = (1, 0, 0), (0, 1, 0), (0, 0, 1)
BAD_VALUES = [
    # input, value, and what is counted
    ("y_true", np.nan, NAN),
    ("y_true", 2, DOMAIN),
    ("y_true", -1, DOMAIN),
    ("y_true", 0.5, DOMAIN),
    ("y_true", np.inf, DOMAIN),
    ("y_pred", np.nan, NAN),
    ("y_pred", 1.5, RANGE),
    ("y_pred", -0.1, RANGE),
    ("y_pred", np.inf, RANGE),
    ("sample_weight", np.nan, NAN),
    ("sample_weight", -1, DOMAIN),
    ("sample_weight", np.inf, DOMAIN),
    ("sample_weight", -np.inf, DOMAIN),
]


def with_bad(argument, value, **others):
    """The good batch with a bad value in its second row."""
    batch = {name: x.copy() for name, x in GOOD.items()}
    for name, x in ({argument: value} | others).items():
        batch[name][1] = x
    return batch


def bits(state):
    """The state's bytes."""
    return [np.asarray(x).tobytes() for x in jax.tree.leaves(state)]


def counted(metric, state):
    """The `Validity` as a plain tuple."""
    return tuple(int(x) for x in metric.validity(state))


@pytest.mark.parametrize(("argument", "value", "expected"), BAD_VALUES)
@pytest.mark.parametrize("metric", [jm.Precision(), jm.AUC(5)], ids=repr)
def test_bad_values_are_counted_and_never_a_finite_result(
    metric, argument, value, expected
):
    """NaN and what is outside its domain make NaN; a score out of range only counts."""
    state = _update(metric.accumulator, with_bad(argument, value))
    assert counted(metric, state) == expected
    result = _compute(metric, state)
    if expected == RANGE:  # compared as it is: as good as 0 or 1
        clipped = with_bad(argument, np.clip(value, 0, 1))
        assert result == _compute(metric, _update(metric.accumulator, clipped))
    else:
        assert np.isnan(result)
    # One bad row spoils the state until the next init(), merged or updated.
    merge = jax.jit(metric.merge)
    later = merge(_update(metric.accumulator, GOOD), merge(state, state))
    assert counted(metric, later) == tuple(2 * x for x in expected)
    assert np.isnan(_compute(metric, later)) == (expected != RANGE)


@pytest.mark.parametrize(("argument", "value", "expected"), BAD_VALUES)
def test_bad_values_in_eager_code(argument, value, expected):
    """Without `jit` the same is counted, in a batch without weights or mask too."""
    names = ("y_true", "y_pred") + ("sample_weight",) * (argument == "sample_weight")
    batch = {name: x for name, x in with_bad(argument, value).items() if name in names}
    metric = jm.Precision()
    assert counted(metric, metric.update(metric.init(), **batch)) == expected


@pytest.mark.parametrize("hidden", [{"mask": False}, {"sample_weight": 0}], ids=str)
@pytest.mark.parametrize(("argument", "value"), [row[:2] for row in BAD_VALUES])
@pytest.mark.parametrize("metric", [jm.Precision(), jm.AUC(5)], ids=repr)
def test_masked_rows_and_rows_of_weight_0_change_no_bit(
    metric, argument, value, hidden
):
    """Whatever a dropped row holds, the state is the same bit for bit."""
    if argument in hidden:
        hidden = {"mask": False}  # a weight cannot be bad and 0
    state = _update(metric.accumulator, with_bad(argument, value, **hidden))
    clean = _update(metric.accumulator, with_bad("y_pred", 0.5, **hidden))
    assert bits(state) == bits(clean)
    assert counted(metric, state) == (0, 0, 0)
    assert not np.isnan(_compute(metric, state))


MEAN_BAD_VALUES = [
    ("values", np.nan, NAN),
    ("sample_weight", np.nan, NAN),
    ("sample_weight", -1, DOMAIN),
    ("sample_weight", np.inf, DOMAIN),
]
MEAN_GOOD = {
    "values": np.array([1, -2, 3, 4], np.float32),
    "sample_weight": np.array([1, 2, 1, 1], np.float32),
    "mask": np.array([True, True, True, True]),
}


@pytest.mark.parametrize(("argument", "value", "expected"), MEAN_BAD_VALUES)
def test_bad_values_of_means_and_sums(argument, value, expected):
    """A NaN value or a weight outside its domain makes mean, sum and count NaN."""
    batch = {name: x.copy() for name, x in MEAN_GOOD.items()}
    batch[argument][1] = value
    state = _update(jm.WeightedSum(), batch)
    assert counted(jm.Mean(), state) == expected
    for metric in (jm.Mean(), jm.Sum(), jm.Count()):
        assert np.isnan(_compute(metric, state)), metric
    assert _compute(jm.Sum(dtype="int32"), state) == np.iinfo(np.int32).min
    assert int(_compute(jm.Count(dtype="uint32"), state)) == np.iinfo(np.uint32).max

    batch["mask"] = np.array([True, False, True, True])
    state = _update(jm.WeightedSum(), batch)
    assert counted(jm.Mean(), state) == (0, 0, 0)
    assert _compute(jm.Sum(), state) == 8
    clean = MEAN_GOOD | {"mask": batch["mask"]}
    assert bits(state) == bits(_update(jm.WeightedSum(), clean))


@pytest.mark.parametrize("value", [np.inf, -np.inf])
def test_infinite_values_make_infinite_sums(value):
    """An infinite loss is an infinite mean, not NaN; both signs together are NaN."""
    batch = {name: x.copy() for name, x in MEAN_GOOD.items()}
    batch["values"][1] = value
    state = _update(jm.WeightedSum(), batch)
    assert counted(jm.Mean(), state) == (0, 0, 0)
    assert _compute(jm.Mean(), state) == _compute(jm.Sum(), state) == value
    batch["values"][2] = -value
    assert np.isnan(_compute(jm.Mean(), _update(jm.WeightedSum(), batch)))


def test_integers_that_mean_nan_are_the_least_likely():
    """An integer count of a spoilt state is the end of its range."""
    state = _update(jm.ConfusionCounts(), with_bad("y_pred", np.nan))
    for dtype, worst in (("int32", -(2**31)), ("uint32", 2**32 - 1)):
        assert int(_compute(jm.TruePositives(dtype=dtype), state)) == worst


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int32])
def test_integer_labels_outside_0_and_1_are_counted(dtype):
    """Labels -1 (or 255) and 2 of integer dtypes have no place, and are counted."""
    y_true = np.array([-1, 2, 1, 0]).astype(dtype)
    batch = {"y_true": y_true, "y_pred": GOOD["y_pred"]}
    state = _update(jm.ConfusionCounts(), batch)
    assert counted(jm.Precision(), state) == (0, 2, 0)
    assert np.isnan(_compute(jm.Precision(), state))
    kept = batch | {"mask": np.array([False, False, True, True])}
    assert counted(jm.Precision(), _update(jm.ConfusionCounts(), kept)) == (0, 0, 0)


def test_rows_with_several_faults_count_once():
    """A row that is NaN and outside its domain is counted as NaN alone."""
    batch = with_bad("y_pred", np.nan, y_true=7.0, sample_weight=-1.0)
    state = _update(jm.ConfusionCounts(), batch)
    assert counted(jm.Precision(), state) == NAN


def test_logits_are_never_out_of_range():
    """With from_logits=True scores of any size are fine, infinite ones too."""
    batch = GOOD | {"y_pred": np.array([50, 3, -0.1, -np.inf], np.float32)}
    metric = jm.ConfusionCounts(from_logits=True)
    state = _update(metric, batch)
    assert counted(metric, state) == (0, 0, 0)
    np.testing.assert_array_equal(_compute(metric, state), [1, 2, 1, 1])
    # thresholds=0 on logits is legal too; what is outside [0, 1] is counted.
    metric = jm.ConfusionCounts(0)
    state = _update(metric, batch)
    assert counted(metric, state) == (0, 0, 4)
    np.testing.assert_array_equal(_compute(metric, state), [1, 2, 1, 1])


def test_a_nan_in_a_class_that_is_not_read_spoils_nothing():
    """With class_id, only that class's scores and labels are looked at."""
    y_pred = np.array([[np.nan, 0.9], [0.2, 0.8]], np.float32)
    batch = {"y_true": np.array([[5, 1], [0, 0]], np.float32), "y_pred": y_pred}
    metric = jm.Precision(class_id=1)
    state = _update(metric.accumulator, batch)
    assert counted(metric, state) == (0, 0, 0)
    assert _compute(metric, state) == 0.5


def test_a_nan_that_takes_a_place_in_the_top_k_spoils_the_result():
    """A NaN in another class decides who is in the top k: no finite result from it."""
    y_pred = np.array([[np.nan, 0.9, 0.1], [0.2, 0.8, 0.1]], np.float32)
    y_true = np.array([[0, 1, 0], [0, 1, 0]], np.float32)
    metric = jm.Recall(top_k=1, class_id=1)
    state = _update(metric.accumulator, {"y_true": y_true, "y_pred": y_pred})
    # Fails while NaN is looked for only after class_id has selected.
    assert counted(metric, state) == NAN
    assert np.isnan(_compute(metric, state))


def test_a_masked_entry_takes_no_place_in_the_top_k():
    """Padded candidates are out of the running, whatever their scores."""
    y_true = np.array([[0, 1, 0], [0, 1, 0]], np.float32)
    mask = np.array([[False, True, True], [True, True, True]])
    metric = jm.Recall(top_k=1)
    states = []  # they differ while top_k is taken before the mask
    for padding in (0.0, 9.0, np.nan):
        y_pred = np.array([[padding, 0.9, 0.1], [0.2, 0.8, 0.1]], np.float32)
        batch = {"y_true": y_true, "y_pred": y_pred, "mask": mask}
        states.append(bits(_update(metric.accumulator, batch)))
    assert states[0] == states[1] == states[2]


def test_labels_of_one_class_spoil_only_what_reads_them():
    """In a Collection every metric answers for its own rows."""
    metrics = jm.Collection(
        first=jm.Precision(class_id=0), second=jm.Precision(class_id=1)
    )
    y_true = np.array([[3, 1], [0, 0]], np.float32)
    batch = {"y_true": y_true, "y_pred": np.full((2, 2), 0.75, np.float32)}
    state = jax.jit(metrics.update)(metrics.init(), **batch)
    results, validity = metrics.compute(state), metrics.validity(state)
    assert np.isnan(results["first"])
    assert results["second"] == 0.5
    assert validity["first"].outside_domain == 1
    assert validity["second"].outside_domain == 0
