"""What do slices, bootstrap and windows cost beside the plain update, ours and peers'?

`python benchmarks/combinators.py`; a table can be named to run alone: slices,
bootstrap, windows, evaluate.
"""

import sys
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import torch
import torchmetrics
from _timing import header, median_times, shown, stream, streaming, table

import jaxmetrics as jm

Runs = dict[str, Callable[[], object]]
SLICES, REPLICATES = 100, 100


def data(rows: int) -> dict[str, jax.Array]:
    """Labels, scores, weights, and a slice for each row."""
    rng = np.random.default_rng(0)
    batch = {
        "y_true": (rng.random(rows) < 0.3).astype(np.float32),
        "y_pred": rng.random(rows, dtype=np.float32),
        "sample_weight": rng.random(rows, dtype=np.float32),
        "slice_ids": rng.integers(0, SLICES, rows).astype(np.int32),
        "row_ids": np.arange(rows, dtype=np.int32),
    }
    return jax.tree.map(jnp.asarray, batch)


def ours(
    metric: jm.Metric, batch: dict[str, jax.Array], *, memory: bool = False
) -> Callable[[], object]:
    """Our update of what the metric takes of the batch, state donated."""
    takes = set(metric.accumulator.inputs) - metric.refused
    given = {name: x for name, x in batch.items() if name in takes}

    def update(state: jm.State, batch: dict[str, jax.Array]) -> jm.State:
        return metric.update(state, **batch)

    return streaming(update, metric.init(), stream(given, memory=memory))


def in_turn(metric: jm.Metric, batch: dict[str, jax.Array]) -> Callable[[], object]:
    """A Python loop over the slices, one jitted masked update each."""
    given = {n: x for n, x in batch.items() if n in metric.accumulator.inputs}
    states = [metric.init() for _ in range(SLICES)]

    @jax.jit
    def update(state: jm.State, number: int) -> jm.State:
        return metric.update(state, **given, mask=batch["slice_ids"] == number)

    return lambda: [update(state, i) for i, state in enumerate(states)]


def slices() -> None:
    """100 slices of 1e6 rows."""
    rows = 10**6
    plain = {n: x for n, x in data(rows).items() if n != "sample_weight"}
    values = {"values": plain["y_pred"], "slice_ids": plain["slice_ids"]}
    heavy = data(rows)
    area = jm.AUROC(num_cells=1023, weighted=False)
    cases = [
        ("Recall", jm.Recall(), plain),
        ("AUC, 200 thresholds", jm.AUC(), plain),
        ("AUROC, 1023 cells", area, plain),
        ("Mean", jm.Mean(), values),
        ("Recall with weights", jm.Recall(), heavy),
        ("AUROC with weights", jm.AUROC(num_cells=1023), heavy),
    ]
    lines = []
    for title, metric, batch in cases:
        sliced = jm.Sliced(metric, SLICES)
        runs = {
            "plain": ours(metric, batch, memory=True),
            "sliced": ours(sliced, batch, memory=True),
            "plain, in cache": ours(metric, batch),
            "sliced, in cache": ours(sliced, batch),
            "loop": in_turn(metric, batch),
        }
        t = median_times(runs, 11, calls=2)
        line = [title]
        for suffix in ("", ", in cache"):
            plain_time, time_by_slice = t["plain" + suffix], t["sliced" + suffix]
            times = shown(plain_time), shown(time_by_slice)
            line += [*times, f"{time_by_slice / plain_time:.1f}"]
        loop = shown(t["loop"]), f"{t['loop'] / t['sliced, in cache']:.0f}"
        lines.append((*line, *loop))
    print("\n### Slices\n")
    head = "100 slices, 1e6 rows", "plain, from memory", "sliced", "ratio"
    rest = "plain, in cache", "sliced", "ratio", "Python loop", "loop / sliced"
    table(lines, (*head, *rest))


