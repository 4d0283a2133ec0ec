"""States as bytes: every kind of state, and every way in which bytes can be wrong."""

import dataclasses
import functools
import json
import os
import pickle
import subprocess
import sys
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from registry import BINARY, CASES, Case

import jaxmetrics as jm
from jaxmetrics import serialization as room

HERE = Path(__file__).parent
MADE_OF_METRICS = ("Arithmetic", "Collection", "Mapped")


def kind_of(metric: jm.Metric) -> str:
    """Its accumulators, and how it is made of metrics, if it is."""
    made = [type(metric).__name__] * (type(metric).__name__ in MADE_OF_METRICS)
    parts = {type(part).__name__ for part in metric.accumulator.parts}
    return " ".join(made + sorted(parts))


# A row of the registry for each kind of state.
KINDS = {kind_of(case.metric): case for case in reversed(CASES)}
METRIC = jm.Precision()
STATE = jax.jit(METRIC.update)(METRIC.init(), **BINARY[0])
DATA = jm.to_bytes(METRIC, STATE)
HEADER_END = 16 + int.from_bytes(DATA[12:16], "little")


def seen(case: Case, state: jm.State, *batches: dict[str, np.ndarray]) -> jm.State:
    """The state after some more batches."""
    update = jax.jit(case.metric.update)
    for batch in batches:
        state = update(state, **batch)
    return state


