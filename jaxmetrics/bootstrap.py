"""Standard errors and intervals of any metric, by the Poisson bootstrap.

In each replicate every row counts as often as a Poisson number of mean 1 says, which is
what drawing rows with replacement comes to where there are many. Each replicate's
metric is one value; how far they spread tells how uncertain the metric is.

Two ways, one result:

* **From counts.** Where the state is made of counts of independent rows without
  weights, a replicate is one Poisson number for each count, drawn when it is computed.
  The state is the metric's own, and `update` costs nothing more.
* **From rows.** Everywhere else each row draws its numbers inside `update`, which keeps
  one more state for each replicate.
"""

from collections.abc import Mapping
from dataclasses import KW_ONLY
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxmetrics import checks
from jaxmetrics.accumulator import Accumulator
from jaxmetrics.checks import Mismatch, WrongKind
from jaxmetrics.eager import reading
from jaxmetrics.metric import Metric, by_key
from jaxmetrics.replicates import IDS, Replicates
from jaxmetrics.state import State
from jaxmetrics.wrapping import Around, Through

__all__ = ["Bootstrap", "Bootstrapped", "Bounds"]

AT_ONCE = 2**22  # numbers of a state times replicates; more are drawn in turn


class Bounds(NamedTuple):
    """The ends of an interval.

    Attributes:
      lower: The lower end.
      upper: The upper end.
    """

    lower: Any
    upper: Any


class Bootstrapped(NamedTuple):
    """What `Bootstrap` computes.

    Attributes:
      value: The metric of the rows as they are.
      standard_error: The standard deviation of the replicates.
      percentile: The interval between percentiles of the replicates.
      basic: The same, mirrored at the value: `2 * value - percentile`.
    """

    value: Any
    standard_error: Any
    percentile: Bounds
    basic: Bounds


