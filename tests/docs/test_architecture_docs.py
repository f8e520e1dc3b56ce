"""The page about the inside: its stages and files are those of the code."""

import re
from importlib import import_module
from operator import attrgetter

from kanserve.search.findings import decompose
from kanserve.train.stages import STAGES
from tests.support.paths import ROOT

PAGE = (ROOT / "docs" / "project" / "architecture.md").read_text("utf-8")


def test_the_stages_of_a_fit_are_listed_in_their_order():
    section = PAGE.partition("## A table through `fit`")[2].partition("\n## ")[0]
    assert re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE) == [stage.__name__ for stage in STAGES]


def test_each_file_that_is_named_is_there():
    named = re.findall(r"`(kanserve/[\w/.]+)`", PAGE)
    assert named and [path for path in named if not (ROOT / path).is_file()] == []


def test_the_stages_of_a_search_are_listed_in_their_order():
    section = PAGE.partition("## A law through `find_formulas`")[2].partition("\n## ")[0]
    assert re.findall(r"^\| `([\w/ ]+)` \|", section, re.MULTILINE) == [stage.name for stage in decompose.STAGES]


def test_the_stops_of_a_request_are_there_and_only_one_transport_speaks_grpc():
    section = PAGE.partition("## A request through the server")[2].partition("\n## ")[0]
    stops = re.findall(r"^\| `([\w.]+)` \| `(kanserve/[\w/]+)\.py` \|", section, re.MULTILINE)
    assert len(stops) == 8
    for name, path in stops:
        attrgetter(name)(import_module(path.replace("/", ".")))
    speaks = [
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "kanserve" / "serve").rglob("*.py")
        if re.search(r"^\s*(import|from) grpc", path.read_text("utf-8"), re.MULTILINE)
    ]
    contributing = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    assert len(speaks) == 2 and all(f"`{path}`" in contributing for path in speaks)
