"""Rows as small integers, so that one scatter counts cells and flags of all groups.

A row's code says its group, its cell and its flags. Most rows count and have no flag:
those need fewer integers still, few enough that two rows make one place in a table of
pairs, which halves the additions (see `_by_twos` in `sweeps`).
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

__all__ = ["Codes", "Usual", "within"]


def within(group: jax.Array, groups: int) -> jax.Array:
    """Groups below `groups`: the last for what is not from 0 to `groups - 1`."""
    last = np.uint32(groups - 1)
    return lax.min(group.astype(jnp.uint32), last).astype(jnp.int32)  # -1 is large


class Usual(NamedTuple):
    """The places of usual rows, behind them one for nothing and one for other rows.

    They are the first `cells` of each `width` codes.
    """

    groups: int
    cells: int
    width: int

    @property
    def nothing(self) -> int:
        """The place of rows that are dropped without a flag."""
        return self.groups * self.cells

    @property
    def other(self) -> int:
        """The place of rows with a flag."""
        return self.nothing + 1

    @property
    def number(self) -> int:
        """How many places there are."""
        return self.nothing + 2

    def among_codes(self, table: jax.Array) -> jax.Array:
        """A table of usual places as one of codes."""
        table = table[: self.nothing].reshape(self.groups, self.cells)
        return jnp.pad(table, ((0, 0), (0, self.width - self.cells))).reshape(-1)


class Codes(NamedTuple):
    """How cells and flags of each group are numbered.

    In a group come first the cells, then the cells of rows that count and are flagged,
    then the sets of flags of rows that are dropped.
    """

    cells: int
    flags: int
    groups: int = 1

    @property
    def width(self) -> int:
        """How many codes a group has."""
        return 2 * self.cells + (1 << self.flags)

    @property
    def number(self) -> int:
        """How many codes there are."""
        return self.groups * self.width

    @property
    def usual(self) -> Usual:
        """The places of rows that count and have no flag."""
        return Usual(self.groups, self.cells, self.width)

    def of(
        self, cell: jax.Array, flags: Sequence[jax.Array], group: jax.Array | None
    ) -> tuple[jax.Array, jax.Array]:
        """The code of each row, and its place among the usual ones; int32.

        Of a row that is dropped without a flag the code is -1.

        Args:
          cell: Negative for a row that is dropped.
          flags: Boolean.
          group: Below `groups`; None where there is one group.
        """
        dropped, flagged = cell < 0, cell != cell
        sets = lax.full_like(cell, 0)
        for i, flag in enumerate(flags):
            sets += flag.astype(jnp.int32) << i
            flagged |= flag
        code = cell + self.cells * flags[-1].astype(jnp.int32) if flags else cell
        code = lax.select(dropped, sets + 2 * self.cells, code)
        place = cell
        nothing = dropped & ~flagged
        if group is not None:
            code += group * self.width
            place += group * self.cells
        place = lax.select(flagged, lax.full_like(place, self.usual.other), place)
        return (
            lax.select(nothing, lax.full_like(code, -1), code),
            lax.select(nothing, lax.full_like(place, self.usual.nothing), place),
        )

    def read(self, table: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Numbers of rows by group and cell, by group and flag, and by group alone.

        Returns:
          uint32 (groups, cells), (groups, flags) and (groups,).
        """
        table = table.reshape(self.groups, self.width)
        plain, odd, sets = jnp.split(table, (self.cells, 2 * self.cells), axis=1)
        # What each set holds, the last flag also that of rows that count.
        held = (np.arange(sets.shape[1]) >> np.arange(self.flags)[:, None]) & 1
        by_flag = sets[:, None] * held[None].astype(np.uint32)
        flags = jnp.sum(by_flag, axis=2, dtype=jnp.uint32)
        if self.flags:
            flags = flags.at[:, -1].add(jnp.sum(odd, axis=1, dtype=jnp.uint32))
        return plain + odd, flags, jnp.sum(table, axis=1, dtype=jnp.uint32)
