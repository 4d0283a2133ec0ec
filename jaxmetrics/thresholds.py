"""Grids of thresholds, and where scores lie on them: exact at ties."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxmetrics import checks

__all__ = ["EvenGrid", "even_thresholds", "normal_grid", "thresholds_below"]


class EvenGrid(NamedTuple):
    """Evenly spaced thresholds 0, 1/(T-1), ..., 1, as their number T."""

    number: int


@functools.lru_cache(maxsize=256)
def even_thresholds(num_thresholds: int) -> tuple[float, ...]:
    """The evenly spaced thresholds that `AUC` and the curves use.

    The i-th is the largest float32 score `s` with `s * (T - 1) <= i` in float32, which
    is `i / (T - 1)` or the float next to it. So a score's place on the grid is one
    multiplication, and exact. Metrics with these thresholds share the state of `AUC`.

    Args:
      num_thresholds: How many, at least 2.

    Returns:
      Thresholds from 0 to 1, increasing.

    Example:
      >>> import jaxmetrics as jm
      >>> jm.even_thresholds(5)
      (0.0, 0.25, 0.5, 0.75, 1.0)
    """
    with checks.naming("even_thresholds"):
        last = checks.integer(num_thresholds, "num_thresholds", 2) - 1
    place = np.arange(num_thresholds, dtype=np.float32)
    values = place / np.float32(last)
    up, down = np.float32(2), np.float32(-1)
    for _ in range(4):  # the jump lies within an ulp or two of the quotient
        higher = np.nextafter(values, up)
        values = np.where(higher * np.float32(last) <= place, higher, values)
    for _ in range(4):
        values = np.where(
            values * np.float32(last) > place, np.nextafter(values, down), values
        )
    values[0] = 0.0
    return tuple(float(str(x)) for x in values)


def normal_grid(thresholds: tuple[float, ...]) -> EvenGrid | tuple[float, ...]:
    """Sorted distinct thresholds; even ones by their number alone."""
    distinct = tuple(sorted(set(thresholds)))
    if len(distinct) >= 3 and distinct == even_thresholds(len(distinct)):
        return EvenGrid(len(distinct))
    return distinct


def thresholds_below(score: jax.Array, grid: EvenGrid | tuple[float, ...]) -> jax.Array:
    """How many thresholds are strictly below each score; int32."""
    if isinstance(grid, EvenGrid):
        place = jnp.ceil(score * np.float32(grid.number - 1))
        return jnp.clip(place, 0, grid.number).astype(jnp.int32)
    if len(grid) <= 16:
        return sum((score > np.float32(t)).astype(jnp.int32) for t in grid)  # type: ignore[return-value]
    table = np.asarray(grid, np.float32)
    return jnp.searchsorted(table, score, side="left", method="scan_unrolled").astype(
        jnp.int32
    )
