"""States as bytes: for files, for other jobs and for later runs.

    Path("state").write_bytes(jm.to_bytes(metric, state))
    states = (jm.from_bytes(metric, path.read_bytes()) for path in paths)
    state = functools.reduce(jax.jit(metric.merge), states)

Format 1, all numbers little-endian:

* 8 bytes that say what this is; in 4 bytes each the number of the format and the length
  of the header;
* the header, JSON: the accumulators in words, and of every array the key path, which
  holds the accumulator's class and the hash of its options, the dtype and the shape;
* the arrays, one after the other, in each of them the first bytes of all entries, then
  the second bytes and so on, because the upper bytes of counts are zeros; deflated;
* the CRC-32 of all that.

Nothing in it is executed, and the metric that reads knows how much there has to be, so
bytes from elsewhere may be wrong but do no harm.
"""

import functools
import json
import struct
import zlib
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxmetrics import checks
from jaxmetrics.accumulator import Accumulator
from jaxmetrics.checks import Mismatch, WrongKind
from jaxmetrics.metric import Metric
from jaxmetrics.names import without_name
from jaxmetrics.state import State, check_owner, check_template

__all__ = ["from_bytes", "packed", "to_bytes", "unpacked"]

MAGIC = b"\x93JMSTATE"
FORMAT = 1
PREFIX, SUM = struct.Struct("<8sII"), struct.Struct("<I")
SHOWN = 200  # characters of an accumulator's options, in the header


class Layout(NamedTuple):
    """What the bytes of an accumulator's states have in common."""

    template: State  # of shapes and dtypes
    header: bytes

    @property
    def arrays(self) -> list[jax.ShapeDtypeStruct]:
        """Shape and dtype of each array, in order."""
        return jax.tree.leaves(self.template)


def to_bytes(metric: Metric, state: State) -> bytes:
    """A state as bytes, for a file, another job or a later run.

    Equal states give equal bytes on machines with the same zlib. They depend neither on
    x64 nor on where the arrays are, and are small where little was counted: a score
    histogram of 1 MiB takes 10 to 100 KB.

    Args:
      metric: The metric, or another one with the same accumulator.
      state: What it has seen; arrays of this process, or the same on all processes.

    Raises:
      ValueError: Where the state is another metric's, or spread over processes.
      TypeError: Where it is traced, or no state, or where the metric has a function
        without a name, such as a lambda in `Metric.of`.

    Example:
      >>> import jaxmetrics as jm
      >>> metric = jm.Mean()
      >>> data = jm.to_bytes(metric, metric.update(metric.init(), values=[1.0, 3.0]))
      >>> state = jm.from_bytes(metric, data)  # in another process, on another day
      >>> print(metric.compute(metric.update(state, values=[5.0])))
      3.0
    """
    with checks.naming("to_bytes"):
        _require_metric(metric)
        _require_names(metric.accumulator)
    return packed(metric, state)


def from_bytes(metric: Metric, data: bytes) -> State:
    """The state that `to_bytes` wrote, bit for bit, on the default device.

    Args:
      metric: The metric that wrote it, or another one with the same accumulator. The
        accumulators of a `Collection` must be the same; names do not matter.
      data: The bytes. They may come from anywhere: nothing in them is executed.

    Raises:
      ValueError: Where the bytes are no state, another metric's, of a newer format, cut
        short or changed.
      TypeError: Where they are no bytes, or where the metric has a function without a
        name.
    """
    with checks.naming("from_bytes"):
        _require_metric(metric)
        _require_names(metric.accumulator)
    return unpacked(metric, data)


# --- what is written -----------------------------------------------------------------


def packed(metric: Metric, state: State) -> bytes:
    """As `to_bytes`, for readers who have the metric itself, whatever it is called."""
    with checks.naming("to_bytes"):
        for leaf in jax.tree.leaves(state):
            _require_here(leaf)
        owner = metric.accumulator
        check_owner(state, owner)
        layout = _layout(owner)
        check_template(state.data, lambda: layout.template.data)
    planes = [_planes(np.asarray(x)) for x in jax.device_get(jax.tree.leaves(state))]
    data = PREFIX.pack(MAGIC, FORMAT, len(layout.header)) + layout.header
    data += zlib.compress(b"".join(planes), 1)
    return data + SUM.pack(zlib.crc32(data))


@functools.lru_cache(maxsize=1024)
def _layout(owner: Accumulator) -> Layout:
    template = State(jax.eval_shape(owner.empty), owner)
    leaves = jax.tree_util.tree_leaves_with_path(template)
    header = {
        "accumulators": [repr(part)[:SHOWN] for part in owner.parts],
        "arrays": [
            [jax.tree_util.keystr(path), str(x.dtype), list(x.shape)]
            for path, x in leaves
        ],
    }
    return Layout(template, json.dumps(header, separators=(",", ":")).encode())


def _require_metric(metric: Any) -> None:
    if not isinstance(metric, Metric):
        raise WrongKind(f"the metric comes first; got {type(metric).__name__}.")


def _require_names(owner: Accumulator) -> None:
    """Refuses what other accumulators may be called as well."""
    for name in without_name(owner):
        raise WrongKind(
            f"{name} has no name of its own, so that another job could take its states "
            "for another's; take a function that a module has, one that captures "
            "numbers and strings alone, or a frozen dataclass of such."
        )


