"""Builds the wheel, installs it away from the checkout, and runs its doctests there.

What it proves: the wheel holds every file of the package and nothing else, importing it
needs no extra, and its doctests pass where the checkout cannot be seen. Arguments are
handed to pytest:

    python tests/check_installed.py -n 2
"""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import venv
import zipfile
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[1]
PYTEST = (
    *("-I", "-m", "pytest", "-p", "no:cacheprovider"),
    *("--pyargs", "--doctest-modules", "jaxmetrics"),
)

# Runs in the new environment: says where the package comes from and what it imports.
PROBE = """
import json, sys
import jaxmetrics
loaded = {name.partition(".")[0] for name in sys.modules}
from importlib import metadata
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name as canonical

requirements = [Requirement(r) for r in metadata.requires("jaxmetrics")]
needed = {canonical(r.name) for r in requirements if not r.marker}
extra = {canonical(r.name) for r in requirements if r.marker} - needed
owners = metadata.packages_distributions()
print(json.dumps({
    "file": jaxmetrics.__file__,
    "path": sys.path,
    "extras": sorted(n for n in loaded if extra & {*map(canonical, owners.get(n, ()))}),
}))
"""


def run(*command: object, cwd: Path) -> str:
    """Runs a command, ends the script if it fails, and returns what it printed."""
    words = [str(word) for word in command]
    done = subprocess.run(words, cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{done.stdout}{done.stderr}\nfailed: {' '.join(words)}")
    return done.stdout


def build_wheel(folder: Path) -> Path:
    """Returns the wheel of the checkout, built in the folder with what is installed."""
    run(
        *(sys.executable, "-m", "build", "--wheel", "--no-isolation"),
        *("--outdir", folder, CHECKOUT),
        cwd=folder,
    )
    (wheel,) = folder.glob("*.whl")
    return wheel


def check_contents(wheel: Path) -> None:
    """Compares the wheel's files with those of the package in the checkout."""
    with zipfile.ZipFile(wheel) as archive:
        packed = set(archive.namelist())
    package = {
        str(path.relative_to(CHECKOUT))
        for path in (CHECKOUT / "jaxmetrics").rglob("*")
        if path.suffix == ".py" or path.name == "py.typed"
    }
    outside = {name for name in packed if ".dist-info/" not in name}
    if outside != package:
        sys.exit(f"wheel and checkout differ in {sorted(outside ^ package)}")
    if not any(name.endswith("/LICENSE") for name in packed):
        sys.exit("the wheel has no LICENSE")


def install(wheel: Path, folder: Path) -> Path:
    """Returns the Python of a new environment: the wheel, all else borrowed.

    The borrowed folder's own .pth files, which point to the checkout, are not read.
    """
    venv.create(folder, symlinks=True)
    python = folder / "bin" / "python"
    site = Path(
        sysconfig.get_path("purelib", "venv", {"base": folder, "platbase": folder})
    )
    run(
        *(sys.executable, "-m", "pip", "--python", python, "install", "-qq"),
        *("--disable-pip-version-check", "--no-index", "--no-deps", wheel),
        cwd=folder,
    )
    (site / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return python


def check_origin(python: Path, folder: Path) -> None:
    """Asserts that the package is the wheel's, unseen checkout, no extra imported."""
    found = json.loads(run(python, "-I", "-c", PROBE, cwd=folder))
    if not Path(found["file"]).is_relative_to(python.parents[1]):
        sys.exit(f"jaxmetrics was imported from {found['file']}, not from the wheel")
    if str(CHECKOUT) in found["path"]:
        sys.exit(f"the checkout {CHECKOUT} is on the path of the installed package")
    if found["extras"]:
        sys.exit(f"importing jaxmetrics imports {found['extras']}, which is optional")


def main() -> int:
    """Runs the steps in a temporary folder and returns pytest's exit status."""
    with tempfile.TemporaryDirectory(prefix="jaxmetrics-") as name:
        folder = Path(name).resolve()
        wheel = build_wheel(folder)
        check_contents(wheel)
        python = install(wheel, folder / "venv")
        check_origin(python, folder)
        print(f"doctests of {wheel.name}, installed", flush=True)
        elsewhere = folder / "elsewhere"
        elsewhere.mkdir()
        shutil.copy(CHECKOUT / "pyproject.toml", elsewhere)  # pytest's options
        environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
        return subprocess.run(
            [str(python), *PYTEST, *sys.argv[1:]],
            check=False,
            cwd=elsewhere,
            env=environment,
        ).returncode


if __name__ == "__main__":
    sys.exit(main())
