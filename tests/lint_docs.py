"""Fails where something public is undocumented: `python tests/lint_docs.py`.

Every name in `jaxmetrics.__all__` has a docstring and a place in the documents, and so
has every public method, if only by inheritance. A metric's docstring also has an
example that the doctests run, and says what the value is where it is undefined.
"""

import doctest
import importlib
import inspect
import pkgutil
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import jaxmetrics

DOCUMENT = Path(__file__).resolve().parents[1] / "docs" / "metrics.md"
# The base of everything that counts as a metric.
METRIC = "Metric"
# Metrics whose docstring needs no example or no word on the undefined, and why not.
NO_EXAMPLE: dict[str, str] = {}
NEVER_UNDEFINED: dict[str, str] = {}
UNDEFINED = re.compile(r"undefined|zero_division|\bNaN\b|\bempty\b|\bnothing\b|0/0")


def modules() -> Iterator[object]:
    """Yields the package and every module in it."""
    yield jaxmetrics
    for module in pkgutil.walk_packages(jaxmetrics.__path__, "jaxmetrics."):
        yield importlib.import_module(module.name)


def run_examples() -> set[str]:
    """Returns the names whose docstring examples the doctest runner finds."""
    finder = doctest.DocTestFinder()
    tests = (test for module in modules() for test in finder.find(module))
    return {test.name.rpartition(".")[2] for test in tests if test.examples}


def own_docstring(value: object) -> str:
    """Returns the docstring that was written for the value, or an empty string."""
    docstring = getattr(value, "__doc__", None) or ""
    if inspect.isclass(value):
        inherited = any(docstring == base.__doc__ for base in value.__mro__[1:])
        # A dataclass without a docstring is given its signature.
        generated = docstring.startswith(f"{value.__name__}(")
        docstring = "" if inherited or generated else docstring
    return docstring


def is_final_metric(value: object) -> bool:
    """Says whether the value is a metric that can be made: abstract or final."""
    base = getattr(jaxmetrics, METRIC)
    return (
        inspect.isclass(value)
        and issubclass(value, base)
        and not inspect.isabstract(value)
        and not value.__subclasses__()
    )


def undocumented_methods(value: type) -> Iterator[str]:
    """Yields the class's public methods and properties that no base documents."""
    for name in sorted({name for base in value.__mro__ for name in vars(base)}):
        homes = [base for base in value.__mro__ if name in vars(base)]
        if name.startswith("_") or not homes[0].__module__.startswith("jaxmetrics"):
            continue
        found = inspect.getattr_static(value, name)
        method = isinstance(found, property) or inspect.isroutine(found)
        if method and not any(vars(base)[name].__doc__ for base in homes):
            yield name


def complaints() -> Iterator[str]:
    """Yields one sentence for each thing that is missing."""
    if not DOCUMENT.exists():
        yield f"{DOCUMENT.name} is missing"
    document = DOCUMENT.read_text() if DOCUMENT.exists() else ""
    examples = run_examples()
    for name in jaxmetrics.__all__:
        value = getattr(jaxmetrics, name)
        docstring = own_docstring(value)
        if document and not re.search(rf"\b{name}\b", document):
            yield f"{name} is not in {DOCUMENT.name}"
        if inspect.isclass(value):
            for method in undocumented_methods(value):
                yield f"{name}.{method} has no docstring"
        if (inspect.isclass(value) or inspect.isroutine(value)) and not docstring:
            yield f"{name} has no docstring"
        elif is_final_metric(value):
            # An alias is one object: doctest finds it under one of its names.
            names = {n for n, x in vars(jaxmetrics).items() if x is value}
            if name not in NO_EXAMPLE and not names & examples:
                yield f"{name} has no example (>>>) that the doctests run"
            if name not in NEVER_UNDEFINED and not UNDEFINED.search(docstring):
                yield f"{name} does not say what it is where it is undefined"


def main() -> int:
    """Prints the complaints and returns 1 if there are any."""
    found = list(complaints())
    print(*found, sep="\n", end="\n" if found else "")
    print(f"documents: {len(jaxmetrics.__all__)} public names, {len(found)} complaints")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
