"""Poisson numbers: of rows, from random bits, and of exact counts."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxmetrics.numerics import WORD_BITS, carry, words_to_float

__all__ = ["drawn_together", "poisson_words", "shifted_words"]

SMALL = 2.0**12  # up to here Poisson numbers are drawn; above, normal ones
MOST = 12  # of a Poisson number of mean 1: more come once in 10^10 draws
# Where the distribution function of a Poisson number of mean 1 steps, in 2^-32.
_STEPS = [
    np.uint32(round(2**32 * sum(math.exp(-1) / math.factorial(i) for i in range(k))))
    for k in range(1, MOST + 1)
]


def drawn_together(key: jax.Array, number: jax.Array) -> jax.Array:
    """Two independent Poisson numbers of mean 1 for each row, float32 (2, rows).

    They depend on the key and on the row's number alone, so that rows of one number are
    drawn together, wherever they are.

    Args:
      key: A key of `jax.random`.
      number: uint32 (rows,).
    """
    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, number)
    bits = jax.random.key_data(keys)  # 64 random ones

    def count(bits: jax.Array) -> jax.Array:
        steps = [(bits >= step).astype(jnp.float32) for step in _STEPS]
        return functools.reduce(jnp.add, steps)

    return jnp.stack([count(bits[..., i]) for i in (0, 1)])


def poisson_words(key: jax.Array, words: jax.Array) -> jax.Array:
    """For each exact count a Poisson number of that mean, as words.

    Means above 4096 take a normal number of the same mean and deviation, which cannot
    be told apart.
    """
    words = carry(words)
    mean = words_to_float(words).astype(jnp.float32)
    few, many = jax.random.split(key)
    small = jax.random.poisson(few, jnp.minimum(mean, SMALL))
    deviation = jnp.sqrt(mean) * jax.random.normal(many, mean.shape, jnp.float32)
    large = shifted_words(words, jnp.round(deviation).astype(jnp.int32))
    small = shifted_words(jnp.zeros_like(words), small.astype(jnp.int32))
    return jnp.where(mean <= SMALL, small, large)


def shifted_words(words: jax.Array, by: jax.Array) -> jax.Array:
    """Carried words with an int32 added, which may be negative but not below 0."""
    low = lax.bitcast_convert_type(words[0], jnp.int32) + (by & (2**WORD_BITS - 1))
    high = lax.bitcast_convert_type(words[1], jnp.int32) + (by >> WORD_BITS)
    return carry(lax.bitcast_convert_type(jnp.stack([low, high]), jnp.uint32))
