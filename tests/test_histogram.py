"""The forms of the histogram: scatter, product and reduce give the same integers."""

import math
from functools import partial
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from jaxmetrics import codes, forms, histogram, limbs, sweeps, wide


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
    "in turn": partial(sweeps.in_turn, limit=1024),
    "at once": partial(sweeps._at_once, limit=1024),
    "whole": lambda sweep, batch: sweep.whole(batch),
}


def rows_with_weights():
    """Cells from -4 up, and weights over six decades."""
    rng = np.random.default_rng(9)
    rows = 3 * 1024 + 77
    cell = rng.integers(-4, 12, rows).astype(np.int32)
    weight = (10.0 ** rng.uniform(-3, 3, rows)).astype(np.float32)
    return cell, weight, Batch(jnp.asarray(cell), jnp.asarray(weight))


def swept_in_all_ways(ways, classify, batch, cells, scale=None):
    """What each form gives, in each way to go through the rows."""
    results = {}
    for name, sweeping in ((f, s) for f in ways for s in SWEEPS):
        sweep = sweeps.Sweep(ways[name], classify, cells, scale, squares=True)
        sweep_all = jax.jit(partial(SWEEPS[sweeping], sweep))
        results[name, sweeping] = jax.tree.map(np.asarray, sweep_all(batch))
    return results


def test_all_forms_of_weights_are_equal():
    """Scatter, product and reduce, in turn or at once, give the same integers."""
    cell, weight, batch = rows_with_weights()
    scale = limbs.max_weight(batch.weight, batch.cell >= 0)
    ways = {
        "scatter": forms.SCATTER_WEIGHTS,
        "halves": forms.SCATTER_HALVES,
        "product": forms.PRODUCT,
        "reduce": forms.REDUCE,
    }
    results = swept_in_all_ways(ways, classify, batch, 12, scale)
    first = results["scatter", "whole"]
    for name, sums in results.items():
        for mine, other in zip(
            jax.tree.leaves(sums), jax.tree.leaves(first), strict=True
        ):
            np.testing.assert_array_equal(mine, other, err_msg=str(name))
    assert first.flags.tolist() == [np.sum(flag) for flag in flags(cell)]
    total = sum(x.astype(float) * 2.0 ** (16 * i) for i, x in enumerate(first.limbs))
    found = total * 2.0 ** (int(scale) - 48)
    expected = [math.fsum(weight[cell == c]) for c in range(12)]
    np.testing.assert_allclose(found[:-1], expected, rtol=1e-9)
    squares = math.fsum(weight[cell >= 0].astype(float) ** 2)
    np.testing.assert_allclose(found[-1] * 2.0 ** int(scale), squares, rtol=1e-4)


def test_tables_of_halves_hold_53_bits_of_each():
    """As many rows as a batch may have, all in one cell."""
    sums = [(0, 0), (1, 2**24), (2**53 - 1, 2**53 - 1), (2**52 + 2**24 - 1, 2**47 + 1)]
    with jax.enable_x64(True):
        table = jnp.array([complex(*both) for both in sums], np.complex128)
    found = [[int(x) for x in limb] for limb in wide.read_halves(table)]
    for (upper, lower), each in zip(sums, zip(*found, strict=True), strict=True):
        assert sum(x << (16 * i) for i, x in enumerate(each)) == (upper << 24) + lower
        assert max(each[:3]) < 2**16


def test_many_cells_weigh_what_few_would(monkeypatch):
    """One table for all blocks gives the bits of a table for each."""
    monkeypatch.setattr(sweeps, "BLOCK_ROWS", 64)
    rng = np.random.default_rng(4)
    rows, cells = 4096 + 9, 64
    cell = rng.integers(-1, cells, rows).astype(np.int32)
    weight = np.float32(10.0 ** rng.uniform(-3, 3, rows))
    batch = Batch(jnp.asarray(cell), jnp.asarray(weight))

    def weigh(batch):
        scale = limbs.max_weight(batch.weight, None)
        return histogram.tally(
            classify, batch, cells=cells, flags=2, scale=scale, squares=True
        )

    found = []
    for many in (cells + 1, cells):
        monkeypatch.setattr(sweeps, "MANY_CELLS", many)
        compiled = jax.jit(partial(weigh)).lower(batch)
        assert ("complex" in compiled.as_text()) == (many == cells)
        found.append(compiled.compile()(batch))
    chex.assert_trees_all_equal(*found)


