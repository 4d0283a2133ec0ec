"""Every metric of the registry has the right value and keeps every law.

What is heavy is compiled once for each accumulator and kind of batch: a Collection of
all metrics that read it goes through the laws, so a broken one is named by its key.
"""

import inspect
from typing import Any

import pytest
from combined import COMBINED, Combined
from registry import (
    BINARY,
    BY_CLASS,
    CASES,
    EVEN,
    HARD,
    LOGITS,
    VALUES,
    Case,
    check_references,
    identity,
    together,
)

import jaxmetrics as jm
from jaxmetrics.testing import CHEAP_LAWS, EAGER_LAWS, LAWS, check_backend, check_metric

COMPILED_LAWS = tuple(law for law in LAWS if law not in EAGER_LAWS)


def groups() -> dict[str, list[Case]]:
    """The rows of each accumulator on one kind of batch."""
    found: dict[Any, list[Case]] = {}
    for case in CASES:
        owner = case.metric.accumulator
        found.setdefault((owner, id(case.batches)), []).append(case)
    return {identity(cases[0])[:80]: cases for cases in found.values()}


GROUPS = groups()


def one_of_each_kind() -> set[str]:
    """The smallest group of each class of accumulators that is not joined of others."""
    smallest: dict[type, str] = {}
    for group in sorted(GROUPS, key=lambda name: len(GROUPS[name])):
        owner = GROUPS[group][0].metric.accumulator
        if len(owner.parts) == 1:
            smallest.setdefault(type(owner), group)
    return set(smallest.values())


OPTIMIZED = one_of_each_kind()


def test_every_public_metric_has_a_row_in_the_registry() -> None:
    """A metric class that can be made is in the table."""
    public = {getattr(jm, name) for name in jm.__all__}
    metrics = {x for x in public if inspect.isclass(x) and issubclass(x, jm.Metric)}
    final = {x for x in metrics if not inspect.isabstract(x)}
    rows = {type(case.metric) for case in CASES}
    rows |= {type(row.metric) for row in COMBINED}
    assert final - rows == set()
    assert len(final) > 25


@pytest.mark.parametrize(
    "group",
    [
        pytest.param(group, marks=pytest.mark.optimized if group in OPTIMIZED else ())
        for group in GROUPS
    ],
)
def test_every_metric_agrees_with_its_reference_and_keeps_the_laws(group: str) -> None:
    """All that read one accumulator at once, so that it is compiled once."""
    cases = GROUPS[group]
    check_references(cases)
    check_metric(together(cases), cases[0].batches, laws=COMPILED_LAWS)


@pytest.mark.parametrize("case", CASES, ids=identity)
def test_every_row_keeps_the_cheap_laws(case: Case) -> None:
    """Each metric is a value and refuses states that are not its own."""
    check_metric(case.metric, case.batches, laws=CHEAP_LAWS)


# One for each way that inputs are read. Without `jit` every operation is compiled by
# itself, which takes longest of all: so results are read eagerly for two alone.
INPUT_LAWS = ("inputs", "low precision", "booleans")
READERS = {
    "values": (jm.Mean(), VALUES, EAGER_LAWS),
    "scores": (jm.Precision(), BINARY, EAGER_LAWS),
    "predictions": (jm.Precision(), HARD, ["booleans"]),
    "even grid": (jm.TruePositives(EVEN), BINARY, INPUT_LAWS),
    "logits": (jm.FalsePositives(EVEN, from_logits=True), LOGITS, INPUT_LAWS),
    "top k": (jm.Recall(top_k=2), BY_CLASS, INPUT_LAWS),
    "highest": (jm.F1Score(num_classes=3), BY_CLASS, INPUT_LAWS),
}


@pytest.mark.parametrize("reader", READERS)
def test_every_way_to_read_inputs_keeps_the_laws_without_jit(reader: str) -> None:
    """Eager results are compiled ones, and low precisions are widened."""
    metric, batches, laws = READERS[reader]
    check_metric(metric, batches, laws=laws)


@pytest.mark.parametrize("metric", [jm.Sum(), jm.AUC(5)], ids=repr)
def test_all_reduce_is_the_merge_on_any_number_of_devices(metric: jm.Metric) -> None:
    """With shard_map and pmap on 1, 2, 4 and 8 devices."""
    batches = VALUES if isinstance(metric, jm.Sum) else BINARY
    check_metric(metric, batches, laws=["all_reduce"], devices=(1, 2, 4, 8))


@pytest.mark.parametrize("row", COMBINED, ids=lambda row: row.metric.label)
def test_metrics_around_metrics_keep_the_laws_that_they_could_break(
    row: Combined,
) -> None:
    """Stacked, merged, reduced and advanced, they are still metrics."""
    check_metric(row.metric, row.batches, laws=row.laws, devices=row.devices)


@pytest.mark.optimized
def test_the_backend_keeps_error_terms() -> None:
    """The check that users call passes where the tests run."""
    check_backend()
