"""Whatever the rows hold: what is counted, what is reported and what changes nothing.

Hypothesis makes batches of one shape, so that each program is compiled once: labels and
weights that can and cannot be, scores at, near and beyond the thresholds, NaN and
infinity, and a mask. The reference counts row by row, in fractions.
"""

from fractions import Fraction
from functools import partial

import jax
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from hypothesis.extra import numpy as hnp

import jaxmetrics as jm

ROWS = 24
FEW = jm.ConfusionCounts((0.25, 0.5))  # cells that are compared
MANY = jm.ConfusionCounts(jm.even_thresholds(9))  # cells that are scattered into

update = partial(jax.jit, static_argnums=0)(lambda m, state, b: m.update(state, **b))
merge = partial(jax.jit, static_argnums=0)(lambda m, a, b: m.merge(a, b))

SPECIAL = st.sampled_from([np.nan, np.inf, -np.inf, -1.0, 2.0, -0.0, 1e36, 1e-30])
GRID = st.integers(0, 8).map(lambda i: i / 8)


def floats(least: float, most: float) -> st.SearchStrategy[float]:
    """Normal float32 numbers."""
    return st.floats(least, most, width=32, allow_subnormal=False)


def rows(elements: st.SearchStrategy[float]) -> st.SearchStrategy[np.ndarray]:
    """A vector with one of the elements in each row."""
    return hnp.arrays(np.float32, ROWS, elements=elements)


LABELS = st.sampled_from([0.0, 1.0])
SCORES = GRID | floats(0, 1)
WEIGHTS = st.sampled_from([0.0, 1.0, 0.1]) | floats(2.0**-20, 2.0**20)
MASKS = hnp.arrays(bool, ROWS)
GOOD = st.fixed_dictionaries(
    {"y_true": rows(LABELS), "y_pred": rows(SCORES), "mask": MASKS},
    optional={"sample_weight": rows(WEIGHTS)},
)
ANY = st.fixed_dictionaries(
    {
        "y_true": rows(LABELS | SPECIAL),
        "y_pred": rows(SCORES | SPECIAL),
        "mask": MASKS,
    },
    optional={"sample_weight": rows(WEIGHTS | SPECIAL)},
)
ORDERS = st.permutations(range(ROWS)).map(np.array)

often = settings(max_examples=60, deadline=None, derandomize=True, database=None)


def weights_of(batch: dict[str, np.ndarray]) -> np.ndarray:
    """The weight of each row, 1 where there is none, 0 where it is masked."""
    weight = batch.get("sample_weight", np.ones(ROWS, np.float32))
    return np.where(batch["mask"], weight, np.float32(0))


def by_hand(
    metric: jm.ConfusionCounts, batch: dict[str, np.ndarray]
) -> tuple[list[list[Fraction]], list[int]]:
    """The weight in each cell by label and place, and the three counters."""
    thresholds = np.array(metric.threshold_values, np.float32)
    cells = [[Fraction(0)] * (len(thresholds) + 1) for _ in range(2)]
    nan = domain = unusual = 0
    true, pred, weight = batch["y_true"], batch["y_pred"], weights_of(batch)
    for y, s, w in zip(true, pred, weight, strict=True):
        if w == 0:
            continue
        if np.isnan([y, s, w]).any():
            nan += 1
            continue
        unusual += not 0 <= s <= 1
        if y not in (0, 1) or not 0 <= w < np.inf:
            domain += 1
            continue
        cells[int(y)][int((thresholds < s).sum())] += Fraction(float(w))
    return cells, [nan, domain, unusual]


