"""Exact counts, compensated sums, correct division, thresholds to the last bit."""

import math
import os
import subprocess
import sys
from fractions import Fraction
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import jaxmetrics as jm
from jaxmetrics import limbs, numerics
from jaxmetrics.counts import CountsData
from jaxmetrics.thresholds import EvenGrid, thresholds_below

pytestmark = pytest.mark.optimized

COUNTS = jm.ConfusionCounts()
TRUE_POSITIVE = 3  # its cell, of the four of one threshold

update = jax.jit(lambda owner, state, batch: owner.update(state, **batch))
compute = jax.jit(lambda metric, state: metric.compute(state))
merge = jax.jit(COUNTS.merge)


def rows_state(number):
    """A state that has seen a number of true positives, made by hand."""
    counts = np.zeros((2, 4 + 3), np.uint32)
    counts[:, TRUE_POSITIVE] = number % 2**21, number // 2**21
    zeros = jnp.zeros((2, 5), jnp.float32)
    return jm.State(CountsData(jnp.asarray(counts), zeros), COUNTS)


def rows_seen(state):
    """The number of true positives in a state, as a Python integer."""
    low, high = np.asarray(state.data.counts)[:, TRUE_POSITIVE].tolist()
    return low + high * 2**21


def one_row():
    """The state of one real update by one true positive."""
    return COUNTS.update(COUNTS.init(), y_true=[1], y_pred=[0.75])


# --- counts --------------------------------------------------------------------------


def test_the_cells_are_where_these_tests_take_them_to_be():
    """A state made by hand is the state that an update makes."""
    for mine, real in zip(
        jax.tree.leaves(rows_state(1)), jax.tree.leaves(one_row()), strict=True
    ):
        np.testing.assert_array_equal(mine, real)


@pytest.mark.parametrize("power", [21, 24, 31, 32, 51])
def test_merged_counts_are_exact_around_powers_of_two(power):
    """Doubling a state and merging single rows counts on, past every power of two."""
    state = one = one_row()
    for _ in range(power):
        state = merge(state, state)
    for extra in range(3):
        assert rows_seen(state) == 2**power + extra
        state = merge(state, one)
    less = rows_state(2**power - 2)
    for extra in range(4):
        assert rows_seen(less) == 2**power - 2 + extra
        less = merge(less, one)
    assert rows_seen(merge(state, less)) == 2 * 2**power + 5


@pytest.mark.parametrize("number", [2**24 - 1, 2**24 + 1, 2**31 - 2, 2**31 - 1])
def test_integer_results_do_not_pass_through_float32(number):
    """An int32 count is exact up to its end, where float32 ended at 2^24."""
    assert compute(jm.TruePositives(dtype="int32"), rows_state(number)) == number
    assert compute(jm.TruePositives(), rows_state(number)) == np.float32(number)


@pytest.mark.parametrize(
    "number", [2**31, 2**31 + 1, 2**32 - 1, 2**32, 2**40, 2**53 - 1]
)
def test_integer_results_saturate(number):
    """Beyond its range an integer result stays at the end, and never wraps."""
    assert compute(jm.TruePositives(dtype="int32"), rows_state(number)) == 2**31 - 1
    expected = min(number, 2**32 - 1)
    unsigned = compute(jm.TruePositives(dtype="uint32"), rows_state(number))
    assert int(unsigned) == expected


def test_x64_reads_the_same_state_in_full():
    """With 64-bit types on, the same state reads out exactly, to 2^53 - 1."""
    state = rows_state(2**53 - 2)
    assert compute(jm.TruePositives(), state) == np.float32(2**53)
    with jax.enable_x64(True):
        result = jm.TruePositives().compute(state)
        assert result.dtype == np.float64
        assert int(result) == 2**53 - 2
        ratio = jm.Precision(dtype="float64").compute(state)
        assert ratio.dtype == np.float64
        more = COUNTS.update(state, np.ones(1), np.ones(1))
    assert rows_seen(more) == 2**53 - 1
    assert [x.dtype for x in jax.tree.leaves(more)] == [np.uint32, np.float32]