def bits(state: jm.State) -> list[tuple[str, bool, bytes]]:
    """All that two equal states have in common."""
    return [
        (str(x.dtype), x.weak_type, np.asarray(x).tobytes())
        for x in jax.tree.leaves(state)
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_a_state_comes_back_bit_for_bit_and_goes_on(kind: str) -> None:
    """Read, it is the same, and resumed it ends where an uninterrupted one does."""
    case = KINDS[kind]
    for batches in ([], case.batches[:2]):
        state = seen(case, case.metric.init(), *batches)
        read = jm.from_bytes(case.metric, jm.to_bytes(case.metric, state))
        assert (bits(read), read.owner) == (bits(state), state.owner)
    last = case.batches[2]
    assert bits(seen(case, read, last)) == bits(seen(case, state, last))


def test_special_values_keep_their_bits() -> None:
    """Negative zero, infinity, a NaN with a payload, and all bits of a word."""
    template = jm.Sum().init()
    words, sums = jax.tree.leaves(template)
    payload = np.array([0x7FC0BEEF, 0x80000000, 0x7F800000, 1], np.uint32)
    values = [
        np.full(words.shape, 2**32 - 1, np.uint32),
        payload.view(np.float32)[: sums.size].reshape(sums.shape),
    ]
    state = jax.tree.unflatten(jax.tree.structure(template), map(jnp.array, values))
    assert bits(jm.from_bytes(jm.Sum(), jm.to_bytes(jm.Sum(), state))) == bits(state)


def test_equal_states_are_equal_bytes_and_others_are_not() -> None:
    """Whoever made them: eager or jitted, NumPy's arrays or JAX's."""
    eager = METRIC.update(METRIC.init(), **BINARY[0])
    assert jm.to_bytes(METRIC, eager) == DATA
    assert jm.to_bytes(METRIC, jax.device_get(STATE)) == DATA
    assert jm.to_bytes(METRIC, METRIC.update(eager, **BINARY[0])) != DATA


def test_another_process_with_x64_reads_and_writes_the_same_bytes(
    tmp_path: Path,
) -> None:
    """Options and bytes are all that two jobs share."""
    files = {}
    for i, case in enumerate(KINDS.values()):
        data = jm.to_bytes(case.metric, seen(case, case.metric.init(), *case.batches))
        files[str(i)] = data
        (tmp_path / str(i)).write_bytes(data)
    code = (
        "import sys, pathlib, jaxmetrics as jm\n"
        "from test_serialization import KINDS\n"
        "for i, case in enumerate(KINDS.values()):\n"
        "    file = pathlib.Path(sys.argv[1], str(i))\n"
        "    state = jm.from_bytes(case.metric, file.read_bytes())\n"
        "    file.with_suffix('.again').write_bytes(jm.to_bytes(case.metric, state))"
    )
    path = os.pathsep.join([str(HERE), str(Path(jm.__file__).parents[1])])
    environment = os.environ | {"PYTHONPATH": path, "JAX_ENABLE_X64": "1"}
    command = [sys.executable, "-c", code, tmp_path]
    subprocess.run(command, env=environment, check=True, timeout=120)
    again = {f.stem: f.read_bytes() for f in tmp_path.glob("*.again")}
    assert again == files


def test_bytes_of_format_1_are_read_for_good() -> None:
    """These were written when the format was made; it is a promise to files."""
    written = bytes.fromhex(
        "934a4d535441544501000000ac0000007b22616363756d756c61746f7273223a5b22436f6e667573"
        "696f6e436f756e7473287468726573686f6c64733d28302e352c2929225d2c22617272617973223a"
        "5b5b222e436f6e667573696f6e436f756e74732d35373839626362352e636f756e7473222c227569"
        "6e743332222c5b322c375d5d2c5b222e436f6e667573696f6e436f756e74732d3537383962636235"
        "2e77656967687473222c22666c6f61743332222c5b322c355d5d5d7d78016366626264a021000003"
        "5700097842c018"
    )
    assert bits(jm.from_bytes(METRIC, written)) == bits(STATE)


def test_read_outs_of_one_accumulator_read_each_others_bytes() -> None:
    """Names and read-outs may change from job to job."""
    recall = jm.Recall(name="hits")
    assert recall.compute(jm.from_bytes(recall, DATA)) == recall.compute(STATE)
    one, other = jm.Collection(a=METRIC), jm.Collection({"b": METRIC, "c": recall})
    data = jm.to_bytes(one, one.update(one.init(), **BINARY[0]))
    assert other.compute(jm.from_bytes(other, data))["b"] == METRIC.compute(STATE)


def test_the_files_of_many_jobs_merge_one_after_the_other() -> None:
    """By what the documents say, which compiles once; of no files it is `init()`."""
    traces: list[None] = []

    def merge(state: jm.State, other: jm.State) -> jm.State:
        traces.append(None)
        return METRIC.merge(state, other)

    for number in (5, 0):
        states = (jm.from_bytes(METRIC, DATA) for _ in range(number))
        merged = functools.reduce(jax.jit(merge), states, METRIC.init())
        again = METRIC.init()
        for _ in range(number):
            again = METRIC.update(again, **BINARY[0])
        assert bits(merged) == bits(again)
    assert len(traces) == 1


def test_a_state_that_was_read_may_be_donated() -> None:
    """Its arrays are its own, so the bytes stay what they were."""
    data = bytearray(DATA)
    state = jm.from_bytes(METRIC, memoryview(data))
    update = jax.jit(METRIC.update, donate_argnums=0)
    jax.block_until_ready(update(state, **BINARY[0]))
    assert bytes(data) == DATA


def test_large_states_are_small_files() -> None:
    """1 MiB of cells, from what a hundred thousand rows look like."""
    metric, random = jm.AUROC(), np.random.default_rng(0)
    y_pred = random.random(100_000, np.float32)
    state = jax.jit(metric.update)(metric.init(), y_true=y_pred > 0.5, y_pred=y_pred)
    assert sum(x.nbytes for x in jax.tree.leaves(state)) > 1_000_000
    assert len(jm.to_bytes(metric, state)) < 100_000


# --- what is refused ------------------------------------------------------------------


def resealed(header: bytes, body: bytes, length: int | None = None) -> bytes:
    """Bytes that somebody made up, with the checksum that they need."""
    size = len(header) if length is None else length
    data = room.PREFIX.pack(room.MAGIC, room.FORMAT, size) + header + body
    return data + room.SUM.pack(zlib.crc32(data))


HEADER, BODY = DATA[16:HEADER_END], DATA[HEADER_END:-4]
NEWER = DATA[:8] + b"\2" + DATA[9:]
RESHAPED = json.loads(HEADER)
RESHAPED["arrays"][0][2] = [2, 9]
DAMAGED = "the bytes are not those that were written: "
COUNTS = r"the array \.ConfusionCounts-\w+\.counts should be uint32\[2, 7\]"
WRONG: dict[str, tuple[Any, str]] = {
    "text": ("text", r"data must be bytes; got str\. Read a file with Path"),
    "nothing": (b"", "data must be what to_bytes returned, .* it starts with b''"),
    "pickle": (pickle.dumps(1), "data must be what to_bytes returned, which starts"),
    "newer": (NEWER, "of format 2, and this jaxmetrics reads format 1; read them with"),
    "start": (DATA[:18], DAMAGED + "they end after 18 bytes"),
    "cut": (DATA[:-1], DAMAGED + "their checksum is another"),
    "more": (DATA + b"\0", DAMAGED + "their checksum is another.*in binary mode"),
    "long": (resealed(HEADER, BODY, 2**32 - 1), DAMAGED + "their header cannot"),
    "deep": (resealed(b"[" * 100_000, BODY), DAMAGED + "their header cannot be"),
    "json": (resealed(b'{"arrays":[[[],1,2]]}', BODY), DAMAGED + "their header"),
    "other": (resealed(b"[1]", BODY), DAMAGED + "their header cannot be read"),
    "shape": (resealed(json.dumps(RESHAPED).encode(), BODY), COUNTS + ".*hold uint32"),
    "zlib": (resealed(HEADER, b"no zlib"), DAMAGED + "Error -3"),
    "short": (resealed(HEADER, BODY[:-5]), DAMAGED + "they hold more or less"),
    "tail": (resealed(HEADER, BODY + b"x"), DAMAGED + "they hold more or less"),
    "fewer": (resealed(HEADER, zlib.compress(b"few")), DAMAGED + "they hold more"),
}


@pytest.mark.parametrize("what", WRONG)
def test_bytes_that_are_no_state_are_refused(what: str) -> None:
    """In one sentence: what was expected, what came, and the way out."""
    data, words = WRONG[what]
    kind = TypeError if isinstance(data, str) else ValueError
    with pytest.raises(kind, match="^from_bytes: .*" + words):
        jm.from_bytes(METRIC, data)


def test_every_cut_and_every_changed_byte_is_noticed() -> None:
    """Wherever a copy ended, or a byte was changed."""
    for i in range(len(DATA)):
        for data in (DATA[:i], DATA[:i] + bytes([DATA[i] ^ 32]) + DATA[i + 1 :]):
            with pytest.raises(ValueError, match="from_bytes: "):
                jm.from_bytes(METRIC, data)


def test_a_bomb_is_not_inflated() -> None:
    """256 MiB of zeros in 256 KiB: no more is unpacked than there has to be."""
    packer = zlib.compressobj(9)
    zeros = bytes(2**20)
    body = b"".join([packer.compress(zeros) for _ in range(2**8)] + [packer.flush()])
    data = resealed(HEADER, body)
    tracemalloc.start()
    with pytest.raises(ValueError, match="they hold more or less than the arrays"):
        jm.from_bytes(METRIC, data)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10 * len(data)


def test_bytes_of_other_accumulators_are_refused_by_name() -> None:
    """Other options, and Collections with more or with fewer parts."""
    with pytest.raises(
        ValueError,
        match=r"from_bytes: the bytes hold a state of ConfusionCounts\(thresholds="
        r"\(0\.5,\)\), not of ConfusionCounts\(thresholds=\(0\.4,\)\); read them with",
    ):
        jm.from_bytes(jm.Precision(0.4), DATA)
    two = jm.Collection(hits=METRIC, loss=jm.Mean().with_inputs(values="loss"))
    loss = r"Renamed\(inner=WeightedSum\(\), names=.*\)"
    one = jm.Collection(hits=METRIC)
    for reader, writer, words in (
        (two, one, f"bytes hold no state of {loss}; .* the same accumulators"),
        (one, two, f"bytes hold a state of {loss}, too; .* the same accumulators"),
    ):
        with pytest.raises(ValueError, match=words):
            jm.from_bytes(reader, jm.to_bytes(writer, writer.init()))


def test_states_that_cannot_be_written_are_refused() -> None:
    """Another metric's, a stacked one, a traced one, none at all."""
    other = jm.Precision(0.4)
    with pytest.raises(ValueError, match=r"to_bytes: this state belongs to .*0\.5"):
        jm.to_bytes(other, STATE)
    stacked = jax.tree.map(lambda x: jnp.stack([x, x]), STATE)
    with pytest.raises(ValueError, match=r"to_bytes: a state leaf .* It is stacked"):
        jm.to_bytes(METRIC, stacked)
    with pytest.raises(TypeError, match="to_bytes: the state is traced; write it out"):
        jax.jit(lambda state: jm.to_bytes(METRIC, state))(STATE)
    with pytest.raises(TypeError, match=r"to_bytes: state must be what init\(\)"):
        jm.to_bytes(METRIC, None)  # type: ignore[arg-type]
    for swapped in (jm.to_bytes, jm.from_bytes):
        with pytest.raises(TypeError, match=r"_bytes: the metric comes first; got "):
            swapped(STATE, METRIC)  # type: ignore[arg-type]


# --- functions by name ---------------------------------------------------------------


def error(y_true: Any, y_pred: Any) -> Any:
    """A function that a module has."""
    return jnp.abs(y_true - y_pred)


def power(exponent: Any) -> Any:
    """A function that captures what it is given, and has a default."""

    def powered(y_true: Any, y_pred: Any, scale: float = 1.0) -> Any:
        return scale * jnp.abs(y_true - y_pred) ** exponent

    return powered


def scaled(by: Any) -> Any:
    """A function that differs by its default alone."""

    def times(y_true: Any, y_pred: Any, by: Any = by) -> Any:
        return by * (y_true - y_pred)

    return times


def doubled(function: Any) -> Any:
    """What a decorator makes: the name is the function's own."""

    @functools.wraps(function)
    def twice(y_true: Any, y_pred: Any) -> Any:
        return 2 * function(y_true, y_pred)

    return twice


@dataclasses.dataclass(frozen=True)
class Huber:
    """A callable value."""

    delta: float
    inner: Any = error

    def __call__(self, y_true: Any, y_pred: Any) -> Any:
        """The smaller of two errors."""
        return jnp.minimum(self.inner(y_true, y_pred), self.delta)

    def method(self, y_true: Any, y_pred: Any) -> Any:
        """The same as a method."""
        return self(y_true, y_pred)


class Weighing:
    """A callable object, of which there may be others that print alike."""

    def __call__(self, y_true: Any, y_pred: Any) -> Any:
        """An error."""
        return error(y_true, y_pred)

    def __repr__(self) -> str:
        return "Weighing()"


class Plain:
    """A callable object that prints its address."""

    def __call__(self, y_true: Any, y_pred: Any) -> Any:
        """An error."""
        return error(y_true, y_pred)


jitted = jax.jit(error)
compiled = jax.jit(power(2))
TOLD: dict[str, Callable[[], Any]] = {
    "module": lambda: error,
    "library": lambda: optax.squared_error,
    "square": lambda: power(2),
    "cube": lambda: power(3),
    "of a function": lambda: power(error),
    "default": lambda: scaled(2.0),
    "another default": lambda: scaled(3.0),
    "several": lambda: scaled((1.0, "a", None, (True, jnp.float32))),
    "partial": lambda: functools.partial(error, y_true=1.0),
    "partial of a closure": lambda: functools.partial(power(2), scale=2.0),
    "value": lambda: Huber(1.0),
    "another value": lambda: Huber(2.0),
    "value of a closure": lambda: Huber(1.0, power(1)),
    "method": lambda: Huber(1.0).method,
    "another method": lambda: Huber(2.0).method,
}
UNTOLD: dict[str, tuple[Callable[[], Any], str]] = {
    "lambda": (lambda: lambda y_true, y_pred: y_pred, r"<lambda>"),
    "array": (lambda: power(jnp.ones(3)), r"power\.<locals>\.powered\(exponent, sc"),
    "object": (lambda: power(Plain()), r"powered\(exponent, scale\)"),
    "local": (lambda: power(scaled(1)), r"powered\(exponent, scale\)"),
    "decorator": (lambda: doubled(error), r"test_serialization\.error"),
    "vmapped": (lambda: jax.vmap(error), r"test_serialization\.error"),
    "jitted": (lambda: jitted, r"test_serialization\.error"),
    "jitted closure": (lambda: compiled, r"powered"),
    "plain": (Plain, r"<test_serialization\.Plain object>"),
    "repr": (Weighing, r"Weighing\(\)"),
    "method": (lambda: Weighing().__call__, r"Weighing\(\)"),
    "value": (lambda: Huber(1.0, lambda y_true, y_pred: y_pred), r"<lambda>"),
    "partial": (lambda: functools.partial(jitted, y_true=1.0), r"\.error"),
}


def test_functions_are_told_apart_by_name_and_by_what_they_capture() -> None:
    """Made again they are the same, in every process; different ones are refused."""
    written: dict[str, bytes] = {}
    for name, make in TOLD.items():
        metric, again = jm.Mean().of(make()), jm.Mean().of(make())
        written[name] = jm.to_bytes(metric, metric.init())
        assert bits(jm.from_bytes(again, written[name])) == bits(metric.init())
    assert len(set(written.values())) == len(written)
    with pytest.raises(ValueError, match=r"exponent=3, scale=1\.0.*exponent=2, scale="):
        jm.from_bytes(jm.Mean().of(power(2)), written["cube"])
    both = jm.Collection(a=jm.Mean().of(power(2)), b=jm.Mean().of(power(3)))
    assert len(both.accumulator.parts) == 2


@pytest.mark.parametrize("what", UNTOLD)
def test_what_has_no_name_of_its_own_is_not_written(what: str) -> None:
    """Nor read; and no key of a checkpoint holds an address."""
    make, name = UNTOLD[what]
    words = name + r".* has no name of its own, .*; take a function that a module has"
    metric = jm.Mean().of(make())
    assert metric.accumulator.key == jm.Mean().of(make()).accumulator.key
    assert " at 0x" not in repr(metric)
    with pytest.raises(TypeError, match="^to_bytes: .*" + words):
        jm.to_bytes(metric, metric.init())
    with pytest.raises(TypeError, match="^from_bytes: .*" + words):
        jm.from_bytes(metric, DATA)


def test_a_function_that_only_reads_a_state_needs_no_name() -> None:
    """A lambda in `map` is the reader's own; the best of it is not."""
    plain = jm.Mean().map(lambda x: x + 1)
    assert bits(jm.from_bytes(plain, jm.to_bytes(plain, plain.init())))
    best = jm.BestSoFar(plain)
    with pytest.raises(TypeError, match=r"<lambda> has no name of its own"):
        jm.to_bytes(best, best.init())


def test_a_function_may_use_itself_and_what_comes_later() -> None:
    """Its name does not follow what it captures, and says so where that is unknown."""

    def endless(y_true: Any, y_pred: Any) -> Any:
        return (endless, later, y_true, y_pred)

    metric = jm.Mean().of(endless)
    assert repr(metric).endswith("endless(endless, later))")
    later = metric
    with pytest.raises(TypeError, match=r"endless\(endless, later\) has no name"):
        jm.to_bytes(later, later.init())
