"""Exact counts, two-float sums and safe division: the arithmetic under every metric.

Two number formats live here, and nothing else in the library adds numbers up.

* **Words**: exact counts below 2^53 without 64-bit types. A uint32 array of shape
  `(2, ...)`: the low word holds 21 bits, the high word the rest. Low words may be added
  up to 2047 times before a carry is due, so `psum`, `tree.map(add)` and a sum over
  stacked states are exact without any help.
* **Two-floats**: float sums to about 48 bits. A float32 array of shape `(2, ...)`: the
  rounded sum and what rounding lost (Dekker, 1971; Knuth's TwoSum).
"""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike

__all__ = [
    "add_counts",
    "add_two_floats",
    "carry",
    "divide",
    "words_from_counts",
    "words_to_float",
    "words_to_int",
]

WORD_BITS = 21
BLOCK = 128  # of a long running sum
_LOW = np.uint32(2**WORD_BITS - 1)


def float_dtype() -> np.dtype:
    """The dtype results have by default: float32, or float64 under x64."""
    return np.dtype(jax.dtypes.canonicalize_dtype(np.float64))


# --- words: exact counts -------------------------------------------------------------


def carry(words: jax.Array) -> jax.Array:
    """Moves what exceeds 21 bits from the low words to the high words."""
    low, high = words[0], words[1]
    return jnp.stack([low & _LOW, high + (low >> WORD_BITS)])


def words_from_counts(counts: jax.Array) -> jax.Array:
    """Words of one batch's uint32 counts, each below 2^32."""
    return jnp.stack([counts & _LOW, counts >> WORD_BITS])


def counts_from_words(words: jax.Array) -> jax.Array:
    """uint32 counts of words, if they fit."""
    return words[0] + (words[1] << WORD_BITS)


def add_counts(words: jax.Array, other: jax.Array) -> jax.Array:
    """The exact sum of two arrays of words, carried."""
    return carry(carry(words) + carry(other))


def add_batch(words: jax.Array, counts: jax.Array) -> jax.Array:
    """Words plus one batch's uint32 counts, each at most 2^31."""
    low = (words[0] & _LOW) + counts
    high = words[1] + (words[0] >> WORD_BITS) + (low >> WORD_BITS)
    return jnp.stack([low & _LOW, high])


def add_words(words: jax.Array, carried: jax.Array) -> jax.Array:
    """The exact sum of words and of carried ones, carried; one pass over both."""
    low = (words[0] & _LOW) + carried[0]
    high = words[1] + (words[0] >> WORD_BITS) + carried[1] + (low >> WORD_BITS)
    return jnp.stack([low & _LOW, high])


def words_to_float(words: jax.Array) -> jax.Array:
    """The counts as floats, rounded once below 2^45."""
    dtype = float_dtype()
    radix = dtype.type(2**WORD_BITS)
    words = carry(words)
    value: jax.Array = words[1].astype(dtype) * radix + words[0].astype(dtype)
    return value


def words_to_int(words: jax.Array, dtype: np.dtype) -> jax.Array:
    """The counts as integers, without passing through a float; saturates at the top."""
    bits = np.iinfo(dtype).bits - (dtype.kind == "i")
    top = np.uint32(2**bits - 1)
    words = carry(words)
    fits = words[1] < np.uint32(2 ** (bits - WORD_BITS))
    return jnp.where(fits, (words[1] << WORD_BITS) | words[0], top).astype(dtype)


def cumulative_words(words: jax.Array, *, reverse: bool = False) -> jax.Array:
    """Exact running sums along the last axis of up to 2^21 entries.

    A low word of 21 bits is summed as 10 and 11 bits, so that no sum can wrap.
    """
    parts = _parts(words)
    return _from_parts(lax.cumsum(parts, axis=parts.ndim - 1, reverse=reverse))


def _parts(words: jax.Array) -> jax.Array:
    words = carry(words)
    return jnp.stack([words[0] & 1023, words[0] >> 10, words[1]])  # (3, ..., n)


def _from_parts(parts: jax.Array) -> jax.Array:
    middle = parts[1] + (parts[0] >> 10)
    low = (parts[0] & 1023) | ((middle & 2047) << 10)
    return jnp.stack([low, parts[2] + (middle >> 11)])


Pair = jax.Array | tuple[jax.Array, jax.Array]  # a sum and its error, by index

# --- two-floats: compensated sums ----------------------------------------------------


