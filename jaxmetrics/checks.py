"""Checks of options and shapes, and the sentences they raise.

Options are checked and normalised when a metric is made; shapes and dtypes while it is
traced. Every sentence states what was expected, what came and the way out; the metric
that was called puts its name in front.
"""

import inspect
import math
import operator
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

__all__ = [
    "align",
    "array",
    "boolean",
    "choice",
    "class_axis",
    "class_options",
    "dtype",
    "fraction",
    "integer",
    "naming",
    "number",
    "numbers",
    "one_or_several",
    "row_mask",
    "row_weight",
]


class Refusal(Exception):
    """What a check raises; the metric that was called puts its name in front."""

    def __init__(self, sentence: str) -> None:
        super().__init__(sentence)
        self.sentence = sentence
        self.name = ""
        self.named = False  # for good
        self.part: Any = None  # of several accumulators, the one that refused

    def __str__(self) -> str:
        return f"{self.name}: {self.sentence}" if self.name else self.sentence

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.sentence,), self.__dict__


class Mismatch(Refusal, ValueError):
    """Arguments or options that do not fit the metric or each other."""


class WrongKind(Refusal, TypeError):
    """Arguments or options of a kind that the metric cannot take."""


@contextmanager
def naming(name: str, *, keep: bool = False) -> Iterator[None]:
    """Puts a name in front of what a check inside raises; the outermost one stays.

    Unless an inner one says `keep`, because it knows better.
    """
    try:
        yield
    except Refusal as error:
        error.name = error.name if error.named else name
        error.named |= keep
        raise


@contextmanager
def in_part(part: Any) -> Iterator[None]:
    """Notes which of several accumulators refused."""
    try:
        yield
    except Refusal as error:
        error.part = error.part or part
        raise


# --- options -------------------------------------------------------------------------


def _concrete(value: Any, option: str) -> Any:
    if isinstance(value, jax.core.Tracer):
        raise WrongKind(
            f"{option} is an option and has to be known before tracing, but a traced "
            "value came; make the metric outside the jitted function, or mark the "
            "argument static."
        )
    return value


def integer(value: Any, option: str, least: int) -> int:
    """An integer option of at least `least`."""
    try:
        if isinstance(_concrete(value, option), bool | np.bool_):
            raise TypeError
        result = operator.index(value)
    except TypeError:
        raise WrongKind(
            f"{option} must be an integer >= {least}; got {value!r}."
        ) from None
    if result < least:
        raise Mismatch(f"{option} must be an integer >= {least}; got {value!r}.")
    return result


def optional_integer(value: Any, option: str, least: int) -> int | None:
    """An integer option that may be left out."""
    return None if value is None else integer(value, option, least)


def boolean(value: Any, option: str) -> bool:
    """A True or False option."""
    if not isinstance(_concrete(value, option), bool | np.bool_):
        raise WrongKind(f"{option} must be True or False; got {value!r}.")
    return bool(value)


def number(value: Any, option: str, *, nan: bool = False) -> float:
    """A real number option; NaN only where `nan` says that it means something."""
    if isinstance(_concrete(value, option), str | bytes | bool | np.bool_):
        raise WrongKind(f"{option} must be a number; got {value!r}.")
    try:
        result = float(value)
    except TypeError:
        raise WrongKind(f"{option} must be a number; got {value!r}.") from None
    if math.isnan(result) and not nan:
        raise Mismatch(f"{option} must be a number; got NaN.")
    return math.nan if math.isnan(result) else result + 0.0  # one NaN, one zero


def fraction(value: Any, option: str) -> float:
    """A number in [0, 1], as the shortest decimal of its float32."""
    result = number(value, option)
    if not 0 <= result <= 1:
        raise Mismatch(f"{option} must be in [0, 1]; got {value!r}.")
    return float(str(np.float32(result))) + 0.0


def numbers(value: Any, option: str) -> tuple[Any, ...]:
    """One number or several, as a tuple; lists, tuples and arrays are welcome."""
    _concrete(value, option)
    if isinstance(value, str | bytes | dict | set):
        raise WrongKind(
            f"{option} must be a number or a sequence of numbers; got {value!r}."
        )
    if isinstance(value, np.ndarray | jax.Array):
        value = np.asarray(value)
        if value.ndim > 1:
            raise Mismatch(f"{option} must have one axis; got shape {value.shape}.")
        value = value.tolist()
    try:
        result = tuple(value) if np.iterable(value) else (value,)
    except TypeError:
        result = (value,)
    if any(np.ndim(x) for x in result):
        raise Mismatch(f"{option} must have one axis; got {value!r}.")
    if not result:
        raise Mismatch(f"{option} must hold at least one number; got {value!r}.")
    return result


