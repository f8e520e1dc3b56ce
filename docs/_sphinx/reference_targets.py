"""Docstrings as they are written, in the pages of the API: plain text, with types in words.

Their | and * are mathematics, not marks of reStructuredText. Sphinx tries to link each word of a type: a public name
leads to its entry; a word, and a name of another package, is left as text. What is said to be kanserve's and is not
there stays a warning.
"""

import re
from collections.abc import Sequence
from importlib import import_module
from typing import Any

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment

_ATTRIBUTES: dict[str, list[str]] = {}


def exists(name: str) -> bool:
    """Whether a dotted name of kanserve can be imported."""
    parts = name.split(".")
    for count in range(len(parts), 0, -1):
        try:
            found: Any = import_module(".".join(parts[:count]))
        except ImportError:
            continue
        for part in parts[count:]:
            if not hasattr(found, part):
                return False
            found = getattr(found, part)
        return True
    return False


def _resolve(
    app: Sphinx, environment: BuildEnvironment, node: pending_xref, text: nodes.TextElement
) -> nodes.Node | None:
    if node.get("refdomain") != "py":
        return None
    target = str(node["reftarget"])
    name = target.rpartition(".")[2]
    domain = environment.domains["py"]
    entries = [known for known in domain.data["objects"] if known == name or known.endswith(f".{name}")]
    classes = [known for known in entries if name[:1].isupper()]
    if len(classes) == 1:
        entry = domain.data["objects"][classes[0]]
        return nodes.reference(
            "",
            "",
            text,
            internal=True,
            refuri=app.builder.get_relative_uri(node["refdoc"], entry.docname) + f"#{entry.node_id}",
        )
    return text if not target.startswith("kanserve.") or exists(target) else None


def escaped(lines: Sequence[str]) -> list[str]:
    """The lines of a docstring with |, * and a last _ of a word as themselves, outside code and examples."""
    found, example = [], False
    as_it_is = ("    ", "..", ":") if any(line.endswith("::") for line in lines) else ("..", ":")
    for line in lines:
        example = line.lstrip().startswith(">>>") or (example and bool(line.strip()))
        if example or (line.startswith(as_it_is) and not line.startswith(":param")):
            found.append(line)
        else:
            parts = re.split(r"(``.*?``|`.*?`)", line)
            parts[::2] = [re.sub(r"(?<!\\)(\||\*|(?<=\w)_(?!\w))", r"\\\1", part) for part in parts[::2]]
            found.append("".join(parts))
    return found


def _keep(app: Sphinx, kind: str, name: str, found: object, options: object, lines: list[str]) -> None:
    # Of "Least |y|: less is noise", napoleon would take "Least |y|" for a type.
    has_sections = any(set(line.strip()) == {"-"} for line in lines)
    if kind in ("attribute", "data") or (kind == "property" and not has_sections):
        _ATTRIBUTES[name] = list(lines)


def _escape(app: Sphinx, kind: str, name: str, found: object, options: object, lines: list[str]) -> None:
    lines[:] = escaped(_ATTRIBUTES.pop(name, lines))


def setup(app: Sphinx) -> dict[str, bool]:
    """Read by Sphinx."""
    app.connect("autodoc-process-docstring", _keep, priority=100)
    app.connect("autodoc-process-docstring", _escape, priority=900)  # after napoleon has read the sections
    app.connect("missing-reference", _resolve)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
