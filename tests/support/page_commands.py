"""The code and the shell lines of the pages, for the test that each of them is run or is an exception with a reason."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from tests.support.paths import DOCS, ROOT

OTHERS = ("README.md", "CONTRIBUTING.md", "deploy/README.md", "benchmarks/README.md", "examples/README.md")
PAGES = [*(ROOT / name for name in OTHERS), *sorted(page for page in DOCS.rglob("*.md") if "_build" not in page.parts)]
FENCED = re.compile(r"^```(python|sh)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# A line that a shell would run: indented by four spaces, begun by a program.
PROGRAMS = (
    r"kanserve|\S*pip|make|python|npm|docker|kubectl|systemctl|openssl|mlflow|cc|gcc|cmake|curl|install|mkdir|cd|cp"
)
SHELL = re.compile(rf"^    (?:\$ )?((?:{PROGRAMS}) [^\n]+)$", re.MULTILINE)


@dataclass(frozen=True)
class Command:
    """A block of Python or of shell lines, or one shell line, on a page."""

    page: str
    language: str
    text: str

    @property
    def words(self) -> str:
        """The line without its comment."""
        return re.sub(r"\s+#.*$", "", self.text).strip()


def commands() -> Iterator[Command]:
    """Every block and every line, in the order of the pages."""
    for path in PAGES:
        page, text = path.relative_to(ROOT).as_posix(), path.read_text("utf-8")
        for language, block in FENCED.findall(text):
            yield Command(page, language, block)
        unfenced = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
        for line in SHELL.findall(unfenced):
            yield Command(page, "line", line)
