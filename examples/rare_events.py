"""The AUC of a click-rate model: what 200 thresholds see of it, and what there is.

    python examples/rare_events.py

A percent of the rows are clicks, and all scores are below 0.02: between four of the 200
thresholds that binned areas have. It prints

    exact, by sorting             0.7558
    Keras's rule, 200 thresholds  0.6984   wrong by 0.06
    jm.AUROC, fine cells          0.7558   at most 0.0011 wrong, as it says itself
    95 % interval                 0.7503 to 0.7612
    average precision             0.0288   share of clicks 0.0100
    best F1                       0.0667   above a score of 0.0095
    lift of the top 10 %          3.30
"""

import jax
import numpy as np

import jaxmetrics as jm

ROWS, BATCH = 600_000, 10_000
FINE = jm.AUROC()
METRICS = jm.Collection(  # two states: one of 200 thresholds, one of fine cells
    binned=jm.AUC(),
    fine=FINE,
    precision=jm.AveragePrecision(),
    share=jm.Prevalence(),
    f1=jm.BestFBetaScore(),
    threshold=jm.BestFBetaScore().operating_threshold,
    lift=jm.Lift(0.1),
)


@jax.jit
def evaluate(labels, scores):
    """Counts all batches in one scan."""

    def step(state, batch):
        return METRICS.update(state, y_true=batch[0], y_pred=batch[1]), None

    return jax.lax.scan(step, METRICS.init(), (labels, scores))[0]


@jax.jit
def read(state):
    """Every value, and how far the area can be wrong or off by chance."""
    fine = METRICS.member_state(state, "fine")
    return METRICS.compute(state), FINE.error_bound(fine), FINE.interval(fine)


def main():
    """Makes clicks, evaluates and prints."""
    rng = np.random.default_rng(0)
    clicked = rng.random(ROWS) < 0.01
    rate = 0.02 * rng.beta(np.where(clicked, 3, 1.5), 6)
    rows = clicked.astype(np.float32), rate.astype(np.float32)
    labels, scores = (x.reshape(-1, BATCH) for x in rows)
    found, bound, interval = read(evaluate(labels, scores))
    exact = jax.jit(jm.auroc)(*rows)
    wrong = abs(found["binned"] - exact)
    print(f"exact, by sorting             {exact:.4f}")
    print(f"Keras's rule, 200 thresholds  {found['binned']:.4f}   wrong by {wrong:.2f}")
    print(
        f"jm.AUROC, fine cells          {found['fine']:.4f}   "
        f"at most {bound:.4f} wrong, as it says itself"
    )
    print(f"95 % interval                 {interval.lower:.4f} to {interval.upper:.4f}")
    print(
        f"average precision             {found['precision']:.4f}   "
        f"share of clicks {found['share']:.4f}"
    )
    print(
        f"best F1                       {found['f1']:.4f}   "
        f"above a score of {found['threshold']:.4f}"
    )
    print(f"lift of the top 10 %          {found['lift']:.2f}")


if __name__ == "__main__":
    main()