def bootstrap() -> None:
    """100 replicates of 1e5 rows, and the random bits they take."""
    rows = 10**5
    batch = data(rows)
    plain = {n: x for n, x in batch.items() if n in ("y_true", "y_pred", "row_ids")}
    key = jax.random.key(0)
    bits = jax.jit(
        lambda key: jax.lax.map(
            lambda k: jnp.max(jax.random.bits(k, (rows,))),
            jax.random.split(key, REPLICATES),
        )
    )
    true = torch.from_numpy(np.array(batch["y_true"], dtype=np.int32))
    score = torch.from_numpy(np.array(batch["y_pred"]))
    peer = torchmetrics.wrappers.BootStrapper(
        torchmetrics.classification.BinaryRecall(), num_bootstraps=REPLICATES
    )
    drawn = jm.Bootstrap(jm.Recall(), REPLICATES, weighted=True)
    counted = jm.Bootstrap(jm.Recall(), REPLICATES)
    state = jax.jit(counted.update)(
        counted.init(), y_true=plain["y_true"], y_pred=plain["y_pred"]
    )
    compute = jax.jit(counted.compute)
    runs: Runs = {
        "random bits alone": lambda: bits(key),
        "plain update": ours(jm.Recall(), plain),
        "Bootstrap, from counts: update": ours(counted, plain),
        "Bootstrap, from counts: compute": lambda: compute(state),
        "Bootstrap(weighted=True): update": ours(drawn, plain),
        "torchmetrics BootStrapper: update": lambda: peer.update(score, true),
    }
    times = median_times(runs, 5)
    base = times["random bits alone"]
    lines = [(name, shown(t), f"{t / base:.2f}") for name, t in times.items()]
    print("\n### Bootstrap\n")
    table(lines, ("100 replicates, 1e5 rows", "median", "of the random bits"))


def windows() -> None:
    """Windows of 100 updates of 1024 rows."""
    batch = data(1024)
    true = torch.from_numpy(np.array(batch["y_true"], dtype=np.int32))
    score = torch.from_numpy(np.array(batch["y_pred"]))
    plain = {n: x for n, x in batch.items() if n in ("y_true", "y_pred")}
    peer = torchmetrics.wrappers.Running(
        torchmetrics.classification.BinaryRecall(), window=100
    )
    metrics = {
        "Recall": jm.Recall(),
        "Windowed(Recall, 100)": jm.Windowed(jm.Recall(), 100),
        "ExponentialMovingAverage(Recall, 100)": jm.ExponentialMovingAverage(
            jm.Recall(), 100
        ),
        "Every(Recall, 100)": jm.Every(jm.Recall(), 100),
        "BestSoFar(Recall)": jm.BestSoFar(jm.Recall()),
        "Windowed(AUC(200), 100)": jm.Windowed(jm.AUC(), 100),
    }
    runs: Runs = {name: ours(metric, plain) for name, metric in metrics.items()}
    runs["torchmetrics Running(Recall, 100)"] = lambda: peer.update(score, true)
    times = median_times(runs, 25, calls=20)
    base = times["Recall"]
    lines = [(name, shown(t), f"{t / base:.1f}") for name, t in times.items()]
    print("\n### Windows\n")
    table(lines, ("updates of 1024 rows", "median", "of the plain update"))


def evaluate() -> None:
    """100 batches of 8192 rows that take as long to read as to use."""
    rng = np.random.default_rng(0)
    weights = jnp.asarray(rng.normal(size=(64, 2048)), jnp.float32)
    rows = rng.normal(size=(8192, 64)).astype(np.float32)
    true = (rng.random(8192) < 0.5).astype(np.float32)

    def step(batch: dict[str, jax.Array]) -> dict[str, jax.Array]:
        hidden = jnp.tanh(batch["x"] @ weights)
        score = jax.nn.sigmoid(jnp.mean(hidden, axis=1))
        return {"y_true": batch["y"], "y_pred": score}

    def read(wait: float) -> object:
        for _ in range(100):
            time.sleep(wait)
            yield {"x": rows, "y": true}

    def seconds(step: Callable[..., object], wait: float) -> float:
        start = time.perf_counter()
        jm.evaluate(jm.AUC(), step, read(wait), progress=False)
        return time.perf_counter() - start

    def nothing(batch: dict[str, jax.Array]) -> dict[str, jax.Array]:
        return {"y_true": batch["y"], "y_pred": batch["x"][:, 0]}

    seconds(step, 0)
    alone = min(seconds(step, 0) for _ in range(3))
    wait = alone / 100
    lines = [
        ("the model alone", shown(alone / 100)),
        ("reading alone", shown(seconds(nothing, wait) / 100)),
        ("both", shown(min(seconds(step, wait) for _ in range(3)) / 100)),
    ]
    print("\n### The evaluation loop\n")
    table(lines, ("8192 rows, AUC", "a batch"))


TABLES = {
    "slices": slices,
    "bootstrap": bootstrap,
    "windows": windows,
    "evaluate": evaluate,
}


def main() -> None:
    """Prints the tables."""
    header("Combinators", ("jax", "torch", "torchmetrics"))
    for name in sys.argv[1:] or TABLES:
        TABLES[name]()


if __name__ == "__main__":
    main()
