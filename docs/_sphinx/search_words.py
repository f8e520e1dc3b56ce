"""What newcomers type, and where it leads: entries of the index, which the search lists before other hits.

Pages have one word for a thing, and other libraries have others. `search_words.txt` has a place, then the words that
should find it; each term of the glossary finds the glossary too. `_static/search_order.js` ranks the other hits.
"""

from collections.abc import Iterator
from pathlib import Path

from docutils import nodes
from sphinx.addnodes import index
from sphinx.application import Sphinx
from sphinx.errors import SphinxError
from sphinx.transforms import SphinxTransform

WORDS = Path(__file__).with_suffix(".txt")


def places() -> Iterator[tuple[str, str, list[str]]]:
    """Each page, section ("" for all of the page) and its words."""
    for line in WORDS.read_text("utf-8").splitlines():
        place, _, words = line.partition(": ")
        if words and not line.startswith("#"):
            page, _, section = place.partition("#")
            yield page, section, words.split(", ")


class SearchWords(SphinxTransform):
    """Adds the entries of a page, before Sphinx collects the index."""

    default_priority = 500

    def apply(self, **options: object) -> None:
        """Called by Sphinx for each page."""
        page = self.env.docname
        self.env.note_dependency(str(WORDS))
        sections = {name: one for one in self.document.findall(nodes.section) for name in one["ids"]}
        for _, anchor, words in (one for one in places() if one[0] == page):
            if anchor and anchor not in sections:
                raise SphinxError(f"{WORDS.name}: the page {page} has no section #{anchor}")
            _add(sections[anchor] if anchor else next(iter(sections.values())), anchor, words)
        if page == "glossary":
            for row in list(self.document.findall(nodes.row)):
                term = row[0].astext()
                if term == "Term":
                    continue
                row["ids"].append(anchor := nodes.make_id(f"term-{term}"))
                _add(next(iter(sections.values())), anchor, term.split(", "))


def _add(section: nodes.section, anchor: str, words: list[str]) -> None:
    entries = [("single", word, anchor, "main", None) for word in words]
    section.insert(1, index(entries=entries, inline=False))


def setup(app: Sphinx) -> dict[str, bool]:
    """Read by Sphinx."""
    app.add_transform(SearchWords)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
