"""The layout of the packages: no file name occurs twice, no file is long, and few names are at the top."""

import subprocess
from collections import Counter
from pathlib import Path

import pytest

from tests.lean import ROOT

LONGEST = 400
GENERATED = ("_pb2.py", "_pb2.pyi", "_pb2_grpc.py", "_pb2_grpc.pyi")
REPEATED = {"__init__.py", "__main__.py", "py.typed", "README.md"}


def files() -> list[Path]:
    """What git tracks of the packages."""
    if not (ROOT / ".git").exists():
        pytest.skip("git says which files the repository has")
    listed = subprocess.run(["git", "ls-files", "kanserve", "exporters"], cwd=ROOT, capture_output=True, text=True)
    return [Path(line) for line in listed.stdout.splitlines() if not line.endswith(GENERATED)]


def test_no_file_name_occurs_twice():
    names = Counter(path.name for path in files())
    assert [name for name, count in names.items() if count > 1 and name not in REPEATED] == []


def test_no_source_file_is_longer_than_400_lines():
    sources = [path for path in files() if path.suffix in (".py", ".c", ".h")]
    lengths = {str(path): len((ROOT / path).read_text("utf-8").splitlines()) for path in sources}
    assert {path: length for path, length in lengths.items() if length > LONGEST} == {}


def test_the_package_has_few_entries_at_its_top():
    entries = {path.parts[1] for path in files() if path.parts[0] == "kanserve"}
    assert len(entries) <= 28, sorted(entries)
