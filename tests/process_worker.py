"""One of several processes: `python process_worker.py RANK PROCESSES PORT`.

What it finds goes to standard output as one line of JSON; `test_processes.py` starts it
and compares. Importing it has no effect, so that the test can use the same data.
"""

import json
import os
import sys
import traceback

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

import jaxmetrics as jm

METRICS = jm.Collection(
    precision=jm.Precision(),
    auc=jm.AUC(num_thresholds=20),
    loss=jm.Mean().with_inputs(values="loss", sample_weight="weight"),
)
SLICED = jm.Sliced(jm.Precision(), 7)  # and all rows: a state of 8
OWN_ROWS = 16  # of a batch of one process's own
ALL_ROWS = 64  # of a batch that all processes share


def rows_of(seed, rows):
    """Labels, scores, losses and the weights of losses."""
    rng = np.random.default_rng(seed)
    return {
        "y_true": rng.integers(0, 2, rows, np.int32),
        "y_pred": rng.random(rows, np.float32),
        "loss": rng.standard_normal(rows, np.float32),
        "weight": rng.random(rows, np.float32),
    }


def shared_batches():
    """Batches for all processes together; of two processes the last is masked out."""
    for seed in (0, 1):
        yield {**rows_of(seed, ALL_ROWS), "mask": np.arange(ALL_ROWS) < ALL_ROWS // 2}


def own_batches(rank):
    """The batches of one process: as many as its rank, so the first has none."""
    for i, rows in enumerate([OWN_ROWS, OWN_ROWS, 5][:rank]):
        yield rows_of(100 + 10 * rank + i, rows)


def with_nothing(rank):
    """The same and batches of no rows, of which all processes have one at once."""
    none = {name: x[:0] for name, x in rows_of(0, 1).items()}
    own = list(own_batches(rank))
    return [none, *own[:1], none, *own[1:]] if rank else []


def count_own(step, rank):
    """The state of a host-side loop over the batches of one process."""
    state = METRICS.init()
    for batch in own_batches(rank):
        batch, mask = jm.pad_batch(batch, OWN_ROWS)
        state = step(state, {**batch, "mask": mask})
    return state


def order_telling_states():
    """States of a sum for up to four processes; the last bits tell their order.

    Two floats hold 2^-20 and 2^20 together, or 2^20 and 2^60, but not all three.
    """
    for value in (2.0**-20, 2.0**20, 2.0**60, -(2.0**60)):
        words, sums = jax.tree.map(np.array, jax.tree.leaves(jm.Sum().init()))
        sums[0] = value
        yield jax.tree.unflatten(jax.tree.structure(jm.Sum().init()), [words, sums])


@jax.jit
def step(state, batch):
    """One update; as the state is global, so is the answer."""
    return METRICS.update(state, **batch)


def as_lists(state):
    """Words and two-floats as lists, which JSON brings back bit for bit."""
    return [np.asarray(x).tolist() for x in jax.tree.leaves(state)]


def one_program(processes, mesh):
    """The same program everywhere, over a mesh of all devices, with own rows."""
    split = NamedSharding(mesh, PartitionSpec("data"))
    everywhere = NamedSharding(mesh, PartitionSpec())
    state = jax.device_put(METRICS.init(), everywhere)
    rows = ALL_ROWS // processes
    start = rows * jax.process_index()
    for batch in shared_batches():
        own = {
            name: jax.make_array_from_process_local_data(split, x[start : start + rows])
            for name, x in batch.items()
        }
        state = jax.block_until_ready(step(state, own))
    same = jm.merge_processes(METRICS, state) is state
    read = jm.from_bytes(METRICS, jm.to_bytes(METRICS, state))
    return {
        "state": as_lists(state),
        "read": as_lists(read),
        "spread": error_of(SLICED, spread_over(mesh), jm.to_bytes),
        "merging_it_changes_nothing": same,
    }


def spread_over(mesh):
    """A state of which no process has all."""
    split = NamedSharding(mesh, PartitionSpec("data"))
    leaves, treedef = jax.tree.flatten(SLICED.init())
    first, *others = map(np.asarray, leaves)
    first = jax.make_array_from_callback(first.shape, split, first.__getitem__)
    return jax.tree.unflatten(treedef, [first, *others])


def error_of(metric, state, function=jm.merge_processes):
    """The words of the ValueError that a function of a state raises."""
    try:
        function(metric, state)
    except ValueError as error:
        return str(error)
    return None


def disagreements(rank):
    """The errors where processes hold different things; the last process deviates."""
    last = rank == jax.process_count() - 1
    other = jm.Precision(thresholds=0.4 if last else 0.5)
    members = {"precision": jm.Precision(), "mean": jm.Mean().with_inputs(values="y")}
    fewer = jm.Collection({"precision": members["precision"]} if last else members)
    recall = jm.Recall()
    foreign = jm.Recall(thresholds=0.9).init()
    return {
        "options": error_of(other, other.init()),
        "members": error_of(fewer, fewer.init()),
        "foreign": error_of(recall, foreign if last else recall.init()),
        "nothing": error_of(recall, None if last else recall.init()),
    }


EVALUATION = {"params": np.float32(1), "batch_size": OWN_ROWS, "progress": False}


def inputs_of(params, batch):
    """A step whose scores are those of the batch as long as params are 1."""
    return {**batch, "y_pred": batch["y_pred"] * params}


class Lost(Exception):
    """What a data set raises in the middle of an evaluation."""


def failing(rank):
    """Batches that cannot be read to their end, of the last process alone."""
    yield from own_batches(3)
    if rank == jax.process_count() - 1:
        raise Lost("the disk is gone")
    for _ in range(100):
        yield from own_batches(3)


def evaluation_error(batches, metrics=METRICS, **options):
    """The kind and the words of what an evaluation raises."""
    try:
        jm.evaluate(metrics, inputs_of, batches, **EVALUATION, **options)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return None


def evaluations(rank):
    """Loops of unequal length in one call, in halves, and what cannot be evaluated."""
    saved = []
    results, state = jm.evaluate(
        METRICS,
        inputs_of,
        with_nothing(rank),
        save=lambda state, batches: saved.append((jax.device_get(state), batches)),
        save_every=1,
        **EVALUATION,
    )
    middle, done = saved[2]
    rest = with_nothing(rank)[done:]
    resumed = jm.evaluate(METRICS, inputs_of, rest, state=middle, **EVALUATION)
    last = rank == jax.process_count() - 1
    local = jax.sharding.Mesh(np.array(jax.local_devices()), ("data",))
    alone = jm.evaluate(METRICS, inputs_of, own_batches(rank), mesh=local, **EVALUATION)
    none = jm.evaluate(METRICS, inputs_of, [], **EVALUATION)
    other = [np.zeros(3, np.int32 if last else np.float32)]
    pair = jax.sharding.Mesh(np.array(jax.devices()[: -jax.local_device_count()]), "x")
    return {
        "results": {name: float(x) for name, x in results.items()},
        "state": as_lists(state),
        "resumed": as_lists(resumed.state),
        "alone": as_lists(jm.merge_processes(METRICS, alone.state)),
        "none": float(none.results["loss"]),
        "errors": {
            "lost": evaluation_error(failing(rank)),
            "kind": evaluation_error(other),
            "metric": evaluation_error([], jm.Precision(thresholds=0.4 + last / 10)),
            "foreign": evaluation_error(
                [], state=jm.Mean().init() if last else METRICS.init()
            ),
            "mesh": evaluation_error([], mesh=pair) if last else None,
        },
    }


def main(rank, processes, port):
    """Joins the others, runs each case, prints the findings."""
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(f"127.0.0.1:{port}", processes, rank)
    # Disagreements come first: the cases after them show that nobody is out of step.
    found = {"errors": disagreements(rank)}
    local = count_own(step, rank)
    merged = jm.merge_processes(METRICS, local)
    found["merged"] = as_lists(merged)
    own = list(order_telling_states())[rank]
    found["ordered"] = as_lists(jm.merge_processes(jm.Sum(), own))
    mesh = jax.make_mesh((jax.device_count(),), ("data",))
    found["global"] = one_program(processes, mesh)
    found["evaluate"] = evaluations(rank)
    found["devices"] = [jax.local_device_count(), jax.device_count()]
    print(json.dumps(found))
    jax.distributed.shutdown()


if __name__ == "__main__":
    try:
        main(*map(int, sys.argv[1:]))
    except Exception:
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)  # a normal exit would wait for the other processes
