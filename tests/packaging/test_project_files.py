"""What a platform reads of the repository: how to cite it, how to report, and the forms of issues."""

import re

import pytest
import yaml

import kanserve
from tests.support.paths import ROOT

TEMPLATES = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"))


def test_the_citation_is_of_this_version_and_says_what_is_needed():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    assert citation["version"] == kanserve.__version__
    assert {"cff-version", "message", "title", "authors", "license", "type"} <= citation.keys()
    assert citation["cff-version"] == "1.2.0" and citation["license"] == "Apache-2.0"
    for authors in (citation["authors"], *(one["authors"] for one in citation["references"])):
        assert all(set(author) in ({"name"}, {"family-names", "given-names"}) for author in authors)


def test_security_says_how_to_report_and_every_folder_of_tests_that_it_names_is_there():
    text = (ROOT / "SECURITY.md").read_text("utf-8")
    for heading in ("Report a vulnerability", "Which versions get corrections", "What is promised"):
        assert f"## {heading}\n" in text
    for page in ("SECURITY.md", "docs/project/compatibility.md"):
        for path in re.findall(r"`((?:tests|protos)/[\w/.]+)`", (ROOT / page).read_text("utf-8")):
            assert (ROOT / path).exists(), (page, path)


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.stem)
def test_a_form_of_an_issue_asks_for_something(path):
    form = yaml.safe_load(path.read_text("utf-8"))
    if path.stem == "config":
        assert form["contact_links"] and all({"name", "url", "about"} <= one.keys() for one in form["contact_links"])
        return
    assert {"name", "description", "body"} <= form.keys()
    kinds = {"textarea": "label", "input": "label", "checkboxes": "label", "dropdown": "label", "markdown": "value"}
    asked = [one for one in form["body"] if one.get("validations", {}).get("required")]
    assert asked and all(kinds[one["type"]] in one["attributes"] for one in form["body"])
    assert len({one["id"] for one in form["body"]}) == len(form["body"])
