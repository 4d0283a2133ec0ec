"""How many memory passes does one update of a large batch cost, ours and the peers'?

Rows a, b, c, c', c'', d of the performance goals: counts, four metrics at once, and
areas under curves. `python benchmarks/throughput.py`; a row can be named to run alone.
"""

import os

os.environ.setdefault("KERAS_BACKEND", "jax")

import sys
from collections.abc import Callable

import jax
import jax.numpy as jnp
import keras
import metrax
import numpy as np
from _timing import header, median_times, memory_pass, shown, streaming, table

import jaxmetrics as jm

Runs = dict[str, Callable[[], object]]


def data(rows: int, labels: int | None = None) -> tuple[jax.Array, ...]:
    """Labels, scores, weights and a mask."""
    rng = np.random.default_rng(0)
    shape = (rows,) if labels is None else (rows, labels)
    y = (rng.random(shape) < 0.3).astype(np.float32)
    s = rng.random(shape, dtype=np.float32)
    w = rng.random(shape, dtype=np.float32)
    return tuple(jnp.asarray(x) for x in (y, s, w, rng.random(shape) < 0.9))


def ours(
    metric: jm.Metric, y: jax.Array, s: jax.Array, **more: jax.Array
) -> Callable[[], object]:
    """Our update, state donated."""
    names, extra = list(more), list(more.values())

    def update(
        state: jm.State, y: jax.Array, s: jax.Array, *extra: jax.Array
    ) -> jm.State:
        return metric.update(
            state, y_true=y, y_pred=s, **dict(zip(names, extra, strict=True))
        )

    return streaming(update, metric.init(), y, s, *extra)


def of_keras(
    metrics: list[keras.Metric], y: jax.Array, s: jax.Array
) -> Callable[[], object]:
    """Keras's stateless updates in one jitted call, variables donated."""

    def update(
        state: list[list[jax.Array]], y: jax.Array, s: jax.Array
    ) -> list[list[jax.Array]]:
        return [
            list(m.stateless_update_state(v, y, s))
            for m, v in zip(metrics, state, strict=True)
        ]

    start = [[jnp.array(v.value) for v in m.variables] for m in metrics]
    return streaming(update, start, y, s)


def of_metrax(kinds: list[type], y: jax.Array, s: jax.Array) -> Callable[[], object]:
    """The states of metrax of the batch, merged into a donated one."""

    def measure(y: jax.Array, s: jax.Array) -> list[object]:
        return [kind.from_model_output(predictions=s, labels=y) for kind in kinds]

    def update(state: list[object], y: jax.Array, s: jax.Array) -> list[object]:
        return [a.merge(b) for a, b in zip(state, measure(y, s), strict=True)]

    return streaming(update, measure(y, s), y, s)


def counts(rows: int) -> tuple[str, Runs]:
    y, s, w, m = data(rows)
    km = keras.metrics
    peers = [
        km.TruePositives(),
        km.FalsePositives(),
        km.TrueNegatives(),
        km.FalseNegatives(),
    ]
    metric = jm.ConfusionCounts()
    return "a: TP, FP, TN, FN", {
        "pass": memory_pass(y, s),
        "jaxmetrics": ours(metric, y, s),
        "keras": of_keras(peers, y, s),
        "pass with mask": memory_pass(y, s, m),
        "jaxmetrics with mask": ours(metric, y, s, mask=m),
        "pass with weights": memory_pass(y, s, w),
        "jaxmetrics with weights": ours(metric, y, s, sample_weight=w),
    }


def four(rows: int) -> tuple[str, Runs]:
    y, s, _, _ = data(rows)
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
        "pass": memory_pass(y, s),
        "jaxmetrics": ours(metrics, y, s),
        "jaxmetrics, precision alone": ours(jm.Precision(), y, s),
        "keras": of_keras(column, y[:, None], s[:, None]),
        "metrax (precision, recall)": of_metrax(
            [metrax.Precision, metrax.Recall], y, s
        ),
    }


def auc(
    rows: int, thresholds: int = 200, *, slow_peers: bool = True
) -> tuple[str, Runs]:
    y, s, w, _ = data(rows)
    runs: Runs = {
        "pass": memory_pass(y, s),
        "jaxmetrics": ours(jm.AUC(thresholds), y, s),
        "keras": of_keras([keras.metrics.AUC(thresholds)], y, s),
    }
    if slow_peers:
        runs["metrax"] = of_metrax([metrax.AUCROC], y, s)
    if rows <= 10**6:
        runs["jaxmetrics with weights"] = ours(
            jm.AUC(thresholds), y, s, sample_weight=w
        )
    return f"AUC, {thresholds} thresholds, {rows:.0e} rows", runs


def multilabel(rows: int, labels: int) -> tuple[str, Runs]:
    y, s, _, _ = data(rows, labels)
    peer = keras.metrics.AUC(multi_label=True, num_labels=labels)
    return f"d: multilabel AUC, {rows} x {labels}", {
        "pass": memory_pass(y, s),
        "jaxmetrics": ours(jm.AUC(multi_label=True, num_labels=labels), y, s),
        "keras": of_keras([peer], y, s),
    }


ROWS: dict[str, tuple[Callable[[], tuple[str, Runs]], int]] = {
    "a": (lambda: counts(10**6), 25),
    "b": (lambda: four(10**6), 25),
    "c": (lambda: auc(10**6), 9),
    "c'": (lambda: auc(10**7, slow_peers=False), 7),
    "c''": (lambda: auc(10**6, 10_000, slow_peers=False), 15),
    "d": (lambda: multilabel(10**4, 100), 15),
}


def main() -> None:
    """Prints one table for each row."""
    header("Throughput of one update")
    for row in sys.argv[1:] or ROWS:
        make, rounds = ROWS[row]
        title, runs = make()
        times = median_times(runs, rounds)
        print(f"\n### {title}\n")
        one = times["jaxmetrics"]
        lines = []
        for name, seconds in times.items():
            suffix = " with " + name.split(" with ")[1] if " with " in name else ""
            base = times["pass" + suffix] if "pass" + suffix in times else times["pass"]
            lines.append(
                (name, shown(seconds), f"{seconds / base:.1f}", f"{seconds / one:.2f}")
            )
        table(lines, ("", "median", "passes", "times ours"))


if __name__ == "__main__":
    main()
