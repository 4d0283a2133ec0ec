"""Every number in the documents that the library set out to reproduce.

They are reference pages of Keras and TensorFlow 1 and one article. Where a document is
wrong, the row holds the right number and a comment says what the document says.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxmetrics as jm

# The article's data, in its examples 1 and 2: at 0.5 the positives 1, 4, 6, 7, 9 score
# .8 .9 .7 .8 .9, all above; of the negatives 0, 2, 3, 5, 8 only .6 is.
ARTICLE_LABELS = [0, 1, 0, 0, 1, 0, 1, 1, 0, 1]
ARTICLE_SCORES = [0.2, 0.8, 0.1, 0.6, 0.9, 0.3, 0.7, 0.8, 0.4, 0.9]
ARTICLE_BINARY = [int(score > 0.5) for score in ARTICLE_SCORES]


@jax.jit
def _update(owner, *batch):
    return owner.update(owner.init(), *batch)


@jax.jit
def _compute(metric, state):
    return metric.compute(state)


def value(metric, *batch):
    """The metric of one batch, compiled once for each accumulator and read-out."""
    arrays = [np.asarray(x) for x in batch if x is not None]
    batch = [x if x.dtype == bool else x.astype(np.float32) for x in arrays]
    return _compute(metric, _update(metric.accumulator, *batch))


CURVE = ([0, 0, 1, 1], [0, 0.5, 0.3, 0.9])
FIXED = ([0, 0, 0, 1, 1], [0, 0.3, 0.8, 0.3, 0.8])
RATIO = ([0, 1, 1, 1], [1, 0, 1, 1])
THIRD = [0, 0, 1, 0]

EXAMPLES = [
    # The page of TrueNegatives.
    (jm.TrueNegatives(), ([0, 1, 0, 0], [1, 1, 0, 0]), None, 2),
    (jm.TrueNegatives(), ([0, 1, 0, 0], [1, 1, 0, 0]), THIRD, 1),
    # The page of FalseNegatives.
    (jm.FalseNegatives(), ([0, 1, 1, 1], [0, 1, 0, 0]), None, 2),
    (jm.FalseNegatives(), ([0, 1, 1, 1], [0, 1, 0, 0]), THIRD, 1),
    # The article, example 1. It says 1 false negative and 5 true negatives.
    (jm.FalseNegatives(), (ARTICLE_LABELS, ARTICLE_BINARY), None, 0),
    (jm.TrueNegatives(), (ARTICLE_LABELS, ARTICLE_BINARY), None, 4),
    (jm.FalsePositives(), (ARTICLE_LABELS, ARTICLE_SCORES), None, 1),
    (jm.TruePositives(), (ARTICLE_LABELS, ARTICLE_SCORES), None, 5),
    # The article, example 2. It says 0.25 = 1/4, of 4 positives; they are 5.
    (jm.FalseNegativeRate(), (ARTICLE_LABELS, ARTICLE_SCORES), None, 0 / 5),
    (jm.FalsePositiveRate(), (ARTICLE_LABELS, ARTICLE_SCORES), None, 1 / 5),
    (jm.Prevalence(), (ARTICLE_LABELS, ARTICLE_SCORES), None, 5 / 10),
    # The page of the whole family.
    # tp = [2, 1, 0], fp = [2, 0, 0]: ((1 + 0.5) / 2) * (1 - 0) + ... = 0.75
    (jm.AUC(num_thresholds=3), CURVE, None, 0.75),
    (jm.AUC(num_thresholds=3), CURVE, [1, 0, 0, 1], 1.0),
    (jm.Precision(), RATIO, None, 2 / 3),
    (jm.Precision(), RATIO, THIRD, 1.0),
    # "over y_true[:2] and y_pred[:2]" is so because all scores are equal, and of equal
    # scores the first come first.
    (jm.Precision(top_k=2), ([0, 0, 1, 1], [1, 1, 1, 1]), None, 0.0),
    (jm.Precision(top_k=4), ([0, 0, 1, 1], [1, 1, 1, 1]), None, 0.5),
    (jm.Recall(), RATIO, None, 2 / 3),
    (jm.Recall(), RATIO, THIRD, 1.0),
    (jm.TruePositives(), RATIO, None, 2.0),
    (jm.TruePositives(), RATIO, THIRD, 1.0),
    (jm.TrueNegatives(), ([0, 1, 0, 0], [1, 1, 0, 0]), None, 2.0),
    (jm.TrueNegatives(), ([0, 1, 0, 0], [1, 1, 0, 0]), THIRD, 1.0),
    (jm.FalsePositives(), ([0, 1, 0, 0], [0, 0, 1, 1]), None, 2.0),
    (jm.FalsePositives(), ([0, 1, 0, 0], [0, 0, 1, 1]), THIRD, 1.0),
    (jm.FalseNegatives(), ([0, 1, 1, 1], [0, 1, 0, 0]), None, 2.0),
    (jm.FalseNegatives(), ([0, 1, 1, 1], [0, 1, 0, 0]), THIRD, 1.0),
    (jm.PrecisionAtRecall(0.5), FIXED, None, 0.5),
    (jm.PrecisionAtRecall(0.5), FIXED, [2, 2, 2, 1, 1], 1 / 3),
    (jm.SensitivityAtSpecificity(0.5), FIXED, None, 0.5),
    (jm.SensitivityAtSpecificity(0.5), FIXED, [1, 1, 2, 2, 1], 1 / 3),
    (jm.SpecificityAtSensitivity(0.5), FIXED, None, 2 / 3),
    (jm.SpecificityAtSensitivity(0.5), FIXED, [1, 1, 2, 2, 2], 0.5),
    # The page has no RecallAtPrecision; these are the numbers of Keras's own page.
    (jm.RecallAtPrecision(0.8), CURVE, None, 0.5),
    (jm.RecallAtPrecision(0.8), CURVE, [1, 0, 0, 1], 1.0),
]


@pytest.mark.parametrize(
    ("metric", "inputs", "weight", "expected"),
    EXAMPLES,
    ids=[f"{i}-{row[0].label}" for i, row in enumerate(EXAMPLES)],
)
def test_the_documents_examples(metric, inputs, weight, expected):
    """An example gives the document's number, to the last bit of float32."""
    assert value(metric, *inputs, weight) == np.float32(expected)


