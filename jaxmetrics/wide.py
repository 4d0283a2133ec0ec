"""Two sums in one 64-bit integer: how many rows fell into a cell, and their amounts.

A scatter takes as long for an integer of 64 bits as for one of 32, or nearly, so two
sums cost little more than one. These integers live inside an update alone, whether or
not 64-bit types are enabled; no state has them.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxmetrics.numerics import WORD_BITS

__all__ = ["AMOUNT_BITS", "WIDE_ROWS", "add_at", "read"]

AMOUNT_BITS = 8  # of the amount of one row
_COUNT_BITS = 28
WIDE_ROWS = 2 ** (_COUNT_BITS - 1)  # that both sums can hold, in a single cell


def add_at(
    table: jax.Array | None, index: jax.Array, amount: jax.Array, width: int
) -> jax.Array:
    """A table, of zeros to begin with, with a row and its amount added by index."""
    with jax.enable_x64(True):
        if table is None:
            table = lax.full((width,), 0, np.uint64)
        unit = np.uint64(1 << _COUNT_BITS)
        row = lax.convert_element_type(amount, np.uint64) * unit + np.uint64(1)
        return table.at[index].add(row, mode="promise_in_bounds")


def read(table: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The counts as uint32, and the amounts as uncarried words `(2, ...)`."""
    with jax.enable_x64(True):
        counts = table & np.uint64(2**_COUNT_BITS - 1)
        amounts = table >> np.uint64(_COUNT_BITS)
        low = amounts & np.uint64(2**WORD_BITS - 1)
        high = amounts >> np.uint64(WORD_BITS)
        parts = [lax.convert_element_type(x, np.uint32) for x in (counts, low, high)]
    return parts[0], jnp.stack(parts[1:])
