"""The site for readers that are programs: /llms.txt lists the pages, each of which is there as text too (PAGE.txt), and
/llms-full.txt has all of them."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.writers.text import TextTranslator


class PageText(TextTranslator):
    """A page as text. Nodes of other extensions, as cards and tabs, are what is in them."""

    def unknown_visit(self, node: nodes.Node) -> None:
        """Go on with what is in the node."""

    def unknown_departure(self, node: nodes.Node) -> None:
        """Nothing comes after it."""


def in_order(environment: BuildEnvironment, docname: str) -> Iterator[str]:
    """A page and all pages below it, as the sidebar has them."""
    yield docname
    for below in environment.toctree_includes.get(docname, ()):
        yield from in_order(environment, below)


def first_sentence(document: nodes.document) -> str:
    """What the first paragraph of a page says first."""
    for paragraph in document.findall(nodes.paragraph):
        text = " ".join(paragraph.astext().split())
        if text and isinstance(paragraph.parent, nodes.section | nodes.container):
            return text.partition(". ")[0].rstrip(".:") + "."
    return ""


def _write(app: Sphinx, exception: Exception | None) -> None:
    if exception is not None or app.builder.format != "html":
        return
    listed, whole = [f"# {app.config.project}", "", f"> {app.config.llms_summary}", "", "## Pages", ""], []
    for docname in dict.fromkeys(in_order(app.env, app.config.root_doc)):
        document = app.env.get_doctree(docname)
        for comment in list(document.findall(nodes.comment)):
            comment.parent.remove(comment)
        builder: Any = app.builder  # of another kind than a writer of text expects, which reads its configuration only
        translator = PageText(document, builder)
        document.walkabout(translator)
        page = Path(app.outdir, f"{docname}.txt")
        page.parent.mkdir(parents=True, exist_ok=True)
        page.write_text(translator.body, "utf-8")
        whole.append(translator.body)
        listed.append(f"- [{app.env.titles[docname].astext()}]({docname}.txt): {first_sentence(document)}")
    Path(app.outdir, "llms.txt").write_text("\n".join(listed) + "\n", "utf-8")
    Path(app.outdir, "llms-full.txt").write_text("\n\n".join(whole), "utf-8")


def setup(app: Sphinx) -> dict[str, bool]:
    """Read by Sphinx."""
    app.add_config_value("llms_summary", "", "html", types=(str,))
    app.connect("build-finished", _write)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
