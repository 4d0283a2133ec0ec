"""Weights as integers: sums of them are exact, so order and sharding do not matter.

Each weight is cut to 48 bits below the largest weight of its batch, as two halves of 24
bits. Sums of halves are kept in limbs of 16 bits, carried often enough that none
overflows, and end as two-floats.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxmetrics.numerics import fast_two_sum

__all__ = [
    "LEAST",
    "Weights",
    "carry_limbs",
    "exponent_of",
    "from_limbs",
    "max_weight",
    "times_two_to",
    "to_integers",
    "to_limbs",
    "to_share",
]

HALF_BITS = 24
LEAST = np.int32(-100)  # of a scale
LIMB_BITS = 16
LIMB = np.uint32(2**LIMB_BITS - 1)
Limbs = tuple[jax.Array, ...]  # each uint32, lowest first
_BITS_OF_ONE = np.float32(1).view(np.int32)


class Weights(NamedTuple):
    """Weights relative to a power of two above the largest, and as integers."""

    share: jax.Array  # float32, below 1
    upper: jax.Array  # int32, of 24 bits
    lower: jax.Array  # int32, of 24 bits, which count 2^-24 of the upper
    square: jax.Array | None  # int32: of the weight, in the unit of the upper


def max_weight(weight: jax.Array, keep: jax.Array | None) -> jax.Array:
    """The scale of a batch's weights: the least exponent e with every weight below 2^e.

    At least -100, so that 2^e and its inverse are normal numbers; of weights that are
    not finite any, since their rows do not count.
    """
    if keep is not None:
        usable = keep & (weight < np.inf)
        weight = lax.select(usable, weight, jnp.zeros_like(weight))
    return exponent_of(jnp.max(weight, initial=0.0))


def exponent_of(weight: jax.Array) -> jax.Array:
    """The least exponent e with the weight below 2^e; at least -100."""
    exponent = (lax.bitcast_convert_type(weight, jnp.int32) >> 23) - 126
    return lax.max(exponent, lax.full_like(exponent, LEAST))


def _two_to(exponent: jax.Array) -> jax.Array:
    """2^exponent as float32, exactly, for exponents of normal numbers."""
    return lax.bitcast_convert_type((exponent + 127) << 23, jnp.float32)


def to_share(weight: jax.Array, scale: jax.Array) -> jax.Array:
    """`weight / 2^scale`, below 1."""
    half = scale >> 1  # 2^-scale may itself be out of range
    return weight * _two_to(-half) * _two_to(half - scale)


def to_integers(weight: jax.Array, scale: jax.Array, *, squares: bool) -> Weights:
    """`weight / 2^scale` as `upper * 2^-24 + lower * 2^-48`; each step is exact."""
    share = to_share(weight, scale)
    scaled = share * np.float32(2**HALF_BITS)
    upper = lax.floor(scaled)
    lower = lax.round(
        (scaled - upper) * np.float32(2**HALF_BITS),
        lax.RoundingMethod.TO_NEAREST_EVEN,
    )
    square = None
    if squares:
        # The bits below the 1, which count 2^-23: of nearly 1 they are those of 2. A
        # product that is added at once may be rounded once, in one form and not others.
        product = lax.max(share * share, lax.full_like(share, 0))
        bits = lax.bitcast_convert_type(product + 1, jnp.int32)
        square = (bits - _BITS_OF_ONE) << 1
    return Weights(share, upper.astype(jnp.int32), lower.astype(jnp.int32), square)


def to_limbs(upper: jax.Array, lower: jax.Array) -> Limbs:
    """The same 48 bits as three limbs of 16, lowest first."""
    return lower & 0xFFFF, (lower >> 16) + ((upper & 255) << 8), upper >> 8


def carry_limbs(limbs: Limbs) -> Limbs:
    """Carries limbs to 16 bits each; the highest keeps what is above."""
    if not limbs:  # rows without weights
        return limbs
    low, *above = limbs
    carried = []
    for limb in above:
        carried.append(low & LIMB)
        low = limb + (low >> LIMB_BITS)
    return (*carried, low)


def from_limbs(
    limbs: Limbs, scale: jax.Array, *, squares: bool
) -> tuple[jax.Array, jax.Array]:
    """Two-float weights `sum(limb_i * 2^(16 i)) * 2^(scale - 48)` of carried limbs.

    With squares, the last is of these, whose scale is twice that: 0 below 2^-126, and
    infinite above 2^128.
    """
    low, middle, high, top = limbs
    # From the highest down, each an exact float of 16 bits.
    parts = top >> LIMB_BITS, top & LIMB, high, middle, low
    first, *others, last = (
        x.astype(jnp.float32) * np.float32(2.0 ** (32 - 16 * i))
        for i, x in enumerate(parts)
    )
    total, error = first, jnp.zeros_like(first)
    for part in others:
        total, rest = fast_two_sum(total, part)
        error = error + rest
    total, error = fast_two_sum(total, error + last)
    if squares:
        last = lax.iota(jnp.int32, total.shape[0]) == total.shape[0] - 1
        scale = jnp.where(last, 2 * scale, scale)
    exponent = scale - LIMB_BITS
    return times_two_to(exponent, total), times_two_to(exponent, error)


def times_two_to(exponent: jax.Array, x: jax.Array) -> jax.Array:
    """`x * 2^exponent`, where that is up to four times what a normal number has."""
    for quarter in range(4):
        x *= _two_to((exponent + quarter) >> 2)
    return x
