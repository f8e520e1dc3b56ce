"""Pages of the repository in the site, and links that work in both.

The Markdown files link to one another by their paths in the repository, so that they also work where the repository is
shown. A page of the site that has only the line `<!-- the page PATH -->` is that file. Links to files that are pages
lead to the page, links to other files to the repository's address, and a link to a file that is not there is a warning.
"""

import os
import posixpath
import re
import tomllib
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx
from sphinx.util import logging

ROOT = Path(__file__).parents[2]
DOCS = "docs"
WHOLE_FILE = re.compile(r"\A<!-- the page (\S+) -->\s*\Z")
# A block of code (left alone), or the target of a link or picture.
LINK = re.compile(r"^(?P<code>```.*?^```$)|(?<=\]\()(?P<target>[^()\s]+)(?=\))", re.MULTILINE | re.DOTALL)
REPOSITORY = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["urls"]["Repository"]

_log = logging.getLogger(__name__)


def pages(docs: Path) -> dict[str, str]:
    """For each file of the repository that is a page as a whole, the page's name."""
    found = {"README.md": "index"}
    for page in sorted(docs.rglob("*.md")):
        if whole := WHOLE_FILE.match(page.read_text("utf-8")):
            found[whole[1]] = page.relative_to(docs).with_suffix("").as_posix()
    return found


def rewritten(text: str, source: str, docname: str, pages_of: dict[str, str]) -> str:
    """The text of the file `source` (its path in the repository) as it stands on the page `docname`."""
    here = posixpath.dirname(docname)

    def link(match: re.Match[str]) -> str:
        target = match["target"]
        if target is None or re.match(r"[a-z]+:|#", target):
            return match[0]
        path, _, anchor = target.partition("#")
        found = posixpath.normpath(posixpath.join(posixpath.dirname(source), path))
        after = f"#{anchor}" if anchor else ""
        if found in pages_of:
            return posixpath.relpath(pages_of[found] + ".md", here or ".") + after
        if found.startswith(f"{DOCS}/") and not os.path.isdir(ROOT / found):
            return posixpath.relpath(posixpath.relpath(found, DOCS), here or ".") + after
        if not (ROOT / found).exists():
            _log.warning("the link %s leads to no file of the repository", target, location=docname)
        if Path(found).suffix in (".png", ".svg"):
            return posixpath.relpath(posixpath.join("..", found), here or ".")
        return f"{REPOSITORY}/{'tree' if (ROOT / found).is_dir() else 'blob'}/HEAD/{found}{after}"

    return LINK.sub(link, text)


def _read(app: Sphinx, docname: str, content: list[str]) -> None:
    path = Path(app.env.doc2path(docname))
    if path.suffix != ".md":
        return
    source = posixpath.join(DOCS, path.relative_to(app.srcdir).as_posix())
    if whole := WHOLE_FILE.match(content[0]):
        source = whole[1]
        app.env.note_dependency(str(ROOT / source), docname=docname)
        content[0] = (ROOT / source).read_text("utf-8")
    content[0] = rewritten(content[0], source, docname, app.config.repository_page_names)


def _find(app: Sphinx, config: Any) -> None:
    config.repository_page_names = pages(Path(app.srcdir))


def setup(app: Sphinx) -> dict[str, bool]:
    """Read by Sphinx."""
    app.add_config_value("repository_page_names", {}, "", types=(dict,))
    app.connect("config-inited", _find)
    app.connect("source-read", _read)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
