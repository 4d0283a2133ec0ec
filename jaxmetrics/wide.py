"""Sums in wide numbers: of rows and their amounts at once, of weights of 48 bits.

A scatter takes little longer for an integer of 64 bits than for one of 32, and little
longer again for a complex number of two floats of 64, which hold 53 bits each. So what
would be a second scatter is nearly free. These numbers live inside an update alone,
whether or not 64-bit types are enabled; no state has them.
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxmetrics.numerics import words_from_counts

__all__ = [
    "AMOUNT_BITS",
    "HALVES_ROWS",
    "TERM_ROWS",
    "WIDE_ROWS",
    "add_at",
    "add_halves_at",
    "in_copies",
    "limbs_at",
    "read",
    "read_halves",
    "terms_at",
]

AMOUNT_BITS = 8  # of the amount of one row
TERM_ROWS = 2**14  # whose terms can be added in a single cell
_TERM_BITS = 39  # of a share: 53 less those of the rows
_SQUARE_BITS = 24
_ROW_BITS = 15  # of a number of rows, up to TERM_ROWS
HALVES_ROWS = 2**29  # whose halves of 24 bits can be added in floats of 53
WIDE_ROWS = 2 ** (32 - AMOUNT_BITS)  # whose amounts can be added in a single cell


def add_at(
    table: jax.Array | None, index: jax.Array, amount: jax.Array, width: int
) -> jax.Array:
    """A table, of zeros to begin with, with rows and their amounts added by index.

    Args:
      table: What came before, or None.
      index: Below `width`; int32.
      amount: From 0 to `2^AMOUNT_BITS - 1`; int32.
      width: Of the table.
    """
    with jax.enable_x64(True):
        if table is None:
            table = lax.full((width,), 0, np.uint64)
        row = lax.convert_element_type(amount, np.uint64) << np.uint64(32)
        place = lax.convert_element_type(index, np.uint32)
        return table.at[place].add(row | np.uint64(1), mode="promise_in_bounds")


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
    return _limbs(halves)


def add_halves_at(
    table: jax.Array | None,
    index: jax.Array,
    upper: jax.Array,
    lower: jax.Array,
    width: int,
) -> jax.Array:
    """A table, of zeros to begin with, with pairs of 24 bits added by index.

    Args:
      table: What came before, or None.
      index: Below `width`; int32.
      upper: Of 24 bits; int32.
      lower: The same.
      width: Of the table.
    """
    with jax.enable_x64(True):
        if table is None:
            table = lax.full((width,), 0, np.complex128)
        halves = (lax.convert_element_type(x, np.float64) for x in (upper, lower))
        return table.at[index].add(lax.complex(*halves), mode="promise_in_bounds")


def read_halves(table: jax.Array) -> tuple[jax.Array, ...]:
    """Four limbs of 16 bits of `upper * 2^24 + lower`, lowest first, of a table.

    The highest keeps what is above.
    """
    with jax.enable_x64(True):
        upper, lower = (
            lax.convert_element_type(x, np.uint64) for x in (table.real, table.imag)
        )
        below = upper & np.uint64(2**24 - 1)
        sums = lower + (below << np.uint64(24))
        above = lax.convert_element_type(upper >> np.uint64(24), np.uint32)
        halves = lax.bitcast_convert_type(sums, np.uint32)
    *limbs, last = _limbs(halves)
    return *limbs, last + above


def in_copies(index: jax.Array, width: int, copies: int) -> jax.Array:
    """The same places, rows taking turns in so many tables, a power of two."""
    turn = lax.iota(np.int32, index.shape[0]) & (copies - 1)
    return index + width * turn


def terms_at(
    index: jax.Array, share: jax.Array, width: int, copies: int
) -> tuple[jax.Array, tuple[jax.Array, ...]]:
    """Rows, shares and their squares by index, in one scatter.

    Rows take turns in copies of the table, up to TERM_ROWS in each.

    Of shares 39 bits are kept, and of squares 24. Where rows are dropped, into a place
    of their own, shares may be anything. On a CPU: others have no addition to complex
    numbers in place.

    Args:
      index: Below `width`; int32.
      share: Below 1; float32.
      width: Of a table.
      copies: The number of tables, a power of two.

    Returns:
      uint32 (width,): the rows; four limbs of 16 bits, uint32 (2 * width,), lowest
      first, which count 2^-48: of the shares, and of the squares.
    """
    bits = lax.bitcast_convert_type(share, np.int32)
    bits = lax.clamp(np.int32(0), bits, np.float32(1).view(np.int32) - 1)
    share = lax.bitcast_convert_type(bits, np.float32)
    index = in_copies(index, width, copies)
    with jax.enable_x64(True):

        def whole(x: jax.Array, bits: int) -> jax.Array:
            wide = lax.convert_element_type(x, np.float64)
            return lax.floor(wide * np.float64(2.0**bits))

        squares = whole(share * share, _SQUARE_BITS) * np.float64(2.0**_ROW_BITS)
        both = lax.complex(whole(share, _TERM_BITS), squares + np.float64(1))
        table = lax.full((copies * width,), 0, np.complex128)
        table = table.at[index].add(both, mode="promise_in_bounds")
        weights, rest = (
            lax.convert_element_type(x, np.uint64) for x in (table.real, table.imag)
        )
        sums = lax.concatenate(
            [
                weights << np.uint64(48 - _TERM_BITS),
                (rest >> np.uint64(_ROW_BITS)) << np.uint64(48 - _SQUARE_BITS),
            ],
            0,
        )
        rows = lax.convert_element_type(rest & np.uint64(2**_ROW_BITS - 1), np.uint32)
        halves = lax.bitcast_convert_type(sums, np.uint32)

    def of_all(x: jax.Array, tables: int) -> jax.Array:
        each = x.reshape(tables, copies, width)
        return jnp.sum(each, axis=1, dtype=x.dtype).reshape(-1)

    return of_all(rows, 1), tuple(of_all(x, 2) for x in _limbs(halves))


def _limbs(halves: jax.Array) -> tuple[jax.Array, ...]:
    """Four limbs of 16 bits from two of 32, `(width, 2)`."""
    low, high = halves[:, 0], halves[:, 1]
    return low & 0xFFFF, low >> 16, high & 0xFFFF, high >> 16