def two_sum(a: jax.Array, b: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The rounded sum and its rounding error: a + b = total + error, exactly.

    The error of an infinite sum is 0, not NaN, so that infinity stays infinity.
    """
    total = a + b
    shadow = total - a
    error = (a - (total - shadow)) + (b - shadow)
    return total, lax.select(lax.is_finite(total), error, jnp.zeros_like(error))


def fast_two_sum(a: jax.Array, b: jax.Array) -> tuple[jax.Array, jax.Array]:
    """As `two_sum`, for finite |a| >= |b| or a = 0."""
    total = a + b
    return total, b - (total - a)


def add_pairs(x: Pair, y: Pair) -> tuple[jax.Array, jax.Array]:
    """The sum of two-floats given and returned as (sum, error).

    Relative to the magnitudes that are added the error is about 2^-46.
    """
    total, error = two_sum(x[0], y[0])
    high, low = fast_two_sum(total, error + (x[1] + y[1]))
    # Infinity has no error term: without this it would turn into NaN.
    return high, lax.select(lax.is_finite(high), low, jnp.zeros_like(low))


def add_two_floats(x: jax.Array, y: jax.Array) -> jax.Array:
    """The sum of two arrays of two-floats, to about 2^-46 of their magnitudes."""
    return jnp.stack(add_pairs(x, y))


def scale_two_floats(x: jax.Array, factor: jax.Array) -> jax.Array:
    """Two-floats times a two-float of shape (2,)."""
    product, error = _two_product(x[0], jnp.broadcast_to(factor[0], x[0].shape))
    return jnp.stack(fast_two_sum(product, error + x[1] * factor[0] + x[0] * factor[1]))


def two_float(value: jax.Array) -> jax.Array:
    """A float32 array as two-floats, exactly."""
    return jnp.stack([value, jnp.zeros_like(value)])


def two_float_to_float(x: jax.Array) -> jax.Array:
    """The sums as floats, in the default float dtype."""
    dtype = float_dtype()
    return x[0].astype(dtype) + x[1].astype(dtype)


def cumulative_two_floats(x: jax.Array, *, reverse: bool = False) -> jax.Array:
    """Compensated running sums along the last axis.

    One after the other: a tree of sums is many shapes, each compiled by an eager call.
    Of a long axis the blocks run side by side, and then their totals.
    """
    size = x.shape[-1]
    if size <= BLOCK * BLOCK // 8:
        return _running(x, reverse=reverse)
    x = jnp.flip(x, -1) if reverse else x
    blocks = jnp.pad(x, [(0, 0)] * (x.ndim - 1) + [(0, -size % BLOCK)])
    blocks = _running(blocks.reshape(*x.shape[:-1], -1, BLOCK))
    before = _running(blocks[..., -1])[..., :-1]
    before = jnp.concatenate([jnp.zeros_like(before[..., :1]), before], axis=-1)
    sums = add_two_floats(*jnp.broadcast_arrays(before[..., None], blocks))
    sums = sums.reshape(*x.shape[:-1], -1)[..., :size]
    return jnp.flip(sums, -1) if reverse else sums


def _running(x: jax.Array, *, reverse: bool = False) -> jax.Array:
    def add(total: jax.Array, cell: jax.Array) -> tuple[jax.Array, jax.Array]:
        total = add_two_floats(total, cell)
        return total, total

    cells = jnp.moveaxis(x, -1, 0)  # (n, 2, ...)
    _, sums = lax.scan(add, jnp.zeros_like(cells[0]), cells, reverse=reverse)
    return jnp.moveaxis(sums, 0, -1)


def added(x: jax.Array, axis: int) -> jax.Array:
    """Words or two-floats, added up along an axis that is not the first."""
    axis %= x.ndim
    if x.dtype == jnp.uint32:
        return _from_parts(jnp.sum(_parts(x), axis=axis, dtype=x.dtype))
    cells = jnp.moveaxis(x, axis, 0)
    total: jax.Array = lax.fori_loop(
        1, cells.shape[0], lambda i, total: add_two_floats(total, cells[i]), cells[0]
    )
    return total


def words_to_two_floats(words: jax.Array) -> jax.Array:
    """The counts as two-floats, exactly below 2^48."""
    words = carry(words)
    total = two_float(words[0].astype(jnp.float32))
    for part, radix in ((words[1] & 0xFFFF, 2.0**21), (words[1] >> 16, 2.0**37)):
        total = add_two_floats(
            total, two_float(part.astype(jnp.float32) * np.float32(radix))
        )
    return total


def read_count(
    words: jax.Array, weights: jax.Array, dtype: np.dtype | None
) -> jax.Array:
    """An exact count plus two-float weights, never negative, as a result of `dtype`.

    Integer results never pass through a float, as far as the count goes; they saturate.
    """
    if dtype is not None and dtype.kind in "iu":
        whole = words_to_int(words, dtype)
        rest = read_total(weights, dtype)
        room = dtype.type(np.iinfo(dtype).max) - whole
        return whole + jnp.minimum(rest, room)
    total = words_to_float(words) + two_float_to_float(weights)
    return total if dtype is None else total.astype(dtype)


def read_total(total: jax.Array, dtype: np.dtype | None) -> jax.Array:
    """A two-float sum as a result of `dtype`; integers are rounded and saturate."""
    if dtype is None or dtype.kind not in "iu":
        value = two_float_to_float(total)
        return value if dtype is None else value.astype(dtype)
    # In integers, as 2^16 times an upper part and a lower one: near the ends of the
    # range a float32 cannot tell what fits.
    upper = jnp.floor(jnp.clip(total[0], -(2.0**34), 2.0**34) / 65536)
    lower = jnp.round((total[0] - upper * 65536) + total[1])
    lower = jnp.clip(lower, -65536, 2 * 65536).astype(jnp.int32)
    upper = upper.astype(jnp.int32) + (lower >> 16)
    info = np.iinfo(dtype)
    least, most = info.min >> 16, info.max >> 16
    bits = (upper.astype(jnp.uint32) << 16) | (lower & 0xFFFF).astype(jnp.uint32)
    value = jnp.where(upper < least, dtype.type(info.min), bits.astype(dtype))
    return jnp.where(upper > most, dtype.type(info.max), value)


def error_terms_survive() -> bool:
    """Whether the default backend keeps the error terms of compiled two-float sums.

    `--xla_cpu_enable_fast_math=true` is one way to lose them: the compiler then takes
    `(a + b) - a` to be `b`, and sums fall back to plain float32.
    """
    ones = jnp.ones((8,), jnp.float32)
    _, error = jax.jit(two_sum)(ones, ones * np.float32(2.0**-30))
    return bool(jnp.all(error == np.float32(2.0**-30)))


# --- ratios --------------------------------------------------------------------------


def divide(
    numerator: ArrayLike, denominator: ArrayLike, zero_division: ArrayLike = 0.0
) -> jax.Array:
    """Divides where that is defined: `numerator / denominator`, element by element.

    The one place in the library where ratios are taken.

    Args:
      numerator: Any shape; integers are read as floats.
      denominator: A shape that broadcasts against the numerator's.
      zero_division: The value where the denominator is 0.

    Returns:
      The ratio in the default float dtype, never an exception and never an infinity
      that comes from a division by zero. NaN where an operand is NaN, and where the
      denominator is infinite: a sum that overflowed.

    Example:
      >>> import jaxmetrics as jm
      >>> print(jm.divide([1.0, 0.0], [2.0, 0.0]))
      [0.5 0. ]
    """
    dtype = float_dtype()
    top = jnp.asarray(numerator).astype(dtype)
    bottom = jnp.asarray(denominator).astype(dtype)
    top, bottom = jnp.broadcast_arrays(top, bottom)
    undefined = bottom == 0
    bottom = jnp.where(undefined, jnp.ones_like(bottom), bottom)
    ratio = top / bottom
    if dtype == np.float32:  # XLA's float32 quotient may be off by an ulp
        product, error = _two_product(ratio, bottom)
        step = ((top - product) - error) / bottom
        ratio = ratio + jnp.where(jnp.isfinite(step), step, jnp.zeros_like(step))
    # An infinite denominator is a sum that overflowed; 0 would be a wrong number.
    ratio = jnp.where(jnp.isinf(bottom), jnp.asarray(jnp.nan, dtype), ratio)
    return jnp.where(undefined, jnp.asarray(zero_division, dtype), ratio)


def divide_two_floats(
    numerator: jax.Array, denominator: jax.Array, zero_division: float
) -> jax.Array:
    """The ratio of two-floats to the last bit of the default float dtype.

    A float32 quotient of rounded operands may be off by three half-ulps, and XLA's own
    division by one; one Newton step on the exact remainder takes both away.
    """
    dtype = float_dtype()
    if dtype == np.float64:
        top, bottom = two_float_to_float(numerator), two_float_to_float(denominator)
        return divide(top, bottom, zero_division)
    quotient = divide(numerator[0], denominator[0], zero_division)
    product, error = _two_product(quotient, denominator[0])
    remainder = (
        (numerator[0] - product) - error + (numerator[1] - quotient * denominator[1])
    )
    step = divide(remainder, denominator[0])
    return quotient + jnp.where(jnp.isfinite(step), step, jnp.zeros_like(step))


def _two_product(a: jax.Array, b: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The rounded product and its rounding error (Dekker, 1971)."""
    product = a * b
    (a_high, a_low), (b_high, b_low) = _halves(a), _halves(b)
    error = a_high * b_high - product
    error = ((error + a_high * b_low) + a_low * b_high) + a_low * b_low
    return product, error


def _halves(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """X as the sum of two floats of 12 bits each."""
    bits = lax.bitcast_convert_type(x, jnp.uint32) & np.uint32(0xFFFFF000)
    high = lax.bitcast_convert_type(bits, jnp.float32)
    return high, x - high
