"""What formulas over scores see: sums by cell, above cells, and the order inside them.

Between cells the order of rows is known exactly. Inside a cell it is estimated from the
mean offsets of positives and of negatives, that is from the slopes of their densities,
and from how the slopes change between the neighbours.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxmetrics.numerics import (
    cumulative_two_floats,
    cumulative_words,
    divide,
    read_count,
    two_float_to_float,
    words_to_float,
)
from jaxmetrics.score_cells import LEVELS

__all__ = ["Ranks", "ranks_of"]

_TOLERANCE = 2.0**-10  # of a level, in the mean of many rows


class Ranks(NamedTuple):
    """What a formula sees of scores: sums by cell, cells increasing in score.

    Weights count where rows have them. Each has the shape `(cells,)`, or `(classes,
    cells)` with classes.
    """

    positives: jax.Array  # in the cell
    negatives: jax.Array
    positives_above: jax.Array  # in all higher cells
    negatives_above: jax.Array
    shift: jax.Array  # by how much of a cell positives are higher, from -1/2 to 1/2
    bend: jax.Array  # and by how much more so in its upper half than in its lower
    tied: jax.Array  # whether all in the cell have one score, as far as can be seen

    @property
    def total(self) -> tuple[jax.Array, jax.Array]:
        """All positives and all negatives."""
        return (
            self.positives_above[..., 0] + self.positives[..., 0],
            self.negatives_above[..., 0] + self.negatives[..., 0],
        )

    @property
    def shares(self) -> tuple[jax.Array, jax.Array]:
        """Of all positives, and of all negatives, those in the cell."""
        positives, negatives = self.total
        return (
            divide(self.positives, positives[..., None]),
            divide(self.negatives, negatives[..., None]),
        )

    @property
    def positives_above_share(self) -> jax.Array:
        """Of all positives those in higher cells: the true positive rate."""
        return divide(self.positives_above, self.total[0][..., None])

    @property
    def negatives_above_share(self) -> jax.Array:
        """Of all negatives those in higher cells: the false positive rate."""
        return divide(self.negatives_above, self.total[1][..., None])


def ranks_of(words: jax.Array, weights: jax.Array) -> Ranks:
    """Ranks from the sums of a histogram.

    Args:
      words: `(2, 2, ..., 2, cells)`: exact sums of rows and of their levels inside the
        cell, by label.
      weights: The same shape: two-float sums of weights and of weighted offsets.
    """
    words, weights = jnp.moveaxis(words, -2, 2), jnp.moveaxis(weights, -2, 2)
    # Now (2, rows or offsets, label, ..., cells).
    number = read_count(words[:, 0], weights[:, 0], None)
    running = cumulative_words(words[:, 0], reverse=True)
    heavy = cumulative_two_floats(weights[:, 0], reverse=True)
    negatives_above, positives_above = read_count(_next(running), _next(heavy), None)
    offset = words_to_float(words[:, 1]) / LEVELS + two_float_to_float(weights[:, 1])
    tied = _tied(divide(offset, number) * LEVELS, number > 0)
    negatives, positives = number
    mixed = (negatives > 0) & (positives > 0) & ~tied
    shift, bend = (
        jnp.where(mixed, x, jnp.zeros_like(x)) for x in _order(number, offset)
    )
    return Ranks(
        positives, negatives, positives_above, negatives_above, shift, bend, tied
    )


def _next(running: jax.Array) -> jax.Array:
    """Running sums from the next cell on."""
    return jnp.concatenate([running[..., 1:], jnp.zeros_like(running[..., :1])], -1)


def _tied(level: jax.Array, some: jax.Array) -> jax.Array:
    """Whether all rows in a cell can be at one level, from the mean levels by label."""
    nearest = jnp.round(level)
    single = jnp.all(~some | (jnp.abs(level - nearest) < _TOLERANCE), axis=0)
    return single & (~jnp.all(some, axis=0) | (nearest[0] == nearest[1]))


def _order(number: jax.Array, offset: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The shift and the bend of positives against negatives in each cell.

    With densities `1 + a_1 P_1 + a_2 P_2` of positives and b of negatives over the
    cell, in Legendre polynomials, a positive is above a negative more often than 1/2
    by `(a_1 - b_1) / 6 + (a_2 b_1 - a_1 b_2) / 30`, the shift. Above the uppermost
    share v of the negatives is of the positives, with w = v (1 - v),

        v + 6 shift w + (bend + 18 shift^2) w (1 - 2 v)

    to the second order, for `bend = a_2 - b_2 - (a_1^2 - b_1^2) / 2`. The mean offset
    is `1/2 + a_1 / 6`; a_2 is a twelfth of the change of slope between the neighbours.
    """
    slope = 6 * (offset - number / 2)  # a_1, times the number
    change = jnp.zeros_like(slope)
    change = change.at[..., 1:-1].set(slope[..., 2:] - slope[..., :-2])
    b_1, a_1 = divide(slope, number)
    b_2, a_2 = jnp.clip(divide(change / 12, number), -0.3, 0.3)
    shift = (a_1 - b_1) / 6 + (a_2 * b_1 - a_1 * b_2) / 30
    bend = a_2 - b_2 - (a_1**2 - b_1**2) / 2
    return jnp.clip(shift, -0.5, 0.5), jnp.clip(bend, -0.3, 0.3)
