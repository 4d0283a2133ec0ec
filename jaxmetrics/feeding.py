"""What the evaluation loop runs on: batches of one kind and size, on the devices.

Before the first run all processes agree on a `Plan`. From then on every process brings
one batch to each run, padded, and a mark for each of its rows; one that has no rows
left brings padding alone.
"""

import functools
import itertools
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxmetrics import checks
from jaxmetrics.checks import Mismatch, WrongKind
from jaxmetrics.hosts import gather_objects, pad_batch, row_count
from jaxmetrics.metric import Metric
from jaxmetrics.state import check_owner, check_template

__all__ = [
    "FAILED",
    "PADDING",
    "ROW",
    "Plan",
    "Run",
    "agree",
    "is_shared",
    "mesh_of",
    "place",
    "require_whole",
    "runs",
]

# The marks of rows, of which the largest of all processes counts: EMPTY says "go on",
# and FAILED says "stop".
PADDING, EMPTY, ROW, FAILED = range(4)


# --- one run after the other ---------------------------------------------------------


class Run(NamedTuple):
    """What this process brings to a run of the program."""

    batch: Any
    marks: jax.Array  # uint8 (rows,)
    failure: Exception | None = None  # why it has no more batches, if not for the end


class Plan(NamedTuple):
    """What every batch is brought to."""

    kind: str  # of the batches, in words
    blank: Any  # a batch of this kind without rows
    size: int  # rows of a run that are this process's
    rows: NamedSharding
    full: jax.Array  # the marks of a batch of so many rows
    unmasked: str  # the metrics that would count padding

    def run(self, batch: Any) -> Run:
        """The batch on the devices, with the marks of its rows."""
        number = row_count(batch)
        if number > self.size:
            raise Mismatch(
                f"a batch has {number} rows, and a run takes {self.size}, as the first "
                f"batch or batch_size has it; pass batch_size={number}, or cut the "
                "batch."
            )
        if _kind(batch) != self.kind:
            raise Mismatch(
                f"all batches must be of the kind of the first, {self.kind}; got "
                f"{_kind(batch)}. Give them one structure, shape and dtype."
            )
        if number == self.size:
            return Run(_put(batch, self.rows), self.full)
        if self.unmasked:
            raise Mismatch(
                f"a batch of {number} rows is padded to {self.size}, but "
                f"{self.unmasked} takes no mask and would count the padding; let it "
                "take one by the name mask, or pass full batches."
            )
        padded, real = pad_batch(batch, self.size)
        marks = np.where(real, np.uint8(ROW), np.uint8(PADDING))
        return Run(*_put((padded, marks), self.rows))

    def padding(self, mark: int) -> Run:
        """A run to which this process brings no rows."""
        batch, real = pad_batch(self.blank, self.size)
        return Run(*_put((batch, np.full(len(real), mark, np.uint8)), self.rows))


def runs(plan: Plan, stream: Iterator[Any]) -> Iterator[Run | None]:
    """A run for each batch; then padding, without end where others may have rows.

    None for a batch of no rows, unless others may have some. An error goes with the
    padding: it must not leave the others waiting.
    """
    failure, shared = None, is_shared(plan.rows)
    try:
        for batch in stream:
            if batch is not None:
                yield plan.run(batch)
            else:
                yield plan.padding(EMPTY) if shared else None
    except Exception as error:
        if not shared:
            raise
        failure = error
    while shared:
        mark = FAILED if failure else PADDING
        yield plan.padding(mark)._replace(failure=failure)


def _put(tree: Any, rows: NamedSharding) -> Any:
    """Arrays of this process's rows on its devices."""
    if not is_shared(rows):
        return jax.device_put(tree, rows)
    put = functools.partial(jax.make_array_from_process_local_data, rows)
    return jax.tree.map(lambda x: put(np.asarray(x)), tree)


def _as_arrays(batches: Iterable[Any]) -> Iterator[Any]:
    """Batches of NumPy and JAX arrays; None for one of no rows."""
    for batch in batches:
        arrays = jax.tree_util.tree_map_with_path(_as_array, batch)
        yield arrays if row_count(arrays) else None


def _as_array(path: Any, x: Any) -> Any:
    """What came as an array that JAX takes without cutting it, and that is our own.

    A loader may fill its arrays again while a run still reads them.
    """
    if isinstance(x, jax.Array):
        return x
    array, name = np.array(x), f"batch{jax.tree_util.keystr(path)}"
    checks.require_32_bits(array, name)
    if array.dtype.kind in "OSU":
        raise WrongKind(
            f"{name} must hold numbers; got dtype {array.dtype}. Encode it, or leave "
            "it out of the batch."
        )
    return array


def _kind(batch: Any) -> str:
    """The arrays of a batch in words, but for their number of rows."""
    arrays = jax.tree_util.tree_leaves_with_path(batch)
    return ", ".join(
        f"batch{jax.tree_util.keystr(path)} {jax.dtypes.canonicalize_dtype(x.dtype)}"
        f"[{','.join(['rows', *map(str, x.shape[1:])])}]"
        for path, x in arrays
    )


