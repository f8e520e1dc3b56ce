"""The reference of the site: every public name is in it, with its sections, and every command and setting."""

import importlib
import inspect
import re
from pathlib import Path

import pytest

import kanserve
from tests.support.paths import DOCS

PAGES = {page.stem: page.read_text("utf-8") for page in sorted((DOCS / "reference" / "api").glob("*.rst"))}
ENTRIES = [
    name for page in PAGES.values() for name in re.findall(r"^\.\. auto\w+:: (kanserve\.\S+)$", page, re.MULTILINE)
]
PUBLIC = (
    "analysis",
    "artifact",
    "batch",
    "client",
    "editing",
    "estimator",
    "formula",
    "nn",
    "pde",
    "plot",
    "search",
    "simplification",
    "train",
)
# Not for callers, or no more than a type of arguments.
INTERNAL = {
    "kanserve.artifact.assemble",
    "kanserve.artifact.read",
    "kanserve.artifact.write",
    "kanserve.editing.KINDS",
    "kanserve.editing.Step",
    "kanserve.simplification.SimplifyReport",
}


def found(name: str) -> object:
    """What a dotted name of the reference is."""
    module, _, last = name.rpartition(".")
    return getattr(importlib.import_module(module), last)


def test_every_public_name_of_kanserve_has_an_entry():
    assert sorted({f"kanserve.{name}" for name in kanserve.__all__} - set(ENTRIES)) == []


def test_every_public_name_of_its_packages_has_an_entry():
    entries = {id(found(name)) for name in ENTRIES}
    missing = [
        f"kanserve.{package}.{name}"
        for package in PUBLIC
        for name in importlib.import_module(f"kanserve.{package}").__all__
        if id(found(f"kanserve.{package}.{name}")) not in entries
    ]
    assert sorted(set(missing) - INTERNAL) == []


def test_no_name_has_two_entries_and_each_is_in_the_list_of_its_page():
    assert len(ENTRIES) == len(set(ENTRIES))
    for page, text in PAGES.items():
        listed = re.findall(r"^   (kanserve\.\S+)$", text, re.MULTILINE)
        assert listed == re.findall(r"^\.\. auto(?!summary)\w+:: (\S+)$", text, re.MULTILINE), page


@pytest.mark.parametrize("name", ENTRIES)
def test_each_entry_says_what_it_is(name):
    text = inspect.getdoc(found(name)) or ""
    assert len(text) > 15 and not text.startswith(f"{name.rpartition('.')[2]}("), name


def test_every_page_of_the_site_is_in_a_table_of_contents():
    contents: set[Path] = set()
    for page in [*DOCS.rglob("*.md"), *DOCS.rglob("*.rst")]:
        text = page.read_text("utf-8")
        for block in re.findall(r"```\{toctree\}\n(.*?)```|\.\. toctree::\n((?:   .*\n|\n)+)", text, re.DOTALL):
            for line in "".join(block).splitlines():
                if line.strip() and not line.strip().startswith(":"):
                    for suffix in (".md", ".rst"):
                        contents.update(page.parent.glob(line.strip() + suffix))
    pages = {page.resolve() for page in contents}
    every = {page for end in ("md", "rst") for page in DOCS.rglob(f"*.{end}") if "_build" not in page.parts}
    assert sorted(str(page.relative_to(DOCS)) for page in every - pages) == ["index.md"]
