"""Host-side loops: batches of one size, and several processes that end as one.

Nothing here is compiled with a metric. `pad_batch` comes before the compiled step,
`merge_processes` after the last one, in loops of one's own; `evaluate` is one that has
both:

    for batch in batches:  # as many as this process happens to have
        batch, mask = jm.pad_batch(batch, 128)
        state = eval_step(state, batch, mask)
    state = jm.merge_processes(metric, state)
"""

import functools
import hashlib
import pickle
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils

from jaxmetrics import checks
from jaxmetrics.checks import Mismatch, WrongKind
from jaxmetrics.metric import Metric
from jaxmetrics.state import State, check_owner, check_template

__all__ = ["gather_objects", "merge_processes", "pad_batch", "row_count"]

Batch = TypeVar("Batch")

# --- batches of one size -------------------------------------------------------------


def pad_batch(batch: Batch, size: int) -> tuple[Batch, np.ndarray]:
    """Pads a host batch to `size` rows, and says which of them are real.

    Batches of one size need one compiled program, so the last, shorter batch of an
    evaluation costs nothing extra; pass the mask on to `update`.

    Args:
      batch: A pytree of arrays whose first axes, the rows, are equally long. A list or
        tuple in it is a container of arrays, not an array.
      size: How many rows the result has; at least as many as the batch.

    Returns:
      The batch as NumPy arrays of `size` rows, the last ones zero (False, or empty), in
      the dtypes that came; and a mask of shape (size,), True for the rows that came. A
      batch that is full already is not copied.

    Raises:
      ValueError: Where the arrays disagree about the number of rows, have more than
        `size`, or where there is no array to count rows of.
      TypeError: Where an array is traced, or `size` is no integer.

    Example:
      >>> import jaxmetrics as jm
      >>> import numpy as np
      >>> batch = {"y_true": np.array([0, 1, 1]), "y_pred": np.array([0.2, 0.8, 0.6])}
      >>> batch, mask = jm.pad_batch(batch, 4)
      >>> print(batch["y_pred"], mask)
      [0.2 0.8 0.6 0. ] [ True  True  True False]
      >>> print(jm.Precision()(**batch, mask=mask))
      1.0
    """
    with checks.naming("pad_batch"):
        size = checks.integer(size, "size", 1)
        rows = row_count(batch)
        if rows > size:
            raise Mismatch(
                f"the batch has {rows} rows, more than size={size}; give a larger size "
                "or cut the batch."
            )
        padded = jax.tree.map(lambda leaf: _padded(np.asarray(leaf), size), batch)
        return padded, np.arange(size) < rows


def row_count(batch: Any) -> int:
    """How many rows all arrays of a batch have; refuses one that has no such number."""
    leaves = jax.tree_util.tree_leaves_with_path(batch)
    arrays = {jax.tree_util.keystr(path): leaf for path, leaf in leaves}
    return _common_rows({path: _rows(path, leaf) for path, leaf in arrays.items()})


def _rows(path: str, leaf: Any) -> int:
    """The length of an array's first axis."""
    if isinstance(leaf, jax.core.Tracer):
        raise WrongKind(
            f"batch{path} is traced; pad on the host, before the jitted function."
        )
    shape = np.shape(leaf)
    if not shape:
        raise Mismatch(
            f"every array needs a first axis of rows; batch{path} is the single value "
            f"{leaf!r}. Pass NumPy arrays: lists in a batch are containers of arrays."
        )
    return int(shape[0])


def _common_rows(rows: dict[str, int]) -> int:
    if not rows:
        raise Mismatch("the batch has no arrays; pass at least one, if of no rows.")
    if len(set(rows.values())) > 1:
        shown = ", ".join(f"batch{path} {number}" for path, number in rows.items())
        raise Mismatch(
            f"all arrays must have the same number of rows; got {shown}. "
            "Leave out what is not one entry per row."
        )
    return next(iter(rows.values()))


def _padded(x: np.ndarray, size: int) -> np.ndarray:
    if len(x) == size:
        return x
    result = np.zeros((size, *x.shape[1:]), x.dtype)
    result[: len(x)] = x
    return result


# --- several processes ---------------------------------------------------------------

SHOWN_BYTES = 2048  # of what a process holds, in the error message


