"""What may only fall: functions with many branches, rules by a number, and lines of code. `make check` prints it.

    python -m tests.support.ratchets

A rule is a comparison of sizes with a number other than 0 and 1, with a constant, or with a field of settings or
limits. Blank lines, comments and docstrings are no code.
"""

import ast
import io
import re
import subprocess
import sys
import tokenize
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from tests.support.paths import ROOT

BRANCHES = 15  # a function with a higher cyclomatic complexity, as radon counts it, is one of the branching ones
NO_CODE = (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER)
SIZES = (ast.Lt, ast.LtE, ast.Gt, ast.GtE)
CONSTANT = re.compile(r"_?[A-Z][A-Z0-9_]+")
SETTINGS = re.compile(r"settings|limits", re.IGNORECASE)


@dataclass(frozen=True)
class Room:
    """The code lines, docstring lines, rules, files and branching functions of a package of kanserve."""

    code: int = 0
    docstrings: int = 0
    rules: int = 0
    files: int = 0
    branching: tuple[str, ...] = ()

    def __add__(self, other: "Room") -> "Room":
        return Room(
            self.code + other.code,
            self.docstrings + other.docstrings,
            self.rules + other.rules,
            self.files + other.files,
            self.branching + other.branching,
        )

    @property
    def density(self) -> float:
        """Rules in 1,000 lines of code."""
        return 1000 * self.rules / max(self.code, 1)


def rooms() -> dict[str, Room]:
    """What each package holds, by its name; generated code is left out."""
    listed = subprocess.run(
        ["git", "ls-files", "kanserve/*.py", "exporters/*.py"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    counted: dict[str, Room] = {}
    for path in map(Path, listed.stdout.split()):
        if path.stem.endswith(("_pb2", "_pb2_grpc")) or not (ROOT / path).exists():
            continue
        name = "exporters" if path.parts[0] == "exporters" else path.parts[1] if len(path.parts) > 2 else "kanserve"
        counted[name] = counted.get(name, Room()) + measured((ROOT / path).read_text("utf-8"), str(path))
    return counted


def measured(source: str, path: str = "") -> Room:
    """What one file holds."""
    from radon.complexity import cc_visit

    tree = ast.parse(source)
    documentation = {line for node in ast.walk(tree) for line in _docstring_lines(node)}
    used: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in NO_CODE:
            used.update(range(token.start[0], token.end[0] + 1))
    branching = {
        f"{path}: {block.name} ({block.complexity})"
        for block in cc_visit(source)
        if block.letter != "C" and block.complexity > BRANCHES
    }
    return Room(
        code=len(used - documentation),
        docstrings=len(documentation),
        rules=sum(map(_is_rule, ast.walk(tree))),
        files=1,
        branching=tuple(sorted(branching)),
    )


def _docstring_lines(node: ast.AST) -> range:
    if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and node.body:
        first = node.body[0]
        if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str):
            return range(first.lineno, (first.end_lineno or first.lineno) + 1)
    return range(0)


def _is_rule(node: ast.AST) -> bool:
    if not isinstance(node, ast.Compare) or not any(isinstance(operator, SIZES) for operator in node.ops):
        return False
    return any(map(_is_threshold, (node.left, *node.comparators)))


def _is_threshold(node: ast.expr) -> bool:
    match node:
        case ast.UnaryOp(operand=operand):
            return _is_threshold(operand)
        case ast.BinOp(left=left, right=right):
            return _is_threshold(left) or _is_threshold(right)
        case ast.Constant(value=bool()):
            return False
        case ast.Constant(value=int() | float() as value):
            return value not in (0, 1)
        case ast.Name(id=name):
            return CONSTANT.fullmatch(name) is not None
        case ast.Attribute(value=owner, attr=name):
            return CONSTANT.fullmatch(name) is not None or SETTINGS.search(ast.unparse(owner)) is not None
    return False


def main() -> int:
    counted = rooms()
    whole = sum(counted.values(), Room())
    print(f"{'':16}{'files':>7}{'code':>8}{'docstrings':>12}{'rules':>7}{'of 1,000':>10}{'branching':>11}")
    for name, room in [*sorted(counted.items(), key=lambda item: -item[1].code), ("all", whole)]:
        print(
            f"{name:16}{room.files:7,}{room.code:8,}{room.docstrings:12,}{room.rules:7,}{room.density:10.1f}"
            f"{len(room.branching):11}"
        )
    places = Counter(place.split(":")[0] for place in whole.branching)
    print("Most branches:", ", ".join(f"{path} {count}" for path, count in places.most_common(5)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
