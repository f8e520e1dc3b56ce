"""Words of code that begin with a hyphen, such as --check: pages keep each on one line."""

import re

from sphinx.application import Sphinx

FLAG = re.compile(r'<span class="pre">(?=-[^<]{1,28}</span>)')


def _mark(app: Sphinx, page: str, template: str, context: dict[str, str], doctree: object) -> None:
    if "body" in context:
        context["body"] = FLAG.sub('<span class="pre kan-flag">', context["body"])


def setup(app: Sphinx) -> dict[str, bool]:
    """Read by Sphinx."""
    app.connect("html-page-context", _mark)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
