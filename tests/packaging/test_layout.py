"""The layout of packages and tests: where things are, that no file is long, that no fixture is made twice."""

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.paths import ROOT, TESTS

LONGEST = 600  # a file has one subject, and as many lines as that takes
SOURCES = ("kanserve", "exporters", "tests", "benchmarks", "examples")
GENERATED = ("_pb2.py", "_pb2.pyi", "_pb2_grpc.py", "_pb2_grpc.pyi")


def files(*folders: str) -> list[Path]:
    """What git tracks there; without folders, of the packages."""
    folders = folders or ("kanserve", "exporters")
    if not (ROOT / ".git").exists():
        pytest.skip("git says which files the repository has")
    listed = subprocess.run(["git", "ls-files", *folders], cwd=ROOT, capture_output=True, text=True)
    return [Path(line) for line in listed.stdout.splitlines() if not line.endswith(GENERATED)]


def test_no_source_file_is_longer_than_600_lines():
    sources = [
        path
        for path in files("kanserve", "exporters", "tests", "benchmarks", "examples")
        if path.suffix in (".py", ".c", ".h")
    ]
    lengths = {str(path): len((ROOT / path).read_text("utf-8").splitlines()) for path in sources}
    assert {path: length for path, length in lengths.items() if length > LONGEST} == {}


def test_the_package_has_few_entries_at_its_top():
    entries = {path.parts[1] for path in files() if path.parts[0] == "kanserve"} - {"py.typed"}  # which holds nothing
    assert len(entries) <= 30, sorted(entries)


def modules() -> Iterator[tuple[str, ast.Module]]:
    """The modules of tests, by their path within tests/."""
    for path in sorted(TESTS.rglob("test_*.py")):
        yield path.relative_to(TESTS).as_posix(), ast.parse(path.read_text("utf-8"))


@pytest.mark.extended
def test_no_test_module_imports_another():
    imported = {
        path: node.module
        for path, tree in modules()
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module
        if re.match(r"tests\.(?!support|soak|peers|checkpoints)", node.module) or ".test_" in node.module
    }
    assert imported == {}


@pytest.mark.extended
def test_what_judges_by_a_clock_or_by_memory_is_in_performance_and_nothing_else_is():
    def timed(function: ast.FunctionDef) -> bool:
        return any("mark.timing" in ast.unparse(decorator) for decorator in function.decorator_list)

    for path, tree in modules():
        tests = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")]
        assert tests, path
        for test in tests:
            assert timed(test) is path.startswith("performance/"), f"{path}::{test.name}"


@pytest.mark.extended
def test_the_fixtures_that_many_share_are_made_once():
    made = [
        f"{path}: {node.name}"
        for path, tree in modules()
        for node in tree.body
        if isinstance(node, ast.FunctionDef) and node.name in {"server", "stub", "client", "kanserve", "slow", "store"}
        if any("fixture" in ast.unparse(decorator) for decorator in node.decorator_list)
    ]
    assert made == []
