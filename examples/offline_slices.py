"""Ten million rows, in four jobs: slices, intervals, and one merge at the end.

Each job evaluates its shard on its own and leaves a file of a few kilobytes; whoever
reads the files has the metrics of all rows, by country and in all, to the last count.

    python examples/offline_slices.py

prints, in a quarter of a minute,

    4 jobs of 2500000 rows, 29 kB each
    country       recall  95 % interval     AUROC
    AT            0.6916  0.6901 to 0.6927  0.8554
    BR            0.6562  0.6544 to 0.6575  0.8394
    CL            0.5989  0.5966 to 0.6005  0.8118
    DK            0.5023  0.4991 to 0.5048  0.7614
    EG            0.3048  0.2197 to 0.4000  0.6379
    all           0.6436                    0.8325
    recall's gap between countries: 0.387

A number after it is how many of a job's 20 batches are read.
"""

import sys
import tempfile
from pathlib import Path

import jax
import numpy as np

import jaxmetrics as jm

JOBS, ROWS = 4, 125_000
BATCHES = int(sys.argv[1]) if sys.argv[1:] else 20
COUNTRIES = ("AT", "BR", "CL", "DK", "EG")

metrics = jm.Collection(
    # From counts: 200 replicates, drawn when they are read; updates cost nothing more.
    recall=jm.Sliced(jm.Bootstrap(jm.Recall()), len(COUNTRIES)),
    auroc=jm.Sliced(jm.AUROC(num_cells=1023, weighted=False), len(COUNTRIES)),
    gap=jm.Sliced(jm.Recall(), len(COUNTRIES)).gap(),
)


def batches(job):
    """A shard's rows as they would be read: labels, scores and countries."""
    rng = np.random.default_rng(job)
    for _ in range(BATCHES):
        country = rng.choice(len(COUNTRIES), ROWS, p=[0.4, 0.3, 0.2, 0.0999, 0.0001])
        label = rng.random(ROWS, dtype=np.float32) < 0.1
        skill = np.float32([0.30, 0.28, 0.25, 0.20, 0.15])[country]
        noise = rng.normal(0, 0.2, ROWS).astype(np.float32)
        score = np.clip(0.3 + skill * label + noise, 0, 1)
        yield {"y_true": label, "y_pred": score, "slice_ids": country.astype(np.int32)}


def run(job, folder):
    """One job: its shard's state as bytes in a file."""
    _, state = jm.evaluate(metrics, dict, batches(job), progress=False)
    (folder / f"{job}.state").write_bytes(jm.to_bytes(metrics, state))


def main():
    """Runs the jobs, merges their files, and prints the table."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for job in range(JOBS):
            run(job, folder)
        files = sorted(folder.iterdir())
        size = sum(file.stat().st_size for file in files) // len(files) // 1000
        print(f"{JOBS} jobs of {BATCHES * ROWS} rows, {size} kB each")
        state, merge = metrics.init(), jax.jit(metrics.merge)
        for file in files:
            state = merge(state, jm.from_bytes(metrics, file.read_bytes()))

    found = jax.jit(metrics.compute)(state)
    print("country       recall  95 % interval     AUROC")
    lower, upper = (
        found[f"recall/slices/percentile/{end}"] for end in ("lower", "upper")
    )
    for i, country in enumerate(COUNTRIES):
        print(
            f"{country:<12}  {found['recall/slices/value'][i]:.4f}  "
            f"{lower[i]:.4f} to {upper[i]:.4f}  {found['auroc/slices'][i]:.4f}"
        )
    print(f"{'all':<12}  {found['recall/total/value']:.4f}{found['auroc/total']:26.4f}")
    print(f"recall's gap between countries: {found['gap']:.3f}")


if __name__ == "__main__":
    main()
