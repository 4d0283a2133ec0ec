"""Scores in decreasing order, with what lies above each: the basis of exact metrics.

A row is one 64-bit key, of the score, the label and the weight, because a sort of keys
is four times as fast as one that takes other arrays along. Sums over the sorted rows
are float64. None of these leave a compiled function, so they are used whether or not
64-bit types are enabled.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

__all__ = ["Steps", "steps_of"]

_SIGN = np.uint32(1 << 31)


class Steps(NamedTuple):
    """Sums of weight over the rows with the highest scores, row by row; float64.

    The last row is the one with the lowest score.
    """

    positives: jax.Array  # of this row and all above
    negatives: jax.Array
    positives_before: jax.Array  # of all with a higher score
    negatives_before: jax.Array
    last: jax.Array  # whether it is the last of its score


def steps_of(score: jax.Array, positive: jax.Array, weight: jax.Array) -> Steps:
    """Steps of rows in any order.

    Must be called, and its result be used, under `jax.enable_x64(True)`.

    Args:
      score: float32 `(rows,)`, none of them NaN; subnormal ones are 0.
      positive: bool.
      weight: float32, finite and at least 0.
    """
    keys = lax.sort(_keys(score, positive, weight), is_stable=False)
    weight = lax.bitcast_convert_type(_low(keys) & ~_SIGN, np.float32)
    weight = weight.astype(np.float64)
    positive = (_low(keys) & _SIGN) != 0
    none = jnp.zeros_like(weight)
    positives = jnp.cumsum(lax.select(positive, weight, none))
    negatives = jnp.cumsum(lax.select(positive, none, weight))
    score_bits = (keys >> np.uint64(32)).astype(np.uint32)
    change = score_bits[1:] != score_bits[:-1]
    end = jnp.ones((1,), bool)
    place = lax.iota(np.int32, keys.shape[0])
    first = jnp.concatenate([end, change])
    start = lax.cummax(lax.select(first, place, jnp.zeros_like(place)))

    def before(running: jax.Array) -> jax.Array:
        return jnp.concatenate([jnp.zeros((1,)), running])[start]

    last = jnp.concatenate([change, end])
    return Steps(positives, negatives, before(positives), before(negatives), last)


def _keys(score: jax.Array, positive: jax.Array, weight: jax.Array) -> jax.Array:
    """Keys that increase as scores decrease."""
    score = lax.select(score == 0, jnp.zeros_like(score), score)  # of both signs
    bits = lax.bitcast_convert_type(score, np.uint32)
    falling = lax.select(bits >= _SIGN, bits, ~(bits | _SIGN))
    weight = lax.select(weight == 0, jnp.zeros_like(weight), weight)
    low = lax.bitcast_convert_type(weight, np.uint32)
    low |= lax.select(positive, jnp.full_like(low, _SIGN), jnp.zeros_like(low))
    return (falling.astype(np.uint64) << np.uint64(32)) | low.astype(np.uint64)


def _low(keys: jax.Array) -> jax.Array:
    return keys.astype(np.uint32)
