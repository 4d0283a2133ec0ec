"""What do six metrics add to a training step, to a call of their own, to compiling?

Rows j, j', j'' of the performance goals, at batch 256: precision, recall, F1, accuracy,
AUC and the mean loss. `python benchmarks/train_step.py`.
"""

import os

os.environ.setdefault("KERAS_BACKEND", "jax")

import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import keras
import metrax
import numpy as np
import optax
from _timing import header, median_times, shown, stream, streaming, table

import jaxmetrics as jm

BATCH, FEATURES, HIDDEN = 256, 64, 512


def batch() -> tuple[jax.Array, jax.Array]:
    """Features, and labels that depend on them."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((BATCH, FEATURES), dtype=np.float32)
    return jnp.asarray(x), jnp.asarray((x[:, 0] > 0.5).astype(np.float32))


def our_metrics() -> tuple[Any, Callable[..., Any]]:
    """Six metrics of ours, and their update."""
    metrics = jm.Collection(
        precision=jm.Precision(),
        recall=jm.Recall(),
        f1=jm.F1Score(),
        accuracy=jm.BinaryAccuracy(),
        auc=jm.AUC(),
        loss=jm.Mean().with_inputs(values="loss"),
    )
    return metrics.init(), lambda state, y, s, loss: metrics.update(
        state, y_true=y, y_pred=s, loss=loss
    )


def keras_metrics() -> tuple[Any, Callable[..., Any]]:
    """The same six of Keras."""
    km = keras.metrics
    f1 = km.F1Score(threshold=0.5)
    f1.update_state(np.zeros((2, 1)), np.zeros((2, 1)))  # makes its variables
    f1.reset_state()
    metrics = [
        km.Precision(),
        km.Recall(),
        f1,
        km.BinaryAccuracy(),
        km.AUC(),
        km.Mean(),
    ]

    def update(state: Any, y: Any, s: Any, loss: Any) -> Any:
        column = y[:, None], s[:, None]
        inputs = [column] * 5 + [(loss,)]
        return [
            list(m.stateless_update_state(v, *args))
            for m, v, args in zip(metrics, state, inputs, strict=True)
        ]

    return [[jnp.array(v.value) for v in m.variables] for m in metrics], update


def metrax_metrics() -> tuple[Any, Callable[..., Any]]:
    """Five of metrax: its F score cannot be merged."""
    kinds = [
        metrax.Precision,
        metrax.Recall,
        metrax.Accuracy,
        metrax.AUCROC,
    ]

    def measure(y: Any, s: Any, loss: Any) -> list[Any]:
        states = [kind.from_model_output(predictions=s, labels=y) for kind in kinds]
        return [*states, metrax.Average.from_model_output(values=loss)]

    def update(state: Any, y: Any, s: Any, loss: Any) -> Any:
        new = measure(y, s, loss)
        return [a.merge(b) for a, b in zip(state, new, strict=True)]

    zeros = jnp.zeros((BATCH,))
    return measure(zeros, zeros, zeros), update


CONTENDERS = {
    "jaxmetrics": our_metrics,
    "keras": keras_metrics,
    "metrax": metrax_metrics,
}


def train_step(update: Callable[..., Any] | None) -> tuple[Any, Callable[..., Any]]:
    """A step of a two-layer network under Adam, with or without metrics."""
    rng = np.random.default_rng(1)
    shapes = [(FEATURES, HIDDEN), (HIDDEN, HIDDEN), (HIDDEN, 1)]
    params = [
        jnp.asarray(rng.standard_normal(s, dtype=np.float32) * 0.05) for s in shapes
    ]
    optimizer = optax.adam(1e-3)

    def loss_fn(params: Any, x: jax.Array, y: jax.Array) -> Any:
        for weight in params[:-1]:
            x = jax.nn.relu(x @ weight)
        logits = (x @ params[-1])[:, 0]
        losses = optax.sigmoid_binary_cross_entropy(logits, y)
        return losses.mean(), (losses, jax.nn.sigmoid(logits))

    def step(carry: Any, x: jax.Array, y: jax.Array) -> Any:
        params, opt_state, state = carry
        (_, (losses, scores)), grads = jax.value_and_grad(loss_fn, has_aux=True)(
            params, x, y
        )
        updates, opt_state = optimizer.update(grads, opt_state)
        params = optax.apply_updates(params, updates)
        if update is not None:
            state = update(state, y, scores, losses)
        return params, opt_state, state

    return (params, optimizer.init(params)), step


def main() -> None:
    """Prints the three tables."""
    header(
        f"Six metrics in a training step, batch {BATCH}",
        ("jax", "optax", "keras", "google-metrax"),
    )
    x, y = batch()
    losses, scores = jnp.abs(x[:, 0]), jax.nn.sigmoid(x[:, 0])

    start, bare = train_step(None)
    batches = stream(x, y)
    first = (*jax.tree.map(jnp.copy, start), ())
    runs = {"no metrics": streaming(bare, first, batches)}
    for name, make in CONTENDERS.items():
        state, update = make()
        _, step = train_step(update)
        runs[name] = streaming(step, (*jax.tree.map(jnp.copy, start), state), batches)
    times = median_times(runs, 100, calls=4)
    print("### j: added to a jitted train step\n")
    floor = times["no metrics"]
    rows = [(n, shown(t), f"{100 * (t / floor - 1):+.1f} %") for n, t in times.items()]
    table(rows, ("", "median", "added"))

    batches = stream(y, scores, losses)
    runs = {
        "two additions": streaming(
            lambda s, *_: [v + 1 for v in s], [jnp.zeros(8), jnp.zeros(8)], batches
        )
    }
    for name, make in CONTENDERS.items():
        state, update = make()
        runs[name] = streaming(update, state, batches)
    times = median_times(runs, 50, calls=40)
    print("\n### j': the update as a jitted call of its own\n")
    one = times["jaxmetrics"]
    table(
        [(n, shown(t), f"{t / one:.2f}") for n, t in times.items()],
        ("", "median", "times ours"),
    )

    print("\n### j'': tracing and compiling that update\n")
    rows = []
    for name, make in CONTENDERS.items():
        traces, compiles = [], []
        for _ in range(5):
            state, update = make()
            begin = time.perf_counter()
            traced = jax.jit(update, donate_argnums=0).trace(state, y, scores, losses)
            traces.append(time.perf_counter() - begin)
            lowered = traced.lower()
            begin = time.perf_counter()
            lowered.compile()
            compiles.append(time.perf_counter() - begin)
        rows.append((name, shown(min(traces)), shown(min(compiles))))
    table(rows, ("", "trace", "compile"))


if __name__ == "__main__":
    main()
