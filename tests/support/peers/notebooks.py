"""The tutorials of the site, as tests run them: the cells of a notebook that is written as Markdown."""

import re
from pathlib import Path

from tests.support.paths import DOCS

NOTEBOOKS = sorted(page for page in DOCS.rglob("*.md") if "```{code-cell}" in page.read_text("utf-8"))


def cells(page: Path) -> list[str]:
    """The code of each cell, without its options."""
    found = re.findall(r"^```\{code-cell\}[^\n]*\n(.*?)^```$", page.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    return [re.sub(r"\A(?::[^\n]*\n)+", "", cell) for cell in found]
