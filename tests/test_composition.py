"""Metrics made of metrics: functions of them, of the batch, and one side by side."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxmetrics as jm
from jaxmetrics.testing import check_metric

NAN = float("nan")
ROWS = 24
RANDOM = np.random.default_rng(0)
BATCH = {
    "y_true": np.float32(RANDOM.random(ROWS) < 0.5),
    "y_pred": np.float32(RANDOM.integers(0, 32, ROWS) / 32),
    "sample_weight": np.float32(RANDOM.integers(0, 5, ROWS) / 4),
    "mask": RANDOM.random(ROWS) < 0.8,
}
TRUE, PRED = np.float64(BATCH["y_true"]), np.float64(BATCH["y_pred"])
SEEN = np.float64(BATCH["sample_weight"]) * BATCH["mask"]


@partial(jax.jit, static_argnums=0)
def value(metric, batch):
    """The value of one batch."""
    return metric(**batch)


def counted(true, pred, weight, at=0.5):
    """TP, FP, TN and FN."""
    yes = pred > at
    kinds = true * yes, (1 - true) * yes, (1 - true) * ~yes, true * ~yes
    return [np.sum(weight * kind) for kind in kinds]


# --- functions of metrics ------------------------------------------------------------


def test_functions_of_metrics_read_one_state():
    """Applied, averaged, chosen and compared, as NumPy has it."""
    precision, recall = jm.Precision(), jm.Recall()
    metrics = jm.Collection(
        low=jm.apply(jnp.minimum, precision, recall),
        capped=jm.apply(jnp.minimum, precision, np.float32(0.25)),
        f1=jm.harmonic_mean(precision, recall),
        three=jm.harmonic_mean(precision, recall, jm.Specificity()),
        half=jm.harmonic_mean(precision, 0.5),
        chosen=jm.where(precision > recall, precision, recall),
        guarded=jm.where(precision < 0.99, 7, recall),
        less=precision < recall,
        more=precision > recall,
        least=precision <= precision,
        most=np.float64(0.5) >= recall,
        of_jax=jnp.float32(0.0) < recall,
        by_numpy=np.float32(0.0) < recall,
    )
    assert len(metrics.accumulator.parts) == 1
    found = value(metrics, BATCH)
    tp, fp, tn, fn = counted(TRUE, PRED, SEEN)
    p, r, s = tp / (tp + fp), tp / (tp + fn), tn / (tn + fp)
    expected = {
        "low": min(p, r),
        "capped": 0.25,
        "f1": 2 * p * r / (p + r),
        "three": 3 / (1 / p + 1 / r + 1 / s),
        "half": 2 / (1 / p + 2),
        "chosen": max(p, r),
        "guarded": 7,
        "less": p < r,
        "more": p > r,
        "least": True,
        "most": r <= 0.5,
        "of_jax": True,
        "by_numpy": True,
    }
    for name, wanted in expected.items():
        boolean = isinstance(wanted, bool | np.bool_)
        assert (found[name].dtype == jnp.bool_) == boolean, name
        np.testing.assert_allclose(found[name], wanted, rtol=1e-6, err_msg=name)


def test_the_undefined_and_the_bad_are_never_hidden():
    """A harmonic mean with a 0 is 0; a NaN anywhere makes a choice NaN."""
    zero = jm.Recall()
    names = {"values": "loss"}
    metrics = jm.Collection(
        zero=jm.harmonic_mean(zero, jm.Specificity()),
        both=jm.harmonic_mean(zero, jm.Mean().with_inputs(**names)),
        chosen=jm.where(jm.Mean().with_inputs(**names) > 0.5, zero, 1.0),
        small=jm.apply(jnp.fmin, zero, jm.Mean().with_inputs(**names)),
        full=jm.where(jm.ExactAUROC(1).with_inputs(mask=None) > 0.5, 1.0, 2.0),
    )
    batch = {"y_true": [0, 1], "y_pred": [0.1, 0.2], "loss": [NAN, 1.0]}
    batch = {k: np.float32(x) for k, x in batch.items()}
    found = value(metrics, batch)
    assert found["zero"] == 0
    for name in ("both", "chosen", "small", "full"):
        assert np.isnan(found[name]), name


def test_by_infinity_a_ratio_is_what_ieee_754_has():
    """And by 0 it is 0; a mean of infinite values is infinite."""
    one, other = (jm.Sum().with_inputs(values=name) for name in ("one", "other"))
    inf = float("inf")
    metrics = jm.Collection(
        ratio=one / other,
        by=one / inf,
        over=2 / other,
        mean=jm.harmonic_mean(one, other),
    )
    cases = {
        (2, 4): (0.5, 0, 0.5, 8 / 3),
        (2, inf): (0, 0, 0, 4),
        (2, -inf): (0, 0, 0, 4),
        (inf, 4): (inf, NAN, 0.5, 8),
        (inf, inf): (NAN, NAN, 0, inf),
        (2, 0): (0, 0, 0, 0),
        (0, 0): (0, 0, 0, 0),
    }
    for values, wanted in cases.items():
        a, b = np.float32(values)
        found = value(metrics, {"one": a, "other": b})
        for name, x in zip(("ratio", "by", "over", "mean"), wanted, strict=True):
            np.testing.assert_allclose(found[name], x, rtol=1e-6, err_msg=f"{values}")


def many(n):
    """2^24 and some: the first that float32 does not have."""
    return n + jnp.asarray(2**24, n.dtype)


@pytest.mark.parametrize("promotion", ["standard", "strict"])
@pytest.mark.parametrize("dtype", ["int32", "uint32"])
def test_integers_compare_to_the_last_digit(dtype, promotion):
    """With each other and with whole numbers; with all else as floats."""
    one, three = (
        jm.Count(dtype=dtype).with_inputs(values=x).map(many) for x in ("one", "three")
    )
    negative = jm.Count(dtype="int32").map(jnp.negative)
    metrics = jm.Collection(
        less=one < three,
        least=three <= one,
        more=one > three,
        most=one >= three,
        above=one > 2**24,
        exactly=one >= 2**24 + 1,
        beyond=one >= 2**24 + 2,
        huge=one < 1e30,
        infinite=one < float("inf"),
        below=three > -1,
        half=jm.Count(dtype=dtype).with_inputs(values="three") > 2.5,
        mixed=negative.with_inputs(values="three") < one,
        share=jm.Count(dtype=dtype).with_inputs(values="one") > jm.Mean(),
        conditions=(one < three) + (one > 3.5) * jm.Mean(),
        bfloat=jm.Mean(dtype="bfloat16") >= one,
    )
    batch = {"one": np.ones(1), "three": np.ones(3), "values": np.full(2, 0.5)}
    with jax.numpy_dtype_promotion(promotion):
        found = {name: float(x) for name, x in value(metrics, batch).items()}
    false = {"least", "more", "most", "beyond", "bfloat"}
    wanted = {name: float(name not in false) for name in metrics}
    assert found == wanted | {"conditions": 1.5}


def test_comparisons_are_values_and_no_conditions():
    """Equal when rebuilt, and refused where Python would ask for a truth."""
    assert (jm.Recall() > 0.5) == (jm.Recall() > 0.5) != (jm.Recall() >= 0.5)
    assert bool(jm.Recall() + 1)
    for ask in (
        lambda: bool(jm.Recall() > 0.5),
        lambda: 0.2 < jm.Recall() < 0.5,
        lambda: max(jm.Recall(), jm.Precision()),
    ):
        with pytest.raises(TypeError, match=r"is a metric: it is true .* jm\.where"):
            ask()
    with pytest.raises(TypeError, match="not supported"):
        assert jm.Recall() < "0.5"


REFUSED = [
    (lambda: jm.apply(3, jm.Recall()), r"^apply: a function comes first; got 3"),
    (lambda: jm.apply(jnp.sqrt), r"^apply: at least one metric is needed"),
    (lambda: jm.harmonic_mean(0.5), r"^harmonic_mean: at least one metric is needed"),
    (
        lambda: jm.apply(jnp.sqrt, "x"),
        r"^apply: metrics and numbers .*; got 'x'",
    ),
    (lambda: jm.where(True, jm.Recall(), 0.0), r"^where: metrics and .* got True"),
    (lambda: jm.Mean().of(3), r"of takes a function; got 3"),
    (lambda: jm.Mean().of(lambda *x: x), r"named inputs; \*x is not one"),
    (lambda: jm.Mean().of(lambda **x: x), r"named inputs; \*\*x is not one"),
    (lambda: jm.Mean().of(max), r"the inputs of .* cannot be told. Write a function"),
    (lambda: jm.Repeated(jm.Mean(), 0, over="values"), r"number must be an integer >="),
    (lambda: jm.Repeated(jm.Mean(), 2, over=()), r"over must name inputs .* got \(\)"),
    (lambda: jm.Repeated(jm.Mean(), 2, over=3), r"over must name inputs .* got 3"),
    (lambda: jm.Repeated(jm.Mean(), 2, over="x"), r"over names the input 'x'; the"),
    (
        lambda: jm.Repeated(jm.Mean(), 2, over="values", axis=0.5),
        r"axis must be an int",
    ),
    (lambda: jm.Repeated(3, 2, over="values"), r"metric must be a metric; got 3"),
    (
        lambda: jm.Collection(
            a=jm.Mean().of(lambda x: x), b=jm.Mean().of(lambda x: -x)
        ),
        r"same key in states; name what differs, such as functions, with def",
    ),
]


@pytest.mark.parametrize(("make", "words"), REFUSED)
def test_what_cannot_be_composed_is_refused_when_it_is_made(make, words):
    """Named by what was called, with the way out."""
    with pytest.raises((TypeError, ValueError), match=words):
        make()


def test_what_has_no_single_value_is_refused_when_it_is_traced():
    """A condition that is no boolean, and an operand with several results."""
    condition = jm.where(jm.Recall(), 1.0, 2.0)
    with pytest.raises(TypeError, match=r"condition must be boolean; got float32"):
        jax.eval_shape(condition.compute, condition.init())
    several = jm.apply(jnp.sqrt, jm.Sliced(jm.Recall(), 2))
    with pytest.raises(TypeError, match=r"Sliced\(Recall\) has several results; pick"):
        jax.eval_shape(several.compute, several.init())


# --- functions of the batch ----------------------------------------------------------


def error(y_true, y_pred):
    """One required input."""
    return jnp.abs(y_true - y_pred)


def scored(y_true, logit, scale=1.0):
    """Inputs by name."""
    return {"y_true": y_true, "y_pred": jax.nn.sigmoid(logit * scale)}


def everything(y_true, y_pred):
    """What several metrics take."""
    return {"y_true": y_true, "y_pred": y_pred, "values": jnp.abs(y_true - y_pred)}


def positives(y_true, y_pred):
    """A mask of its own."""
    return {"values": y_pred, "mask": y_true == 1}


def heavier(y_pred, sample_weight):
    """A weight that is used up."""
    return {"values": y_pred, "sample_weight": 2 * sample_weight**2}


def fitted(params, y_pred):
    """An input that is no array of rows."""
    return params["slope"] * y_pred + params["bias"]


def test_metrics_of_what_a_function_makes():
    """Weights and masks pass by; sharing, slices and names go on."""
    metrics = jm.Collection(
        error=jm.Mean().of(error),
        total=jm.Sum().of(error),
        sliced=jm.Sliced(jm.Mean().of(positives), 2),
        several=jm.Collection(e=jm.Mean(), r=jm.Recall()).of(everything),
        heavy=jm.Mean().of(heavier),
        renamed=jm.Recall().of(scored).with_inputs(logit="y_pred", scale=None),
        line=jm.Sliced(jm.Mean().of(fitted), 2),
        average=jm.ExponentialMovingAverage(jm.Mean().of(error), 2.0),
        best=jm.BestSoFar(jm.Mean().of(error)),
    )
    assert len(metrics.accumulator.parts) == 9
    ids = RANDOM.integers(0, 2, ROWS).astype(np.int32)
    params = {"slope": jnp.float32(2), "bias": jnp.float32(1)}
    found = value(metrics, {**BATCH, "slice_ids": ids, "params": params})
    off = np.abs(TRUE - PRED)
    tp, _, _, fn = counted(TRUE, PRED, SEEN)
    sure = counted(TRUE, PRED, SEEN, at=0.0)
    expected = {
        "error": np.average(off, weights=SEEN),
        "total": np.sum(off * SEEN),
        "several/e": np.average(off, weights=SEEN),
        "several/r": tp / (tp + fn),
        "heavy": np.average(PRED, weights=SEEN * BATCH["sample_weight"]),
        "renamed": sure[0] / (sure[0] + sure[3]),
        "average": np.average(off, weights=SEEN),
        "best/value": np.average(off, weights=SEEN),
        "sliced/total": np.average(PRED, weights=SEEN * TRUE),
        "line/total": np.average(2 * PRED + 1, weights=SEEN),
    }
    for name, wanted in expected.items():
        np.testing.assert_allclose(found[name], wanted, rtol=2e-6, err_msg=name)
    for i in range(2):
        own = np.average(PRED, weights=SEEN * TRUE * (ids == i))
        np.testing.assert_allclose(found["sliced/slices"][i], own, rtol=2e-6)
        own = np.average(2 * PRED + 1, weights=SEEN * (ids == i))
        np.testing.assert_allclose(found["line/slices"][i], own, rtol=2e-6)


RETURNS = [
    (
        jm.Recall(),
        lambda x: x,
        r"must return a dict of the inputs \['y_true', 'y_pred'",
    ),
    (jm.Recall(), lambda x: {"y_true": x}, r"must return \['y_pred'\], too"),
    (jm.Mean(), lambda x: {"value": x}, r"inputs out of \['values'.*got \['value'\]"),
    (jm.Mean(), lambda x: {"values": x, "y": x}, r"out of \['values'.* got \['y'\]"),
    (jm.Mean(), lambda x: "three", r"values must be an array of numbers; got str"),
    (jm.F1Score(num_classes=3), lambda x: {"y_true": x, "y_pred": x}, "num_classes=3"),
]


@pytest.mark.parametrize(("metric", "function", "words"), RETURNS)
def test_what_a_function_must_not_return_is_refused_while_tracing(
    metric, function, words
):
    """Named by the metric."""
    with pytest.raises((TypeError, ValueError), match=words) as caught:
        jax.eval_shape(metric.of(function), x=np.zeros((4, 2)))
    assert str(caught.value).startswith(metric.label)
    with pytest.raises(TypeError, match=r"missing \['x'\]|input 'x' is missing"):
        jax.eval_shape(partial(metric.of(function), mask=np.ones(4, bool)))


def test_what_a_function_gets_neither_wraps_nor_rounds_nor_joins_lists():
    """As eagerly as under jit: arrays, of 32 bits where they were narrower."""

    def total(a, b):
        return a + b

    rows = [
        (error, {"y_true": np.uint8([1]), "y_pred": np.uint8([2])}, 1),
        (total, {"a": [1.0, 2.0], "b": [3.0, 4.0]}, 5),
        (total, {"a": np.int8([100, 0]), "b": np.int8([100, 0])}, 100),
        (total, {"a": jnp.bfloat16([256]), "b": jnp.bfloat16([1])}, 257),
        (total, {"a": np.float16([2048]), "b": 1.0}, 2049),
    ]
    for function, inputs, wanted in rows:
        metric = jm.Mean().of(function)
        assert metric(**inputs) == wanted
        assert jax.jit(metric)(**inputs) == wanted
    with pytest.raises(ValueError, match="y_true holds integers that do not fit 32"):
        jm.Mean().of(error)(y_true=np.array([2**40]), y_pred=np.array([1]))


def test_a_column_is_not_broadcast_against_rows_in_a_function():
    """Nor with weights of the rows; what a function reshapes itself is its own."""
    column, rows = np.ones((3, 1), np.float32), np.ones(3, np.float32)
    words = r"Mean: y_true \(3, 1\) and y_pred \(3,\) .*as in y_true\[..., 0\]"
    for more in ({}, {"mask": np.ones(3, bool)}, {"sample_weight": rows}):
        with pytest.raises(ValueError, match=words):
            jax.eval_shape(jm.Mean().of(error), y_true=column, y_pred=rows, **more)
    with pytest.raises(ValueError, match=r"y_pred .*and y_true"):
        jm.Mean().of(error)(y_true=rows, y_pred=column)

    def of_rows(y_true, y_pred):
        return y_true[:, 0] - y_pred

    assert jm.Mean().of(of_rows)(y_true=column, y_pred=rows) == 0
    alike = {"y_true": column[:1], "y_pred": rows[:1]}  # one row is no square
    assert jm.Mean().of(error)(**alike) == 0

    def with_bias(y_true, y_pred):  # whose ranks have nothing to do with theirs
        hidden = y_true @ jnp.ones((1, 2)) + jnp.ones(2)
        return jnp.sum(hidden, axis=-1) + y_pred

    assert jm.Mean().of(with_bias)(y_true=column, y_pred=rows) == 5

    def hidden_square(y_true, y_pred):
        return (y_true @ jnp.ones((1, 2)) + jnp.ones(2))[:, :1] * y_pred

    with pytest.raises(ValueError, match=words):
        jax.eval_shape(jm.Mean().of(hidden_square), y_true=column, y_pred=rows)

    def of_record(record):
        return record["y_true"] - record["y_pred"]

    with pytest.raises(ValueError, match=r"record \(3, 1\) and record \(3,\)"):
        jm.Mean().of(of_record)(record={"y_true": column, "y_pred": rows})

    def fails(y_true, y_pred):
        raise ValueError("its own")

    with pytest.raises(ValueError, match=r"^its own"):
        jm.Mean().of(fails)(y_true=column, y_pred=rows)


# --- side by side --------------------------------------------------------------------


def test_each_of_several_is_as_if_it_were_alone():
    """By the first axis or the last, of one input or several, alone or by slice."""
    random = np.random.default_rng(3)
    models = np.float32(random.integers(0, 32, (3, ROWS)) / 32)
    weights = np.float32(random.integers(0, 5, (3, ROWS)) / 4)
    outputs = np.float32(random.random((ROWS, 2)))
    ids = random.integers(0, 2, ROWS).astype(np.int32)
    own = "y_pred", "sample_weight"
    slices = jm.Sliced(jm.Recall(), 2, minimum_count=1)
    metrics = jm.Collection(
        models=jm.Repeated(jm.Recall(), 3, over="y_pred"),
        weighed=jm.Repeated(jm.Recall(), 3, over=own).with_inputs(sample_weight="own"),
        outputs=jm.Repeated(jm.Mean(), 2, over="values", axis=-1),
        together=jm.Repeated(
            jm.Collection(a=jm.Recall(), b=jm.Mean().with_inputs(values="y_true")),
            3,
            over=["y_pred"],
        ),
        inside=jm.Repeated(slices, 3, over="y_pred"),
        outside=jm.Sliced(jm.Repeated(jm.Recall(), 3, over="y_pred"), 2),
        alone=jm.Repeated(jm.Mean(), 3, over="values").with_inputs(values="y_pred"),
        by=jm.Sliced(jm.Repeated(jm.Mean(), 3, over="values"), 2).with_inputs(
            values="y_pred"
        ),
    )
    batch = {**BATCH, "y_pred": models, "own": weights, "values": outputs}
    found = value(metrics, {**batch, "slice_ids": ids})

    def recall(pred, weight):
        tp, _, _, fn = counted(TRUE, np.float64(pred), weight)
        return tp / (tp + fn)

    mean = np.average(TRUE, weights=SEEN)
    np.testing.assert_allclose(found["together/b"], [mean] * 3, rtol=1e-6)
    for i in range(2):
        wanted = np.average(np.float64(outputs[:, i]), weights=SEEN)
        np.testing.assert_allclose(found["outputs"][i], wanted, rtol=1e-6)
    for i in range(3):
        wanted = recall(models[i], SEEN)
        for name in ("models", "together/a", "inside/total", "outside/total"):
            np.testing.assert_allclose(found[name][i], wanted, rtol=1e-6, err_msg=name)
        wanted = recall(models[i], np.float64(weights[i]) * BATCH["mask"])
        np.testing.assert_allclose(found["weighed"][i], wanted, rtol=1e-6)
        wanted = np.average(np.float64(models[i]), weights=SEEN)
        np.testing.assert_allclose(found["alone"][i], wanted, rtol=1e-6)
        for s in range(2):
            wanted = recall(models[i], SEEN * (ids == s))
            np.testing.assert_allclose(found["inside/slices"][i, s], wanted, rtol=1e-6)
            np.testing.assert_allclose(found["outside/slices"][s, i], wanted, rtol=1e-6)
            wanted = np.average(np.float64(models[i]), weights=SEEN * (ids == s))
            np.testing.assert_allclose(found["by/slices"][s, i], wanted, rtol=1e-6)


def test_each_answers_for_its_own_bad_rows():
    """And an input that only some have their own of may be left out."""
    metric = jm.Repeated(jm.Mean(), 2, over=("values", "sample_weight", "mask"))
    values = np.float32([[1, NAN], [3, 5]])
    batch = {"values": values, "sample_weight": None, "mask": None}
    np.testing.assert_array_equal(value(metric, batch), [NAN, 4])
    mask = np.array([[1, 0], [0, 1]], bool)
    np.testing.assert_array_equal(value(metric, {**batch, "mask": mask}), [1, 5])
    shared = jm.Repeated(jm.Mean(), 2, over="mask")
    np.testing.assert_array_equal(value(shared, {"values": values[1]}), [4, 4])


def test_entries_that_are_missing_are_refused_while_tracing():
    """Before the metric looks at them."""
    cases = ("y_pred", (4, 3), 0), ("y_pred", (4,), 1), ("y_true", (), 0)
    for over, shape, axis in cases:
        metric = jm.Repeated(jm.F1Score(num_classes=3), 2, over=over, axis=axis)
        batch = {"y_true": np.zeros((4, 3)), "y_pred": np.zeros((4, 3))}
        words = rf"Repeated\(F1Score\): {over} must have 2 entries along axis {axis}"
        with pytest.raises(ValueError, match=words):
            jax.eval_shape(partial(metric, **{**batch, over: np.zeros(shape)}))


# --- a metric of one's own -----------------------------------------------------------


class Largest(jm.Accumulator):
    """The largest value; its data is a plain dict, and it says the least it can."""

    def empty(self):
        """Nothing yet."""
        return {"largest": jnp.full((), -jnp.inf, jnp.float32)}

    def measure(self, values, *, mask=None):
        """Of one batch."""
        kept = jnp.asarray(values, jnp.float32)
        if mask is not None:
            kept = jnp.where(mask, kept, -jnp.inf)
        return {"largest": jnp.max(kept)}

    def combine(self, data, other):
        """The larger."""
        return jax.tree.map(jnp.maximum, data, other)

    def value(self, data):
        """The number."""
        return data["largest"]


class Plain(jm.Accumulator):
    """A sum, with what is required alone."""

    def empty(self):
        """Nothing yet."""
        return jnp.zeros((2,), jnp.float32)

    def measure(self, values, sample_weight=1.0, *, mask=None):
        """Of one batch."""
        weight = jnp.asarray(sample_weight, jnp.float32)
        kept = (weight != 0) & (True if mask is None else mask)
        kept = jnp.where(kept, weight * jnp.asarray(values, jnp.float32), 0)
        total = jnp.sum(kept, dtype=jnp.float32)
        return jnp.stack([total, jnp.zeros_like(total)])

    def value(self, data):
        """The number."""
        return data[0] + data[1]


def doubled(y_pred):
    """Twice the values."""
    return 2 * y_pred


def test_an_accumulator_of_ones_own_works_in_every_combinator():
    """With `empty`, `measure` and `value` alone, and with a dict as its data."""
    values = np.float32([[1, 4, 2], [3, 2, 8]])
    ids = np.array([0, 1, 1], np.int32)
    for own, of in ((Plain(), np.sum), (Largest(), np.max)):
        metrics = jm.Collection(
            sliced=jm.Sliced(own, 2),
            flagged=jm.Sliced(own, 2).with_inputs(slice_ids="flags"),
            gap=jm.Sliced(own, 2).gap(),
            window=jm.Windowed(own, 1),
            period=jm.Every(own, 2),
            best=jm.BestSoFar(own),
            nested=jm.Sliced(jm.Windowed(own, 1), 2),
            repeated=jm.Repeated(own, 3, over="values"),
            renamed=own.with_inputs(values="y_pred"),
            doubled=own.of(doubled),
            compared=jm.where(own > 3, own, 0.0),
            alone=own,
        )

        @jax.jit
        def run(metrics=metrics):
            state = metrics.init()
            for row in values:
                batch = {"values": row, "y_pred": row, "slice_ids": ids}
                batch["flags"] = ids[:, None] == np.arange(2)
                state = metrics.update(state, **batch)
            return metrics.compute(metrics.merge(state, metrics.init()))

        found = run()
        by = [of(values[:, ids == i]) for i in range(2)]
        last = [of(values[1, ids == i]) for i in range(2)]
        expected = {
            "sliced/total": of(values),
            "sliced/slices": by,
            "flagged/slices": by,
            "gap": max(by) - min(by),
            "window": of(values[1]),
            "period": of(values),
            "best/value": of(values),
            "nested/slices": last,
            "nested/total": of(values[1]),
            "repeated": of(values, axis=0),
            "renamed": of(values),
            "doubled": 2 * of(values),
            "compared": of(values),
            "alone": of(values),
        }
        for name, wanted in expected.items():
            np.testing.assert_allclose(found[name], wanted, err_msg=f"{own} {name}")
    with pytest.raises(TypeError, match=r"Plain\(\) does not say how its past"):
        jm.ExponentialMovingAverage(Plain(), 2.0)


def test_sums_of_ones_own_keep_the_laws_in_every_combinator():
    """Of values whose float32 sums depend on how they are cut; and a NaN spoils all."""
    batches = [
        {"values": np.float32([0.1, 0.2, 0.3, 0.4]), "slice_ids": np.arange(4) % 2},
        {"values": np.float32([0.7, 0.3, 0.5]), "slice_ids": np.arange(3) % 2},
    ]
    for i, batch in enumerate(batches):
        batch["slice_ids"] = batch["slice_ids"].astype(np.int32)
        batch["row_ids"] = np.arange(len(batch["values"]), dtype=np.int32) + 4 * i
    laws = ("batch cuts", "masks", "weights", "row order", "NaN", "booleans")
    wrapped = (
        (Plain(), ()),
        (jm.Sliced(Plain(), 2), ("slice_ids",)),
        (jm.Bootstrap(Plain(), 3, weighted=True), ("row_ids",)),
    )
    for metric, ids in wrapped:
        given = [{name: b[name] for name in ("values", *ids)} for b in batches]
        check_metric(metric, given, laws=laws)


class OneNumber(jm.Accumulator):
    """A sum that is neither words nor a two-float."""

    def value(self, data):
        return data

    def empty(self):
        return jnp.zeros((), jnp.float32)

    def measure(self, values, sample_weight=None, *, mask=None):
        return jnp.sum(jnp.asarray(values, jnp.float32))


def test_data_that_cannot_be_added_as_words_or_two_floats_are_refused():
    """Where the accumulator does not say how."""
    own = OneNumber()
    with pytest.raises(TypeError, match=r"float32 \(\)\. Define combine and reduce"):
        own.update(own.init(), values=[1.0])


def test_a_named_metric_is_the_same_under_another_name():
    """Over the same state; errors call it so; inputs may be renamed before or after."""
    plain = jm.Recall()
    toxic = plain.with_inputs(y_pred="toxic").named("toxic recall")
    assert toxic.accumulator == plain.with_inputs(y_pred="toxic").accumulator
    assert plain.named("a").with_inputs(y_pred="toxic").label == "a"
    found = toxic(y_true=BATCH["y_true"], toxic=BATCH["y_pred"])
    assert found == plain(y_true=BATCH["y_true"], y_pred=BATCH["y_pred"])
    with pytest.raises(ValueError, match=r"^toxic recall: .*shape"):
        toxic(y_true=np.ones(3), toxic=np.ones(4))
    with pytest.raises(TypeError, match="a name must be a string; got 3"):
        plain.named(3)


# --- what stands for a metric --------------------------------------------------------


def flipped(y_true, scores):
    """Scores of the other class."""
    return {"y_true": y_true, "y_pred": 1 - scores}


GROUP = RANDOM.integers(0, 4, ROWS).astype(np.int32)
TWO = np.stack([BATCH["y_pred"], np.flip(BATCH["y_pred"])])
FLIPPED = {"y_pred": ("scores", 1 - BATCH["y_pred"])}
SHARE, AREA = jm.Precision(), jm.AUROC(num_cells=63)
# A metric; what stands for it; inputs, each with its new name; what both read out.
STAND_INS = {
    "sliced": (
        jm.Sliced(jm.Recall(), 3, minimum_count=1),
        lambda x: x.with_inputs(slice_ids="region", y_pred="scores"),
        {"slice_ids": ("region", GROUP), "y_pred": ("scores", BATCH["y_pred"])},
        lambda x, state: (
            [x.gap().compute(state), x.ratio().compute(state)],
            [x.worst(mode="min").compute(state), x.worst_slice().compute(state)],
            [x.outside(state), x.outside(state=state) + x.minimum_count],
        ),
    ),
    "bootstrap": (
        jm.Bootstrap(SHARE, 8, weighted=True),
        lambda x: x.with_inputs(row_ids="users"),
        {"row_ids": ("users", np.arange(ROWS, dtype=np.int32))},
        lambda x, state: (x.p_value(0.25).compute(state), x.replicates_of(state)),
    ),
    "repeated": (
        jm.Repeated(SHARE, 2, over="y_pred"),
        lambda x: x.with_inputs(y_pred="models").named("models"),
        {"y_pred": ("models", TWO)},
        lambda x, state: x.difference().compute(state),
    ),
    "every": (
        jm.Every(SHARE, 1),
        lambda x: x.named("share").with_inputs(y_pred="scores"),
        {"y_pred": ("scores", BATCH["y_pred"])},
        lambda x, state: x.is_new(state),
    ),
    "best": (
        jm.BestSoFar(jm.Sliced(SHARE, 3).gap(), "min"),
        lambda x: x.with_inputs(slice_ids="region"),
        {"slice_ids": ("region", GROUP)},
        lambda x, state: x.mode == "min",
    ),
    "area": (
        AREA,
        lambda x: x.of(flipped),
        FLIPPED,
        lambda x, state: (x.error_bound(state), x.interval(state, confidence=0.5)),
    ),
    "share": (
        SHARE,
        lambda x: x.with_inputs(y_pred="scores", sample_weight=None),
        {"y_pred": ("scores", BATCH["y_pred"])},
        lambda x, state: x.interval(state),
    ),
    "point": (
        jm.PrecisionAtRecall(0.5, num_thresholds=9),
        lambda x: x.with_inputs(y_pred="scores").named("point"),
        {"y_pred": ("scores", BATCH["y_pred"])},
        lambda x, state: x.operating_threshold.compute(state),
    ),
    "collection": (
        jm.Collection(a=SHARE, b=AREA),
        lambda x: x.of(flipped).named("both"),
        FLIPPED,
        lambda x, state: AREA.error_bound(x.member_state(state, "b")),
    ),
}


@pytest.mark.parametrize("name", STAND_INS)
def test_what_stands_for_a_metric_has_all_that_it_reads_out(name):
    """Renamed, under another name, or of a function: the same to the bit."""
    metric, stand, inputs, read = STAND_INS[name]
    other = stand(metric)
    batch = {"y_true": BATCH["y_true"], "y_pred": BATCH["y_pred"]}
    plain = batch | {name: x for name, (_, x) in inputs.items()}
    renamed = {name: x for name, x in batch.items() if name not in inputs}
    renamed |= dict(inputs.values())
    if inputs is FLIPPED:
        renamed["scores"] = BATCH["y_pred"]

    @jax.jit
    def run(plain, renamed):
        states = (
            metric.update(metric.init(), **plain),
            other.update(other.init(), **renamed),
        )
        return [
            (x.compute(state), read(x, state))
            for x, state in zip((metric, other), states, strict=True)
        ]

    jax.tree.map(np.testing.assert_array_equal, *run(plain, renamed))


def test_a_read_out_of_what_was_renamed_is_the_renamed_read_out():
    """So both orders share one state in a Collection, and one trace."""
    sliced, names = jm.Sliced(jm.Recall(), 3), {"slice_ids": "region"}
    renamed = sliced.with_inputs(**names)
    assert renamed.gap() == sliced.gap().with_inputs(**names)
    assert renamed.gap().accumulator == renamed.accumulator
    assert renamed.gap().label == "Sliced(Recall).gap"
    assert sliced.named("by region").worst() == sliced.worst().named("by region")
    assert sliced.of(error).gap() == sliced.gap().of(error)


def test_what_a_metric_does_not_have_its_stand_in_has_not_either():
    """Nor does it take the state of the metric that it stands for."""
    metric = jm.Sliced(jm.Recall(), 3)
    renamed = metric.with_inputs(slice_ids="region")
    with pytest.raises(AttributeError, match="Sliced has no attribute 'p_value'"):
        renamed.p_value()
    with pytest.raises(AttributeError, match=r"state = metric\.init\(\)"):
        renamed.reset_state()
    with pytest.raises(ValueError, match=r"Sliced\(Recall\): this state belongs to"):
        renamed.outside(metric.init())


def test_read_outs_reach_through_every_name():
    """A metric renamed twice has what it stands for, under the last names."""
    area = jm.AUROC().with_inputs(y_pred="a").with_inputs(a="b")
    batch = {"y_true": np.float32([0, 1, 1]), "b": np.float32([0.1, 0.2, 0.3])}
    state = area.update(area.init(), **batch)
    assert area.error_bound(state) < 1e-5
    recall = jm.Sliced(jm.Recall(), 2)
    recall = recall.with_inputs(y_pred="p").with_inputs(slice_ids="g")
    rows = {"y_true": np.float32([1, 1]), "p": np.float32([1, 0])}
    assert recall.gap()(**rows, g=np.int32([0, 1])) == 1
