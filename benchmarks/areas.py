"""How wrong are areas under curves, and what do they cost? Ours and the peers'.

The suite of scores on which binned areas go wrong (tests/score_suite.py), against
scikit-learn in float64; then times, and the error against the size of the state, which
also goes into a picture. `python benchmarks/areas.py [errors|sizes|candidates|times]`.
"""

import os

os.environ.setdefault("KERAS_BACKEND", "jax")

import functools
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

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
from sklearn.metrics import average_precision_score, roc_auc_score

import jaxmetrics as jm
from jaxmetrics.score_cells import LEVELS, ScoreCells

sys.path.append(str(Path(__file__).parents[1] / "tests"))

from score_suite import SUITE, Scores, make

PICTURE = Path(__file__).parent / "auroc_error.png"
PACKAGES = (
    "jax",
    "keras",
    "google-metrax",
    "torchmetrics",
    "torcheval",
    "torch",
    "scikit-learn",
)
ROWS = 10**6


# --- contenders ----------------------------------------------------------------------


def truth(s: Scores) -> tuple[float, float]:
    """AUROC and average precision by scikit-learn."""
    score = s.y_pred.astype(np.float64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return (
            roc_auc_score(s.y_true, score, sample_weight=s.weight),
            average_precision_score(s.y_true, score, sample_weight=s.weight),
        )


@functools.partial(jax.jit, static_argnums=0)
def answer(metric: Any, state: Any) -> tuple[jax.Array, jax.Array]:
    """A value and its bound."""
    return metric.compute(state), metric.error_bound(state)


@functools.partial(jax.jit, static_argnums=0)
def updated(metric: Any, batch: dict[str, Any]) -> Any:
    """The state after one batch."""
    return metric.update(metric.init(), **batch)


def batch_of(s: Scores) -> dict[str, Any]:
    """Our inputs."""
    batch = {"y_true": s.y_true, "y_pred": s.y_pred}
    return batch if s.weight is None else {**batch, "sample_weight": s.weight}


def ours(kind: type, s: Scores, **options: Any) -> tuple[float, float]:
    """A value and its bound."""
    metric = kind(from_logits=s.logits, **options)
    value, bound = answer(metric, updated(metric, batch_of(s)))
    return float(value), float(bound)


def shares(s: Scores) -> np.ndarray:
    """Scores that peers can take, in [0, 1]."""
    score = s.y_pred.astype(np.float32)
    return np.float32(1 / (1 + np.exp(-score.astype(float)))) if s.logits else score


def of_keras(s: Scores, thresholds: int = 200, curve: str = "ROC") -> float:
    """Keras's binned area."""
    metric = keras.metrics.AUC(thresholds, curve)
    metric.update_state(s.y_true, shares(s), s.weight)
    return float(metric.result())


def of_metrax(s: Scores) -> float:
    """Metrax's binned area."""
    weights = None if s.weight is None else jnp.asarray(s.weight)
    state = metrax.AUCROC.from_model_output(
        jnp.asarray(shares(s)), jnp.asarray(s.y_true, jnp.float32), weights
    )
    return float(state.compute())


def of_torch(
    name: str, s: Scores, thresholds: int | None = None
) -> Callable[[], float] | None:
    """An area of torchmetrics or torcheval, binned or exact; none with weights."""
    import torch
    import torcheval.metrics.functional as te
    import torchmetrics.functional.classification as tm

    if s.weight is not None:
        return None
    score, true = torch.from_numpy(shares(s)), torch.from_numpy(s.y_true).int()
    calls: dict[str, Callable[[], Any]] = {
        "torchmetrics": lambda: tm.binary_auroc(score, true, thresholds=thresholds),
        "torchmetrics AP": lambda: tm.binary_average_precision(
            score, true, thresholds=thresholds
        ),
        "torcheval": lambda: te.binary_auroc(score, true),
        "torcheval binned": lambda: te.binary_binned_auroc(
            score, true, threshold=thresholds
        )[0],
    }
    return lambda: float(calls[name]())


# --- tables --------------------------------------------------------------------------


def difference(value: float | None, wanted: float) -> str:
    """An error in two digits."""
    return "-" if value is None else f"{abs(value - wanted):.1e}"


def called(run: Callable[[], float] | None) -> float | None:
    """What a contender says, if it can take the case."""
    return None if run is None else run()


def errors(rows: int = ROWS) -> None:
    """One table of errors of AUROC, one of the other areas."""
    header(f"Errors of areas, {rows:.0e} rows", PACKAGES)
    roc, other = [], []
    for name in SUITE:
        s = make(name, rows)
        area, mean_precision = truth(s)
        value, bound = ours(jm.AUROC, s)
        wide = None if s.weight is not None else ours(jm.AUROC, s, weighted=False)[0]
        exact = jax.jit(jm.auroc)(**batch_of(s))
        roc.append(
            (
                name,
                f"{area:.4f}",
                difference(value, area),
                f"{bound:.1e}",
                difference(wide, area),
                difference(float(exact), area),
                difference(of_keras(s), area),
                difference(of_metrax(s), area),
                difference(called(of_torch("torchmetrics", s, 200)), area),
                difference(called(of_torch("torchmetrics", s)), area),
                difference(called(of_torch("torcheval binned", s, 200)), area),
                difference(called(of_torch("torcheval", s)), area),
            )
        )
        value, bound = ours(jm.AveragePrecision, s)
        part, part_bound = ours(functools.partial(jm.PartialAUROC, 0.1), s)
        wanted = roc_auc_score(
            s.y_true, s.y_pred.astype(float), sample_weight=s.weight, max_fpr=0.1
        )
        exact = jax.jit(jm.average_precision)(**batch_of(s))
        binned = called(of_torch("torchmetrics AP", s, 200))
        other.append(
            (
                name,
                f"{mean_precision:.4f}",
                difference(value, mean_precision),
                f"{bound:.1e}",
                difference(float(exact), mean_precision),
                difference(binned, mean_precision),
                f"{wanted:.4f}",
                difference(part, wanted),
                f"{part_bound:.1e}",
            )
        )
    print("\n### AUROC\n")
    heads = "exact", "ours", "our bound", "ours, 2^15 cells", "jm.auroc", "keras"
    peers = "metrax", "torchmetrics binned", "torchmetrics exact", "torcheval binned"
    table(roc, ("scores", *heads, *peers, "torcheval exact"))
    print("\n### Average precision, and the partial area up to FPR 0.1\n")
    heads = "AP", "ours", "our bound", "jm.average_precision", "torchmetrics binned"
    table(other, ("scores", *heads, "partial", "ours", "our bound"))


def sizes(rows: int = ROWS) -> None:
    """The largest error of some cases against the size of the state, and a picture."""
    header(f"Error of AUROC against the size of the state, {rows:.0e} rows", PACKAGES)
    names = "ordinary", "click rates", "[0.5, 0.501]"
    cases = {name: make(name, rows) for name in names}
    exact = {name: truth(s)[0] for name, s in cases.items()}
    lines: dict[str, list[tuple[int, ...]]] = {}
    rows_of_table = []

    def add(what: str, number: int, size: int, run: Callable[[Scores], float]) -> None:
        wrong = [abs(run(s) - exact[name]) for name, s in cases.items()]
        lines.setdefault(what, []).append((size, *wrong))
        shown_errors = (f"{x:.1e}" for x in wrong)
        rows_of_table.append(
            (what, str(number), f"{size / 1024:.0f} KiB", *shown_errors)
        )

    for number in (255, 1023, 4095, 16383, 65535):
        state = jm.AUROC(num_cells=number, weighted=False).init()
        size = sum(x.nbytes for x in jax.tree.leaves(state))
        run = functools.partial(_value, weighted=False, num_cells=number)
        add("ours", number, size, run)
    for number in (200, 1000, 4000, 16000, 64000):
        size = 4 * 4 * number
        add("keras", number, size, functools.partial(of_keras, thresholds=number))
    for number in (200, 1000, 4000, 16000):
        run = functools.partial(_binned, number)
        add("torchmetrics binned", number, 4 * 8 * number, run)
    table(rows_of_table, ("", "cells or thresholds", "state", *names))
    draw(lines, names)


def _value(s: Scores, **options: Any) -> float:
    return ours(jm.AUROC, s, **options)[0]


def _binned(number: int, s: Scores) -> float:
    run = of_torch("torchmetrics", s, number)
    return np.nan if run is None else run()


def draw(lines: dict[str, list[tuple[int, ...]]], names: tuple[str, ...]) -> None:
    """The picture beside the tables."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, len(names), figsize=(12, 3.6), sharey=True)
    for i, name in enumerate(names):
        for what, points in lines.items():
            x, y = [p[0] / 1024 for p in points], [max(p[i + 1], 1e-9) for p in points]
            axes[i].loglog(x, y, marker="o", label=what)
        axes[i].set(title=name, xlabel="state, KiB")
        axes[i].grid(visible=True, alpha=0.3)
    axes[0].set_ylabel("error of AUROC")
    axes[0].legend()
    figure.tight_layout()
    figure.savefig(PICTURE, dpi=110)
    print(f"\n![Error of AUROC against the size of the state]({PICTURE.name})")


def candidates(rows: int = ROWS) -> None:
    """Keys for the cells, with and without offsets inside: why ours is what it is."""
    header(f"Candidates for the cells, {rows:.0e} rows", ("jax", "scikit-learn"))
    fine = ScoreCells(2**14 - 3)

    def even(s: np.ndarray, cells: int) -> np.ndarray:
        top = cells * LEVELS
        return np.minimum((s.astype(float) * top).astype(int), top - 1)

    def octaves(s: np.ndarray, cells: int) -> np.ndarray:
        """Half even, a quarter in octaves of s and a quarter in those of 1 - s."""
        part = cells // 4 * LEVELS / 100
        logs = (np.log2(np.maximum(x, 1e-38)) for x in (s, 1 - s))
        low, high = (np.maximum(x + 100, 0) for x in logs)
        level = s.astype(float) * (cells // 2) * LEVELS + part * (low + 100 - high)
        return level.astype(int)

    ways: dict[str, tuple[Callable[[np.ndarray], np.ndarray], bool]] = {
        "2^15 even, counts": (lambda s: even(s, 2**15), False),
        "2^14 even, offsets": (lambda s: even(s, 2**14), True),
        "2^14 half even, counts": (lambda s: octaves(s, 2**14), False),
        "2^14 half even, offsets": (lambda s: octaves(s, 2**14), True),
        "ours, counts": (lambda s: fine._level(s, np), False),
        "ours, offsets": (lambda s: fine._level(s, np), True),
    }
    lines = []
    for name in SUITE:
        s = make(name, rows)
        if s.weight is not None or s.logits:
            continue
        wanted, score = truth(s)[0], s.y_pred.astype(np.float32)
        found = [
            _from_levels(s.y_true, key(score), offsets=o) for key, o in ways.values()
        ]
        lines.append((name, *(difference(x, wanted) for x in found)))
    table(lines, ("scores", *ways))


def _from_levels(true: np.ndarray, level: np.ndarray, *, offsets: bool) -> float:
    """The area from counts, and from mean offsets unless told otherwise."""
    cell, inside = level // LEVELS, level % LEVELS / LEVELS
    size = int(cell.max()) + 1
    p, n = (np.bincount(cell[x], minlength=size).astype(float) for x in (true, ~true))
    means = [np.bincount(cell[x], inside[x], minlength=size) for x in (true, ~true)]
    high, low = (m / np.maximum(x, 1) for m, x in zip(means, (p, n), strict=True))
    shift = np.clip(high - low, -0.5, 0.5) if offsets else 0
    below = np.cumsum(n) - n
    return float(np.sum(p * (below + n * (0.5 + shift))) / (p.sum() * n.sum()))


def times() -> None:
    """What areas cost: fixed states by the update, exact ones by the whole."""
    header("Times of AUROC", PACKAGES)
    for rows, rounds in ((10**6, 9), (10**7, 3)):
        s = make("all over [0, 1]", rows)
        true, score = jnp.asarray(s.y_true, jnp.float32), jnp.asarray(s.y_pred)
        batches, same = (stream(true, score, memory=memory) for memory in (True, False))
        exact, wide = jax.jit(jm.auroc), jm.AUROC(weighted=False)
        runs: dict[str, Run] = {
            "pass": memory_pass(batches),
            "pass, in cache": memory_pass(same),
            "ours, update": _update(jm.AUROC(), batches),
            "ours, update, in cache": _update(jm.AUROC(), same),
            "ours, update, 2^15 cells": _update(wide, batches),
            "ours, exact": lambda exact=exact, true=true, score=score: exact(
                true, score
            ),
            "scikit-learn": lambda s=s: roc_auc_score(s.y_true, s.y_pred),
            "torchmetrics exact": of_torch("torchmetrics", s) or float,
            "torcheval exact": of_torch("torcheval", s) or float,
        }
        found = median_times(runs, rounds, calls=2)
        one, best = found["ours, update"], found["ours, exact"]
        print(f"\n### {rows:.0e} rows\n")
        lines = [
            (
                name,
                shown(x),
                f"{x / found['pass, in cache' if 'cache' in name else 'pass']:.1f}",
                f"{x / one:.2f}",
                f"{x / best:.2f}",
            )
            for name, x in found.items()
        ]
        table(lines, ("", "median", "passes", "times our update", "times our exact"))
    _several()


def _update(metric: jm.Metric, batches: Stream) -> Run:
    def update(state: jm.State, true: jax.Array, score: jax.Array) -> jm.State:
        return metric.update(state, y_true=true, y_pred=score)

    return streaming(update, metric.init(), batches)


def _several() -> None:
    """Reading a state, and small batches."""
    metric = jm.AUROC()
    state = metric.init()
    read = {
        name: functools.partial(jax.jit(function), state)
        for name, function in (
            ("AUROC, compute", metric.compute),
            ("AUROC, error_bound", metric.error_bound),
            ("AUROC, interval", metric.interval),
            ("AveragePrecision, compute", jm.AveragePrecision().compute),
        )
    }
    random = np.random.default_rng(0)
    y, s = (jnp.asarray(random.random(256, np.float32)) for _ in range(2))
    batches = stream((y < 0.3) * 1.0, s)
    small = {"AUROC, update, batch 256": _update(metric, batches)}
    print("\n### Reading, and small batches\n")
    found = {**median_times(read, 9), **median_times(small, 15)}
    table([(name, shown(x)) for name, x in found.items()], ("", "median"))


PARTS = {"errors": errors, "sizes": sizes, "candidates": candidates, "times": times}


def main() -> None:
    """Prints the tables that are asked for, or all."""
    for part in sys.argv[1:] or PARTS:
        PARTS[part]()


if __name__ == "__main__":
    main()
