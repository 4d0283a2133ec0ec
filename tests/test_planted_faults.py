"""The laws bite: metrics with one fault each, and the law that finds it.

Every fault is planted in the same small accumulator, which keeps all laws without it.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from registry import BINARY, HARD, VALUES, Case, check_references, count

import jaxmetrics as jm
from jaxmetrics.numerics import add_two_floats
from jaxmetrics.testing import LAWS, check_metric


class Sums(NamedTuple):
    """Words of a number of rows, and a two-float sum."""

    rows: jax.Array  # uint32 (2,)
    total: jax.Array  # float32 (2,)


class Share(jm.Accumulator):
    """A sum, weighted, over a number of rows: sound."""

    def empty(self) -> Sums:
        return Sums(jnp.zeros((2,), jnp.uint32), jnp.zeros((2,), jnp.float32))

    def measure(
        self, values: Any, sample_weight: Any = 1.0, *, mask: Any = True
    ) -> Sums:
        x, weight = jnp.asarray(values, jnp.float32), jnp.asarray(sample_weight)
        return self.sums(x, weight.astype(jnp.float32), jnp.asarray(mask))

    def sums(self, x: jax.Array, weight: jax.Array, mask: jax.Array) -> Sums:
        kept = jnp.broadcast_to(mask & (weight != 0), x.shape)
        total = add_up(jnp.where(kept, x * weight, jnp.zeros_like(x)))
        rows = jnp.sum(kept, dtype=jnp.uint32)
        return Sums(jnp.stack([rows, jnp.zeros_like(rows)]), total)

    def value(self, data: Sums) -> jax.Array:
        return data.total[0] + data.total[1]


def add_up(x: jax.Array) -> jax.Array:
    """The two-float sum of a batch, row after row."""

    def step(total: jax.Array, row: jax.Array) -> tuple[jax.Array, None]:
        return add_two_floats(total, jnp.stack([row, jnp.zeros_like(row)])), None

    return lax.scan(step, jnp.zeros_like(x[:2]), x)[0]


def faulty(**methods: Any) -> type:
    """The sound accumulator's body with some methods replaced."""
    body = {k: vars(Share)[k] for k in ("empty", "measure", "sums", "value")}
    name = f"Faulty{len(PLANTED)}"
    PLANTED[name] = type(name, (jm.Accumulator,), {**body, **methods})
    globals()[name] = PLANTED[name]  # for pickle
    return PLANTED[name]


PLANTED: dict[str, type] = {}


# --- the faults ----------------------------------------------------------------------


def weak_empty(self: Any) -> Sums:
    """A weak dtype, from a Python number."""
    return Sums(jnp.zeros((2,), jnp.uint32), jnp.broadcast_to(jnp.asarray(0.0), (2,)))


def plain_psum(self: Any, data: Sums, axis_name: Any) -> Sums:
    """Each word of a two-float summed on its own: what rounding loses is lost."""
    return lax.psum(data, axis_name)


def psum_of_carried(self: Any, data: Sums, axis_name: Any) -> Sums:
    """Words carried with the wrong radix."""
    summed = lax.psum(data.rows, axis_name)
    low, high = summed[0] & jnp.uint32(3), summed[1] + (summed[0] >> 4)
    folded = lax.all_gather(data.total, axis_name)
    total = folded[0]
    for i in range(1, folded.shape[0]):
        total = add_two_floats(total, folded[i])
    return Sums(jnp.stack([low, high]), total)


def mean_of_means(self: Any, x: jax.Array, weight: Any, mask: Any) -> Sums:
    """Each batch counts alike, whatever its size."""
    sums = Share().sums(x, weight, mask)
    rows = jnp.maximum(sums.rows[0], 1).astype(jnp.float32)
    return sums._replace(total=sums.total / rows)


class WithLeaf(NamedTuple):
    """Sums, and a number that does not belong there."""

    rows: jax.Array
    total: jax.Array
    number: jax.Array


def with_leaf(sums: Sums, number: float) -> WithLeaf:
    """The sums beside a leaf that never changes."""
    return WithLeaf(*sums, jnp.full((2,), number, jnp.float32))


def forgets(self: Any, data: Sums, other: Sums) -> Sums:
    """The rows of one side alone."""
    return Sums(data.rows, add_two_floats(data.total, other.total))


def remembers(self: Any, data: Sums, **inputs: Any) -> Sums:
    """An update that does not go through the faulty merge."""
    return Share().combine(data, Share().measure(**inputs))


def halves(self: Any, data: Sums, other: Sums) -> Sums:
    """The mean of two sums."""
    return Sums(data.rows + other.rows, (data.total + other.total) / jnp.float32(2))


def sees_tracing(self: Any, x: jax.Array, weight: Any, mask: Any) -> Sums:
    """Another sum when it is traced."""
    return Share().sums(x + isinstance(x, jax.core.Tracer), weight, mask)


@property
def address(self: Any) -> str:
    """Where the object happens to be."""
    return hex(id(self))