def merge_processes(metric: Metric, state: State) -> State:
    """The merge of the states of all processes, the same on each of them.

    For loops on the host in which each process (`jax.distributed`) updates a state of
    its own with batches of its own, as many as it has, none included: a process without
    rows passes `metric.init()`. Every process calls this once, after its loop. It
    gathers the states once and merges them in the order of `jax.process_index()`.

    First all processes tell each other what they hold. Where they disagree, or one
    holds something that is no state of `metric`, every one of them raises and none is
    left waiting.

    A single process has its state already. So have processes that ran one program
    over a mesh of all of them: a state that is a global array is returned as it is.

    Args:
      metric: The metric, made from the same options on every process.
      state: What this process has seen.

    Returns:
      A state on this process's default device, bit for bit the same on every process.

    Raises:
      ValueError: On every process, where they do not hold states of the same metric;
        the message says what each holds.
      TypeError: Where `state` is traced; on a single process, where it is no state.

    Note:
      This waits for the slowest process. On CPU the first collective of a program
      connects the processes, and fails unless all reach it within 30 seconds. Where
      loops may differ by more, call `sync_global_devices("start")` of
      `jax.experimental.multihost_utils` before them.

    Example:
      >>> import jaxmetrics as jm
      >>> metric = jm.Mean()
      >>> state = metric.update(metric.init(), values=[1.0, 3.0])
      >>> print(metric.compute(jm.merge_processes(metric, state)))
      2.0
    """
    with checks.naming("merge_processes"):
        if any(isinstance(x, jax.core.Tracer) for x in jax.tree.leaves(state)):
            raise WrongKind("the state is traced; merge outside the jitted function.")
        claim, refusal = _claim(metric, state)
        if jax.process_count() > 1:
            _require_agreement(claim, refusal)
        if refusal is not None:
            raise refusal
        if jax.process_count() == 1 or _is_global(state):
            return state
        leaves, treedef = jax.tree.flatten(state)
        own = [np.asarray(x) for x in jax.device_get(leaves)]
        gathered = [_unpack(words, own) for words in _gather(_pack(own))]
        states: list[State] = [jax.tree.unflatten(treedef, x) for x in gathered]
        # One program instead of one for each operation in it.
        return functools.reduce(jax.jit(metric.merge), states)


def _claim(metric: Metric, state: State) -> tuple[str, Exception | None]:
    """What this process holds, in words, and why that cannot be merged, if so.

    It must not raise: the other processes would wait for this one.
    """
    try:
        owner = metric.accumulator
        check_owner(state, owner)
        check_template(state.data, owner.empty)
        where = "global" if _is_global(state) else "local"
        parts = ", ".join(map(repr, owner.parts))
        leaves = jax.tree_util.tree_leaves_with_path(state.data)
        kinds = ", ".join(
            f"{jax.tree_util.keystr(path)} {x.dtype}{list(x.shape)}"
            for path, x in leaves
        )
    except Exception as error:  # raised again once the others know
        return f"what it cannot merge ({error})", error
    return f"a {where} state of {parts}, with {kinds}", None


def _is_global(state: State) -> bool:
    """Whether the state is one of all processes, and not of this one alone."""
    leaves = jax.tree.leaves(state)
    spans = [
        _processes(x)
        for x in leaves
        if isinstance(x, jax.Array) and not x.is_fully_addressable
    ]
    if not spans:
        return False
    if len(spans) < len(leaves) or min(spans) < jax.process_count():
        raise Mismatch(
            "every array of the state must be this process's own or spread over all "
            "processes; this one is neither. Merge states of one kind."
        )
    return True


def _processes(x: jax.Array) -> int:
    """How many processes hold a part of the array."""
    devices: Any = x.sharding.device_set  # their type has no stub
    return len({device.process_index for device in devices})


def _require_agreement(claim: str, refusal: Exception | None) -> None:
    """Raises on every process, unless all make the same claim and none refuses."""
    text = claim.encode()
    digest = np.frombuffer(hashlib.sha256(text).digest(), np.uint32)
    start = np.frombuffer(text[:SHOWN_BYTES].ljust(SHOWN_BYTES, b" "), np.uint32)
    refused = np.array([refusal is not None], np.uint32)
    claims = _gather(np.concatenate([refused, digest, start]))
    if not claims[:, 0].any() and (claims == claims[0]).all():
        return
    holders: dict[bytes, list[int]] = {}
    for process, words in enumerate(claims):
        holders.setdefault(words[1:].tobytes(), []).append(process)
    shown = [
        f"process {', '.join(map(str, processes))} holds "
        + words[digest.nbytes :].decode(errors="replace").rstrip()
        for words, processes in holders.items()
    ]
    raise Mismatch(
        f"all processes must hold a state of the same metric; {'; '.join(shown)}. "
        "Make the metric from the same options on every process."
    ) from refusal


def _gather(words: np.ndarray) -> np.ndarray:
    """Every process's uint32 words, (processes, n): wider types would be cut."""
    return np.asarray(multihost_utils.process_allgather(words))


def gather_objects(own: Any) -> list[Any]:
    """What every process holds, in rank order; all of them call this together."""
    text = pickle.dumps(own)
    lengths = _gather(np.array([len(text)], np.uint32))[:, 0]
    width = -(-int(lengths.max()) // 4) * 4
    gathered = _gather(np.frombuffer(text.ljust(width, b"\0"), np.uint32))
    return [
        pickle.loads(words.tobytes()[:length])
        for words, length in zip(gathered, lengths, strict=True)
    ]


def _pack(leaves: list[np.ndarray]) -> np.ndarray:
    """The bits of all leaves as one vector of uint32."""
    text = b"".join(x.tobytes() for x in leaves)
    return np.frombuffer(text.ljust(-(-len(text) // 4) * 4, b"\0"), np.uint32)


def _unpack(words: np.ndarray, like: list[np.ndarray]) -> list[jax.Array]:
    """The leaves again, in the shapes and dtypes of others."""
    ends = np.cumsum([x.nbytes for x in like])
    pieces = np.split(np.frombuffer(words.tobytes(), np.uint8), ends)
    return [
        jnp.asarray(np.frombuffer(piece.tobytes(), x.dtype).reshape(x.shape))
        for piece, x in zip(pieces[:-1], like, strict=True)
    ]
