"""How many memory passes does one update of a large batch cost, ours and the peers'?

Rows a, b, c, c', c'', d of the performance goals: counts, four metrics at once, and
areas under curves. Each from memory, a stream of batches that no cache holds, and again
from the cache. `python benchmarks/throughput.py`; a row can be named to run alone.
"""

import os

os.environ.setdefault("KERAS_BACKEND", "jax")

import sys
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import keras
import metrax
import numpy as np
from _timing import (
    Run,
    Stream,
    header,
    median_times,
    memory_pass,
    shown,
    stream,
    streaming,
    table,
)

import jaxmetrics as jm

Runs = dict[str, Run]


class Data:
    """Labels, scores, weights and a mask, in streams from memory or the cache."""

    def __init__(self, *shape: int, memory: bool) -> None:
        rng = np.random.default_rng(0)
        self.memory = memory
        self.arrays = {
            "y_true": jnp.asarray(rng.random(shape) < 0.3, jnp.float32),
            "y_pred": jnp.asarray(rng.random(shape, dtype=np.float32)),
            "sample_weight": jnp.asarray(rng.random(shape, dtype=np.float32)),
            "mask": jnp.asarray(rng.random(shape) < 0.9),
        }

    def stream(self, *more: str) -> Stream:
        """Labels, scores and whatever else is named, as dictionaries."""
        batch = {name: self.arrays[name] for name in ("y_true", "y_pred", *more)}
        return stream(batch, memory=self.memory)

    def columns(self) -> Stream:
        """Labels and scores `(rows, 1)`."""
        batch = {name: self.arrays[name][:, None] for name in ("y_true", "y_pred")}
        return stream(batch, memory=self.memory)


def ours(metric: jm.Metric, batches: Stream) -> Run:
    """Our update, state donated."""

    def update(state: jm.State, batch: dict[str, jax.Array]) -> jm.State:
        return metric.update(state, **batch)

    return streaming(update, metric.init(), batches)


def of_keras(metrics: list[keras.Metric], batches: Stream) -> Run:
    """Keras's stateless updates in one jitted call, variables donated."""

    def update(
        state: list[list[jax.Array]], batch: dict[str, jax.Array]
    ) -> list[list[jax.Array]]:
        return [
            list(m.stateless_update_state(v, batch["y_true"], batch["y_pred"]))
            for m, v in zip(metrics, state, strict=True)
        ]

    start = [[jnp.array(v.value) for v in m.variables] for m in metrics]
    return streaming(update, start, batches)


def of_metrax(kinds: list[type], batches: Stream) -> Run:
    """The states of metrax of the batch, merged into a donated one."""

    def measure(batch: dict[str, jax.Array]) -> list[object]:
        both = {"predictions": batch["y_pred"], "labels": batch["y_true"]}
        return [kind.from_model_output(**both) for kind in kinds]

    def update(state: list[object], batch: dict[str, jax.Array]) -> list[object]:
        return [a.merge(b) for a, b in zip(state, measure(batch), strict=True)]

    return streaming(update, measure(*batches[0]), batches)


def counts(rows: int, *, memory: bool) -> tuple[str, Runs]:
    """Row a: with a mask and with weights, too."""
    data = Data(rows, memory=memory)
    plain, masked, heavy = (
        data.stream(*x) for x in ((), ("mask",), ("sample_weight",))
    )
    km = keras.metrics
    peers = [
        km.TruePositives(),
        km.FalsePositives(),
        km.TrueNegatives(),
        km.FalseNegatives(),
    ]
    metric = jm.ConfusionCounts()
    return "a: TP, FP, TN, FN", {
        "pass": memory_pass(plain),
        "jaxmetrics": ours(metric, plain),
        "keras": of_keras(peers, plain),
        "pass with mask": memory_pass(masked),
        "jaxmetrics with mask": ours(metric, masked),
        "pass with weights": memory_pass(heavy),
        "jaxmetrics with weights": ours(metric, heavy),
    }