class Bootstrap(Around):
    """A metric with its standard error and confidence intervals, by the bootstrap.

    Where the metric's state is one of counts of rows (confusion counts or a score
    histogram, of one class) the replicates are drawn from the counts in `compute`: the
    state is the metric's own, shared with it in a `Collection`, and updates cost
    nothing more. This takes no weights. Rows whose entries depend on each other, such
    as several labels of one picture, take `weighted=True`.

    With `weighted=True`, and for every other metric, each row draws its numbers in
    `update`, which costs an update for each replicate, less than its random bits. The
    replicates depend on `seed` and on `row_ids` alone: an integer for each row gives
    the same replicates whatever the batches, devices and processes. Rows of one id are
    drawn together: ids of users or documents make it a cluster bootstrap. Without ids
    rows are numbered as they come, which repeats where several states are merged:
    there ids are required. Inside `shard_map` and `pmap` an update without them raises;
    a merge of two numbered states is NaN. JAX cuts ids to 32 bits without a word,
    unless 64-bit types are enabled: number users, or hash them to 32 bits.

    Replicates of rows are as many states: for score histograms take fewer cells, as in
    `AUROC(num_cells=1023)`, which is 16 times smaller.

    Args:
      metric: What is computed: any that takes `sample_weight`, or is made of counts.
      replicates: How many there are.
      seed: Of the random numbers.
      confidence: How often the intervals should hold the truth.
      weighted: Draws rows in `update`, even where counts would do.

    Returns:
      From `compute`, a `Bootstrapped`. Replicates without a value (NaN) are left out:
      of few positives some draw none, and their recall is 0 unless the metric has
      `zero_division=nan`. NaN where the value is, or no replicate has one.

    Example:
      >>> import jaxmetrics as jm
      >>> recall = jm.Bootstrap(jm.Recall(), replicates=200)
      >>> found = recall(y_true=[1] * 100, y_pred=[1] * 80 + [0] * 20)
      >>> print(found.value, abs(found.standard_error - 0.04) < 0.01)
      0.8 True

    References:
      Efron and Tibshirani (1993), An introduction to the bootstrap. Chamandy et al.
      (2012), Estimating uncertainty for massive data streams.
    """

    replicates: int = 200
    _: KW_ONLY
    seed: int = 0
    confidence: float = 0.95
    weighted: bool = False

    def checked(self) -> dict[str, Any]:
        """Checks the numbers."""
        confidence = checks.number(self.confidence, "confidence")
        if not 0 < confidence < 1:
            raise Mismatch(f"confidence must be between 0 and 1; got {confidence}.")
        return {
            **super().checked(),
            "replicates": checks.integer(self.replicates, "replicates", 2),
            "seed": checks.integer(self.seed, "seed", 0),
            "confidence": confidence,
            "weighted": checks.boolean(self.weighted, "weighted"),
        }

    @property
    def gives_intervals(self) -> bool:
        """Yes."""
        return True

    @property
    def from_counts(self) -> bool:
        """Whether the replicates are drawn from the counts, in `compute`."""
        # Counts of several accumulators are of the same rows, and not independent.
        parts = self.metric.accumulator.parts
        return not self.weighted and len(parts) == 1 and parts[0].can_resample

    def wrap(self, part: Accumulator) -> Accumulator:
        """It, with replicates; as it is where it holds the counts."""
        if self.from_counts:
            return part
        return Replicates(part, self.replicates, self.seed)

    @property
    def refused(self) -> frozenset[str]:
        """As the metric; and weights where counts are drawn."""
        if not self.from_counts:
            return super().refused
        parts = self.metric.accumulator.parts
        names = (part.input_for("sample_weight") for part in parts)
        return super().refused | {name for name in names if name is not None}

    def admit(self, inputs: Mapping[str, Any]) -> None:
        """As the metric; and no weights or dependent entries where counts are drawn."""
        self.metric.admit(inputs)
        if not self.from_counts:
            return
        if inputs.get(IDS) is not None:
            raise WrongKind(
                f"replicates are drawn from counts, which {IDS} cannot change; leave "
                "them out, or set weighted=True, to draw each row by its id."
            )
        for part in self.metric.accumulator.parts:
            name = part.input_for("sample_weight")
            if inputs.get(name or "") is not None:
                raise WrongKind(
                    f"replicates are drawn from counts, and {name} came; set "
                    "weighted=True."
                )
            for name, needed in part.inputs.items():
                shape = np.shape(inputs[name]) if needed and name in inputs else ()
                if any(size > 1 for size in shape[1:]):
                    raise Mismatch(
                        f"the entries of a row are drawn together, and {name} has "
                        f"{shape[1:]} of them; set weighted=True."
                    )

    def _values(self, data: Any) -> tuple[Any, Any]:
        """The value of the rows as they are, and of each replicate; NaN if that is."""
        value, drawn = self._drawn(data)
        # Without its bad row a replicate would look as if there were none.
        drawn = jax.tree.map(_where_defined, value, drawn)
        return value, drawn

    def _drawn(self, data: Any) -> tuple[Any, Any]:
        if not self.from_counts:
            whole = self.inner(data, lambda _, own: own.whole)
            drawn = self.inner(data, lambda _, own: own.replicates)
            return self.metric.answer(whole), jax.vmap(self.metric.answer)(drawn)
        owner = self.metric.accumulator
        part = owner.parts[0]
        own = by_key(owner, data)[part.key]

        def draw(key: jax.Array) -> Any:
            drawn = {part.key: part.resampled(own, key)}
            return self.metric.answer(owner.assemble(drawn))

        keys = jax.random.split(jax.random.key(self.seed), self.replicates)
        size = sum(leaf.size for leaf in jax.tree.leaves(data))
        few = size * self.replicates <= AT_ONCE
        drawn = jax.vmap(draw)(keys) if few else lax.map(draw, keys)
        return self.metric.answer(data), drawn

    def read(self, data: Any) -> Bootstrapped:
        """Value, standard error and intervals."""
        value, drawn = self._values(data)
        tails = (1 - self.confidence) / 2, (1 + self.confidence) / 2
        error = jax.tree.map(lambda x: jnp.nanstd(x, axis=0, ddof=1), drawn)
        low, high = (
            jax.tree.map(lambda x, q=q: jnp.nanquantile(x, q, axis=0), drawn)
            for q in tails
        )
        basic = [
            jax.tree.map(lambda x, end: 2 * x - end, value, end) for end in (high, low)
        ]
        return Bootstrapped(value, error, Bounds(low, high), Bounds(*basic))

    @reading
    def replicates_of(self, state: State) -> Any:
        """The metric of each replicate, with a leading axis."""
        return self.poisoned(self._values(state.data)[1], state.data)

    def p_value(self, null: float = 0.0) -> Metric:
        """How likely a metric as far from `null` would be if that were the truth.

        Two-sided, from the share of replicates on the other side: `2 (1 + k) / (1 + n)`
        with the k of n replicates on the rarer side, at most 1. Of a difference between
        two models on the same rows:

            models = jm.Repeated(jm.AUROC(num_cells=1023), 2, over="y_pred")
            jm.Bootstrap(models.difference(), 1000).p_value()

        It tells something of metrics that may lie on both sides of `null`, as a
        difference may; of a gap, which is never below 0, it says nothing.
        """
        return PValue(self, null)


def _where_defined(value: jax.Array, drawn: jax.Array) -> jax.Array:
    value = value[None]
    return jnp.where(value == value, drawn, value)


class PValue(Through):
    """The bootstrap's two-sided p-value; see `Bootstrap.p_value`."""

    metric: Bootstrap
    null: float

    def checked(self) -> dict[str, Any]:
        """Checks the number."""
        return {**super().checked(), "null": checks.number(self.null, "null")}

    @property
    def label(self) -> str:
        """The bootstrap's, and what is read of it."""
        return f"{self.metric.label}.p_value"

    @property
    def gives_intervals(self) -> bool:
        """No: a number."""
        return False

    def read(self, data: Any) -> Any:
        """The share of replicates on the other side, twice."""
        return jax.tree.map(self._two_sided, self.metric._values(data)[1])

    def _two_sided(self, drawn: jax.Array) -> jax.Array:
        some = ~jnp.isnan(drawn)
        sides = (drawn <= self.null) & some, (drawn >= self.null) & some
        below, above = (jnp.sum(x, axis=0).astype(drawn.dtype) for x in sides)
        number = jnp.sum(some, axis=0).astype(drawn.dtype)
        share = 2 * (1 + jnp.minimum(below, above)) / (1 + number)
        return jnp.where(number > 0, jnp.minimum(share, 1), jnp.nan)
