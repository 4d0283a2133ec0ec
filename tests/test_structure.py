"""The shape of the package: floors, sizes of rooms, one door."""

import ast
import importlib.util
import sys
from inspect import ismodule
from pathlib import Path

import pytest

import jaxmetrics as jm

ROOT = Path(jm.__file__).parent
MODULES = [str(path.relative_to(ROOT)) for path in ROOT.rglob("*.py")]
# A room imports from lower floors alone; the contract's room has six parts.
FLOORS = [
    "checks names numerics reduction sorting",
    "codes eager frozen intervals lanes limbs score_cells state thresholds wide",
    "forms poisson ranks totals",
    "sweeps",
    "histogram",
    "groups",
    "binary metric+accumulator+wrapping+renaming+algebra+computed",
    "lockstep slice_ids stacks",
    "by_slice replicates",
    "counts sample scores",
    "grids ratios",
    "aggregation areas auc best_points confusion curves exact"
    " f_scores operating_points",
    "best_so_far bootstrap collection hosts repeating restarts serialization slicing"
    " testing windowing",
    "beam feeding",
    "evaluation",
]
LEVELS = {r: i for i, f in enumerate(FLOORS) for r in f.replace("+", " ").split()}
FAMILIES, COMBINATORS = (9, 10, 11), 12


def rooms_used(path: Path) -> set[str]:
    """The rooms that a module imports from, other than for its types."""
    nodes = list(ast.walk(ast.parse(path.read_text())))
    guarded = [node for node in nodes if isinstance(node, ast.If)]
    typing = {inner for node in guarded for inner in ast.walk(node)}
    imports = [n for n in nodes if isinstance(n, ast.ImportFrom) and n not in typing]
    names = [f"{n.module}.{alias.name}" for n in imports for alias in n.names]
    return {name.split(".")[1] for name in names if name.startswith("jaxmetrics.")}


@pytest.mark.parametrize("module", [m for m in MODULES if m != "__init__.py"])
def test_a_room_imports_from_lower_floors_alone(module: str) -> None:
    """Families do not import each other, and combinators import no family."""
    room = module.split("/")[0].removesuffix(".py")
    pairs = [s.split("+") for floor in FLOORS for s in floor.split()]
    same = next(pair for pair in pairs if room in pair)
    lower = {r for r, level in LEVELS.items() if level < LEVELS[room]}
    if LEVELS[room] >= COMBINATORS:
        lower -= {r for r, level in LEVELS.items() if level in FAMILIES}
    assert rooms_used(ROOT / module) <= lower | set(same)


def test_no_module_is_longer_than_500_lines() -> None:
    """What is longer has two subjects."""
    lines = {m: len((ROOT / m).read_text().splitlines()) for m in MODULES}
    assert {module: n for module, n in lines.items() if n > 500} == {}


def test_the_door_lists_all_that_is_public_sorted_and_under_its_own_name() -> None:
    """Reprs and pickles name the package, and what names it is listed."""
    public = {n for n, x in vars(jm).items() if n[0] != "_" and not ismodule(x)}
    assert list(jm.__all__) == sorted(public)
    assert {getattr(jm, name).__module__ for name in public} == {"jaxmetrics"}


def test_the_room_of_beam_imports_without_beam(monkeypatch: pytest.MonkeyPatch) -> None:
    """Documents and doctests walk all rooms; only using this one needs the extra."""
    monkeypatch.setitem(sys.modules, "apache_beam", None)
    spec = importlib.util.spec_from_file_location("without_beam", ROOT / "beam.py")
    assert spec is not None
    assert spec.loader is not None
    room = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(room)
    with pytest.raises(ImportError, match=r"needs Apache Beam: pip install 'jaxm"):
        room.MetricCombineFn(jm.Mean())