@pytest.mark.parametrize(
    "metric", sorted({row[0] for row in EXAMPLES}, key=repr), ids=repr
)
def test_a_new_state_is_what_reset_states_leaves(metric):
    """The value of `init()` is 0, as after `reset_states()`; an area is undefined."""
    empty = _compute(metric, metric.init())
    assert np.isnan(empty) if isinstance(metric, jm.AUC) else empty == 0


def test_lists_of_integers_are_welcome():
    """The documents pass Python lists of integers, and so may a user, without `jit`."""
    state = jm.FalseNegatives().init()
    state = jm.FalseNegatives().update(state, [0, 1, 1, 1], [0, 1, 0, 0])
    assert _compute(jm.FalseNegatives(), state) == 2


def test_counts_are_counts_and_rates_are_rates():
    """The article's question: counts are no fractions, and each rate has a metric."""
    state = _update(
        jm.ConfusionCounts(), np.array(ARTICLE_LABELS), np.array(ARTICLE_SCORES)
    )
    # TP 5, FP 1, TN 4, FN 0
    rates = {
        jm.TruePositives(): 5,
        jm.FalseNegatives(): 0,
        jm.TrueNegatives(): 4,
        jm.FalsePositives(): 1,
        jm.Recall(): 5 / 5,
        jm.FalseNegativeRate(): 0 / 5,
        jm.Specificity(): 4 / 5,
        jm.TrueNegativeRate(): 4 / 5,
        jm.FalsePositiveRate(): 1 / 5,
        jm.Precision(): 5 / 6,
        jm.FalseDiscoveryRate(): 1 / 6,
        jm.NegativePredictiveValue(): 4 / 4,
        jm.FalseOmissionRate(): 0 / 4,
    }
    for metric, expected in rates.items():
        assert _compute(metric, state) == np.float32(expected), metric
    assert _compute(jm.TrueNegatives(dtype="int32"), state).dtype == np.int32


class CustomFalseNegativeRate(jm.ConfusionMetric):
    """The article's third example in this library: the share of positives missed."""

    def formula(self, c):
        """FN / (FN + TP)."""
        return jm.divide(c.false_negatives, c.false_negatives + c.true_positives)