def is_same(self: Any, other: Any) -> bool:
    """Equal to itself alone."""
    return self is other


def ignores_mask(self: Any, x: jax.Array, weight: Any, mask: Any) -> Sums:
    """Masked rows are summed all the same."""
    return Share().sums(x, weight, jnp.ones_like(mask))


def ignores_weight(self: Any, x: jax.Array, weight: Any, mask: Any) -> Sums:
    """All rows count alike."""
    return Share().sums(x, jnp.ones_like(weight), mask)


def multiplies_by_mask(self: Any, x: jax.Array, weight: Any, mask: Any) -> Sums:
    """NaN times 0 is NaN."""
    sums = Share().sums(x, weight, mask)
    return sums._replace(total=add_up(x * weight * mask.astype(jnp.float32)))


def swallows_nan(self: Any, x: jax.Array, weight: Any, mask: Any) -> Sums:
    """NaN counts as 0."""
    return Share().sums(jnp.nan_to_num(x), jnp.nan_to_num(weight), mask)


def keeps_the_last(self: Any, data: Sums, other: Sums) -> Sums:
    """What came later wins."""
    rows = data.rows + other.rows
    return Sums(rows, jnp.where(other.rows[0] > 0, other.total, data.total))


def first_row(self: Any, x: jax.Array, weight: Any, mask: Any) -> Sums:
    """The first row counts twice."""
    return Share().sums(x.at[0].multiply(2), weight, mask)


def promotes(self: Any, x: jax.Array, weight: Any, mask: Any) -> Sums:
    """An integer meets a float."""
    return Share().sums(x + jnp.arange(2)[0] * 0, weight, mask)


def follows_x64(self: Any, x: jax.Array, weight: Any, mask: Any) -> Sums:
    """A sum whose dtype depends on a global switch."""
    sums = Share().sums(x, weight, mask)
    return sums._replace(total=sums.total + jnp.zeros((2,)))


def same_buffers(self: Any) -> Sums:
    """One buffer that every init() hands out."""
    return SHARED


SHARED = Sums(jnp.zeros((2,), jnp.uint32), jnp.zeros((2,), jnp.float32))


def multiplies(
    self: Any, values: Any, sample_weight: Any = 1.0, *, mask: Any = True
) -> Sums:
    """Products are taken before the inputs are widened."""
    x = (jnp.asarray(values) * 3).astype(jnp.float32)
    weight = jnp.asarray(sample_weight).astype(jnp.float32)
    return Share().sums(x / 3, weight, jnp.asarray(mask))


def counts_reads(self: Any, data: Sums) -> jax.Array:
    """A result that depends on how often it was asked for."""
    READS.append(1)
    return data.total[0] * len(READS)


READS: list[int] = []


def forgives(self: Any, state: Any) -> None:
    """No state is refused."""


def doubles(self: Any, data: Sums, **inputs: Any) -> Sums:
    """What was there counts again with every update."""
    return self.combine(self.combine(data, data), self.measure(**inputs))


def asks_the_host(self: Any, x: jax.Array, weight: Any, mask: Any) -> Sums:
    """A callback that knows one batch at a time."""
    sums = Share().sums(x, weight, mask)
    kind = jax.ShapeDtypeStruct((2,), jnp.float32)
    return sums._replace(total=jax.pure_callback(np.asarray, kind, sums.total))


def writes_to_inputs(
    self: Any, values: Any, sample_weight: Any = 1.0, *, mask: Any = True
) -> Sums:
    """Saves a copy where it should not."""
    if isinstance(values, np.ndarray):
        values -= 1
        values = values + 1
    return Share().measure(values, sample_weight, mask=mask)


def refuses_booleans(
    self: Any, values: Any, sample_weight: Any = 1.0, *, mask: Any = True
) -> Sums:
    """Takes numbers alone."""
    if jnp.asarray(values).dtype == bool:
        raise TypeError("numbers, please")
    return Share().measure(values, sample_weight, mask=mask)


FLAGS = [{"values": x["y_pred"]} for x in HARD]

