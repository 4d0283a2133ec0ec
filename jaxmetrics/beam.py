"""Any metric or Collection as a `CombineFn` of Apache Beam.

    from jaxmetrics.beam import MetricCombineFn

    combine = MetricCombineFn(metrics)
    rows | beam.CombineGlobally(combine)  # rows are {"y_true": 1, "y_pred": 0.7}
    rows | beam.Map(lambda row: (country(row), row)) | beam.CombinePerKey(combine)

Not part of `import jaxmetrics`: Beam comes with the extra, `jaxmetrics[beam]`. A bundle
buffers rows and updates its state with batches of one size, so a metric is compiled
once. What leaves a bundle is the bytes of `to_bytes`, which are refused where they are
another metric's.

Bytes, and no object with a coder of its own: Beam's coder of bytes is compiled. While a
coder in Python works, such as one that waits for a compilation, the thread that sends
every second what is there (`TimeBasedBufferingClosableOutputStream`) sends half an
element, and the receiver reads garbage. So all work is done before Beam encodes.
"""

import functools
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxmetrics import checks
from jaxmetrics.checks import Mismatch, WrongKind
from jaxmetrics.hosts import pad_batch
from jaxmetrics.metric import Metric
from jaxmetrics.serialization import packed, unpacked
from jaxmetrics.state import State

try:
    from apache_beam import CombineFn
except ImportError:  # the room can be looked at; MetricCombineFn says what is missing
    CombineFn = object

__all__ = ["MetricCombineFn"]


class MetricCombineFn(CombineFn):
    """Combines rows to the value of a metric, in as many bundles as Beam likes.

    Counts are bit for bit those of one update with all rows; sums of floats are as
    exact as those of any cut into batches. Elements are dicts of the metric's inputs by
    name, `sample_weight` and `mask` among them. All rows of a bundle have the same.

    Args:
      metric: A metric or a `Collection`, of metrics that take `mask`.
      batch_size: Rows to an update. A short batch is padded, so a bundle costs at least
        one update of this size for each of its keys.
      batched: Elements are batches, not rows: arrays with a first axis of rows, of any
        length.

    Returns:
      What `compute` does, on the host: Python's numbers for scalars, NumPy arrays for
      the rest. Of no rows, the value of `init()`.

    Raises:
      ImportError: Without Apache Beam.
      TypeError: Where an element is no dict, or `metric` no metric that takes `mask`.
      ValueError: Where inputs disagree on the number of rows or from row to row.
    """

    def __init__(
        self, metric: Metric, *, batch_size: int = 1024, batched: bool = False
    ) -> None:
        if CombineFn is object:
            raise ImportError(
                "MetricCombineFn needs Apache Beam: pip install 'jaxmetrics[beam]'."
            )
        super().__init__()
        with checks.naming("MetricCombineFn"):
            _require_masks(metric)
            size = checks.integer(batch_size, "batch_size", 1)
            self.plan = Plan(metric, size, checks.boolean(batched, "batched"))

    def create_accumulator(self) -> "Partial | bytes":
        """Nothing seen."""
        return Partial(self.plan)

    def add_input(self, accumulator: "Partial | bytes", element: Any) -> "Partial":
        """One row, or one batch of them."""
        partial = _opened(self.plan, accumulator)
        partial.add([element], _rows(element, batched=self.plan.batched))
        return partial

    def merge_accumulators(self, accumulators: Iterable["Partial | bytes"]) -> bytes:
        """The bytes of what all of them have seen."""
        merged = Partial(self.plan)
        for accumulator in accumulators:
            merged.merge(_opened(self.plan, accumulator))
        return merged.to_bytes()

    def compact(self, accumulator: "Partial | bytes") -> bytes:
        """What is sent to other workers: the bytes of the state, all rows included."""
        return _opened(self.plan, accumulator).to_bytes()

    def extract_output(self, accumulator: "Partial | bytes") -> Any:
        """The value, on the host."""
        state = _opened(self.plan, accumulator).flush()
        with COMPILING:
            value = _programs(self.plan.metric).compute(state)
        return jax.tree.map(_plain, jax.device_get(value))


class Plan(NamedTuple):
    """The options, as accumulators have them too."""

    metric: Metric
    batch_size: int
    batched: bool


