"""The forms of the histogram: scatter, product and reduce give the same integers."""

import math
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from jaxmetrics import forms, histogram, limbs


class Batch(NamedTuple):
    """Rows that say themselves where they belong."""

    cell: jax.Array
    weight: jax.Array


def classify(batch):
    """A row's cell, two flags and its weight."""
    return histogram.Rows(batch.cell, tuple(flags(batch.cell)), batch.weight)


def flags(cell):
    """Of some rows that are dropped, and of rows that are and that are not."""
    return cell == -2, (cell % 2 == 0) | (cell == -3)


SWEEPS = {
    "in turn": partial(histogram._in_turn, limit=1024),
    "at once": partial(histogram._at_once, limit=1024),
    "whole": lambda sweep, batch: sweep.whole(batch),
}


@pytest.mark.parametrize(("cells", "weighted"), [(37, False), (12, True)])
def test_all_forms_of_the_histogram_are_equal(cells, weighted):
    """Scatter, product and reduce, in turn or at once, give the same integers."""
    rng = np.random.default_rng(9)
    rows = 3 * 1024 + 77
    cell = rng.integers(-4, cells, rows).astype(np.int32)
    weight = (10.0 ** rng.uniform(-3, 3, rows)).astype(np.float32)
    batch = Batch(jnp.asarray(cell), jnp.asarray(weight))
    scale = limbs.max_weight(batch.weight, batch.cell >= 0) if weighted else None
    scatter = forms.SCATTER_WEIGHTS if weighted else forms.SCATTER_COUNTS
    ways = {
        "scatter": scatter,
        "product": forms.PRODUCT,
        "reduce": forms.REDUCE,
    }
    results = {}
    for form, sweeping in ((f, s) for f in ways for s in SWEEPS):
        sweep = histogram._sweep(ways[form], classify, cells, scale)
        sweep_all = jax.jit(partial(SWEEPS[sweeping], sweep))
        results[form, sweeping] = jax.tree.map(np.asarray, sweep_all(batch))
    first = results["scatter", "whole"]
    for name, sums in results.items():
        for mine, other in zip(
            jax.tree.leaves(sums), jax.tree.leaves(first), strict=True
        ):
            np.testing.assert_array_equal(mine, other, err_msg=str(name))
    assert first.flags.tolist() == [np.sum(flag) for flag in flags(cell)]
    if weighted:
        total = sum(
            x.astype(float) * 2.0 ** (16 * i) for i, x in enumerate(first.limbs)
        )
        found = total * 2.0 ** (int(scale) - 48)
        expected = [math.fsum(weight[cell == c]) for c in range(cells)]
        np.testing.assert_allclose(found[:-1], expected, rtol=1e-9)
        squares = math.fsum(weight[cell >= 0].astype(float) ** 2)
        np.testing.assert_allclose(found[-1] * 2.0 ** int(scale), squares, rtol=1e-4)
    else:
        expected = np.bincount(cell[cell >= 0], minlength=cells)
        np.testing.assert_array_equal(first.counts, expected)


def classify_pairs(batch):
    """A row's cell, two flags that exclude each other, and its amount."""
    apart = batch.cell == -2, batch.cell == -3
    return histogram.Rows(batch.cell, apart, amount=batch.weight.astype(jnp.int32))


@pytest.mark.parametrize(("number", "cells"), [(700, 4000), (3 * 1024 + 77, 37)])
def test_all_forms_of_pairs_are_equal(number, cells):
    """Counts and sums of amounts by cell, with places for what is dropped.

    Few rows touch their own cells alone, on one device and inside `shard_map`.
    """
    rng = np.random.default_rng(11)
    cell = rng.integers(-4, cells, number).astype(np.int32)
    amount = rng.integers(0, 256, number)
    batch = Batch(jnp.asarray(cell), jnp.asarray(amount, jnp.float32))
    kept = cell >= 0
    wanted = np.zeros((2, cells + 3, 2), np.uint32)
    wanted[0, :cells, 0] = np.bincount(cell[kept], minlength=cells)
    amounts = np.bincount(cell[kept], amount[kept], cells).astype(np.uint32)
    wanted[:, :cells, 1] = amounts % 2**21, amounts >> 21
    wanted[0, cells + 1 :, 0] = np.sum(cell == -2), np.sum(cell == -3)
    for form, (sweeping, sweep_by) in (
        (f, s) for f in (forms.SCATTER_PAIRS, forms.PRODUCT) for s in SWEEPS.items()
    ):
        sweep = histogram._sweep(form, classify_pairs, cells, None)
        sums = jax.jit(partial(sweep_by, sweep))(batch)
        np.testing.assert_array_equal(sums.pairs, wanted, err_msg=sweeping)

    def added(words, batch):
        return histogram.add_pairs_of(words, classify_pairs, batch, cells=cells)

    mesh = jax.make_mesh((1,), ("data",), (jax.sharding.AxisType.Auto,))
    inside = jax.shard_map(
        added, mesh=mesh, in_specs=P(), out_specs=P(), check_vma=False
    )
    for way in (added, jax.jit(added), jax.jit(inside)):
        found = np.asarray(way(jnp.asarray(wanted), batch)).astype(np.uint64)
        twice = 2 * (wanted[0] + (wanted[1].astype(np.uint64) << 21))
        np.testing.assert_array_equal(found[0] + (found[1] << 21), twice)
        assert found[0].max() < 2**21


@pytest.mark.parametrize("weighted", [False, True])
def test_tally_counts_and_weighs(weighted):
    """`tally` gives what NumPy gives, with lanes and without, and drops cell -1."""
    rng = np.random.default_rng(10)
    cell = rng.integers(-4, 12, 1001).astype(np.int32)
    weight = rng.random(1001).astype(np.float32)
    batch = Batch(jnp.asarray(cell), jnp.asarray(weight))
    scale = limbs.max_weight(batch.weight, batch.cell >= 0) if weighted else None
    for transform in (lambda f: f, jax.jit):  # one lane; one for each device
        found = transform(partial(histogram.tally, classify, cells=12, scale=scale))(
            batch
        )
        kept = cell >= 0
        expected = np.bincount(cell[kept], weight[kept] if weighted else None, 12)
        assert found.flags.tolist() == [np.sum(flag) for flag in flags(cell)]
        if weighted:
            total = np.asarray(found.weights[0], float) + np.asarray(found.weights[1])
            np.testing.assert_allclose(total, expected, rtol=1e-12)
        else:
            np.testing.assert_array_equal(found.counts, expected)
