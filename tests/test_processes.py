"""Several processes on one machine: one program over all, and loops that end as one.

For each number of processes `process_worker.py` is started that often, once for all
tests here; they read what it found.
"""

import functools
import json
import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import process_worker as worker
import pytest

import jaxmetrics as jm

TIMEOUT = 120  # seconds, for all processes together, on a busy machine
DEVICES = {2: 2, 4: 1}  # processes to devices of each


def free_port():
    """A port of the loopback interface that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def environment(devices):
    """The environment of a worker: its own number of devices and this package."""
    package = Path(jm.__file__).parents[1]
    flags = os.environ["XLA_FLAGS"]  # of which the last counts
    return os.environ | {
        "XLA_FLAGS": f"{flags} --xla_force_host_platform_device_count={devices}",
        "PYTHONPATH": os.pathsep.join([str(package), os.environ.get("PYTHONPATH", "")]),
    }


def run_processes(processes, folder):
    """What each process found; fails with their words if one fails or hangs."""
    port = free_port()
    files = [
        (folder / f"{rank}.out", folder / f"{rank}.err") for rank in range(processes)
    ]
    started = []
    for rank, (out, err) in enumerate(files):
        command = [sys.executable, worker.__file__, *map(str, (rank, processes, port))]
        with out.open("w") as stdout, err.open("w") as stderr:
            started.append(
                subprocess.Popen(
                    command,
                    env=environment(DEVICES[processes]),
                    stdout=stdout,
                    stderr=stderr,
                )
            )
    deadline = time.monotonic() + TIMEOUT
    try:
        # One that fails leaves the others waiting for it: then all are ended.
        while any(p.poll() is None for p in started):
            if time.monotonic() > deadline or any(p.poll() for p in started):
                break
            time.sleep(0.05)
        codes = [p.poll() for p in started]
    finally:
        for p in started:
            p.kill()
            p.wait()
    errors = "\n".join(err.read_text() for _, err in files)
    assert codes == [0] * processes, f"exit codes {codes}\n{errors}"
    return [json.loads(out.read_text().splitlines()[-1]) for out, _ in files]


@pytest.fixture(scope="module", params=DEVICES, ids="{} processes".format)
def found(request, tmp_path_factory):
    """What each process found, in rank order."""
    return run_processes(request.param, tmp_path_factory.mktemp("processes"))


def count(batches):
    """The state of a single process that sees all rows, padded to one size."""
    state = worker.METRICS.init()
    for batch in batches:
        rows = {"mask": np.ones(len(batch["loss"]), bool), **batch}
        padded, _ = jm.pad_batch(rows, worker.ALL_ROWS)
        state = jax.block_until_ready(worker.step(state, padded))
    return state


def leaves_of(found):
    """The leaves that a worker printed, in the dtypes that they had."""
    like = jax.tree.leaves(worker.METRICS.init())
    return [np.asarray(x, y.dtype) for x, y in zip(found, like, strict=True)]


def assert_equal_counts(found, state):
    """Words must agree bit for bit, two-float sums to 1e-6."""
    for ours, theirs in zip(leaves_of(found), jax.tree.leaves(state), strict=True):
        if ours.dtype == np.uint32:
            np.testing.assert_array_equal(ours, theirs)
        else:
            np.testing.assert_allclose(ours.sum(0), theirs.sum(0), rtol=1e-6, atol=1e-6)


def test_every_process_sees_the_devices_of_all(found):
    """The workers are one distributed program, and not several single ones."""
    own = DEVICES[len(found)]
    assert [f["devices"] for f in found] == [[own, own * len(found)]] * len(found)


def test_one_program_over_all_processes_counts_as_one_process_does(found):
    """Process-local rows of a global array, wholly masked processes among them."""
    state = count(worker.shared_batches())
    for report in found:
        assert report["global"]["state"] == found[0]["global"]["state"]
        assert_equal_counts(report["global"]["state"], state)


def test_merging_a_global_state_returns_it_as_it_is(found):
    """It holds the rows of all processes already; merging would multiply them."""
    assert all(report["global"]["merging_it_changes_nothing"] for report in found)


def test_a_global_state_is_written_by_any_process_if_it_has_all_of_it(found):
    """Replicated it is, and read as a local state; spread over processes it is not."""
    for report in found:
        assert report["global"]["read"] == report["global"]["state"]
        assert re.match(
            r"to_bytes: the state must be on this process; .* spread over several.*"
            r"out_shardings=NamedSharding\(mesh, PartitionSpec\(\)\)",
            report["global"]["spread"],
        )


def test_loops_of_unequal_length_merge_to_what_one_process_counts(found):
    """One process has no batch at all; none hangs, and all get the same bits."""
    ranks = range(len(found))
    state = count(batch for rank in ranks for batch in worker.own_batches(rank))
    for report in found:
        assert report["merged"] == found[0]["merged"]
        assert_equal_counts(report["merged"], state)


def test_processes_are_merged_in_rank_order(found):
    """Sums whose last bits depend on the order come out as folded by rank."""
    states = list(worker.order_telling_states())[: len(found)]
    merge = jax.jit(jm.Sum().merge)
    in_order = worker.as_lists(functools.reduce(merge, states))
    assert all(report["ordered"] == in_order for report in found)
    if len(states) > 2:  # with fewer there is no order to tell
        assert in_order != worker.as_lists(functools.reduce(merge, states[::-1]))


@pytest.mark.parametrize(
    ("case", "words"),
    [
        ("options", ["thresholds=(0.4,)", "thresholds=(0.5,)"]),
        ("members", ["a local state of ConfusionCounts(", "WeightedSum()"]),
        ("foreign", ["what it cannot merge", "belongs to", "thresholds=(0.9,)"]),
        ("nothing", ["what it cannot merge", "got NoneType"]),
    ],
)
def test_disagreement_raises_on_every_process(found, case, words):
    """The message says what each process holds, and nobody is left waiting."""
    last = len(found) - 1
    for report in found:
        message = report["errors"][case]
        assert message.startswith("merge_processes: all processes must hold a state of")
        assert f"process {', '.join(map(str, range(last)))} holds " in message
        assert f"; process {last} holds " in message
        assert message.endswith(
            "Make the metric from the same options on every process."
        )
        for word in words:
            assert word in message


# --- evaluate -------------------------------------------------------------------------


def test_evaluations_of_unequal_length_count_every_row_once(found):
    """One process has no batch at all; none hangs, and all get the same results."""
    ranks = range(len(found))
    state = count(batch for rank in ranks for batch in worker.own_batches(rank))
    expected = jax.jit(worker.METRICS.compute)(state)
    for report in found:
        evaluated = report["evaluate"]
        assert evaluated["state"] == found[0]["evaluate"]["state"]
        assert_equal_counts(evaluated["state"], state)
        for name, value in expected.items():
            assert evaluated["results"][name] == pytest.approx(float(value)), name
        assert np.isnan(evaluated["none"])  # the mean of no batches anywhere


def test_an_evaluation_resumed_by_several_processes_has_the_same_bits(found):
    """Each process goes on from the common state with its own other batches."""
    for report in found:
        assert report["evaluate"]["resumed"] == report["evaluate"]["state"]


def test_an_evaluation_on_own_devices_is_one_of_this_process_alone(found):
    """Merged afterwards, they count what all processes count together."""
    for report in found:
        evaluated = report["evaluate"]
        together = jax.tree.unflatten(
            jax.tree.structure(worker.METRICS.init()), leaves_of(evaluated["state"])
        )
        assert_equal_counts(evaluated["alone"], together)


@pytest.mark.parametrize(
    ("case", "own", "others"),
    [
        ("lost", "Lost: the disk is gone", "evaluate: another process failed to read"),
        ("kind", "process 0 has .*float32.* has .*int32", "batches of one kind"),
        ("metric", r"process 0 has .*0\.4.* has .*0\.5", "the same metrics"),
        ("foreign", "belongs to WeightedSum", "process .* could not start: .*belongs"),
    ],
)
def test_an_evaluation_that_cannot_go_on_raises_on_every_process(
    found, case, own, others
):
    """The last process says what is wrong; nobody is left waiting."""
    *reports, last = (report["evaluate"]["errors"][case] for report in found)
    assert re.search(own, last)
    assert all(re.search(others, report) for report in reports)


def test_a_mesh_that_leaves_out_this_process_is_refused(found):
    """A process that has no part in the program must not wait for it."""
    message = found[-1]["evaluate"]["errors"]["mesh"]
    assert "must be those of all processes, or this one's alone; got those" in message


# --- the helpers on one process -------------------------------------------------------


def test_a_single_process_keeps_its_state():
    """There is nothing to merge, and nothing is copied."""
    metric = jm.Mean()
    state = metric.init()
    assert jm.merge_processes(metric, state) is state


def test_merging_refuses_what_is_no_state_of_the_metric():
    """A single process refuses as several do, by the names of both metrics."""
    with pytest.raises(
        ValueError, match=r"belongs to WeightedSum\(\), not to Confusion"
    ):
        jm.merge_processes(jm.Recall(), jm.Mean().init())
    with pytest.raises(
        TypeError, match=r"merge_processes: state must be what init\(\)"
    ):
        jm.merge_processes(jm.Recall(), 3.0)


def test_merging_inside_jit_says_that_it_belongs_outside():
    """A collective of the host cannot be part of a compiled program."""
    metric = jm.Mean()
    with pytest.raises(TypeError, match="state is traced; merge outside the jitted"):
        jax.jit(lambda s: jm.merge_processes(metric, s))(metric.init())


def test_a_padded_batch_keeps_its_rows_and_dtypes():
    """Rows come first, zeros after them, and the mask is True for the rows."""
    batch = {
        "label": np.array([3, 1], np.int8),
        "image": np.ones((2, 4, 5), jax.numpy.bfloat16),
        "seen": (np.array([True, True]), jax.numpy.array([0.5, 0.25])),
    }
    padded, mask = jm.pad_batch(batch, 5)
    assert jax.tree.structure(padded) == jax.tree.structure(batch)
    np.testing.assert_array_equal(mask, [True, True, False, False, False])
    for before, after in zip(
        jax.tree.leaves(batch), jax.tree.leaves(padded), strict=True
    ):
        assert type(after) is np.ndarray
        assert (after.dtype, after.shape) == (before.dtype, (5, *before.shape[1:]))
        np.testing.assert_array_equal(after[:2], before)
        assert not after[2:].any()


def test_a_full_batch_is_not_copied():
    """Only the last batch of an evaluation costs a copy."""
    x = np.arange(3.0)
    padded, mask = jm.pad_batch([x], 3)
    assert padded[0] is x
    assert mask.dtype == np.bool_
    assert mask.all()


def test_a_batch_without_rows_is_padding_alone():
    """So a process that has run out of rows can still take part in a step."""
    padded, mask = jm.pad_batch(np.zeros((0, 2), np.float32), 2)
    np.testing.assert_array_equal(padded, np.zeros((2, 2), np.float32))
    assert mask.tolist() == [False, False]


def test_one_compile_serves_every_padded_batch():
    """Batches of 7, 7 and 3 rows run one program and average like all rows at once."""
    metric = jm.Mean()
    update = jax.jit(metric.update)
    state, rows = metric.init(), np.random.default_rng(0).random(17, np.float32)
    for start in range(0, 17, 7):
        values, mask = jm.pad_batch(rows[start : start + 7], 7)
        state = update(state, values=values, mask=mask)
    assert update._cache_size() == 1
    assert float(metric.compute(state)) == pytest.approx(rows.mean(dtype=np.float64))


@pytest.mark.parametrize(
    ("batch", "size", "kind", "words"),
    [
        (
            {"x": np.zeros(3), "y": np.zeros(4)},
            8,
            ValueError,
            r"same number of rows; got batch\['x'\] 3, batch\['y'\] 4",
        ),
        (np.zeros(3), 2, ValueError, "has 3 rows, more than size=2"),
        ({"y": [0, 1]}, 2, ValueError, r"batch\['y'\]\[0\] is the single value 0"),
        ({}, 2, ValueError, "the batch has no arrays"),
        (np.zeros(3), 0, ValueError, "size must be an integer >= 1; got 0"),
        (np.zeros(3), 4.0, TypeError, "size must be an integer >= 1; got 4.0"),
    ],
)
def test_a_batch_that_cannot_be_padded_raises(batch, size, kind, words):
    """Each refusal names the arrays, both sizes and the way out."""
    with pytest.raises(kind, match=f"pad_batch: .*{words}"):
        jm.pad_batch(batch, size)


def test_padding_a_traced_batch_says_that_it_belongs_outside():
    """Inside jit the shapes are fixed already."""
    with pytest.raises(TypeError, match="is traced; pad on the host"):
        jax.jit(lambda x: jm.pad_batch({"x": x}, 4)[1])(np.zeros(3))