@pytest.mark.parametrize("metric", [FEW, MANY], ids=["compared", "scattered"])
@often
@given(batch=ANY)
def test_every_row_is_counted_or_reported(metric, batch):
    """Cells hold the weights, exactly as far as 48 bits reach; the rest is reported."""
    state = update(metric, metric.init(), batch)
    words, pairs = (np.asarray(x) for x in metric.tables(state.data))
    expected, counters = by_hand(metric, batch)
    assert [int(x) for x in metric.validity(state)] == counters
    if "sample_weight" not in batch:
        assert words[0, 0].tolist() == expected
        assert not pairs.any()
        return
    assert not words.any()
    usable = [w for w in weights_of(batch).tolist() if 0 < w < np.inf]
    unit = Fraction(2) ** (int(np.frexp(max(usable, default=1.0))[1]) - 48)
    for label in (0, 1):
        for place, exact in enumerate(expected[label]):
            high, low = (Fraction(float(x)) for x in pairs[:, 0, label, place])
            assert abs(high + low - exact) <= ROWS * unit + exact / 2**46


@pytest.mark.parametrize("metric", [FEW, MANY], ids=["compared", "scattered"])
@often
@given(batch=ANY, order=ORDERS)
def test_the_order_of_rows_changes_no_bit(metric, batch, order):
    """Sums are integers, so that they are the same in any order."""
    shuffled = {name: x[order] for name, x in batch.items()}
    state, other = (update(metric, metric.init(), b) for b in (batch, shuffled))
    assert jax.tree.all(jax.tree.map(np.array_equal, state, other))


@pytest.mark.parametrize("metric", [FEW, MANY], ids=["compared", "scattered"])
@often
@given(batch=GOOD, garbage=ANY)
def test_what_is_masked_or_weighs_nothing_changes_no_bit(metric, batch, garbage):
    """Where a row is absent, anything may stand in its place."""
    absent = weights_of(batch) == 0
    dirty = dict(batch)
    for name in ("y_true", "y_pred"):
        dirty[name] = np.where(absent, garbage[name], batch[name])
    state, other = (update(metric, metric.init(), b) for b in (batch, dirty))
    assert jax.tree.all(jax.tree.map(np.array_equal, state, other))


@often
@given(batch=GOOD, cut=st.integers(0, ROWS))
def test_counts_of_two_parts_merge_to_those_of_the_whole(batch, cut):
    """Wherever a batch is cut."""
    batch.pop("sample_weight", None)
    first = np.arange(ROWS) < cut
    parts = [{**batch, "mask": batch["mask"] & part} for part in (first, ~first)]
    states = [update(MANY, MANY.init(), part) for part in parts]
    whole = update(MANY, MANY.init(), batch)
    merged = merge(MANY, *states)
    assert jax.tree.all(jax.tree.map(np.array_equal, merged, whole))


VALUES = SPECIAL | floats(-(2.0**30), 2.0**30)


@often
@given(values=rows(VALUES), mask=MASKS, weight=st.none() | rows(WEIGHTS), order=ORDERS)
def test_sums_are_exact_to_48_bits_and_know_no_order(values, mask, weight, order):
    """Of finite values; an infinite one is the sum, NaN spoils it."""
    owner = jm.WeightedSum()
    batch = {"values": values, "mask": mask}
    if weight is not None:
        batch["sample_weight"] = weight
    shuffled = {name: x[order] for name, x in batch.items()}
    state, other = (update(owner, owner.init(), b) for b in (batch, shuffled))
    pairs = [np.asarray(x.data.sums) for x in (state, other)]
    assert np.array_equal(*pairs, equal_nan=True)
    real = weights_of(batch) != 0
    here = values[real].astype(float)
    if np.isnan(here).any():
        assert int(owner.validity(state).nan) == np.isnan(here).sum()
        return
    with np.errstate(over="ignore", invalid="ignore"):
        terms = here * weights_of(batch)[real]
        terms32 = values[real] * weights_of(batch)[real]
    total = float(pairs[0][0, 0]) + float(pairs[0][1, 0])
    if np.isinf(terms32).any():
        with np.errstate(invalid="ignore"):
            assert np.array_equal(np.sum(terms32), total, equal_nan=True)
        return
    exact = sum(map(Fraction, terms.tolist()), Fraction(0))
    size = max(np.abs(terms), default=0.0)
    # A product is rounded to float32 before it is summed.
    slack = ROWS * size * (2.0**-46 if weight is None else 2.0**-23)
    assert abs(Fraction(total) - exact) <= slack
