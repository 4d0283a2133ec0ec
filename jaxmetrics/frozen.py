"""Frozen values of options: what makes two metrics equal, and one trace.

A class of options becomes a frozen dataclass by deriving from `Frozen`, so that it
cannot be forgotten: a subclass that kept its parent's `__eq__` would let `jit` reuse
the wrong program.
"""

import dataclasses
import functools
import inspect
import math
from typing import Any, dataclass_transform

import jax
import numpy as np

from jaxmetrics import checks
from jaxmetrics.checks import WrongKind
from jaxmetrics.names import Shown

__all__ = ["Frozen"]


@dataclass_transform(
    frozen_default=True,
    eq_default=False,
    field_specifiers=(dataclasses.field,),
)
class Frozen(Shown):
    """A frozen, hashable value of annotated options; equal by type and options.

    Static under `jax.jit`: equal values share one trace, however often they are
    rebuilt. A class is abstract or final, never both.
    """

    def __init_subclass__(cls, *, own_init: bool = False, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for base in cls.__bases__:
            if (
                issubclass(base, Frozen)
                and base is not Frozen
                and not inspect.isabstract(base)
            ):
                raise TypeError(
                    f"{cls.__name__} derives from {base.__name__}, which is final; "
                    f"derive from its base {base.__bases__[0].__name__}, or use "
                    f"{base.__name__}(...).map(function)."
                )
        if "__init__" in cls.__dict__ and not own_init:
            raise TypeError(
                f"{cls.__name__} defines __init__, which would hide its options from "
                "equality and hashing; declare options as annotated fields instead."
            )
        dataclasses.dataclass(frozen=True, eq=False, repr=False, init=not own_init)(cls)
        if not own_init:
            _name_unknown_options(cls)
        jax.tree_util.register_static(cls)

    def __post_init__(self) -> None:
        with checks.naming(type(self).__name__):
            self._set(**{f.name: _plain(self, f) for f in _fields(self)})
            self._set(**self.checked())
            for name, value in self._options():
                _require_hashable(name, value)

    def _set(self, **options: Any) -> None:
        for name, value in options.items():
            object.__setattr__(self, name, value)

    def checked(self) -> dict[str, Any]:
        """The options that need a check, checked and normalised."""
        return {}

    def _options(self) -> list[tuple[str, Any]]:
        return [(f.name, getattr(self, f.name)) for f in _fields(self)]

    @functools.cached_property
    def _key(self) -> tuple[Any, ...]:
        """The options with their types: 1, 1.0 and True are three options."""
        return tuple(_typed(value) for _, value in self._options())

    @functools.cached_property
    def _hash(self) -> int:
        return hash((type(self).__qualname__, self._key))

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        if not isinstance(other, Frozen) or type(self) is not type(other):
            return NotImplemented
        return self._key == other._key

    def __hash__(self) -> int:
        return self._hash

    def _shown(self) -> list[tuple[str, Any]]:
        """The options that are not what they are unless given."""
        defaults = {f.name: f.default for f in _fields(self)}
        return [
            (name, value)
            for name, value in self._options()
            if not (
                type(value) is type(defaults[name]) and (value,) == (defaults[name],)
            )
        ]

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return _rebuild, (type(self), dict(self._options()))


def _name_unknown_options(cls: type) -> None:
    """Lets the constructor say which options there are."""
    init = cls.__dict__["__init__"]
    signature = inspect.signature(init)

    @functools.wraps(init)
    def checked(self: Any, *args: Any, **options: Any) -> None:
        try:
            init(self, *args, **options)
        except TypeError:
            _require_bound(cls.__name__, signature, self, *args, **options)
            raise

    cls.__init__ = checked  # type: ignore[misc]


def _require_bound(
    name: str, signature: inspect.Signature, /, *args: Any, **options: Any
) -> None:
    try:
        signature.bind_partial(*args, **options)  # what is unknown comes first
        signature.bind(*args, **options)
    except TypeError as error:
        names = ", ".join(list(signature.parameters)[1:])
        with checks.naming(name):
            raise WrongKind(f"{error}; the options are: {names}.") from None


def _rebuild(cls: type[Frozen], options: dict[str, Any]) -> Frozen:
    """Unpickles through the constructor, so that options are normalised again."""
    return cls(**options)


def _fields(owner: Any) -> "tuple[dataclasses.Field[Any], ...]":
    return dataclasses.fields(owner)


def _plain(owner: Frozen, field: "dataclasses.Field[Any]") -> Any:
    """An option as a plain hashable value of its declared type."""
    value = getattr(owner, field.name)
    if isinstance(value, jax.core.Tracer):
        raise WrongKind(
            f"{field.name} is an option and has to be known before tracing, but a "
            "traced value came; make the metric outside the jitted function."
        )
    value = _normal(value)
    if field.type in (float, "float") and isinstance(value, int):
        value = float(value)
    return value


def _normal(value: Any) -> Any:
    """One form for equal options: Python's numbers, tuples, one NaN and one zero."""
    if isinstance(value, np.generic):
        value = value.item()
    elif isinstance(value, jax.core.Tracer):
        return value  # the checks of the options refuse it
    elif isinstance(value, np.ndarray | jax.Array):
        value = np.asarray(value).tolist()
    if isinstance(value, list):
        value = tuple(value)
    if type(value) is tuple:
        return tuple(_normal(x) for x in value)
    if isinstance(value, float):
        return math.nan if math.isnan(value) else value + 0.0
    return value


def _typed(value: Any) -> Any:
    """A value that equals another only if the types do too, inside tuples as well."""
    if isinstance(value, tuple):
        return type(value), tuple(_typed(x) for x in value)
    return type(value), value


def _require_hashable(name: str, value: Any) -> None:
    try:
        hash(value)
    except TypeError:
        raise WrongKind(
            f"the option {name} must be hashable (numbers, strings, tuples, metrics, "
            f"functions); got {type(value).__name__}."
        ) from None
