"""One evaluation in four ways, on one device and on four: the same state, bit for bit.

    python examples/sharded_evaluation.py

It prints precision, AUC, and whether the state is that of the first way:

    jit, one device      0.6644322 0.9310467 True
    jit, sharded arrays  0.6644322 0.9310467 True
    shard_map            0.6644322 0.9310467 True
    two jobs, merged     0.6644322 0.9310467 True
"""

import os

# Before JAX is imported: four devices out of one CPU, and threads enough for them all.
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=4"
os.environ["NPROC"] = "16"

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec as P

import jaxmetrics as jm

METRICS = jm.Collection(precision=jm.Precision(), auc=jm.AUC())
MESH = jax.make_mesh((4,), ("data",))
compute = jax.jit(METRICS.compute)


def batch(rows, seed):
    """Returns labels and scores; a quarter of the rows is padding, full of NaN."""
    rng = np.random.default_rng(seed)
    label = rng.random(rows) < 0.3
    score = rng.beta(2 + 3 * label, 4 - 2 * label).astype(np.float32)
    real = np.arange(rows) < 3 * rows // 4
    return {"y_true": label, "y_pred": np.where(real, score, np.nan), "mask": real}


@jax.jit
def evaluate(rows):
    """Returns the state of all rows, wherever they are."""
    return METRICS.update(METRICS.init(), **rows)


@jax.jit
@jax.shard_map(mesh=MESH, in_specs=P("data"), out_specs=P())
def evaluate_shards(rows):
    """Returns the same: each device counts its own rows, and the counts are added."""
    state = METRICS.update(METRICS.init(), **rows)
    return METRICS.all_reduce(state, "data")


def main():
    """Prints precision and AUC of each way, and whether the states are the same."""
    rows = batch(100_000, seed=0)
    sharded = jax.device_put(rows, NamedSharding(MESH, P("data")))
    halves = [jax.tree.map(lambda x, i=i: np.split(x, 2)[i], rows) for i in range(2)]
    states = {
        "jit, one device": evaluate(rows),
        "jit, sharded arrays": evaluate(sharded),
        "shard_map": evaluate_shards(sharded),
        "two jobs, merged": METRICS.merge(*map(evaluate, halves)),
    }
    first = jax.device_get(states["jit, one device"])
    for name, state in states.items():
        state = jax.device_get(state)
        same = jax.tree.all(jax.tree.map(np.array_equal, first, state))
        result = compute(state)
        print(f"{name:20} {result['precision']:.7f} {result['auc']:.7f} {same}")


if __name__ == "__main__":
    main()
