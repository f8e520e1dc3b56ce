"""Which laws of a table have a form that is written elsewhere in this repository, so that "unseen" can be checked.

A skeleton is a formula's tree with all constants and all names of inputs replaced: 2*exp(-x/3) and 5*exp(7*t) share
one. Formulas are looked for in the other tables and in the texts of tests, documentation, examples and the package.
"""

import ast
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import get_args

from benchmarks._equations import Law, Setting, Table, laws
from kanserve.errors import KanserveError
from kanserve.formula.expressions.linear_forms import Form, Steps, one_atom, step_of
from kanserve.formula.expressions.parsing import Expression, Name, mistake, parse
from kanserve.formula.expressions.tree import references
from kanserve.formula.expressions.tree_to_forms import form_of_expression, parts
from kanserve.formula.to_network.from_formula import CONSTANTS

ROOT = Path(__file__).parent.parent
FOLDERS = ("tests", "docs", "examples", "kanserve", "exporters", "benchmarks", "README.md")
LONGEST = 300  # characters of a text that is read as a formula

# Words that only - or / connect are names and paths, not formulas: feynman-dimensional, tests/unit.
_LIKE_A_FORMULA = re.compile(r"[*^(]| [-+/] |^\w{1,2}[-+/]\w{1,2}$")
_IN_MARKDOWN = re.compile(r"`([^`\n]+)`|\"([^\"\n]+)\"")


@cache
def skeleton(text: str) -> str | None:
    """The tree of a formula without its constants and names; None for a text that is not a formula of an input."""
    steps = Steps()
    try:
        expression = parse(text)
        names = [name for name in _names(expression) if name not in CONSTANTS]
        values = {name: Form(value) for name, value in CONSTANTS.items()}
        values |= {name: one_atom(steps.add("var", column)) for column, name in enumerate(dict.fromkeys(names))}
        form = form_of_expression(steps, expression, values, lambda at, message: mistake(text, at, message))
        tree = steps.tree(step_of(steps, form))
    except (KanserveError, ArithmeticError):
        return None
    if not names or tree[-1][0] in ("var", "const"):
        return None
    written: list[str] = []
    for step in tree:
        below = [written[operand] for operand in references(step)]
        match step[0]:
            case "const":
                written.append("c")
            case "var":
                written.append("x")
            case "add" | "mul":
                written.append(f"{step[0]}({','.join(sorted(below))})")
            case "pow":
                written.append(f"{below[0]}^{step[2]}")
            case _:
                written.append(f"{step[1]}({below[0]})")
    return written[-1]


def seen(setting: Setting, chosen: Sequence[Law], root: Path = ROOT) -> str:
    """How many of a table's laws share a skeleton with another text of the repository, and which."""
    found = _written(setting.table, root)
    shared = {law.name: found[form] for law in chosen if (form := skeleton(law.text)) in found and form is not None}
    head = f"{len(shared)} of {len(chosen)} laws share a skeleton with another text of this repository"
    if not shared:
        return f"{head}."
    return "\n".join([f"{head}:", *(f"    {name}: {where}" for name, where in shared.items())])


def _written(table: Table, root: Path) -> Mapping[str, str]:
    """The skeletons of all formulas outside this table, and where each was found first."""
    found: dict[str, str] = {}
    for other in get_args(Table):
        if other != table:
            for law in laws(Setting(other)):
                form = skeleton(law.text)
                if form is not None:
                    found.setdefault(form, f"{law.text} ({other} {law.name})")
    # The tables themselves and the module with the toys are not other texts.
    for path in _files(root):
        for text in _texts(path):
            if text == text.strip() and len(text) <= LONGEST and _LIKE_A_FORMULA.search(text):
                form = skeleton(text)
                if form is not None:
                    found.setdefault(form, f"{text} ({path.relative_to(root).as_posix()})")
    return found


def _files(root: Path) -> list[Path]:
    found: list[Path] = []
    for name in FOLDERS:
        path = root / name
        found += [path] if path.is_file() else [*path.rglob("*.py"), *path.rglob("*.md")]
    return sorted(path for path in found if path.name != "_equations.py")


def _texts(path: Path) -> Iterator[str]:
    """The texts of a Python file, and what Markdown has in backticks or quotation marks."""
    source = path.read_text(encoding="utf-8")
    if path.suffix == ".md":
        yield from (match[1] or match[2] for match in _IN_MARKDOWN.finditer(source))
        return
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def _names(expression: Expression) -> Iterator[str]:
    if isinstance(expression, Name):
        yield expression.name
    for part in parts(expression):
        yield from _names(part)