# --- devices and processes -----------------------------------------------------------


class _Claim(NamedTuple):
    """What a process tells the others before the first run."""

    metrics: str
    refusal: str = ""
    kind: str = ""  # of its batches, if there are any
    blank: Any = None
    rows: int = 0  # on each device


def agree(
    metric: Metric,
    mesh: Mesh,
    state: Any,
    batches: Iterable[Any],
    batch_size: int | None,
) -> tuple[Plan | None, Iterator[Any]]:
    """What batches are brought to, if any process has some; and the batches."""
    own = sum(d.process_index == jax.process_index() for d in mesh.devices.flat)
    stream, ahead = _as_arrays(batches), []
    claim, failure = _Claim(repr(metric.accumulator)), None
    try:
        check_owner(state, metric.accumulator)
        check_template(state.data, metric.accumulator.empty)
        for batch in stream:
            ahead.append(batch)
            if batch is not None:
                claim = _claim(claim.metrics, batch, batch_size, own)
                break
    except Exception as error:  # raised again once the others know
        claim, failure = claim._replace(refusal=str(error)), error
    rows = NamedSharding(mesh, PartitionSpec(mesh.axis_names))
    claims = gather_objects(claim) if is_shared(rows) else [claim]
    if failure is not None:
        raise failure
    _require_agreement(claims)
    plan = _plan(metric, rows, claims, own)
    return plan, itertools.chain(ahead, stream)


def _claim(metrics: str, first: Any, batch_size: int | None, devices: int) -> _Claim:
    """The claim of a process that has batches, from the first of them."""
    return _Claim(
        metrics,
        kind=_kind(first),
        blank=jax.tree.map(lambda x: np.zeros((0, *x.shape[1:]), x.dtype), first),
        rows=-(-(batch_size or row_count(first)) // devices),
    )


def _plan(
    metric: Metric, rows: NamedSharding, claims: list[_Claim], own: int
) -> Plan | None:
    some = next((claim for claim in claims if claim.kind), None)
    if some is None:
        return None
    size = own * max(claim.rows for claim in claims)
    full = _put(np.full(size, ROW, np.uint8), rows)
    parts = metric.accumulator.parts
    unmasked = ", ".join(part.key for part in parts if "mask" not in part.inputs)
    return Plan(some.kind, some.blank, size, rows, full, unmasked)


def _require_agreement(claims: list[_Claim]) -> None:
    """Raises, on every process alike, where claims cannot be evaluated together."""
    for process, claim in enumerate(claims):
        if claim.refusal:
            raise Mismatch(f"process {process} could not start: {claim.refusal}")
    for what in ("metrics", "kind"):
        words = {process: getattr(claim, what) for process, claim in enumerate(claims)}
        words = {process: text for process, text in words.items() if text}
        if len(set(words.values())) > 1:
            shown = "; ".join(f"process {p} has {text}" for p, text in words.items())
            raise Mismatch(
                "all processes must have the same metrics and batches of one kind; "
                f"{shown}. Make them from the same options on every process."
            )


def mesh_of(params: Any) -> Mesh:
    """The mesh that params are spread over, or one of all devices."""
    for x in jax.tree.leaves(params):
        mesh = getattr(getattr(x, "sharding", None), "mesh", None)
        if not isinstance(mesh, Mesh) or mesh.size == 1:
            continue
        if len(_processes(mesh.devices.flat)) == jax.process_count():
            return mesh
    return Mesh(np.array(jax.devices()), ("data",))


def require_whole(mesh: Any) -> None:
    """Refuses what is no mesh, and a mesh of a few of the processes."""
    if not isinstance(mesh, Mesh):
        raise WrongKind(
            f"mesh must be a jax.sharding.Mesh; got {type(mesh).__name__}. Make one "
            "with jax.make_mesh((jax.device_count(),), ('data',))."
        )
    processes = _processes(mesh.devices.flat)
    if processes != {jax.process_index()} and len(processes) < jax.process_count():
        raise Mismatch(
            "the devices of mesh must be those of all processes, or this one's alone; "
            f"got those of process {', '.join(map(str, sorted(processes)))}. Leave "
            "mesh out for all devices."
        )


def is_shared(sharding: NamedSharding) -> bool:
    """Whether it spreads arrays over several processes."""
    return jax.process_count() > 1 and len(_processes(sharding.device_set)) > 1


def _processes(devices: Any) -> set[int]:
    return {device.process_index for device in devices}


def place(params: Any, whole: NamedSharding) -> Any:
    """Params on the mesh: where they are if they are on it, or whole on each device."""

    def put(x: Any) -> Any:
        there = isinstance(x, jax.Array) and x.sharding.device_set == whole.device_set
        return x if there else jax.device_put(x, whole)

    return jax.tree.map(put, params)
