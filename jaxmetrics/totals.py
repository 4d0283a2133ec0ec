"""The four counts at thresholds, from the cells between them."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxmetrics.numerics import cumulative_two_floats, cumulative_words

__all__ = ["Counts", "four_counts"]


class Counts(NamedTuple):
    """What a formula sees: the four counts, weights included, as floats.

    Each has the shape of the thresholds (none for a single one), then of the classes
    (none without `num_classes`).
    """

    true_positives: jax.Array
    false_positives: jax.Array
    true_negatives: jax.Array
    false_negatives: jax.Array

    @property
    def total(self) -> jax.Array:
        """All rows."""
        return sum(self[1:], self[0])


def four_counts(words: jax.Array, weights: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Words and two-floats of the four counts, each `(2, 4, thresholds, classes)`.

    In the order of `Counts`. Sums of cells and never differences, so exact counts stay
    exact and weights lose nothing.

    Args:
      words: Of the cells, `(2, classes, 2, cells)`: class, label, and the number of
        thresholds below the score.
      weights: Two-floats of the same.
    """
    return _around(words, cumulative_words), _around(weights, cumulative_two_floats)


def _around(x: jax.Array, running: Callable[..., jax.Array]) -> jax.Array:
    """Sums above and up to each threshold."""
    above = running(x, reverse=True)[..., 1:]  # (2, classes, 2, thresholds)
    up_to = running(x)[..., :-1]
    four = [above[..., 1, :], above[..., 0, :], up_to[..., 0, :], up_to[..., 1, :]]
    return jnp.swapaxes(jnp.stack(four, axis=1), -1, -2)