def test_ratios_of_large_counts_are_correct_to_float32():
    """Counts above 2^24 give a ratio within two ulps of the exact one."""
    counts = np.zeros((2, 7), np.uint32)
    true, false = 123_456_789_123, 987_654_321_987
    for cell, number in ((TRUE_POSITIVE, true), (1, false)):
        counts[:, cell] = number % 2**21, number // 2**21
    state = jm.State(CountsData(jnp.asarray(counts), jnp.zeros((2, 5))), COUNTS)
    expected = true / (true + false)
    assert compute(jm.Precision(), state) == pytest.approx(expected, rel=2**-22)


def test_one_batch_of_more_rows_than_float32_counts():
    """A batch of 2^25 + 1 rows, nearly all in one cell, is counted to the last."""
    rows = 2**25 + 1
    y_true, y_pred = np.ones(rows, bool), np.ones(rows, np.uint8)
    y_pred[0] = 0
    state = update(COUNTS, COUNTS.init(), {"y_true": y_true, "y_pred": y_pred})
    assert rows_seen(state) == rows - 1
    assert compute(jm.FalseNegatives(dtype="int32"), state) == 1

    curve = jm.AUC().accumulator  # every row in the histogram's last cell but one
    state = update(curve, curve.init(), {"y_true": y_true, "y_pred": y_pred})
    words = np.asarray(state.data.counts).astype(object)
    cells = words[0] + words[1] * 2**21
    assert max(cells) == rows - 1
    assert sum(cells) == rows

    total = jm.Sum(dtype="int32")
    state = update(total.accumulator, total.init(), {"values": y_pred})
    assert compute(total, state) == rows - 1
    assert compute(jm.Count(dtype="int32"), state) == rows


def test_a_weighted_batch_of_more_rows_than_float32_counts():
    """Weights of 2^25 + 1 rows are summed to the last as well."""
    rows = 2**25 + 1
    batch = {
        "y_true": np.ones(rows, bool),
        "y_pred": np.ones(rows, bool),
        "sample_weight": np.ones(rows, np.uint8),
    }
    state = update(COUNTS, COUNTS.init(), batch)
    total = np.asarray(state.data.weights, np.float64)[:, TRUE_POSITIVE].sum()
    assert total == rows


def test_sums_of_2047_states_need_no_help():
    """`tree.map(add)`, `psum` and a sum over a stack of 2047 states are exact."""
    number = 2**40 + 2**21 - 1  # its low word is full
    state = rows_state(number)
    stacked = jax.tree.map(lambda x: jnp.broadcast_to(x, (2047, *x.shape)), state)
    summed = jax.tree.map(lambda x: jnp.sum(x, axis=0, dtype=x.dtype), stacked)
    assert rows_seen(merge(summed, COUNTS.init())) == 2047 * number
    assert compute(jm.TruePositives(), summed) == np.float32(2047 * number)
    added = jax.tree.map(jnp.add, jax.tree.map(jnp.add, state, state), one_row())
    assert rows_seen(merge(added, COUNTS.init())) == 2 * number + 1
    mapped = jax.vmap(lambda x: lax.psum(x, "rows"), axis_name="rows")(stacked.data)
    first = jax.tree.map(lambda x: x[0], jm.State(mapped, COUNTS))
    assert rows_seen(merge(first, COUNTS.init())) == 2047 * number


