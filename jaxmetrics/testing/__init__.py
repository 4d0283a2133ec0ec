"""The laws that every metric keeps, as functions that check them.

    >>> import jaxmetrics as jm
    >>> from jaxmetrics.testing import check_metric
    >>> batches = [dict(values=[1.0, 2.0, 4.0]), dict(values=[3.0, 8.0])]
    >>> check_metric(jm.Mean(), batches, laws=["merge associative", "row order"])

The laws know the contract and nothing else, so they hold a metric of your own, an
aggregator or a whole `Collection` to the same standard. Integer leaves of states are
compared bit for bit, float leaves and results to 1e-6 of their size.
"""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import jax

from jaxmetrics.metric import Metric
from jaxmetrics.numerics import error_terms_survive
from jaxmetrics.testing.subject import Broken, Subject
from jaxmetrics.testing.updates import RUN_LAWS, UPDATE_LAWS
from jaxmetrics.testing.values import READ_LAWS, STATE_LAWS, VALUE_LAWS

__all__ = ["CHEAP_LAWS", "EAGER_LAWS", "LAWS", "check_backend", "check_metric"]

LAWS: Mapping[str, Callable[[Subject], None]] = MappingProxyType(
    {**VALUE_LAWS, **UPDATE_LAWS, **STATE_LAWS, **RUN_LAWS, **READ_LAWS}
)
CHEAP_LAWS = tuple(VALUE_LAWS)  # they compile nothing worth speaking of
EAGER_LAWS = (*RUN_LAWS, *READ_LAWS)  # they compile every operation by itself


def check_metric(
    metric: Metric,
    batches: Sequence[Mapping[str, Any]],
    *,
    laws: Iterable[str] | None = None,
    devices: Sequence[int] = (),
) -> None:
    """Checks that a metric keeps the laws; returns if it does.

    Args:
      metric: Any metric: a read-out, an accumulator, a `Collection`.
      batches: At least two batches of inputs by name. Every input has a leading axis of
        rows; 7 to 24 rows in all are enough, and every new shape costs a compilation.
        Weights and masks are made by the laws, where the metric takes `sample_weight`
        and `mask`. Float inputs show more than integers: NaN can be put in their place.
      laws: Names out of `LAWS`; all of them unless given. Those that the metric or its
        accumulator names in `laws_waived` are left out.
      devices: Numbers of devices to check `all_reduce` on by `shard_map` and `pmap`, as
        far as there are as many. It is always checked by `vmap(axis_name=...)`.

    Raises:
      AssertionError: A law is broken; names the law, the metric and what differed.
      ValueError: A law is unknown, or a batch is not as said above.

    Example:
      >>> import jaxmetrics as jm
      >>> from jaxmetrics.testing import check_metric
      >>> batch = dict(y_true=[0.0, 1.0, 1.0], y_pred=[0.2, 0.7, 0.4])
      >>> check_metric(jm.Recall(), [batch, batch], laws=["value", "checkpoint"])
    """
    waived = _waived(metric)
    names = tuple(LAWS) if laws is None else tuple(laws)
    for name in (*names, *waived):
        if name not in LAWS:
            raise ValueError(f"there is no law {name!r}; the laws are {list(LAWS)}.")
    subject = Subject(metric, batches, devices)
    for name in names:
        if name in waived:
            continue
        try:
            LAWS[name](subject)
        except Exception as error:
            raise AssertionError(
                f"the law {name!r} is broken: {_sentence(error)}; by {metric!r}"
            ) from error


def check_backend() -> None:
    """Checks that the default backend computes what metrics rely on.

    Raises:
      RuntimeError: The compiler drops the error terms of two-float sums, so that means
        and weighted counts are no better than float32; says what to do.

    Example:
      >>> from jaxmetrics.testing import check_backend
      >>> check_backend()
    """
    if not error_terms_survive():
        raise RuntimeError(
            f"the {jax.default_backend()} compiler drops the error terms of two-float "
            "sums, so that float sums lose precision; take fast-math options such as "
            "--xla_cpu_enable_fast_math=true out of XLA_FLAGS."
        )


def _waived(metric: Metric) -> dict[str, str]:
    owner = metric.accumulator
    waived: dict[str, str] = {}
    for one in (*_within(metric), *_within(owner)):
        waived.update(one.laws_waived)
    for law, why in waived.items():
        if not why:
            raise ValueError(f"{metric!r} waives the law {law!r} without a reason.")
    return waived


def _within(value: Any) -> Iterator[Metric]:
    """A metric and all that it is made of."""
    if isinstance(value, tuple):
        for one in value:
            yield from _within(one)
    elif isinstance(value, Metric):
        yield value
        for field in dataclasses.fields(value):
            yield from _within(getattr(value, field.name))


def _sentence(error: Exception) -> str:
    return (
        str(error) if isinstance(error, Broken) else f"{type(error).__name__}: {error}"
    )
