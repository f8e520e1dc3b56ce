"""The glossary: each term is about something that is there."""

import re

from tests.support.paths import ROOT

ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in (ROOT / "docs" / "glossary.md").read_text("utf-8").splitlines()
    if line.startswith("| ") and not line.startswith("| Term")
]


def test_every_term_has_one_line_and_a_place_that_exists():
    assert len(ROWS) >= 40
    for term, meaning, where in ROWS:
        assert term and meaning.endswith(".")
        path = re.fullmatch(r"`([^`]+)`", where)
        assert path and (ROOT / path[1]).exists(), term


def test_terms_are_in_alphabetical_order_and_none_is_there_twice():
    terms = [row[0].lower() for row in ROWS]
    assert terms == sorted(set(terms), key=lambda term: term.replace("->", ""))
