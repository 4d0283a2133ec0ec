"""Cells that scores fall into: fine where scores crowd, exact at their edges.

A score's level is a sum of monotone steps of it: evenly spaced ones, and ones spaced
evenly in the bits of a float, which are a piecewise linear logarithm. So every octave
of small scores has cells of its own, every octave of the distance to 1, and of the
distance to 1/2, where a model starts to learn. Three quarters of the cells are even. A
cell is 256 levels; the level inside it is kept as an offset.

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

# The bits of x + c are even steps of x up to c, and octaves of it from there on.
_END = np.float32(2.0**-17)  # of s, and of 1 - s
_MIDDLE = np.float32(2.0**-14)  # of |s - 1/2|
_ZERO = np.float32(2.0**-12)  # of |logit|, up to 1
_LEAST, _COARSE = np.float32(2.0**-104), 4  # of s once more, in 2^4 times fewer cells
_CELLS_TO_ONE = 255  # so many in all, to one of an octave
_SCALES = 1, 4, 16, 128  # of even steps of |logit|; then octaves again
_ONE, _INFINITY = np.int32(127 << 23), np.int32(255 << 23)  # their bits
_ENDS = np.asarray([-np.inf, np.inf], np.float32)


class ScoreCells(NamedTuple):
    """A number of cells over scores in [0, 1], or over all numbers for logits."""

    number: int
    logits: bool = False

    def place(self, score: jax.Array) -> tuple[jax.Array, jax.Array]:
        """The cell of each float32 score, increasing, and the level inside it; int32.

        Without logits, the first cell is for scores below 0 and the last for those
        above 1.
        """
        level = self._level(score, jnp)
        return level >> LEVEL_BITS, level & (LEVELS - 1)

    def _level(self, score: Any, xp: ModuleType) -> Any:
        if self.logits:
            return self._logit_level(score, xp)
        inside = self._share_level(score, xp)
        above = xp.where(score > 1, np.int32((self.number - 1) * LEVELS), inside)
        return xp.where(score < 0, np.int32(0), above)

    @property
    def _shift(self) -> int:
        """What takes the steps of an octave, 2^23, to its levels."""
        cells = math.floor(math.log2(self.number / _CELLS_TO_ONE))
        return 23 - LEVEL_BITS - cells

    def _share_level(self, score: Any, xp: ModuleType) -> Any:
        """Even steps and steps of octaves, after those of the first cell."""
        shift = np.int32(self._shift)
        first, last = _share_octaves(np.asarray([0, 1], np.float32), np) >> shift
        even = (self.number - 3) * LEVELS - (last - first)  # 1 is in the last but one
        s = _floats(xp.clip(_bits(score), np.int32(0), _ONE))  # NaN too, and faster
        octaves = (_share_octaves(s, xp) >> shift) - (first - np.int32(LEVELS))
        return (s * np.float32(even)).astype(np.int32) + octaves

    def _logit_level(self, score: Any, xp: ModuleType) -> Any:
        """Steps of |x|: even ones up to 1, to 4, to 16 and to 128, and octaves."""
        shift, middle = np.int32(self._shift), self.number // 2 * LEVELS
        first, last = _logit_octaves(np.asarray([0, _INFINITY], np.int32), np) >> shift
        half = (self.number - 1) * LEVELS - middle  # up to infinity, in the last cell
        even, rest = divmod(half - int(last - first), len(_SCALES))
        size = _bits(score) & np.int32(0x7FFFFFFF)
        level = (_logit_octaves(size, xp) >> shift) - first
        for scale, number in zip(_SCALES, (even + rest, even, even, even), strict=True):
            inside = _floats(xp.minimum(size, np.float32(scale).view(np.int32)))
            level += (inside * np.float32(number / scale)).astype(np.int32)
        level = np.int32(middle) + xp.where(score < 0, ~level, level)
        return xp.maximum(level, np.int32(0))

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


def _share_octaves(s: Any, xp: ModuleType) -> Any:
    """What increases by 2^23 with each octave of s, of 1 - s and of |s - 1/2|."""
    half, least = np.float32(0.5), _MIDDLE.view(np.int32)
    ends = _bits(s + _END) - _bits((1 + _END) - s)
    above = xp.maximum(_bits(s - (half - _MIDDLE)), least)
    below = xp.maximum(_bits((half + _MIDDLE) - s), least)
    return ends + (above - below) + (_bits(s + _LEAST) >> np.int32(_COARSE))


def _logit_octaves(size: Any, xp: ModuleType) -> Any:
    """What increases with each octave of |x| up to 1, and slower from 128 on."""
    near = _bits(_floats(xp.minimum(size, _ONE)) + _ZERO)
    far = xp.clip(size, np.float32(_SCALES[-1]).view(np.int32), _INFINITY)
    return near + (far >> np.int32(_COARSE + 1))


def _bits(x: Any) -> Any:
    if isinstance(x, np.ndarray):
        return x.view(np.int32)
    return lax.bitcast_convert_type(x, jnp.int32)


def _floats(bits: Any) -> Any:
    if isinstance(bits, np.ndarray):
        return bits.view(np.float32)
    return lax.bitcast_convert_type(bits, jnp.float32)


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
