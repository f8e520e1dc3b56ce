"""Numbers of another process, or of a file, are not compared bit for bit: another processor rounds them otherwise."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.paths import ROOT

TESTS = sorted((ROOT / "tests").rglob("test_*.py"))
# What a test takes results from that were not computed in its own process.
ELSEWHERE = {"FILES", "golden", "subprocess", "Popen", "Parallel", "Worker"}
EXACT = {"array_equal", "assert_array_equal", "equal"}
# Behind such a comparison, why the bits must be the same: the numbers were copied, or no linear algebra is in them.
REASON = re.compile(r"# same bits: \w")


def unexplained(source: str) -> Iterator[str]:
    """Each line that compares bit for bit, without a reason, in a function that takes results from elsewhere."""
    lines = source.splitlines()
    for function in ast.walk(ast.parse(source)):
        if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if not {*names(function), *(argument.arg for argument in function.args.args)} & ELSEWHERE:
            continue
        for statement in ast.walk(function):
            if not isinstance(statement, ast.Assert | ast.Expr) or not EXACT & {*names(statement)}:
                continue
            if not any(REASON.search(line) for line in lines[statement.lineno - 2 : statement.end_lineno]):
                yield lines[statement.lineno - 1].strip()


def names(node: ast.AST) -> Iterator[str]:
    for inner in ast.walk(node):
        if isinstance(inner, ast.Name):
            yield inner.id
        elif isinstance(inner, ast.Attribute):
            yield inner.attr


@pytest.mark.extended
def test_results_from_elsewhere_are_compared_with_a_tolerance_or_a_reason():
    found = {path.name: list(unexplained(path.read_text("utf-8"))) for path in TESTS if path != Path(__file__)}
    assert {name: lines for name, lines in found.items() if lines} == {}


def test_a_comparison_without_a_reason_is_found():
    written = "def test_it():\n    done = subprocess.run(command)\n    {}assert np.array_equal(read(done), y)\n"
    assert list(unexplained(written.format(""))) == ["assert np.array_equal(read(done), y)"]
    assert list(unexplained(written.format("# same bits: copied\n    "))) == []
    assert list(unexplained(written.replace("subprocess.run(command)", "2").format(""))) == []
