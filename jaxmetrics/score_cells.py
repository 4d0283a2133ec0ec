"""Cells that scores fall into: fine where scores crowd, exact at their edges.

A score's level is a sum of monotone steps of it: evenly spaced ones, and ones spaced
evenly in the bits of a float, which are a piecewise linear logarithm. So every octave
of small scores has its own cells, and every octave of the distance to 1. A cell is 256
levels; the level inside it is kept as an offset.

Each step is one IEEE operation and a truncation, hence monotone and the same on every
backend. The edges of cells are found by bisection over all float32 numbers.
"""

import functools
import math
from collections.abc import Callable
from types import ModuleType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

__all__ = ["LEVELS", "LEVEL_BITS", "ScoreCells"]

LEVEL_BITS = 8
LEVELS = 1 << LEVEL_BITS  # of a cell

_ONE = 127 << 23  # the bits of 1.0
_OCTAVE = 1 << 23
_OCTAVES, _HIGH_OCTAVES = 126, 25  # of all normal s, and of all 1 - s
_SCALES = 1, 4, 16, 128  # of logits
_TAIL_OCTAVES = 121  # from 128 to infinity
_ENDS = np.asarray([-np.inf, np.inf], np.float32)


class ScoreCells(NamedTuple):
    """A number of cells over scores in [0, 1], or over all numbers for logits."""

    number: int
    logits: bool = False

    @property
    def top(self) -> int:
        """The highest level inside, which a score of 1 alone reaches."""
        return (self.number - (1 if self.logits else 3)) * LEVELS

    def place(self, score: jax.Array) -> tuple[jax.Array, jax.Array]:
        """The cell of each float32 score, increasing, and the level inside it; int32.

        Without logits, the first cell is for scores below 0 and the last for those
        above 1.
        """
        level = self._level(score, jnp)
        return level >> LEVEL_BITS, level & (LEVELS - 1)

    def _level(self, score: Any, xp: ModuleType) -> Any:
        if self.logits:
            return xp.clip(self._logit_level(score, xp), 0, self.top)
        inside = xp.clip(self._share_level(score, xp), 0, self.top) + np.int32(LEVELS)
        above = xp.where(score > 1, np.int32(self.top + 2 * LEVELS), inside)
        return xp.where(score < 0, np.int32(0), above)

    def _share_level(self, score: Any, xp: ModuleType) -> Any:
        """Even steps, steps of each octave of s, and of each octave of 1 - s."""
        shift = _shift(self.number / 4, _OCTAVES)
        high = _HIGH_OCTAVES * _OCTAVE >> shift
        even = self.top - (_OCTAVES * _OCTAVE >> shift) - high
        s = xp.clip(score, np.float32(0), np.float32(1))
        level = (s * np.float32(even)).astype(np.int32)
        level += _octave_steps(s, _ONE - _OCTAVES * _OCTAVE, shift, xp)
        left = np.float32(1) - s
        lowest = _ONE - _HIGH_OCTAVES * _OCTAVE
        return level + (np.int32(high) - _octave_steps(left, lowest, shift, xp))

    def _logit_level(self, score: Any, xp: ModuleType) -> Any:
        """Even steps up to 1, to 4, to 16 and to 128, and steps of octaves beyond."""
        shift = _shift(self.number / 64, _TAIL_OCTAVES)
        tail = _TAIL_OCTAVES * _OCTAVE >> shift
        even = (self.top - 2 * tail) // (len(_SCALES) * LEVELS) * LEVELS
        rest = self.top - 2 * tail - len(_SCALES) * even
        level = np.int32(tail)
        for scale, number in zip(_SCALES, (even + rest, even, even, even), strict=True):
            limit = np.float32(scale)
            inside = xp.clip(score, -limit, limit) + limit
            level = level + (inside * np.float32(number / (2 * scale))).astype(np.int32)
        far = _octave_steps(xp.abs(score), _ONE + 7 * _OCTAVE, shift, xp)
        return level + xp.where(score < 0, -far, far)

    @functools.cache  # noqa: B019 - cells are values, and few
    def edges(self) -> np.ndarray:
        """The least float32 score of each cell but the first, increasing."""
        return _from_rank(self._first_ranks())

    def thresholds(self) -> np.ndarray:
        """A score below each edge: what is above it has reached the next cell.

        The next float32 below, but for subnormal ones, which backends take for 0.
        """
        edges, least = self.edges(), np.finfo(np.float32).smallest_normal
        below = np.nextafter(edges, np.float32(-np.inf))
        normal = np.where(edges > 0, np.float32(0), -least)
        result: np.ndarray = np.where(np.abs(below) < least, normal, below)
        return result

    @functools.cache  # noqa: B019
    def distinct(self) -> np.ndarray:
        """How many float32 scores there are in each cell."""
        first, last = _to_rank(_ENDS)
        ranks = np.concatenate([[first], self._first_ranks(), [last + 1]])
        return np.diff(ranks).astype(np.float32)

    def _first_ranks(self) -> np.ndarray:
        def reached(rank: np.ndarray) -> np.ndarray:
            cell = self._level(_from_rank(rank), np) >> LEVEL_BITS
            result: np.ndarray = cell >= np.arange(1, self.number)
            return result

        return _bisect(reached, *_to_rank(_ENDS))


def _shift(cells: float, octaves: int) -> int:
    """What takes bits to levels, at about so many cells for so many octaves.

    At most 8 cells to an octave.
    """
    each = min(math.floor(math.log2(cells / octaves)), 3)
    return 23 - LEVEL_BITS - each


def _octave_steps(x: Any, lowest: int, shift: int, xp: ModuleType) -> Any:
    """How many levels of octaves, from the one of these lowest bits, lie below x."""
    return xp.maximum(_bits(x) - np.int32(lowest), np.int32(0)) >> np.int32(shift)


def _bits(x: Any) -> Any:
    if isinstance(x, np.ndarray):
        return x.view(np.int32)
    return lax.bitcast_convert_type(x, jnp.int32)


# --- all float32 numbers, in their order ---------------------------------------------


def _to_rank(x: np.ndarray) -> np.ndarray:
    """Integers in the order of the numbers; both zeros are 0."""
    bits = x.view(np.int32).astype(np.int64)
    return np.where(bits < 0, -(bits & 0x7FFFFFFF), bits)


def _from_rank(rank: np.ndarray) -> np.ndarray:
    bits = np.where(rank < 0, -rank | 0x80000000, rank)
    return bits.astype(np.uint32).view(np.float32)


def _bisect(
    reached: Callable[[np.ndarray], np.ndarray], first: int, last: int
) -> np.ndarray:
    """The first rank from which on each entry of a monotone predicate is true."""
    size = reached(np.asarray([first])).shape
    low, high = np.full(size, first), np.full(size, last)
    while np.any(low < high):
        middle = (low + high) // 2
        true = reached(middle)
        low, high = np.where(true, low, middle + 1), np.where(true, middle, high)
    return low