def fractions(value: Any, option: str) -> tuple[float, ...]:
    """One number in [0, 1] or several, as a tuple; the offenders are listed."""
    values = numbers(value, option)
    normal, offenders = [], []
    for x in values:
        try:
            normal.append(fraction(x, option))
        except Refusal:
            _concrete(x, option)
            offenders.append(x)
    if offenders:
        raise Mismatch(f"{option} must be in [0, 1]; got {offenders!r}.")
    return tuple(normal)


def one_or_several(value: Any, option: str) -> float | tuple[float, ...]:
    """Fractions as they came: a number, or a tuple of them."""
    values = fractions(value, option)
    return values if np.ndim(value) > 0 else values[0]


def class_options(class_id: Any, num_classes: Any) -> dict[str, int | None]:
    """The options that select one class, or keep all apart; at most one of them."""
    if class_id is not None and num_classes is not None:
        raise Mismatch(
            "class_id selects one class and num_classes keeps all; give one."
        )
    return {
        "class_id": optional_integer(class_id, "class_id", 0),
        "num_classes": optional_integer(num_classes, "num_classes", 1),
    }


def choice(value: Any, option: str, choices: Sequence[str | None]) -> Any:
    """One of a few strings, in upper or lower case; returned as it is listed."""
    if isinstance(_concrete(value, option), str):
        listed = {x.lower(): x for x in choices if x is not None}
        value = listed.get(value.lower(), value)
    if value not in choices:
        raise Mismatch(f"{option} must be one of {list(choices)!r}; got {value!r}.")
    return value


def dtype(value: Any, *, integers: bool = False) -> np.dtype | None:
    """A result dtype: None or a float; int32 and uint32 where results are counts."""
    if value is None:
        return None
    try:
        result: np.dtype = np.dtype(value)
    except TypeError:
        raise WrongKind(f"dtype must be a dtype or None; got {value!r}.") from None
    if result == np.float64 and not jax.config.read("jax_enable_x64"):
        raise Mismatch(
            "dtype float64 needs 64-bit types; enable them with "
            "jax.config.update('jax_enable_x64', True), or use float32."
        )
    if jnp.issubdtype(result, jnp.floating):
        return result
    if integers and result in (np.int32, np.uint32):
        return result
    what = "a float dtype, int32 or uint32" if integers else "a float dtype"
    raise WrongKind(f"dtype must be {what}; got {result.name}.")


def input_name(name: str) -> None:
    """Refuses to call an input what `update` calls something else."""
    if name == "state":
        raise Mismatch(
            "no input can be called 'state', as update calls the state; take another "
            "name."
        )


def takes(function: Any, argument: str, parameters: str) -> None:
    """Refuses what is no function of these parameters, as far as can be told."""
    if not callable(function):
        raise WrongKind(
            f"{argument} must be a function of ({parameters}); got "
            f"{type(function).__name__}."
        )
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return
    try:
        signature.bind(*parameters.split(", "))
    except TypeError:
        raise WrongKind(
            f"{argument} is called as {argument}({parameters}); got a function of "
            f"{signature}."
        ) from None


# --- arguments -----------------------------------------------------------------------


def array(value: ArrayLike, argument: str) -> jax.Array:
    """Real numbers or booleans as an array through which no gradient flows."""
    require_32_bits(value, argument)
    try:
        result = jnp.asarray(value)
    except OverflowError:
        raise Mismatch(_TOO_WIDE.format(argument)) from None
    except (TypeError, ValueError):
        raise WrongKind(
            f"{argument} must be an array of numbers; got "
            f"{getattr(value, 'dtype', type(value).__name__)}."
        ) from None
    if not (jnp.issubdtype(result.dtype, jnp.number) or result.dtype == jnp.bool_):
        raise WrongKind(f"{argument} must hold numbers; got dtype {result.dtype}.")
    if jnp.issubdtype(result.dtype, jnp.complexfloating):
        raise WrongKind(f"{argument} must hold real numbers; got dtype {result.dtype}.")
    return jax.lax.stop_gradient(result)


_TOO_WIDE = (
    "{} holds integers that do not fit 32 bits, to which JAX would cut them. Pass "
    "ids below 2^31, all else as floats; or enable 64-bit types with "
    "jax.config.update('jax_enable_x64', True)."
)


def fits_32_bits(value: Any) -> bool:
    """Whether JAX takes all integers as they are; only a host array can be seen."""
    wide = isinstance(value, np.ndarray | np.integer) and value.dtype.itemsize == 8
    if not wide or value.dtype.kind not in "iu" or not np.size(value):
        return True
    if jax.config.read("jax_enable_x64"):
        return True
    limits = np.iinfo(np.int32 if value.dtype.kind == "i" else np.uint32)
    return bool(np.min(value) >= limits.min and np.max(value) <= limits.max)


def require_32_bits(value: Any, argument: str) -> None:
    """Refuses what JAX would wrap silently."""
    if not fits_32_bits(value):
        raise Mismatch(_TOO_WIDE.format(argument))