def test_tables_of_all_blocks_are_side_by_side_only_where_they_fit(monkeypatch):
    """Elsewhere than on a CPU; what does not fit goes block by block."""
    monkeypatch.setattr(sweeps, "BLOCK_ROWS", 64)
    monkeypatch.setattr(sweeps, "MOST_AT_ONCE", 9 * 4)
    batch = Batch(jnp.zeros(8 * 64 * 4, jnp.int32), jnp.ones(8 * 64 * 4))
    for cells, loops in ((9, False), (10, True)):

        def weigh(batch, cells=cells):
            scale = limbs.max_weight(batch.weight, None)
            return histogram.tally(classify, batch, cells=cells, flags=2, scale=scale)

        lowered = jax.jit(weigh).trace(batch).lower(lowering_platforms=("cuda",))
        assert ("stablehlo.while" in lowered.as_text()) == loops


@pytest.mark.parametrize("groups", [1, 3])
@pytest.mark.parametrize("flagged", [False, True])
def test_all_forms_of_counts_are_equal(groups, flagged, monkeypatch):
    """Scatter, product and reduce, in turn, at once and by twos, of codes of rows.

    By twos with flags and without, where the sweep for these has nothing to do.
    """
    monkeypatch.setattr(sweeps, "BLOCK_ROWS", 1024)
    cell, _, batch = rows_with_weights()
    cell = cell if flagged else np.maximum(cell, -1)
    batch = Batch(jnp.asarray(cell), jnp.arange(-1, cell.size - 1) % groups)
    code = codes.Codes(12, 2, groups)

    def coded(batch):
        group = batch.weight if groups > 1 else None
        set_ = [flag & flagged for flag in flags(batch.cell)]
        return code.of(batch.cell, set_, group)

    def classify_codes(batch):
        return histogram.Rows(coded(batch)[0], ())

    ways = {
        "scatter": forms.SCATTER_COUNTS,
        "product": forms.PRODUCT,
        "reduce": forms.REDUCE,
    }
    results = swept_in_all_ways(ways, classify_codes, batch, code.number)
    scatter = sweeps.Sweep(
        forms.SCATTER_COUNTS,
        lambda numbers: histogram.Rows(numbers, ()),
        code.number,
        ahead=lambda rows: coded(rows)[0],
    )
    by_twos = partial(
        sweeps._by_twos, usual=code.usual, place=lambda rows: coded(rows)[1]
    )
    results["by twos"] = jax.jit(partial(by_twos, scatter))(batch)
    monkeypatch.setattr(sweeps, "AHEAD_BLOCKS", 2)
    in_turn = partial(sweeps.in_turn, scatter, limit=256)
    results["numbered ahead"] = jax.jit(in_turn)(batch)
    for name, sums in results.items():
        counts, found, came = code.read(jnp.asarray(sums.counts))
        for g in range(groups):
            mine = cell[np.asarray(batch.weight) == g]
            expected = np.bincount(mine[mine >= 0], minlength=12)
            np.testing.assert_array_equal(counts[g], expected, err_msg=str(name))
            wanted = [np.sum(flag & flagged) for flag in flags(mine)]
            assert found[g].tolist() == wanted, name
            here = (mine >= 0) | (np.any(flags(mine), axis=0) & flagged)
            assert came[g] == np.sum(here), name


@pytest.mark.parametrize("at_a_step", [1, 4])
@pytest.mark.parametrize("limit", [1, 3, 8, 40])
def test_every_row_is_in_one_block(limit, at_a_step):
    """And no block is larger than it may be, whatever the number of rows."""
    for rows in (1, 2, 3, 4, 5, 9, 16, 33, 100, 161):
        sizes = []

        def add(raw, *blocks, rows=rows, sizes=sizes):
            sizes += map(len, blocks)
            counts = np.bincount(np.concatenate(blocks), minlength=rows)
            return counts if raw is None else raw + counts

        with jax.disable_jit():
            found = sweeps._looped(add, None, jnp.arange(rows), limit, at_a_step)
            size, blocks, _ = sweeps._cut(jnp.arange(rows), rows, limit, at_a_step)
        assert np.all(found == 1), rows
        assert 1 <= max(sizes) <= limit, rows
        assert blocks * size <= rows, rows


