"""What metrics share whose unit is the update: windows, decay, the best, restarts.

What these compute depends on how rows are cut into batches, and a batch that is masked
as a whole is an update too. Two states merge in lockstep: both have seen as many
updates, and what they saw at one step belongs together, as the shards of one batch do.
So `all_reduce` over devices that have stepped together gives what one device would have
that saw the whole batches.
"""

from types import MappingProxyType

import jax
import jax.numpy as jnp
import numpy as np

from jaxmetrics.reduction import AxisName, reduce_over

__all__ = ["WAIVED", "WAIVED_BUT_NAN", "after", "in_lockstep"]

_UNIT = "the unit is the update, so it matters how rows are cut into batches"
WAIVED = MappingProxyType(
    {
        "update merges": "states merge in lockstep: of the same updates",
        "batch cuts": _UNIT,
        "row order": _UNIT,
        "masks": "a batch that is masked as a whole is an update, too",
        "weights": _UNIT,
        "NaN": "what has left the window no longer counts",
    }
)
WAIVED_BUT_NAN = MappingProxyType({x: why for x, why in WAIVED.items() if x != "NaN"})


def after(place: jax.Array, size: int) -> jax.Array:
    """The next of `size` places in a ring."""
    following = place + np.int32(1)
    return jnp.where(following < size, following, np.int32(0))


def in_lockstep(number: jax.Array, axis_name: AxisName) -> jax.Array:
    """The number that all devices have, or the largest."""
    return reduce_over(number, axis_name, jnp.maximum)
