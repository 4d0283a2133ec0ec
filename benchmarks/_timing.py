"""Interleaved timing on ratios: every contender in one run, round by round.

A machine's speed drifts, so absolute times mean little: in each round every contender
has a turn, a few calls in a row, the first of them untimed, so that nobody pays for
what another one left in the caches. The tables show medians and their ratios to the
memory pass, the fastest jitted read of the same inputs.

A stream of batches comes from memory, or from the cache if the same batch comes again
and again: either way the pass does as the contenders do.
"""

import itertools
import math
import os
import platform
import time
from collections.abc import Callable, Mapping
from importlib.metadata import version
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

Run = Callable[[], Any]
Batch = tuple[Any, ...]
Stream = tuple[Batch, ...]  # that come in turn

OUT_OF_CACHE = 2**27  # bytes of batches in turn: four times the cache of this machine


def header(
    title: str, packages: tuple[str, ...] = ("jax", "keras", "google-metrax")
) -> None:
    """Prints what was measured, on what."""
    versions = ", ".join(f"{name} {version(name)}" for name in packages)
    device = jax.devices()[0]
    print(f"\n## {title}\n")
    machine = f"{device.device_kind}, {os.cpu_count()} cores, {platform.machine()}"
    print(f"{machine}; {versions}\n")


def median_times(
    runs: Mapping[str, Run], rounds: int = 25, calls: int = 1
) -> dict[str, float]:
    """Median seconds of each run, the runs taking turns of so many timed calls."""
    for run in runs.values():
        for _ in range(2):
            jax.block_until_ready(run())
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            jax.block_until_ready(run())
            for _ in range(calls):
                start = time.perf_counter()
                jax.block_until_ready(run())
                times[name].append(time.perf_counter() - start)
    return {name: float(np.median(x)) for name, x in times.items()}


def stream(*batch: Any, memory: bool = False) -> Stream:
    """A batch, or as many copies of it as no cache can hold."""
    if not memory:
        return (batch,)
    size = sum(x.nbytes for x in jax.tree.leaves(batch))
    number = math.ceil(OUT_OF_CACHE / size)
    copies = (jax.tree.map(jnp.copy, batch) for _ in range(number - 1))
    return (batch, *copies)


def memory_pass(batches: Stream) -> Run:
    """The fastest jitted read of the inputs once: integer sums of their bits.

    In halves of the rows: a sum of one array waits for itself.
    """

    def add(a: tuple[Any, ...], b: tuple[Any, ...]) -> tuple[Any, ...]:
        return tuple(x + y for x, y in zip(a, b, strict=True))

    @jax.jit
    def read(*batch: Any) -> tuple[jax.Array, ...]:
        bits = [
            half.astype(jnp.int32)
            if half.dtype == bool
            else lax.bitcast_convert_type(half, jnp.int32)
            for x in jax.tree.leaves(batch)
            for half in jnp.split(x, 2)
        ]
        zeros = (np.int32(0),) * len(bits)
        return lax.reduce(tuple(bits), zeros, add, tuple(range(bits[0].ndim)))

    turn = itertools.cycle(batches)
    return lambda: read(*next(turn))


def streaming(update: Callable[..., Any], state: Any, batches: Stream) -> Run:
    """One donated, jitted update after another, each on what the last one left."""
    jitted = jax.jit(update, donate_argnums=0)
    box, turn = [state], itertools.cycle(batches)

    def run() -> Any:
        box[0] = jitted(box[0], *next(turn))
        return box[0]

    return run


def table(rows: list[tuple[str, ...]], head: tuple[str, ...]) -> None:
    """A Markdown table."""
    print("| " + " | ".join(head) + " |")
    print("|" + "---|" * len(head))
    for row in rows:
        print("| " + " | ".join(row) + " |")


def shown(seconds: float) -> str:
    """A time in the unit that suits it."""
    if seconds < 1e-3:
        return f"{seconds * 1e6:.1f} us"
    return f"{seconds * 1e3:.2f} ms"
