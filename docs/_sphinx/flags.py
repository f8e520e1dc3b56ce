"""Where words of code may break: options such as --check nowhere, long names and calls after a dot or a bracket."""

import re

from sphinx.application import Sphinx

WORD = re.compile(r'<span class="pre">([^<]+)</span>')


def _broken(match: re.Match[str]) -> str:
    word = match[1]
    if re.match(r"-.{1,28}$", word):
        return f'<span class="pre kan-flag">{word}</span>'
    if len(word) > 14:
        word = re.sub(r"(?<=\w[.(=/,\[])(?=\w|&quot;)|(?<=\w_)(?=\w)", "<wbr>", word)
    return f'<span class="pre">{word}</span>'


def _mark(app: Sphinx, page: str, template: str, context: dict[str, str], doctree: object) -> None:
    if "body" in context:
        context["body"] = WORD.sub(_broken, context["body"])


def setup(app: Sphinx) -> dict[str, bool]:
    """Read by Sphinx."""
    app.connect("html-page-context", _mark)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
