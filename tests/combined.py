"""The table of metrics around metrics: with batches and the laws that they could break.

A metric inside keeps the laws by itself; what a combinator adds is how states are
stacked, merged, reduced and advanced. Each row names the laws that look at that.
"""

from typing import Any, NamedTuple

import numpy as np
from registry import BINARY, VALUES

import jaxmetrics as jm
from jaxmetrics.testing import CHEAP_LAWS

ROWS = 8
RANDOM = np.random.default_rng(12)
SLICED = [
    {**batch, "slice_ids": RANDOM.integers(-1, 3, ROWS).astype(np.int32)}
    for batch in BINARY
]
SEVERAL = [
    {**batch, "slice_ids": RANDOM.integers(-1, 3, (ROWS, 2)).astype(np.int32)}
    for batch in BINARY
]
WITH_IDS = [
    {**batch, "row_ids": np.arange(ROWS, dtype=np.int32) + ROWS * i}
    for i, batch in enumerate(BINARY)
]
IDS = [{"slice_ids": batch["slice_ids"]} for batch in SLICED]
OUTPUTS = [{"values": batch["values"][:, None] * [1, 2]} for batch in VALUES]

STATES = ("state type", "init identity", "merge associative", "checkpoint", "loops")
ROWWISE = ("batch cuts", "masks", "weights", "row order", "update merges", "all_reduce")


class Combined(NamedTuple):
    """A row of the table."""

    metric: jm.Metric
    batches: list[dict[str, Any]]
    laws: tuple[str, ...]
    devices: tuple[int, ...] = ()


def error(y_true: Any, y_pred: Any) -> Any:
    """What a mean is taken of."""
    return abs(y_true - y_pred)


recall, mean = jm.Recall(), jm.Mean()
COMBINED = [
    Combined(
        jm.Sliced(recall, 3, minimum_count=2), SLICED, (*STATES, *ROWWISE), devices=(2,)
    ),
    Combined(jm.Sliced(recall, 3).gap(), SEVERAL, ("masks", "weights", "x64")),
    Combined(jm.RowsBySlice(3), IDS, (*STATES, *ROWWISE)),
    Combined(
        jm.Windowed(jm.Collection(a=recall, b=jm.Precision()), 2),
        BINARY,
        (*STATES, "all_reduce", "NaN"),
        devices=(2,),
    ),
    Combined(jm.ExponentialMovingAverage(mean, 2.0), VALUES, (*STATES, "NaN", "x64")),
    Combined(jm.Every(mean, 2), VALUES, (*STATES, "all_reduce")),
    Combined(jm.BestSoFar(recall), BINARY, (*STATES, "all_reduce", "NaN")),
    Combined(
        jm.Sliced(jm.Windowed(mean, 2).with_inputs(values="y_pred"), 3).with_inputs(
            slice_ids="y_true"
        ),
        [
            {"y_pred": x["y_pred"], "y_true": x["y_true"].astype(np.int32)}
            for x in BINARY
        ],
        STATES,
    ),
    Combined(
        jm.Repeated(mean, 2, over="values", axis=-1),
        OUTPUTS,
        (*STATES, *ROWWISE, "NaN"),
    ),
    Combined(jm.Bootstrap(recall, 4), BINARY, ("merge associative", "masks")),
    Combined(
        jm.Bootstrap(recall, 3, weighted=True),
        WITH_IDS,
        ("merge associative", "batch cuts", "masks", "all_reduce", "checkpoint"),
        devices=(2,),
    ),
    Combined(mean.of(error), BINARY, ("masks", "weights", "batch cuts", "one trace")),
    Combined(
        jm.harmonic_mean(recall, 0.75),
        BINARY,
        ("NaN", "x64", "strict types", "guards"),
    ),
    Combined(
        jm.where(recall > 0.5, jm.Precision(), 0.0),
        BINARY,
        ("NaN", "strict types", "guards"),
    ),
]
COMBINED = [row._replace(laws=(*CHEAP_LAWS, *row.laws)) for row in COMBINED]
