"""Trains a Flax model on real data, with every metric inside the compiled steps.

The data are scikit-learn's handwritten digits, and the model answers two questions:
which of the ten digits is it, and (one row in ten) is it an 8? Training is spread over
four simulated devices. At the end scikit-learn recomputes every number from the same
predictions, and the curves go to a PNG.

    python examples/train_flax.py [--epochs 15] [--output demo_output]
"""

import argparse
import os
import sys
from functools import partial
from typing import Any, NamedTuple

# Before JAX is imported: four devices out of one CPU, and threads enough for them all.
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=4"
os.environ["NPROC"] = "16"

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from _digits import compare, draw, load, print_row
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from tqdm import tqdm

import jaxmetrics as jm

BATCH = 128
MESH = Mesh(np.array(jax.devices()), ("data",))
BY_ROW = NamedSharding(MESH, PartitionSpec("data"))
EVERYWHERE = NamedSharding(MESH, PartitionSpec())

# --- what is measured -----------------------------------------------------------------

DIGIT = jm.Collection(
    accuracy=jm.Recall(top_k=1, num_classes=10, average="micro"),
    precision=jm.Precision(top_k=1, num_classes=10, average="macro"),
    macro_f1=jm.F1Score(num_classes=10, average="macro"),
    f1=jm.F1Score(num_classes=10),  # one value per class
)
EIGHT = jm.Collection(  # 15 metrics, two states: counts at 0.5, and on AUC's thresholds
    true_positives=jm.TruePositives(dtype="int32"),
    false_positives=jm.FalsePositives(dtype="int32"),
    true_negatives=jm.TrueNegatives(dtype="int32"),
    false_negatives=jm.FalseNegatives(dtype="int32"),
    precision=jm.Precision(),
    recall=jm.Recall(),
    fnr=jm.FalseNegativeRate(),
    f1=jm.F1Score(),
    accuracy=jm.BinaryAccuracy(),
    auc=jm.AUC(),
    pr_auc=jm.AUC(curve="PR"),
    precision_at_recall=jm.PrecisionAtRecall(0.95),
    roc=jm.ROCCurve(),
    pr=jm.PrecisionRecallCurve(),
    counts=jm.ConfusionCounts(jm.even_thresholds(200)),
)
METRICS = jm.Collection(
    loss=jm.Mean().with_inputs(values="loss"),
    digit=DIGIT.with_inputs(y_true="digit", y_pred="digit_scores"),
    eight=EIGHT.with_inputs(y_true="is_eight", y_pred="eight_score"),
)

# --- the model and its steps ----------------------------------------------------------


class TwoHeads(nn.Module):
    """Logits of the ten digits, and of "it is an 8", from one body."""

    @nn.compact
    def __call__(self, images: jax.Array) -> tuple[jax.Array, jax.Array]:
        x = nn.relu(nn.Dense(128)(images))
        return nn.Dense(10)(x), nn.Dense(1)(x)[:, 0]


class TrainState(NamedTuple):
    """What training carries from step to step; the metrics are one more field."""

    params: Any
    optimizer: optax.OptState
    metrics: jm.State


MODEL, OPTIMIZER = TwoHeads(), optax.adam(1e-2)


def forward(params, metrics, batch, mask):
    """Returns the mean loss; beside it the updated metrics and what was predicted."""
    digit_logits, eight_logit = MODEL.apply(params, batch["image"])
    loss = optax.softmax_cross_entropy(digit_logits, batch["digit"])
    loss += optax.sigmoid_binary_cross_entropy(eight_logit, batch["is_eight"])
    truth = {name: batch[name] for name in ("digit", "is_eight")}
    scores = {
        "digit_scores": nn.softmax(digit_logits),
        "eight_score": nn.sigmoid(eight_logit),
    }
    metrics = METRICS.update(metrics, **truth, **scores, loss=loss, mask=mask)
    return jnp.mean(loss, where=mask), (metrics, scores)


@partial(jax.jit, donate_argnums=0)
def train_step(state, batch, mask):
    """Returns the state after one step of the optimizer."""
    gradient = jax.grad(forward, has_aux=True)
    gradients, (metrics, _) = gradient(state.params, state.metrics, batch, mask)
    updates, optimizer = OPTIMIZER.update(gradients, state.optimizer)
    return TrainState(optax.apply_updates(state.params, updates), optimizer, metrics)


@partial(jax.jit, donate_argnums=0)
def eval_step(metrics, params, batch, mask):
    """Returns the metrics after one more batch, and what was predicted."""
    _, (metrics, scores) = forward(params, metrics, batch, mask)
    return metrics, scores


read = jax.jit(METRICS.compute)

# --- the loops ------------------------------------------------------------------------


def batches(rows, order, title):
    """Yields batches of one size, spread over the devices, and their masks."""
    starts = range(0, len(order), BATCH)
    for start in tqdm(starts, title, leave=False, file=sys.stderr):
        chosen = order[start : start + BATCH]
        padded = jm.pad_batch({name: x[chosen] for name, x in rows.items()}, BATCH)
        yield jax.device_put(padded, BY_ROW)


def evaluate(params, rows):
    """Returns the metrics of all rows, and what was predicted for each."""
    metrics, predicted = jax.device_put(METRICS.init(), EVERYWHERE), []
    for batch, mask in batches(rows, np.arange(len(rows["digit"])), "evaluate"):
        metrics, scores = jax.block_until_ready(eval_step(metrics, params, batch, mask))
        keep = np.asarray(mask)
        predicted.append({name: np.asarray(x)[keep] for name, x in scores.items()})
    return read(metrics), jax.tree.map(lambda *x: np.concatenate(x), *predicted)


def main():
    """Trains, prints a row per epoch, then compares and draws."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--output", default="demo_output", help="folder of the PNG")
    options = parser.parse_args()

    train, valid = load()
    order, history = np.random.default_rng(0), []
    params = jax.jit(MODEL.init)(jax.random.key(0), train["image"][:1])
    state = TrainState(params, OPTIMIZER.init(params), METRICS.init())
    for epoch in range(options.epochs):
        state = jax.device_put(state._replace(metrics=METRICS.init()), EVERYWHERE)
        shuffled = order.permutation(len(train["digit"]))
        for batch, mask in batches(train, shuffled, f"epoch {epoch + 1}"):
            # Wait for each step: simulated devices that run ahead can deadlock.
            state = jax.block_until_ready(train_step(state, batch, mask))
        results, predicted = evaluate(state.params, valid)
        print_row(epoch + 1, read(state.metrics), results)
        history.append(results)

    print(f"\nCurves: {draw(history, options.output)}\n")
    return compare(results, valid, predicted)


if __name__ == "__main__":
    sys.exit(main())