def test_rows_are_taken_by_twos_inside_shard_map_and_vmap(monkeypatch):
    """Each device for itself; a loop that one of several needs runs for it alone."""
    monkeypatch.setattr(sweeps, "BLOCK_ROWS", 1024)
    cell, _, batch = rows_with_weights()
    cell[: cell.size // 2] = np.maximum(cell[: cell.size // 2], -1)  # no flags there
    batch = Batch(jnp.asarray(cell[:-1]), batch.weight[:-1])

    def counted(batch):
        sums = histogram.tally(
            lambda b: classify(b)._replace(weight=None), batch, cells=12, flags=2
        )
        return sums.counts, sums.flags

    mesh = jax.make_mesh((2,), ("data",), (jax.sharding.AxisType.Auto,))
    inside = jax.shard_map(
        lambda b: jax.tree.map(lambda x: x[None], counted(b)),
        mesh=mesh,
        in_specs=P("data"),
        out_specs=P("data"),
    )
    halves = jax.tree.map(lambda x: x.reshape(2, -1), batch)
    program = str(jax.make_jaxpr(inside)(batch))
    assert f"u32[{14**2}]" in program  # a table of two rows' places
    for counts, found in (jax.jit(inside)(batch), jax.vmap(counted)(halves)):
        for i in range(2):
            mine = np.asarray(halves.cell[i])
            expected = np.bincount(mine[mine >= 0], minlength=12)
            np.testing.assert_array_equal(counts[i], expected)
            assert found[i].tolist() == [np.sum(flag) for flag in flags(mine)]


def test_rows_are_taken_by_twos_with_64_bits_and_beside_what_all_devices_share(
    monkeypatch,
):
    """Counts stay uint32, and a loop varies as any of its arrays does."""
    monkeypatch.setattr(sweeps, "BLOCK_ROWS", 1024)
    cell, _, batch = rows_with_weights()
    mesh = jax.make_mesh((2,), ("data",), (jax.sharding.AxisType.Auto,))

    def counted(cell, weight):
        rows = partial(histogram.tally, classify, cells=12, flags=2)
        return rows(Batch(cell, weight)).counts[None]

    for specs in ((P(), P("data")), (P("data"), P())):
        inside = jax.shard_map(
            lambda c, w: counted(c[: w.size], w[: c.size]),
            mesh=mesh,
            in_specs=specs,
            out_specs=P("data"),
        )
        with jax.enable_x64(True):
            counts = jax.jit(inside)(batch.cell[:-1], batch.weight[:-1])
        assert counts.dtype == np.uint32
        here = cell[: cell.size // 2]
        expected = np.bincount(here[here >= 0], minlength=12)
        np.testing.assert_array_equal(counts[0], expected)


def classify_pairs(batch):
    """A row's cell, two flags that exclude each other, and its amount."""
    apart = batch.cell == -2, batch.cell == -3
    return histogram.Rows(batch.cell, apart, amount=batch.weight.astype(jnp.int32))


def classify_amounts(batch):
    """The same without its flags."""
    return classify_pairs(batch)._replace(flags=())


@pytest.mark.parametrize("rows", [2**14 - 1, 2**14, 2**14 + 1, 2**15 + 511])
@pytest.mark.parametrize("cells", [1, 3, 5])
def test_a_reduce_counts_alike_with_one_operand_and_with_several(rows, cells):
    """Those of one integer, of up to four cells, are summed by halves of the rows."""
    cell = np.random.default_rng(rows).integers(-1, cells, rows).astype(np.int32)
    sweep = sweeps.Sweep(forms.REDUCE, lambda x: histogram.Rows(x, ()), cells)
    counts = jax.jit(sweep.whole)(jnp.asarray(cell)).counts
    np.testing.assert_array_equal(
        counts, np.bincount(cell + 1, minlength=cells + 1)[1:]
    )


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
        sweep = sweeps.Sweep(form, classify_amounts, cells)
        sums = jax.jit(partial(sweep_by, sweep))(batch)
        np.testing.assert_array_equal(sums.pairs, wanted[:, :cells], err_msg=sweeping)
    tallied = partial(histogram.tally_pairs, classify_pairs, cells=cells, flags=2)
    for transform in (lambda f: f, jax.jit):  # one lane; one for each device
        np.testing.assert_array_equal(transform(tallied)(batch), wanted)

    def added(words, batch):
        return histogram.add_pairs_of(
            words, classify_pairs, batch, cells=cells, flags=2
        )

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
        found = transform(
            partial(histogram.tally, classify, cells=12, flags=2, scale=scale)
        )(batch)
        kept = cell >= 0
        expected = np.bincount(cell[kept], weight[kept] if weighted else None, 12)
        assert found.flags.tolist() == [np.sum(flag) for flag in flags(cell)]
        if weighted:
            total = np.asarray(found.weights[0], float) + np.asarray(found.weights[1])
            np.testing.assert_allclose(total, expected, rtol=1e-12)
        else:
            np.testing.assert_array_equal(found.counts, expected)