def test_the_articles_custom_metric_is_one_formula():
    """The rewritten custom rate follows sample_weight, thresholds and training steps.

    The article's own ignores sample_weight and is fixed at 0.5.
    """
    metric = CustomFalseNegativeRate()
    assert value(metric, ARTICLE_LABELS, ARTICLE_SCORES) == 0.0
    rate = CustomFalseNegativeRate(thresholds=(0.5, 0.75, 0.85))
    # Of .8 .9 .7 .8 .9, one is not above 0.75 and three are not above 0.85.
    expected = np.array([0, 1 / 5, 3 / 5], np.float32)
    np.testing.assert_array_equal(value(rate, ARTICLE_LABELS, ARTICLE_SCORES), expected)
    # Weight 3 for the row that scores .7, 1 for the four others: 3 / (3 + 4).
    weight = [1, 1, 1, 1, 1, 1, 3, 1, 1, 1]
    weighted = CustomFalseNegativeRate(0.75)
    assert value(weighted, ARTICLE_LABELS, ARTICLE_SCORES, weight) == np.float32(3 / 7)

    @jax.jit
    def train_step(state, labels, scores):
        return metric.update(state, y_true=labels, y_pred=scores)

    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, (4, 25, 1))  # as y_train in the article: (rows, 1)
    scores = rng.random((4, 25), np.float32)
    state = metric.init()
    for step in range(4):
        state = train_step(state, labels[step], scores[step])
    missed = np.sum((labels[..., 0] == 1) & (scores <= 0.5))
    assert _compute(metric, state) == np.float32(missed / np.sum(labels))


# --- tf.compat.v1.metrics.false_negatives --------------------------------------------


def false_negatives(labels, predictions, weights=None):
    """What the page promises, written out: both cast to bool, then the weights' sum."""
    labels, predictions = np.asarray(labels, bool), np.asarray(predictions, bool)
    weights = np.broadcast_to(1.0 if weights is None else weights, labels.shape)
    return np.sum(weights * (labels & ~predictions))


def test_boolean_labels_and_predictions_are_taken_as_they_are():
    """With both cast to bool, as the function does itself, thresholds play no role."""
    labels = np.array([[True, True, False], [True, False, True]])
    predictions = np.array([[0.1, 0.0, 0.0], [0.0, 2.0, -1.0]]).astype(bool)
    expected = false_negatives(labels, predictions)
    assert expected == 2
    for thresholds in (None, 0.0, (0.25, 1.0)):
        result = value(jm.FalseNegatives(thresholds), labels, predictions)
        np.testing.assert_array_equal(result, np.broadcast_to(expected, result.shape))


def test_scores_are_not_cast_to_bool_unasked():
    """A score of 0.1 is no positive prediction here; the old function makes it one."""
    labels, scores = [1, 1, 0, 0], [0.1, 0.0, 0.9, 0.0]
    assert false_negatives(labels, scores) == 1
    assert value(jm.FalseNegatives(), labels, scores) == 2
    assert value(jm.FalseNegatives(), labels, np.asarray(scores, bool)) == 1
    assert value(jm.FalseNegatives(0.0), labels, scores) == 1


@pytest.mark.parametrize("shape", [(), (1, 1), (2, 1), (1, 3), (2, 3)])
def test_weights_are_of_rank_0_or_broadcast_axis_by_axis(shape):
    """Weights of rank 0, or of the same rank with each axis 1 or equal, are legal."""
    rng = np.random.default_rng(1)
    labels, predictions = rng.integers(0, 2, (2, 2, 3)).astype(bool)
    weights = rng.integers(0, 5, shape).astype(np.float32)
    result = value(jm.FalseNegatives(), labels, predictions, weights)
    assert result == false_negatives(labels, predictions, weights)


@pytest.mark.parametrize("shape", [(3,), (6,), (3, 2), (2, 2), (1, 2, 3), (2, 3, 2)])
def test_other_weights_raise(shape):
    """Weights of any other shape raise, with both shapes in the sentence."""
    labels = predictions = np.zeros((2, 3), bool)
    with pytest.raises(ValueError, match=r"FalseNegatives: sample_weight .*\(2, 3\)"):
        jm.FalseNegatives()(labels, predictions, np.ones(shape, np.float32))


def test_labels_must_have_the_dimensions_of_predictions():
    """The dimensions of labels and predictions must match, as the page says."""
    with pytest.raises(ValueError, match=r"y_true \(4,\) and y_pred \(2, 2\)"):
        jm.FalseNegatives()(np.zeros((4,), bool), np.zeros((2, 2), bool))


def test_value_and_update_are_two_functions_of_the_state():
    """`value_tensor` is `compute(state)`, `update_op` computes the updated state."""
    metric = jm.FalseNegatives()

    @jax.jit
    def value_and_update(state, labels, predictions):
        updated = metric.update(state, labels, predictions)
        return metric.compute(state), metric.compute(updated), updated

    batches = [
        (jnp.array([True, True]), jnp.array([False, True])),
        (jnp.array([True, True]), jnp.array([False, False])),
    ]
    state, seen = metric.init(), []
    for labels, predictions in batches:
        value, update_op, state = value_and_update(state, labels, predictions)
        seen.append((float(value), float(update_op)))
    assert seen == [(0, 1), (1, 3)]
    assert _compute(metric, state) == _compute(metric, state) == 3