def numbers_as_array(value: Any) -> Any:
    """Lists of Python's numbers as a host array, floats too; all else as it is.

    An integer or a boolean alone may be an option of a function.
    """
    if not isinstance(value, list | tuple | float):
        return value
    if not all(isinstance(x, int | float | np.generic) for x in jax.tree.leaves(value)):
        return value
    try:
        result = np.asarray(value)
    except ValueError:  # lists of several lengths, which are refused by name
        return value
    return result if result.dtype.kind in "bfiu" else value


def align(y_true: jax.Array, y_pred: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Gives both one shape; a trailing axis of 1 that only one of them has goes."""
    true, pred = y_true, y_pred
    if pred.ndim == true.ndim + 1 and pred.shape[-1] == 1:
        pred = pred.reshape(pred.shape[:-1])
    elif true.ndim == pred.ndim + 1 and true.shape[-1] == 1:
        true = true.reshape(true.shape[:-1])
    if true.shape != pred.shape:
        raise Mismatch(_disagreement(y_true, y_pred))
    return true, pred


def _disagreement(y_true: jax.Array, y_pred: jax.Array) -> str:
    sentence = (
        f"y_true and y_pred must have one shape; got y_true {y_true.shape} and "
        f"y_pred {y_pred.shape}. "
    )
    if y_pred.ndim == y_true.ndim + 1 and y_pred.shape[:-1] == y_true.shape:
        classes = y_pred.shape[-1]
        return sentence + (
            f"If y_true holds class ids, pass jax.nn.one_hot(y_true, {classes}); if "
            "y_pred should have one score per row, select it first."
        )
    return sentence + "Reshape or slice one of them; nothing is broadcast."


def row_weight(weight: ArrayLike, shape: tuple[int, ...], of: str) -> jax.Array:
    """Weights as float32 with the rank of `shape`, each axis 1 or equal."""
    result = array(weight, "sample_weight")
    return _for_rows(result, "sample_weight", shape, of).astype(jnp.float32)


def row_mask(mask: ArrayLike, shape: tuple[int, ...], of: str) -> jax.Array:
    """A mask (True keeps) with the rank of `shape`, each axis 1 or equal."""
    result = array(mask, "mask")
    if result.dtype != jnp.bool_:
        raise WrongKind(
            f"mask must be boolean (True keeps a row); got dtype {result.dtype}. "
            "Pass mask != 0, or sample_weight for weights."
        )
    return _for_rows(result, "mask", shape, of)


def row_group(group: jax.Array, shape: tuple[int, ...], of: str) -> jax.Array:
    """The group of each row, with the rank of `shape`, each axis 1 or equal."""
    return _for_rows(group, "slice_ids", shape, of)


def _for_rows(
    x: jax.Array, argument: str, shape: tuple[int, ...], of: str
) -> jax.Array:
    """Fits a scalar, an array of the same rank, or one over the leading axes."""
    rank = len(shape)
    if x.ndim == 0:
        return x.reshape((1,) * rank)
    if x.ndim == rank and all(a in (1, b) for a, b in zip(x.shape, shape, strict=True)):
        return x
    leading = x.shape
    while leading and leading[-1] == 1 and leading != shape[: len(leading)]:
        leading = leading[:-1]
    if leading == shape[: len(leading)]:
        return x.reshape(leading + (1,) * (rank - len(leading)))
    raise Mismatch(
        f"{argument} must be a scalar, have the shape of {of} with any axis 1, or "
        f"cover the leading axes; got {argument} {x.shape} and {of} {shape}. "
        f"Reshape {argument}, or withhold it with with_inputs({argument}=None)."
    )


def class_axis(
    shape: tuple[int, ...],
    *,
    top_k: int | None = None,
    class_id: int | None = None,
    num_classes: int | None = None,
) -> None:
    """Checks that the options about classes fit the last axis."""
    for option, value in (("class_id", class_id), ("num_classes", num_classes)):
        if value is not None and len(shape) < 2:
            raise Mismatch(
                f"{option}={value} needs y_true and y_pred of shape (..., classes); "
                f"got {shape}. Pass one score per class."
            )
    if not shape:
        if top_k is not None:
            raise Mismatch(f"top_k={top_k} needs an axis of classes; got shape ().")
        return
    classes = shape[-1]
    if num_classes is not None and num_classes != classes:
        raise Mismatch(
            f"num_classes={num_classes}, but the last axis of y_true and y_pred "
            f"{shape} has {classes} entries; use num_classes={classes} (of AUC, "
            "num_labels)."
        )
    if top_k is not None and top_k > classes:
        raise Mismatch(
            f"top_k={top_k} exceeds the {classes} classes in the last axis of {shape}; "
            f"use top_k <= {classes}."
        )
    if class_id is not None and class_id >= classes:
        raise Mismatch(
            f"class_id={class_id} is not one of the {classes} classes in the last axis "
            f"of {shape}; use 0 <= class_id < {classes}."
        )