def _require_here(leaf: Any) -> None:
    """Refuses arrays whose numbers this process does not have."""
    if isinstance(leaf, jax.core.Tracer):
        raise WrongKind("the state is traced; write it outside the jitted function.")
    if not isinstance(leaf, jax.Array):
        return
    if not (leaf.is_fully_addressable or leaf.is_fully_replicated):
        raise Mismatch(
            "the state must be on this process; an array of it is spread over several. "
            "Return it from the jitted step with out_shardings=NamedSharding(mesh, "
            "PartitionSpec()), or write each process's own and merge what was written."
        )


def _planes(x: np.ndarray) -> bytes:
    """The first bytes of all entries, then the second and so on."""
    entries = np.frombuffer(x.tobytes(), np.uint8).reshape(x.size, x.itemsize)
    return entries.T.tobytes()  # little-endian, as every machine that JAX runs on


# --- what is read --------------------------------------------------------------------


def unpacked(metric: Metric, data: bytes) -> State:
    """As `from_bytes`, of what `packed` has written."""
    with checks.naming("from_bytes"):
        if not isinstance(data, bytes | bytearray | memoryview):
            raise WrongKind(
                f"data must be bytes; got {type(data).__name__}. Read a file with "
                "Path(...).read_bytes()."
            )
        header, body = _split(bytes(data))
        layout = _layout(metric.accumulator)
        if header != layout.header:
            _check_header(header, layout.header)
        leaves = _arrays(body, layout.arrays)
    state: State = jax.tree.unflatten(jax.tree.structure(layout.template), leaves)
    return state


def _split(data: bytes) -> tuple[bytes, bytes]:
    """The header and the deflated arrays, whole and of a format that is known."""
    if data[: len(MAGIC)] != MAGIC:
        raise Mismatch(
            f"data must be what to_bytes returned, which starts with {MAGIC!r}; it "
            f"starts with {data[: len(MAGIC)]!r}. Files of checkpointers are read by "
            "them."
        )
    if len(data) < PREFIX.size + SUM.size:
        raise _damaged(f"they end after {len(data)} bytes")
    _, form, length = PREFIX.unpack_from(data)
    if form != FORMAT:
        raise Mismatch(
            f"the bytes are of format {form}, and this jaxmetrics reads format "
            f"{FORMAT}; read them with the version that wrote them, or a newer one."
        )
    content = data[: -SUM.size]
    if SUM.pack(zlib.crc32(content)) != data[-SUM.size :]:
        raise _damaged("their checksum is another")
    end = PREFIX.size + length
    return content[PREFIX.size : end], content[end:]


def _damaged(how: str) -> Mismatch:
    return Mismatch(
        f"the bytes are not those that were written: {how}. Write the state again, or "
        "copy the file again, in binary mode."
    )


def _check_header(header: bytes, wanted: bytes) -> None:
    """Refuses the arrays of other accumulators, and others of the same name."""
    ours = json.loads(wanted)
    try:
        came = json.loads(header)
        theirs = {path: (dtype, shape) for path, dtype, shape in came["arrays"]}
        owners = [str(x) for x in came["accumulators"]]
    except (KeyError, RecursionError, TypeError, ValueError):
        raise _damaged("their header cannot be read") from None
    if list(theirs) != [path for path, *_ in ours["arrays"]]:
        difference = _difference(owners, ours["accumulators"])
        raise Mismatch(
            f"the bytes {difference}; read them with the metric that wrote them, or "
            "with a Collection of the same accumulators."
        )
    for path, dtype, shape in ours["arrays"]:
        if theirs[path] != (dtype, shape):
            raise Mismatch(
                f"the array {path} should be {dtype}{shape}; the bytes hold "
                f"{theirs[path][0]}{theirs[path][1]}. Read them with the version that "
                "wrote them."
            )


def _difference(theirs: list[str], ours: list[str]) -> str:
    """What the bytes hold and should not, or should and do not."""
    more = ", ".join(x for x in theirs if x not in ours)
    less = ", ".join(x for x in ours if x not in theirs)
    if not more and less:
        return f"hold no state of {less}"
    if more and not less:
        return f"hold a state of {more}, too"
    return f"hold a state of {more or theirs}, not of {less or ours}"


def _arrays(body: bytes, like: list[jax.ShapeDtypeStruct]) -> list[jax.Array]:
    """The arrays again, never more than there have to be."""
    sizes = [x.size * x.dtype.itemsize for x in like]
    inflater = zlib.decompressobj()
    try:
        planes = inflater.decompress(body, sum(sizes) + 1)
    except zlib.error as error:
        raise _damaged(str(error)) from None
    if len(planes) != sum(sizes) or not inflater.eof or inflater.unused_data:
        raise _damaged("they hold more or less than the arrays")
    ends = np.cumsum(sizes)[:-1]
    pieces = np.split(np.frombuffer(planes, np.uint8), ends)
    return [
        jnp.array(_entries(piece, x)) for piece, x in zip(pieces, like, strict=True)
    ]


def _entries(planes: np.ndarray, like: jax.ShapeDtypeStruct) -> np.ndarray:
    """What `_planes` took apart."""
    entries = planes.reshape(like.dtype.itemsize, like.size).T
    return np.frombuffer(entries.tobytes(), like.dtype).reshape(like.shape)