# --- what the documents promise in words ---------------------------------------------


@pytest.mark.parametrize("kind", [tuple, list, np.array, jnp.array])
def test_thresholds_may_be_a_tuple_a_list_or_an_array(kind):
    """One value comes for each threshold, in order; Keras fails on tuples, arrays."""
    y_true, y_pred = [0, 1, 1, 1], [0.3, 0.2, 0.6, 0.9]
    counts = value(jm.TruePositives(kind([0.7, 0.1, 0.5])), y_true, y_pred)
    np.testing.assert_array_equal(counts, [1, 3, 2])
    expected = np.array([1 / 1, 3 / 4, 2 / 2], np.float32)
    result = value(jm.Precision(kind([0.7, 0.1, 0.5])), y_true, y_pred)
    np.testing.assert_array_equal(result, expected)
    assert value(jm.TruePositives(kind([0.5])), y_true, y_pred).shape == ()


def test_above_the_threshold_is_true_and_below_is_false():
    """The documents leave equality open; as in Keras it is below."""
    above = np.nextafter(np.float32(0.5), np.float32(1))
    assert value(jm.TruePositives(), [1, 1, 1, 1], [0.5, above, 0.4, 0.5]) == 1


def test_weights_of_zero_mask_values():
    """A `sample_weight` of 0 masks values, even NaN, for which Keras does not."""
    for metric in (jm.FalseNegatives(), jm.AUC(num_thresholds=3), jm.Precision()):
        y_true, y_pred = [0, 1, 1, 1], [0.1, np.nan, 0.3, 0.9]
        masked = value(metric, y_true, y_pred, [1, 0, 1, 1])
        assert masked == value(metric, y_true, [0.1, 0.9, 0.3, 0.9], [1, 0, 1, 1])
        assert np.isnan(value(metric, y_true, y_pred, [1, 1, 1, 1]))


def test_class_id_and_top_k_select_as_the_documents_say():
    """`class_id` reads one class, above the threshold and/or among the top k."""
    y_true = [[0, 1, 0], [0, 1, 0], [1, 0, 0], [0, 1, 0]]
    y_pred = [[0.1, 0.8, 0.1], [0.6, 0.4, 0.2], [0.1, 0.7, 0.2], [0.6, 0.6, 0.1]]
    # Of class 1: scores .8 .4 .7 .6 and labels 1 1 0 1. Top 1 in rows 0 and 2 only; in
    # row 3 the equal score of class 0 comes first.
    assert value(jm.Precision(class_id=1), y_true, y_pred) == np.float32(2 / 3)
    assert value(jm.Recall(class_id=1), y_true, y_pred) == np.float32(2 / 3)
    assert value(jm.Precision(top_k=1, class_id=1), y_true, y_pred) == np.float32(1 / 2)
    assert value(jm.Recall(top_k=1, class_id=1), y_true, y_pred) == np.float32(1 / 3)
    both = jm.Recall(thresholds=0.75, top_k=1, class_id=1)
    assert value(both, y_true, y_pred) == np.float32(1 / 3)


def test_recall_at_precision_finds_the_best_recall():
    """The rule is the best recall over thresholds whose precision suffices, else 0."""
    y_true, y_pred = [0, 1, 1, 1], [0.75, 0.3, 0.6, 0.9]
    # Above 0.2: TP 3, FP 1, precision 0.75. Above 0.8: TP 1, FP 0, precision 1.
    several = jm.RecallAtPrecision((0.5, 0.75, 0.76, 1.0))
    expected = np.array([1, 1, 1 / 3, 1 / 3], np.float32)
    np.testing.assert_array_equal(value(several, y_true, y_pred), expected)
    # Everything reaches 0.75, and nothing does more: a negative scores highest.
    expected = np.array([1, 1, 0, 0], np.float32)
    result = value(several, y_true, [0.9, 0.3, 0.6, 0.7])
    np.testing.assert_array_equal(result, expected)


def test_at_a_fixed_value_needs_that_value():
    """The page's own compile() snippet leaves the required value out: that raises."""
    for metric in (jm.SensitivityAtSpecificity, jm.SpecificityAtSensitivity):
        with pytest.raises(TypeError, match="missing a required argument"):
            metric()
