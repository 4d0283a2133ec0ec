"""Sums in 64-bit integers: rows and their amounts at once, and weights of 48 bits.

A scatter takes little longer for an integer of 64 bits than for one of 32, so what
would be a second one is nearly free. These integers live inside an update alone,
whether or not 64-bit types are enabled; no state has them.
"""

import jax
import numpy as np
from jax import lax

from jaxmetrics.numerics import words_from_counts

__all__ = ["AMOUNT_BITS", "WIDE_ROWS", "add_at", "limbs_at", "read"]

AMOUNT_BITS = 8  # of the amount of one row
WIDE_ROWS = 2 ** (32 - AMOUNT_BITS)  # whose amounts can be added in a single cell


def add_at(
    table: jax.Array | None,
    index: jax.Array,
    amount: jax.Array,
    counts: jax.Array | None,
    width: int,
) -> jax.Array:
    """A table, of zeros to begin with, with rows and their amounts added by index.

    Args:
      table: What came before, or None.
      index: Below `width`; int32.
      amount: From 0 to `2^AMOUNT_BITS - 1`; int32.
      counts: Which rows count; None for all.
      width: Of the table.
    """
    with jax.enable_x64(True):
        if table is None:
            table = lax.full((width,), 0, np.uint64)
        row = lax.convert_element_type(amount, np.uint64) << np.uint64(32)
        row = row | np.uint64(1)
        if counts is not None:
            row = lax.select(counts, row, lax.full_like(row, 0))
        return table.at[index].add(row, mode="promise_in_bounds")


def read(table: jax.Array) -> jax.Array:
    """Words `(2, width, 2)` of what a table holds: the counts, and the amounts."""
    with jax.enable_x64(True):
        pairs = lax.bitcast_convert_type(table, np.uint32)
    return words_from_counts(pairs)


def limbs_at(
    index: jax.Array, upper: jax.Array, lower: jax.Array, width: int
) -> tuple[jax.Array, ...]:
    """Sums by index of `upper * 2^24 + lower`, both of 24 bits, over up to 2^15 rows.

    Returns:
      Four limbs of 16 bits, uint32 (width,), lowest first.
    """
    with jax.enable_x64(True):
        row = lax.convert_element_type(upper, np.uint64) << np.uint64(24)
        row = row | lax.convert_element_type(lower, np.uint64)
        table = lax.full((width,), 0, np.uint64)
        table = table.at[index].add(row, mode="promise_in_bounds")
        halves = lax.bitcast_convert_type(table, np.uint32)
    low, high = halves[:, 0], halves[:, 1]
    return low & 0xFFFF, low >> 16, high & 0xFFFF, high >> 16
