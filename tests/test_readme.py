"""The documents' code runs, and prints what they show."""

import contextlib
import io
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\((?!https?:)([^)#]+)")
DOCUMENTS = ["README.md", "docs/metrics.md", "docs/migrating-from-keras.md"]


def blocks(document):
    """Returns (language, text, line) of each fenced block, in order."""
    text = (ROOT / document).read_text()
    return [
        (found[1], found[2], text.count("\n", 0, found.start()) + 2)
        for found in BLOCK.finditer(text)
    ]


def run(document):
    """Yields (line, printed, shown) of each python block, run in one namespace.

    What a block shows is the text block right after it, or nothing.
    """
    namespace = {"__name__": "document"}
    found = blocks(document)
    for (language, code, line), (after, shown, _) in zip(
        found, [*found[1:], ("", "", 0)], strict=True
    ):
        if language != "python":
            continue
        printed = io.StringIO()
        program = compile("\n" * (line - 1) + code, str(ROOT / document), "exec")
        with contextlib.redirect_stdout(printed):
            exec(program, namespace)
        yield line, printed.getvalue(), shown if after == "text" else ""


@pytest.mark.parametrize("document", ["README.md", "docs/migrating-from-keras.md"])
def test_the_documents_code_prints_what_they_show(document):
    """Every python block runs, in order, and its output is the text block after it."""
    ran = list(run(document))
    assert ran
    for line, printed, shown in ran:
        assert printed == shown, f"{document}:{line}"


@pytest.mark.parametrize("document", DOCUMENTS)
def test_the_documents_links_lead_somewhere(document):
    """A relative link names a file of the checkout."""
    home = (ROOT / document).parent
    links = LINK.findall((ROOT / document).read_text())
    missing = [link for link in links if not (home / link).exists()]
    assert not missing


def test_the_readmes_evaluation_has_at_most_ten_lines():
    """An AUC of a data set on all devices, imports included."""
    (code,) = [text for _, text, _ in blocks("README.md") if "jm.evaluate(" in text]
    assert len([line for line in code.splitlines() if line]) <= 10
    assert "import jaxmetrics" in code


def test_the_readmes_own_metric_has_at_most_five_lines():
    """Writing a metric is one formula, weights included."""
    (code,) = [text for _, text, _ in blocks("README.md") if "ConfusionMetric" in text]
    definition = code.partition("print")[0].strip().splitlines()
    assert len(definition) <= 5
