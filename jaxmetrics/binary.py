"""Batches of labels and scores: checked, laid out as rows, and what is wrong with them.

What accumulators of binary problems share. An entry is counted if its label is 0 or 1
and nothing about it is NaN; otherwise it is flagged and dropped.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike

from jaxmetrics import checks
from jaxmetrics.histogram import Rows, present
from jaxmetrics.lanes import require_alike

__all__ = [
    "Entries",
    "entries_of",
    "is_nan",
    "never",
    "rows_of",
    "widened",
]


class Entries(NamedTuple):
    """A batch of one shape."""

    true: jax.Array
    pred: jax.Array
    weight: jax.Array | None
    keep: jax.Array | None
    group: jax.Array | None = None


def entries_of(
    y_true: ArrayLike,
    y_pred: ArrayLike,
    sample_weight: ArrayLike | None,
    mask: ArrayLike | None,
    group: jax.Array | None = None,
    *,
    top_k: int | None = None,
    class_id: int | None = None,
    num_classes: int | None = None,
    whole_rows: bool = False,
) -> Entries:
    """Checks a batch, and brings weights and mask to the shape of the labels.

    Args:
      y_true: Labels, of any shape.
      y_pred: Scores of that shape; an axis of size 1 at the end of either goes.
      sample_weight: A scalar, that shape with any axis 1, or its leading axes.
      mask: Boolean, as `sample_weight`.
      group: Of each row, an integer, as `sample_weight`.
      top_k: Must not exceed the last axis.
      class_id: Must lie within the last axis.
      num_classes: Must be the size of the last axis.
      whole_rows: Whether the last axis must not be sharded.
    """
    true, pred = checks.align(
        checks.array(y_true, "y_true"), checks.array(y_pred, "y_pred")
    )
    shape, of = true.shape, "y_true and y_pred"
    weight = (
        None if sample_weight is None else checks.row_weight(sample_weight, shape, of)
    )
    keep = None if mask is None else checks.row_mask(mask, shape, of)
    if group is not None:
        group = checks.row_group(group, shape, of)
    checks.class_axis(shape, top_k=top_k, class_id=class_id, num_classes=num_classes)
    require_alike(
        jax.tree.leaves((true, pred, weight, keep, group)), whole_rows=whole_rows
    )
    entries: Entries = jax.tree.map(
        lambda x: jnp.broadcast_to(x, shape),
        Entries(true, pred, weight, keep, group),
    )
    return entries


def rows_of(
    entries: Entries,
    place: jax.Array,
    unusual: jax.Array,
    *,
    places: int,
    amount: jax.Array | None = None,
) -> Rows:
    """The cell of each entry in a table `(classes, 2, places)`: class, label, place.

    Args:
      entries: Of shape `(rows,)` or `(rows, classes)`.
      place: Of each entry, from 0 to `places - 1`.
      unusual: Whether a score lies where none should, which is counted.
      places: How many there are.
      amount: An integer of each entry that is summed by cell.
    """
    true, pred, weight, keep, group = entries
    positive, outside = _label(true)
    nan = is_nan(true) | is_nan(pred)
    if weight is not None:
        nan |= jnp.isnan(weight)
        outside |= (weight < 0) | (weight == np.inf)
    cell = place + places * positive.astype(jnp.int32)
    if cell.ndim > 1 and cell.shape[-1] > 1:
        # A table of a block's size: dividing by `classes` costs more than reading.
        first = 2 * places * np.arange(cell.shape[-1], dtype=np.int32)
        cell += np.tile(first, (cell.shape[0], 1))
    flags = [nan, outside & ~nan, unusual & ~nan]
    dropped = nan | outside
    here = present(weight, keep)
    if here is not None:
        flags = [flag & here for flag in flags]
        dropped |= ~here
    cell = lax.select(dropped, jnp.full_like(cell, -1), cell)
    return Rows(cell, tuple(flags), weight, amount, group)


def _label(true: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Whether each label is positive, and whether it is neither 0 nor 1."""
    if true.dtype == jnp.bool_:
        return true, never(true)
    positive = true == 1
    return positive, ~(positive | (true == 0))


def widened(x: jax.Array) -> jax.Array:
    """As float32."""
    return x if x.dtype == jnp.float32 else x.astype(jnp.float32)


def is_nan(x: jax.Array) -> jax.Array:
    """Which entries are NaN, of numbers that have one or not."""
    return x != x


def never(x: jax.Array) -> jax.Array:
    """False for each entry: made of the entries, so that it is sharded as they are."""
    return x != x
