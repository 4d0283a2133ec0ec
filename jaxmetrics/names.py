"""What options are called, the same in every process: in reprs, keys and files.

States are told apart by the options of their accumulators as these print. Numbers and
strings print what they are; functions go by their names, which is enough where a module
has the function. One that another function makes goes by what it captures as well, if
that is numbers and strings. What then still prints like something else has no name of
its own: a lambda, a jitted closure, an object that equals itself alone.
"""

import abc
import dataclasses
import functools
import inspect
import re
import sys
import types
from collections.abc import Iterable
from enum import Enum
from typing import Any

import numpy as np

__all__ = ["Shown", "without_name"]

_ADDRESS = re.compile(" at 0x[0-9a-fA-F]+")
_NONE = inspect.Parameter.empty


class Shown(abc.ABC):
    """A value that prints as its class, with its options by name."""

    @abc.abstractmethod
    def _shown(self) -> list[tuple[str, Any]]:
        """The options that are shown."""

    def __repr__(self) -> str:
        return _named(self, [])


def without_name(options: Shown) -> list[str]:
    """The functions and objects among the options that no name tells from others."""
    found: list[Any] = []
    _named(options, found)
    return [_named(value, []) for value in found]


def _named(value: Any, nameless: list[Any]) -> str:
    """A repr that is the same in every process: functions by name, and no address.

    Args:
      value: Options, or one of them.
      nameless: Takes what may have the same repr as something else.
    """
    if isinstance(value, Shown):
        return f"{type(value).__name__}({', '.join(_each(value._shown(), nameless))})"
    if type(value) is tuple:
        inner = [_named(x, nameless) for x in value]
        return f"({', '.join(inner)}{',' * (len(inner) == 1)})"
    if isinstance(value, functools.partial):
        shown = [_named(x, nameless) for x in (value.func, *value.args)]
        shown += _each(sorted(value.keywords.items()), nameless)
        return f"functools.partial({', '.join(shown)})"
    if isinstance(value, types.MethodType):
        return f"{_path(value)} of {_named(value.__self__, nameless)}"
    if callable(value) and hasattr(value, "__qualname__"):
        return _function(value, nameless)
    return _object(value, nameless)


def _each(options: Iterable[tuple[str, Any]], nameless: list[Any]) -> list[str]:
    return [f"{name}={_named(value, nameless)}" for name, value in options]


def _object(value: Any, nameless: list[Any]) -> str:
    """A dataclass by its fields; anything else by its repr, if it equals by value."""
    kind, by_identity = type(value), vars(object)["__eq__"]
    if _is_plain(value) or isinstance(value, Enum):
        return repr(value)
    told = kind.__eq__ is not by_identity and "<locals>" not in kind.__qualname__
    if told and dataclasses.is_dataclass(value):
        fields = [f.name for f in dataclasses.fields(value) if f.compare]
        shown = _each([(name, getattr(value, name)) for name in fields], nameless)
        return f"{_path(kind)}({', '.join(shown)})"
    text = repr(value)
    if not told or _ADDRESS.search(text) or hasattr(value, "__array__"):
        nameless.append(value)
    return _ADDRESS.sub("", text)


def _function(value: Any, nameless: list[Any]) -> str:
    """A function by its path and, where another one makes it, by what it captures."""
    captured = _captured(value)
    plain = all(map(_is_plain, captured.values()))
    if not (_is_found(value) or (plain and _is_written(value))):
        nameless.append(value)
    if not captured:
        return _path(value)
    shown = _each(captured.items(), []) if plain else captured
    return f"{_path(value)}({', '.join(shown)})"


def _captured(function: Any) -> dict[str, Any]:
    """What is in a function, made in another one, apart from its code."""
    if type(function) is not types.FunctionType or "<locals>" not in _path(function):
        return {}
    cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
    captured = {name: _content(cell) for name, cell in cells}
    parameters = inspect.signature(function, follow_wrapped=False).parameters
    defaults = {name: x.default for name, x in parameters.items()}
    return captured | {k: x for k, x in defaults.items() if x is not _NONE}


def _content(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # it has none yet
        return cell


def _is_plain(value: Any) -> bool:
    """Whether it is a number, a string, what a module has, or a tuple of these."""
    if type(value) is tuple:
        return all(map(_is_plain, value))
    known = int | float | complex | str | bytes | np.dtype | None
    return isinstance(value, known) or _is_found(value)


def _is_written(function: Any) -> bool:
    """Whether its name is that of a def, and not what a decorator copied."""
    if type(function) is not types.FunctionType:
        return False
    name = function.__qualname__
    return name == function.__code__.co_qualname and not name.endswith("<lambda>")


def _is_found(value: Any) -> bool:
    """Whether it is what its module has under its name, which is how pickle tells."""
    place: Any = sys.modules.get(getattr(value, "__module__", None) or "")
    for name in getattr(value, "__qualname__", "").split("."):
        place = getattr(place, name, None)
    return place is not None and place is value


def _path(value: Any) -> str:
    return f"{getattr(value, '__module__', None)}.{value.__qualname__}"