class Partial:
    """What has been seen of a key so far: a state, and elements not yet in it."""

    __slots__ = ("elements", "plan", "rows", "state")

    def __init__(self, plan: Plan, state: State | None = None) -> None:
        self.plan = plan
        self.state = state  # None is init(): a key of few rows needs no arrays
        self.elements: list[Any] = []
        self.rows = 0  # in the elements

    def __reduce__(self) -> tuple[Any, ...]:
        return _opened, (self.plan, self.to_bytes())

    def to_bytes(self) -> bytes:
        """The bytes of its state, all rows included."""
        return packed(self.plan.metric, self.flush())

    def add(self, elements: list[Any], rows: int) -> None:
        """Takes elements, and updates the state when there are rows enough."""
        self.elements += elements
        self.rows += rows
        if self.rows >= self.plan.batch_size:
            self.flush()

    def merge(self, other: "Partial") -> None:
        """Takes what another one has seen, which stays as it is."""
        if self.state is None:
            self.state = other.state
        elif other.state is not None:
            with COMPILING:
                merge = _programs(self.plan.metric).merge
                self.state = merge(self.state, other.state)
        self.add(other.elements, other.rows)

    def flush(self) -> State:
        """The state of all rows, in updates of one size."""
        metric, size, batched = self.plan
        joined = _joined(self.elements, batched=batched) if self.elements else {}
        with COMPILING:
            programs = _programs(metric)
            state = programs.empty if self.state is None else self.state
            for start in range(0, self.rows, size):
                piece = {name: x[start : start + size] for name, x in joined.items()}
                piece, real = pad_batch(piece, size)
                # A mask of the rows' own is padded with False, and says the same.
                state = programs.update(state, **({"mask": real} | piece))
        self.state, self.elements, self.rows = state, [], 0
        return state


# --- details -------------------------------------------------------------------------


# Threads of one worker reach a new program together, and each would compile it.
COMPILING = threading.Lock()


class Programs(NamedTuple):
    """What a worker compiles once for each metric; never pickled."""

    empty: State
    update: Callable[..., State]
    merge: Callable[[State, State], State]
    compute: Callable[[State], Any]


@functools.lru_cache(maxsize=128)
def _programs(metric: Metric) -> Programs:
    return Programs(
        metric.init(),
        jax.jit(metric.update),
        jax.jit(metric.merge),
        jax.jit(metric.compute),
    )


def _opened(plan: Plan, accumulator: "Partial | bytes") -> Partial:
    """An accumulator that takes rows, out of one that was sent, if it is."""
    if isinstance(accumulator, Partial):
        return accumulator
    return Partial(plan, unpacked(plan.metric, accumulator))


def _require_masks(metric: Any) -> None:
    """Refuses metrics that would count the padding."""
    if not isinstance(metric, Metric):
        raise WrongKind(f"metric must be a metric; got {type(metric).__name__}.")
    for part in metric.accumulator.parts:
        if "mask" not in part.inputs:
            raise WrongKind(
                f"every metric must take mask, because short batches are padded; "
                f"{part!r} takes {list(part.inputs)}. Leave mask as it is in "
                "with_inputs(...)."
            )


@checks.naming("MetricCombineFn")
def _rows(element: Any, *, batched: bool) -> int:
    """How many rows an element has."""
    if not isinstance(element, Mapping) or not element:
        raise WrongKind(
            "an element must be a dict of inputs by name, such as "
            f"{{'y_true': 1, 'y_pred': 0.7}}; got {element!r}. Map elements to dicts "
            "before they are combined."
        )
    if not batched:
        return 1
    rows: dict[str, int | None] = {
        name: np.shape(x)[0] if np.ndim(x) else None for name, x in element.items()
    }
    first, *others = rows.values()
    if first is None or others != [first] * len(others):
        raise Mismatch(
            f"every input of a batch must have one entry per row; got rows {rows}. "
            "Repeat what is one for all rows, or drop batched=True where elements are "
            "rows."
        )
    return first


@checks.naming("MetricCombineFn")
def _joined(elements: list[Any], *, batched: bool) -> dict[str, np.ndarray]:
    """The inputs of several elements, with a first axis of rows."""
    names = elements[0].keys()
    for element in elements:
        if element.keys() != names:
            raise Mismatch(
                f"all rows must have the same inputs; some have {sorted(names)}, some "
                f"{sorted(element)}. Give a weight of 1 to rows that have none."
            )
    join = np.concatenate if batched else np.asarray
    joined = {}
    for name in names:
        values = [element[name] for element in elements]
        try:
            joined[name] = join(values)
        except ValueError:  # that they do not fit together
            shapes = sorted({np.shape(x)[batched:] for x in values})
            raise Mismatch(
                f"{name} must have one shape in all rows; got {shapes}. Pad rows, and "
                "mask what was added."
            ) from None
    return joined


def _plain(x: Any) -> Any:
    """A result as a Python number, or as an array where it is several."""
    x = np.asarray(x)
    return x.item() if x.ndim == 0 else x
