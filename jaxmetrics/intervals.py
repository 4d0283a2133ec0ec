"""Confidence intervals that need no resampling."""

from statistics import NormalDist
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxmetrics import checks
from jaxmetrics.checks import Mismatch
from jaxmetrics.numerics import divide

__all__ = ["Interval", "logit_interval", "normal_quantile", "wilson_interval"]


class Interval(NamedTuple):
    """A confidence interval and the standard error that it comes from.

    Attributes:
      lower: The lower end.
      upper: The upper end.
      standard_error: Of the estimate, in its units.
    """

    lower: jax.Array
    upper: jax.Array
    standard_error: jax.Array


def normal_quantile(confidence: Any) -> float:
    """How many standard errors a two-sided interval reaches to either side."""
    level = checks.number(confidence, "confidence")
    if not 0 < level < 1 or (1 + level) / 2 == 1:
        raise Mismatch(f"confidence must be between 0 and 1; got {confidence!r}.")
    return NormalDist().inv_cdf((1 + level) / 2)


def wilson_interval(hits: jax.Array, misses: jax.Array, z: float) -> Interval:
    """Wilson's interval for the share of hits; NaN without any trial."""
    trials = hits + misses
    share = divide(hits, trials, jnp.nan)
    middle = (hits + z**2 / 2) / (trials + z**2)
    # The product of both counts, and not trials: neither end passes 0 or 1.
    spread = jnp.sqrt(divide(hits, trials, jnp.nan) * misses + z**2 / 4)
    reach = z / (trials + z**2) * spread
    error = jnp.sqrt(divide(share * (1 - share), trials, jnp.nan))
    lower, upper = jnp.clip(middle - reach, 0, 1), jnp.clip(middle + reach, 0, 1)
    return Interval(jnp.minimum(lower, share), jnp.maximum(upper, share), error)


def logit_interval(estimate: jax.Array, error: jax.Array, z: float) -> Interval:
    """An interval for a number in [0, 1] that is normal on the scale of its logit.

    Where the estimate is 0 or 1 its ends are the estimate; NaN where either is.
    """
    spread = estimate * (1 - estimate)
    logit = jnp.log(estimate) - jnp.log1p(-estimate)
    reach = z * error / jnp.where(spread > 0, spread, jnp.ones_like(spread))
    ends = jax.nn.sigmoid(logit - reach), jax.nn.sigmoid(logit + reach)
    unknown = estimate + error  # NaN where either is
    lower, upper = (jnp.where(spread > 0, end, estimate) + 0 * unknown for end in ends)
    return Interval(jnp.minimum(lower, estimate), jnp.maximum(upper, estimate), error)
