"""The page about the inside: its stages and files are those of the code."""

import re

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
