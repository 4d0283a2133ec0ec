"""Calls outside of `jax.jit`: each one compiled function, not hundreds of small ones.

Operation by operation JAX compiles every operation on its own, so that a first read
would take seconds. Inside of `jit` and other transformations nothing changes.
"""

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from numbers import Real
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from jaxmetrics import checks

__all__ = ["compiled", "operation_by_operation", "reading"]

F = TypeVar("F", bound=Callable[..., Any])

MOST_PROGRAMS = 256  # of a function; a small one takes 1 to 3 MiB

_compiles = ContextVar("_compiles", default=True)


@contextmanager
def operation_by_operation() -> Iterator[None]:
    """Compiles nothing, so that a law sees what functions do with plain arrays."""
    token = _compiles.set(False)
    try:
        yield
    finally:
        _compiles.reset(token)


def compiled(function: F) -> F:
    """A function of a frozen value and arrays, compiled where it is called eagerly.

    Programs are kept, but not for ever: a loop that makes a metric of a lambda in every
    turn needs a new one in every turn.

    Args:
      function: Pure and jittable, of positional arguments; the first is static.
    """
    programs = 0

    def counted(value: Any, *args: Any) -> Any:
        nonlocal programs
        programs += 1  # it runs where it is traced
        return function(value, *args)

    counted.__name__ = function.__name__  # in errors and profiles
    jitted: Any = jax.jit(counted, static_argnums=0)

    @functools.wraps(function)
    def call(value: Any, *args: Any) -> Any:
        nonlocal programs
        if not (_compiles.get() and all(map(_is_array, jax.tree.leaves(args)))):
            return function(value, *args)
        if programs >= MOST_PROGRAMS:
            jitted.clear_cache()
            programs = 0
        return jitted(value, *jax.tree.map(_own, args))

    return call  # type: ignore[return-value]


def reading(method: F) -> F:
    """A method of a metric that reads a state: its owner is checked, errors have names.

    Compiled where it is called eagerly.

    Args:
      method: Takes a state, and numbers that are options of the read.
    """

    def plain(call: Any, state: Any) -> Any:
        metric, args, kwargs = call
        return method(metric, state, *args, **dict(kwargs))

    plain.__name__ = method.__name__
    read = compiled(plain)

    @functools.wraps(method)
    def call(metric: Any, state: Any, *args: Any, **kwargs: Any) -> Any:
        with checks.naming(metric.label):
            metric.check_state(state)
            if all(isinstance(x, Real) for x in (*args, *kwargs.values())):
                return read((metric, args, tuple(kwargs.items())), state)
            return method(metric, state, *args, **kwargs)

    return call  # type: ignore[return-value]


def _own(leaf: Any) -> Any:
    """An array that nobody writes to while it is read, which is later than the call."""
    return leaf.copy() if isinstance(leaf, np.ndarray) else leaf


def _is_array(leaf: Any) -> bool:
    """Whether it is an array as JAX keeps it, and no tracer."""
    if isinstance(leaf, np.ndarray | np.generic):
        return _is_real(leaf.dtype) and checks.fits_32_bits(leaf)
    return isinstance(leaf, jax.Array) and not isinstance(leaf, jax.core.Tracer)


def _is_real(dtype: np.dtype) -> bool:
    """Whether JAX has numbers of this dtype, and none of them is complex."""
    kinds = jnp.bool_, jnp.integer, jnp.floating
    return dtype.itemsize <= 8 and any(jnp.issubdtype(dtype, kind) for kind in kinds)