def four(rows: int, *, memory: bool) -> tuple[str, Runs]:
    """Row b."""
    data = Data(rows, memory=memory)
    plain = data.stream()
    km = keras.metrics
    metrics = jm.Collection(
        precision=jm.Precision(),
        recall=jm.Recall(),
        f1=jm.F1Score(),
        accuracy=jm.BinaryAccuracy(),
    )
    f1 = km.F1Score(threshold=0.5)
    f1.update_state(np.zeros((2, 1)), np.zeros((2, 1)))  # makes its variables
    f1.reset_state()
    column = [km.Precision(), km.Recall(), f1, km.BinaryAccuracy()]
    return "b: precision, recall, F1, accuracy", {
        "pass": memory_pass(plain),
        "jaxmetrics": ours(metrics, plain),
        "jaxmetrics, precision alone": ours(jm.Precision(), plain),
        "keras": of_keras(column, data.columns()),
        "metrax (precision, recall)": of_metrax(
            [metrax.Precision, metrax.Recall], plain
        ),
    }


def auc(
    rows: int, thresholds: int = 200, *, memory: bool, slow_peers: bool = False
) -> tuple[str, Runs]:
    """Rows c, c' and c''."""
    data = Data(rows, memory=memory)
    plain = data.stream()
    runs: Runs = {
        "pass": memory_pass(plain),
        "jaxmetrics": ours(jm.AUC(thresholds), plain),
        "keras": of_keras([keras.metrics.AUC(thresholds)], plain),
    }
    if thresholds != 200:
        runs["jaxmetrics, 200 thresholds"] = ours(jm.AUC(), plain)
    if slow_peers:
        runs["metrax"] = of_metrax([metrax.AUCROC], plain)
    if rows <= 10**6:
        heavy = data.stream("sample_weight")
        runs["pass with weights"] = memory_pass(heavy)
        runs["jaxmetrics with weights"] = ours(jm.AUC(thresholds), heavy)
    return f"AUC, {thresholds} thresholds, {rows:.0e} rows", runs


def multilabel(rows: int, labels: int, *, memory: bool) -> tuple[str, Runs]:
    """Rows d and d'."""
    plain = Data(rows, labels, memory=memory).stream()
    peer = keras.metrics.AUC(multi_label=True, num_labels=labels)
    fine = jm.AUROC(num_classes=labels, average="macro")
    return f"d: multilabel AUC, {rows} x {labels}", {
        "pass": memory_pass(plain),
        "jaxmetrics": ours(jm.AUC(multi_label=True, num_labels=labels), plain),
        "jaxmetrics, AUROC": ours(fine, plain),
        "keras": of_keras([peer], plain),
    }


ROWS: dict[str, tuple[Callable[..., tuple[str, Runs]], int]] = {
    "a": (partial(counts, 10**6), 25),
    "b": (partial(four, 10**6), 25),
    "c": (partial(auc, 10**6, slow_peers=True), 9),
    "c'": (partial(auc, 10**7), 7),
    "c''": (partial(auc, 10**6, 10_000), 15),
    "d": (partial(multilabel, 10**4, 100), 15),
}


APART = {"metrax"}  # its second and its gigabyte would slow down who comes next


def passes(times: dict[str, float], name: str) -> str:
    """A time in passes over the same inputs."""
    suffix = " with " + name.split(" with ")[1] if " with " in name else ""
    return f"{times[name] / times['pass' + suffix]:.1f}"


def main() -> None:
    """Prints one table for each row."""
    header("Throughput of one update")
    for row in sys.argv[1:] or ROWS:
        make, rounds = ROWS[row]
        found = []
        for memory in (True, False):
            title, runs = make(memory=memory)
            apart = {name: runs.pop(name) for name in APART & set(runs)}
            times = median_times(runs, rounds, calls=2)
            found.append(times | median_times(apart, 3))
        print(f"\n### {title}\n")
        lines = []
        for name in found[0]:
            cells = []
            for times in found:
                ratio = times[name] / times["jaxmetrics"]
                cells += [shown(times[name]), passes(times, name), f"{ratio:.2f}"]
            lines.append((name, *cells))
        heads = "from memory", "passes", "times ours", "in cache"
        table(lines, ("", *heads, "passes", "times ours"))


if __name__ == "__main__":
    main()