def test_cumulative_words_are_those_of_python_integers():
    """Running sums of words from either end equal those of Python integers."""
    rng = np.random.default_rng(0)
    numbers = [int(x) for x in rng.integers(0, 2**44, 500)] + [2**21 - 1] * 12
    words = jnp.asarray([[n % 2**21 for n in numbers], [n // 2**21 for n in numbers]])
    running = jax.jit(numerics.cumulative_words, static_argnames="reverse")
    for reverse in (False, True):
        low, high = np.asarray(running(words.astype(jnp.uint32), reverse=reverse))
        found = [int(a) + int(b) * 2**21 for a, b in zip(low, high, strict=True)]
        ordered = numbers[::-1] if reverse else numbers
        expected = np.cumsum(np.array(ordered, object)).tolist()
        assert found == (expected[::-1] if reverse else expected)
        assert np.all(low < 2**21)


@pytest.mark.parametrize("dtype", ["int32", "uint32"])
def test_words_to_int_saturates(dtype):
    """Words are read as integers exactly, and at the top where they do not fit."""
    top = np.iinfo(dtype).max
    numbers = [0, 1, 2**21, top - 1, top, top + 1, 2**33 + 5, 2**52]
    words = np.array([[n % 2**21 for n in numbers], [n // 2**21 for n in numbers]])
    found = numerics.words_to_int(jnp.asarray(words, jnp.uint32), np.dtype(dtype))
    assert found.dtype == dtype
    assert found.tolist() == [min(n, top) for n in numbers]


# --- two-floats ----------------------------------------------------------------------


def exact(pair):
    """The value of a two-float, as a fraction."""
    return Fraction(float(pair[0])) + Fraction(float(pair[1]))


def test_two_sum_loses_nothing():
    """The rounded sum and its error are the sum, exactly, over wide magnitudes."""
    rng = np.random.default_rng(1)
    a, b = (rng.normal(size=(2, 512)) * 10.0 ** rng.integers(-12, 12, (2, 512))).astype(
        np.float32
    )
    for total, error, x, y in zip(*jax.jit(numerics.two_sum)(a, b), a, b, strict=True):
        assert exact((total, error)) == Fraction(float(x)) + Fraction(float(y))
        assert total == np.float32(float(x) + float(y))


def test_long_sums_of_two_floats_stay_close():
    """A hundred thousand two-floats of both signs add up to 2^-40 of their size."""
    rng = np.random.default_rng(2)
    values = (rng.normal(size=100_000) * 10.0 ** rng.integers(-6, 6, 100_000)).astype(
        np.float32
    )

    def add(total, x):
        return numerics.add_two_floats(total, numerics.two_float(x)), None

    total, _ = jax.jit(partial(lax.scan, add))(jnp.zeros(2), values)
    expected = sum(map(Fraction, values.astype(float)))
    size = math.fsum(np.abs(values))
    assert abs(float(exact(np.asarray(total)) - expected)) <= 2**-40 * size


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        (np.inf, 1.0, np.inf),
        (-np.inf, 1.0, -np.inf),
        (np.inf, np.inf, np.inf),
        (np.inf, -np.inf, np.nan),
        (3e38, 3e38, np.inf),
        (np.nan, 1.0, np.nan),
    ],
)
def test_infinite_sums_stay_infinite(a, b, expected):
    """Infinity does not turn into NaN by its error term."""
    pair = jax.jit(numerics.add_two_floats)(
        numerics.two_float(jnp.float32(a)), numerics.two_float(jnp.float32(b))
    )
    np.testing.assert_array_equal(numerics.two_float_to_float(pair), expected)


def test_error_terms_survive_here():
    """The backend of these tests keeps the error terms of two-float sums."""
    assert numerics.error_terms_survive()


def test_fast_math_is_noticed():
    """A compiler that erases error terms is reported as such."""
    code = "import jaxmetrics.numerics as n; print(n.error_terms_survive())"
    for flags, expected in (("--xla_cpu_enable_fast_math=true", "False"), ("", "True")):
        result = subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ
            | {"XLA_FLAGS": flags, "PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True,
            text=True,
            check=True,
            timeout=120,
        )
        assert result.stdout.strip() == expected


# --- sums and means ------------------------------------------------------------------

MEAN = jm.Mean()


def test_the_mean_of_a_hundred_million_losses():
    """100 batches of 1e6 losses: within 1e-7, where a float32 sum is not.

    The batches differ by powers of two, so that the exact mean is known.
    """
    rng = np.random.default_rng(3)
    losses = (rng.gamma(2.0, 0.35, 1_000_000) + 0.01).astype(np.float32)

    @jax.jit
    def stream(state, plain, losses):
        def step(i, carry):
            state, plain = carry
            batch = losses * jnp.exp2((i % 3).astype(jnp.float32))
            return MEAN.update(state, values=batch), plain + jnp.sum(batch)

        return lax.fori_loop(0, 100, step, (state, plain))

    state, plain = stream(MEAN.init(), jnp.float32(0), losses)
    scale = math.fsum(2.0 ** (i % 3) for i in range(100)) / 100
    expected = scale * math.fsum(losses) / losses.size
    assert compute(MEAN, state) == pytest.approx(expected, rel=1e-7)
    assert compute(jm.Count(dtype="int32"), state) == 100_000_000
    assert abs(float(plain) / 1e8 / expected - 1) > 1e-7  # so the test can fail


@pytest.mark.soak
def test_the_mean_of_a_hundred_million_different_losses():
    """The same for 1e8 different losses, drawn batch by batch."""
    rng = np.random.default_rng(4)
    state, total = MEAN.init(), []
    for _ in range(100):
        losses = rng.gamma(2.0, 0.35, 1_000_000).astype(np.float32)
        total.append(math.fsum(losses))
        state = update(MEAN.accumulator, state, {"values": losses})
    assert compute(MEAN, state) == pytest.approx(math.fsum(total) / 1e8, rel=1e-7)


ROWS = 4096


def six_decades(seed):
    """Weights from 1e-3 to 1e3, and signed values."""
    rng = np.random.default_rng(seed)
    weight = (10.0 ** rng.uniform(-3, 3, ROWS)).astype(np.float32)
    return rng, weight, rng.normal(1.0, 2.0, ROWS).astype(np.float32)


def test_weights_over_six_decades():
    """Weighted counts, sums and means agree with math.fsum to 1e-6."""
    rng, weight, values = six_decades(5)
    label, score = rng.integers(0, 2, ROWS), rng.random(ROWS).astype(np.float32)
    state, sums = COUNTS.init(), MEAN.init()
    for part in np.split(np.arange(ROWS), 4):
        batch = {"y_true": label, "y_pred": score, "sample_weight": weight}
        state = update(COUNTS, state, {k: v[part] for k, v in batch.items()})
        batch = {"values": values, "sample_weight": weight}
        sums = update(MEAN.accumulator, sums, {k: v[part] for k, v in batch.items()})
    above, positive = score > 0.5, label == 1
    cells = (positive & above, ~positive & above, ~positive & ~above, positive & ~above)
    expected = [math.fsum(weight[cell]) for cell in cells]
    np.testing.assert_allclose(compute(COUNTS, state), expected, rtol=1e-6)
    exact_sum = math.fsum(weight.astype(float) * values)
    assert compute(jm.Sum(), sums) == pytest.approx(exact_sum, rel=1e-6)
    exact_mean = exact_sum / math.fsum(weight)
    assert compute(MEAN, sums) == pytest.approx(exact_mean, rel=1e-6)


def test_weighted_counts_depend_on_no_order():
    """The rows in any order give the same state bit for bit."""
    rng, weight, _ = six_decades(6)
    label, score = rng.integers(0, 2, ROWS), rng.random(ROWS).astype(np.float32)
    states = []
    for order in (np.arange(ROWS), rng.permutation(ROWS)):
        batch = {"y_true": label, "y_pred": score, "sample_weight": weight}
        state = update(COUNTS, COUNTS.init(), {k: v[order] for k, v in batch.items()})
        states.append([np.asarray(x).tobytes() for x in jax.tree.leaves(state)])
    assert states[0] == states[1]


@pytest.mark.parametrize("rows", [64 * 65521, 64 * 131071, 2**22 + 1])
def test_weights_of_any_number_of_rows(rows):
    """The numbers of rows that make the most groups: their sums do not wrap."""
    state = update(
        jm.Mean().accumulator,
        jm.Mean().init(),
        {"values": np.full(rows, 0.7, np.float32)},
    )
    assert compute(jm.Mean(), state) == np.float32(0.7)
    total = np.asarray(state.data.sums[:, 0], float).sum()
    np.testing.assert_allclose(total, rows * float(np.float32(0.7)), rtol=1e-13)


@pytest.mark.parametrize(
    ("small", "large"), [(3e38, 3e38), (1.0, 3e38), (2e-36, 3e-36), (1e-30, 1e-6)]
)
def test_extreme_weights(small, large):
    """Weights near the ends of float32 add up as their exact sum does."""
    weight = np.array([small, large] * 8, np.float32)
    batch = {
        "y_true": np.tile([1, 0], 8).astype(np.float32),
        "y_pred": np.ones(16, np.float32),
        "sample_weight": weight / 16,
    }
    counts = compute(COUNTS, update(COUNTS, COUNTS.init(), batch))
    assert counts.false_positives == pytest.approx(float(weight[1]) / 2, rel=1e-6)
    # Relative to the largest weight there are 48 bits; below them nothing is left.
    expected, floor = float(weight[0]) / 2, float(large) * 2.0**-48
    assert counts.true_positives == pytest.approx(expected, rel=1e-6, abs=floor)
    ratio = compute(jm.Precision(), update(COUNTS, COUNTS.init(), batch))
    assert ratio == pytest.approx(expected / (expected + weight[1] / 2), abs=1e-6)


def test_subnormal_weights_do_no_harm():
    """Weights below the least normal float count as about nothing."""
    weight = np.array([1e-42, 2.0, 1e-45, 1.0] * 4, np.float32)
    batch = {
        "y_true": np.tile([1, 1, 0, 0], 4).astype(np.float32),
        "y_pred": np.ones(16, np.float32),
        "sample_weight": weight,
    }
    state = update(COUNTS, COUNTS.init(), batch)
    counts = compute(COUNTS, state)
    np.testing.assert_array_equal(counts, [8, 4, 0, 0])
    assert sum(COUNTS.validity(state)) == 0
    tiny = batch | {"sample_weight": np.full(16, 1e-42, np.float32)}
    counts = np.asarray(compute(COUNTS, update(COUNTS, COUNTS.init(), tiny)))
    assert np.all((counts >= 0) & (counts < 1e-38))


def test_the_scale_of_weights_is_the_power_above_the_largest():
    """`max_weight` is the exponent of the largest finite weight that is kept."""
    for largest in (0.75, 1.0, 1.5, 3e38, 1e-20):
        weight = np.array([largest, largest / 2, np.nan, np.inf, -5, 0], np.float32)
        keep = np.array([True, True, True, False, True, True])
        exponent = int(limbs.max_weight(jnp.asarray(weight), jnp.asarray(keep)))
        assert 2.0 ** (exponent - 1) <= float(np.float32(largest)) < 2.0**exponent


@pytest.mark.parametrize("dtype", [np.int32, np.uint32])
def test_integers_above_2_to_the_24_are_summed_exactly(dtype):
    """Sums of wide integers do not lose what float32 would."""
    values = np.array([2**24 + 1, 2**26 + 3, 2**30 + 1, 7], dtype)
    total = jm.Sum(dtype="int32")
    state = update(total.accumulator, total.init(), {"values": values})
    assert compute(total, state) == int(values.astype(object).sum())
    if dtype == np.int32:
        state = update(total.accumulator, state, {"values": -values})
        assert compute(total, state) == 0


@pytest.mark.parametrize("value", [2**40 + 2**13, 2**52 + 1, -(2**50) - 3, 2**62])
def test_sums_of_64_bit_integers_keep_48_bits_and_more(value):
    """With x64 an integer is cut into parts of 24 bits, none of which is rounded."""
    with jax.enable_x64(True):
        assert int(jax.jit(jm.Sum())(values=np.array([value]))) == value


def test_sums_of_integers_saturate():
    """An integer sum beyond its range stays at the nearer end."""
    info = np.iinfo(np.int32)
    values = np.full(4, 2**30, np.int32)
    for sign, expected in ((1, info.max), (-1, info.min)):
        total = jm.Sum(dtype="int32")
        state = update(total.accumulator, total.init(), {"values": sign * values})
        assert compute(total, state) == expected


@pytest.mark.parametrize(
    "values", [[2**31 - 11], [-(2**31) + 10], [2**30, 2**30 - 40], [-(2**30)] * 2]
)
def test_sums_of_integers_are_exact_up_to_the_end(values):
    """Sums next to the ends of int32, where float32 has steps of 128, are exact."""
    total = jm.Sum(dtype="int32")
    values = np.array(values, np.int32)
    state = update(total.accumulator, total.init(), {"values": values})
    # Fails while read_total takes what rounds to 2^31 in float32 to be outside.
    assert compute(total, state) == int(values.astype(object).sum())


@pytest.mark.parametrize("dtype", [np.float16, jnp.bfloat16, np.int8, np.uint8, bool])
def test_low_precision_values_are_widened_first(dtype):
    """A sum of narrow values is that of their float32 copies."""
    values = np.arange(1000).astype(dtype)
    expected = math.fsum(values.astype(np.float64))
    state = update(MEAN.accumulator, MEAN.init(), {"values": values})
    assert compute(jm.Sum(), state) == expected


def test_x64_inputs_are_summed_in_full():
    """Under x64, float64 values add up beyond float32, in the same kind of state."""
    with jax.enable_x64(True):
        values = np.array([1.0, 1e-9, 2e-9, 3.0])
        state = update(MEAN.accumulator, MEAN.init(), {"values": values})
        result = compute(jm.Sum(), state)
        assert result.dtype == np.float64
        assert float(result) == pytest.approx(math.fsum(values), rel=1e-14)
        assert {x.dtype for x in jax.tree.leaves(state)} == {
            np.dtype(np.uint32),
            np.dtype(np.float32),
        }


# --- division ------------------------------------------------------------------------


def test_division_is_correctly_rounded():
    """All i/n with n < 1000 are the float32 nearest to the quotient."""
    n, i = np.meshgrid(np.arange(1, 1000), np.arange(0, 1000))
    found = jax.jit(jm.divide)(i.astype(np.float32), n.astype(np.float32))
    np.testing.assert_array_equal(found, (i / n).astype(np.float32))


def test_division_of_other_operands():
    """Zero, infinite and NaN operands divide as documented."""
    top = jnp.array([0.0, 1.0, -1.0, np.inf, 1.0, np.nan, 1.0])
    bottom = jnp.array([0.0, 0.0, 0.0, 2.0, np.inf, 1.0, np.nan])
    expected = [0.0, 0.0, 0.0, np.inf, np.nan, np.nan, np.nan]
    np.testing.assert_array_equal(jm.divide(top, bottom), expected)
    expected[:3] = [7.0] * 3
    np.testing.assert_array_equal(jm.divide(top, bottom, 7.0), expected)
    assert jm.divide(1, 3) == np.float32(1 / 3)
    assert jm.divide(np.ones((2, 1)), np.ones(3)).shape == (2, 3)


def test_means_are_correctly_rounded():
    """The mean of two-float sums is within an ulp of the exact ratio, 1000 times."""
    rng = np.random.default_rng(7)
    total = rng.normal(size=1000) * 10.0 ** rng.integers(-6, 12, 1000)
    weight = rng.random(1000) * 10.0 ** rng.integers(-3, 10, 1000)

    def as_pair(x):
        high = x.astype(np.float32)
        return jnp.stack([high, (x - high).astype(np.float32)])

    ratio = jax.jit(numerics.divide_two_floats)(as_pair(total), as_pair(weight), 0.0)
    expected = (total / weight).astype(np.float32)
    assert np.all(np.abs(ratio - expected) <= np.spacing(np.abs(expected)))
    assert np.mean(ratio == expected) > 0.99


# --- thresholds ----------------------------------------------------------------------


@pytest.mark.parametrize("numbers", [range(2, 1002), [10_000]], ids=["2-1001", "10000"])
def test_even_thresholds_are_even(numbers):
    """They increase strictly from 0 to 1, each within an ulp of i / (T - 1)."""
    for number in numbers:
        found = np.array(jm.even_thresholds(number), np.float32)
        ideal = (np.arange(number) / (number - 1)).astype(np.float32)
        assert (found[0], found[-1]) == (0, 1)
        assert np.all(np.diff(found) > 0)
        assert np.all(np.abs(found - ideal) <= np.spacing(ideal))


def test_thresholds_are_the_shortest_decimals():
    """What a user reads, and may write, is the decimal that means the same float32."""
    assert jm.even_thresholds(11)[1:4] == (0.1, 0.2, 0.3)
    assert jm.Precision(np.float32(0.3)) == jm.Precision(0.3)
    written = tuple(float(str(t)) for t in jm.even_thresholds(200))
    assert jm.ConfusionCounts(written) == jm.AUC().accumulator


def neighbours(thresholds):
    """Each threshold and the floats next to it, within [0, 1].

    Next to 0 is the least normal float: compiled code may take smaller ones for 0.
    """
    exactly = np.asarray(thresholds, np.float32)
    below = np.nextafter(exactly, np.float32(-1))
    above = np.nextafter(exactly, np.float32(2))
    above = np.maximum(above, np.finfo(np.float32).tiny)
    return np.clip(np.concatenate([below, exactly, above]), 0, 1)


def test_places_on_every_even_grid_are_exact_at_ties():
    """On grids of 2 to 1001 thresholds the place of each, and next to it, is strict."""
    for number in range(2, 1002):
        grid = np.asarray(jm.even_thresholds(number), np.float32)
        scores = np.zeros(3003, np.float32)  # one shape for all
        near = neighbours(grid)
        scores[: near.size] = near
        place = np.asarray(thresholds_below(jnp.asarray(scores), EvenGrid(number)))
        np.testing.assert_array_equal(place, np.searchsorted(grid, scores, "left"))


def uneven(number, seed=8):
    """Sorted thresholds, some an ulp apart, ends included."""
    rng = np.random.default_rng(seed)
    values = np.unique(rng.random(number - 3).astype(np.float32))
    close = np.nextafter(values[:1], np.float32(2))
    return tuple(np.concatenate([[0], values, close, [1]]).tolist())


@pytest.mark.parametrize(
    "thresholds",
    [
        jm.even_thresholds(3),
        jm.even_thresholds(200),
        uneven(5),
        uneven(40),
        uneven(200),
    ],
    ids=["even 3", "even 200", "5", "40", "200"],
)
def test_counts_at_ties_are_those_of_the_strict_comparison(thresholds):
    """At a threshold and its neighbours a row counts as `score > threshold` says."""
    owner = jm.ConfusionCounts(thresholds)
    scores = neighbours(thresholds)
    label = np.arange(scores.size) % 2
    batch = {"y_true": label.astype(np.float32), "y_pred": scores}
    found = compute(owner, update(owner, owner.init(), batch))
    above = scores > np.asarray(sorted(set(thresholds)), np.float32)[:, None]
    for cell, count in (
        (above & (label == 1), found.true_positives),
        (above & (label == 0), found.false_positives),
        (~above & (label == 0), found.true_negatives),
        (~above & (label == 1), found.false_negatives),
    ):
        np.testing.assert_array_equal(count, np.sum(cell, axis=1))
