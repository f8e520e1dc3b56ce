"""The texts of all errors and warnings, as the sources write them, in one file to read.

python -m tests.support.error_texts     after a change of them: writes the file, whose difference shows what users see
"""

import ast
from collections.abc import Iterator
from pathlib import Path

from tests.support.paths import ROOT, TESTS

FILE = TESTS / "packaging" / "error_texts.txt"
FOLDERS = ("kanserve", "exporters/kanserve_exporters")
VALUE = "…"  # what a value is shown as


def lines() -> list[str]:
    """For each text its package, the error or warning, and the text; each once."""
    sources = (path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py") if "_pb2" not in path.name)
    return sorted({f"{_package(path)}: {text}" for path in sources for text in texts(path.read_text("utf-8"))})


def texts(source: str) -> Iterator[str]:
    """What a source raises or warns of, as "InputError: The text"."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call) or not node.args or (template := _template(node.args[0])) is None:
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if name.endswith(("Error", "Warning")):
            yield f"{name}: {template}"
        elif name == "warn" and len(node.args) > 1 and isinstance(node.args[1], ast.Name):
            yield f"{node.args[1].id}: {template}"


def _template(node: ast.expr) -> str | None:
    """The text of an expression with VALUE for what is filled in; None if it has no text of its own."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value.replace("\n", " ")
    if isinstance(node, ast.JoinedStr):
        return "".join(_template(part) or VALUE for part in node.values)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        left, right = _template(node.left), _template(node.right)
        return None if left is None and right is None else f"{left or VALUE}{right or VALUE}"
    return None


def _package(path: Path) -> str:
    parts = path.relative_to(ROOT).parts
    return parts[1] if parts[0] == "kanserve" else "exporters"


if __name__ == "__main__":
    FILE.write_text("\n".join(lines()) + "\n", "utf-8")
    print(f"{FILE.relative_to(ROOT)}: {len(lines())} texts")