# What is planted, the law that finds it, and batches that show it.
FAULTS: dict[str, tuple[type, str, Any]] = {
    "a weak dtype": (faulty(empty=weak_empty), "state type", VALUES),
    "a psum of two-floats": (faulty(reduce=plain_psum), "all_reduce", VALUES),
    "words carried wrongly": (faulty(reduce=psum_of_carried), "all_reduce", VALUES),
    "a mean of batch means": (faulty(sums=mean_of_means), "batch cuts", VALUES),
    "an option in the data": (
        faulty(
            empty=lambda self: with_leaf(Share().empty(), 0.5),
            sums=lambda self, *inputs: with_leaf(Share().sums(*inputs), 0.5),
        ),
        "init identity",
        VALUES,
    ),
    "NaN in the state": (
        faulty(
            empty=lambda self: with_leaf(Share().empty(), np.nan),
            sums=lambda self, *inputs: with_leaf(Share().sums(*inputs), np.nan),
        ),
        "guards",
        VALUES,
    ),
    "a field that merge forgets": (
        faulty(combine=forgets, extend=remembers),
        "init identity",
        VALUES,
    ),
    "the same, in parts": (
        faulty(combine=forgets, extend=remembers),
        "batch cuts",
        VALUES,
    ),
    "an update that doubles": (faulty(extend=doubles), "update merges", VALUES),
    "a merge by halves": (faulty(combine=halves), "merge associative", VALUES),
    "mask ignored": (faulty(sums=ignores_mask), "masks", VALUES),
    "mask multiplied": (faulty(sums=multiplies_by_mask), "masks", VALUES),
    "weight ignored": (faulty(sums=ignores_weight), "weights", VALUES),
    "NaN swallowed": (faulty(sums=swallows_nan), "NaN", VALUES),
    "the last batch wins": (faulty(combine=keeps_the_last), "row order", VALUES),
    "the first row twice": (faulty(sums=first_row), "row order", VALUES),
    "implicit promotion": (faulty(sums=promotes), "strict types", VALUES),
    "a dtype that follows x64": (faulty(sums=follows_x64), "x64", VALUES),
    "one buffer for all": (faulty(empty=same_buffers), "donation", VALUES),
    "products before widening": (faulty(measure=multiplies), "low precision", VALUES),
    "booleans refused": (faulty(measure=refuses_booleans), "booleans", FLAGS),
    "a host callback": (faulty(sums=asks_the_host), "loops", VALUES),
    "inputs written to": (faulty(measure=writes_to_inputs), "inputs", VALUES),
    "reads counted": (faulty(value=counts_reads), "pure compute", VALUES),
    "tracing seen": (faulty(sums=sees_tracing), "eager", FLAGS),
    "a key that is an address": (faulty(key=address), "checkpoint", VALUES),
    "equal by identity": (faulty(__eq__=is_same), "value", VALUES),
    "a trace for each copy": (faulty(__eq__=is_same), "one trace", VALUES),
    "any owner accepted": (faulty(check_state=forgives), "foreign states", VALUES),
    "any shape accepted": (faulty(check_state=forgives), "damaged states", VALUES),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_found_by_the_law_it_breaks(fault: str) -> None:
    """The error names the law and the metric; without the fault there is none."""
    kind, law, batches = FAULTS[fault]
    words = rf"(?s)^the law '{law}' is broken: .*; by {kind.__name__}\(\)$"
    with pytest.raises(AssertionError, match=words):
        check_metric(kind(), batches, laws=[law])


def test_without_a_fault_every_law_is_kept() -> None:
    """The accumulator that the faults are planted in is sound."""
    check_metric(Share(), VALUES)
    check_metric(Share(), FLAGS, laws=["booleans"])


def test_every_law_has_a_fault_that_it_finds() -> None:
    """No law is there that cannot fail."""
    assert {law for _, law, _ in FAULTS.values()} == set(LAWS)


class Positives(jm.Accumulator):
    """True positives at 0.5, with ties as an option."""

    ties: bool = False

    def empty(self) -> jax.Array:
        return jnp.zeros((2,), jnp.float32)

    def measure(
        self, y_true: Any, y_pred: Any, sample_weight: Any = 1.0, *, mask: Any = True
    ) -> jax.Array:
        called = y_pred >= 0.5 if self.ties else y_pred > 0.5
        hit = mask & (y_true == 1) & called
        total = jnp.sum(jnp.where(hit, sample_weight, 0.0))
        return jnp.stack([total, jnp.zeros_like(total)])

    def value(self, data: jax.Array) -> jax.Array:
        return data[0]


def test_at_least_for_above_is_found_by_the_reference() -> None:
    """The registry's batches have scores that equal a threshold."""
    check_references([Case(Positives(), BINARY, count(0))])
    with pytest.raises(AssertionError, match="Not equal to tolerance"):
        check_references([Case(Positives(ties=True), BINARY, count(0))])


def test_a_waived_law_is_left_out_and_needs_a_reason() -> None:
    """`laws_waived` is honoured, on the metric and on its accumulator."""
    waived = faulty(sums=first_row, laws_waived={"row order": "the first row leads"})
    check_metric(waived(), VALUES, laws=["row order"])
    check_metric(waived().map(jnp.negative), VALUES, laws=["row order"])
    for laws_waived in ({"row order": ""}, {"no such law": "none"}):
        with pytest.raises(ValueError, match=r"without a reason|no law 'no such law'"):
            check_metric(faulty(laws_waived=laws_waived)(), VALUES, laws=["row order"])


def test_unknown_laws_and_unfit_batches_are_refused() -> None:
    """What cannot be checked raises instead of passing."""
    with pytest.raises(ValueError, match="there is no law 'gravity'"):
        check_metric(Share(), VALUES, laws=["gravity"])
    for batches in (VALUES[:1], [{"values": 1.0}, {"values": 2.0}]):
        with pytest.raises(ValueError, match="batches must be two or more dicts"):
            check_metric(Share(), batches, laws=["row order"])
