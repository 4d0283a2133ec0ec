"""The examples run from the command line and print what they promise."""

import importlib
import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = ROOT / "examples"
PNG = b"\x89PNG\r\n\x1a\n"


def run(script, *options):
    """Runs an example as a user does and returns what it printed, by stream."""
    # The examples set the devices that they simulate; the tests' must not reach them.
    environment = {
        name: value
        for name, value in os.environ.items()
        if name not in ("XLA_FLAGS", "NPROC", "JAX_PLATFORMS")
    }
    environment["PYTHONPATH"] = str(ROOT)
    done = subprocess.run(
        [sys.executable, "-W", "error::RuntimeWarning", EXAMPLES / script, *options],
        capture_output=True,
        text=True,
        env=environment,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout, done.stderr


def test_every_example_is_run_by_a_test():
    """A script in examples/ that no test below names would go stale unseen."""
    scripts = {path.name for path in EXAMPLES.glob("[!_]*.py")}
    assert scripts == set(re.findall(r'run\("(\w+\.py)"', Path(__file__).read_text()))


def test_training_with_flax_agrees_with_scikit_learn(tmp_path):
    """One epoch: a table, a progress bar, no difference above 1e-6, and a picture."""
    out, err = run("train_flax.py", "--epochs", "1", "--output", str(tmp_path))
    assert "epoch 1" in err  # the progress bar
    assert "All agree: counts exactly, the rest to 1e-6." in out
    rows = re.findall(r"^(\w+(?:/\w+)*) .*?(\d\.\de[+-]\d\d)$", out, re.MULTILINE)
    differences = {name: float(shown) for name, shown in rows}
    assert len(differences) == 21
    counts = ("positives", "negatives")
    for name, difference in differences.items():
        assert difference <= (0 if name.endswith(counts) else 1e-6), name
    (picture,) = re.findall(r"^Curves: (.*)$", out, re.MULTILINE)
    assert Path(picture).parent == tmp_path
    assert Path(picture).read_bytes().startswith(PNG)


def test_training_with_flax_fails_where_scikit_learn_differs(monkeypatch, capsys):
    """The comparison has teeth: one count that is off by one is a failure."""
    monkeypatch.syspath_prepend(str(EXAMPLES))
    digits = importlib.import_module("_digits")
    monkeypatch.setattr(digits, "recomputed", lambda *_: {"a": 3, "b": 0.5})
    for area in ("roc_auc_score", "pr_area"):
        home = digits.sk if area == "roc_auc_score" else digits
        monkeypatch.setattr(home, area, lambda *_: 0.5)
    rows, predicted = {"is_eight": []}, {"eight_score": []}
    results = {"a": 3, "b": 0.5, "eight/auc": 0.5, "eight/pr_auc": 0.5}
    assert digits.compare(results, rows, predicted) == 0
    assert digits.compare({**results, "a": 2}, rows, predicted) == 1
    assert digits.compare({**results, "b": 0.500002}, rows, predicted) == 1
    assert digits.compare({**results, "b": float("nan")}, rows, predicted) == 1
    assert "1 differ." in capsys.readouterr().out


def test_sharded_evaluation_prints_what_its_docstring_shows():
    """Four ways to evaluate end in the same state, bit for bit."""
    out, _ = run("sharded_evaluation.py")
    source = (EXAMPLES / "sharded_evaluation.py").read_text()
    shown = re.findall(r"^    (.* True)$", source, re.MULTILINE)
    assert len(shown) == 4
    assert out.splitlines() == shown


def test_rare_events_print_what_they_promise():
    """The binned area is far off; the fine one is not, and knows its bound."""
    out, _ = run("rare_events.py")
    lines = [line.strip() for line in out.strip().splitlines()]
    promised = (EXAMPLES / "rare_events.py").read_text().split('"""')[1]
    assert len(lines) == 7
    for line in lines:
        assert line in promised
    exact, binned, fine = (float(line[30:36]) for line in lines[:3])
    assert abs(binned - exact) > 0.04
    assert abs(fine - exact) < 0.0001


def test_offline_slices_prints_every_country_and_all():
    """Four jobs of one batch each; the smallest country has the widest interval."""
    lines = run("offline_slices.py", "1")[0].splitlines()
    assert re.fullmatch(r"4 jobs of 125000 rows, \d+ kB each", lines[0])
    widths = {}
    for line in lines[2:7]:
        country, recall, low, _, high, area = line.split()
        assert float(low) <= float(recall) <= float(high)
        assert 0.5 < float(area) < 1
        widths[country] = float(high) - float(low)
    assert max(widths, key=widths.get) == "EG"
    assert lines[7].split() == ["all", *lines[7].split()[1:]]
    assert lines[8].startswith("recall's gap between countries: 0.")
