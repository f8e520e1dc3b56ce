"""Pages of the reference that are made from the code each time: the command line, the calls, the file formats.

A page of the site that has the line `<!-- made of NAME -->` gets that text in its place.
"""

import re
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args

from sphinx.application import Sphinx

from docs._sphinx.public_calls import parameter_table

ROOT = Path(__file__).parents[2]
MADE = re.compile(r"^<!-- made of (.+) -->$", re.MULTILINE)


def command_line() -> Iterator[str]:
    """Every command of `kanserve` with its arguments and options, as typer knows them."""
    import typer

    from kanserve.cli.app import app

    root: Any = typer.main.get_command(app)
    for name, command in sorted(root.commands.items()):
        if name == "serve":
            yield f"## kanserve {name}\n\n{_help(command)}\n\nIts flags are [settings](settings.md)."
        elif hasattr(command, "commands"):
            yield f"## kanserve {name}\n\n{_help(command)}"
            for inner, one in command.commands.items():
                yield from _command(f"{name} {inner}", one, "###")
        else:
            yield from _command(name, command, "##")


def _command(name: str, command: Any, level: str) -> Iterator[str]:
    arguments = [one for one in command.params if one.param_type_name == "argument"]
    options = [one for one in command.params if one.param_type_name == "option" and not one.hidden]
    usage = " ".join(
        ["kanserve", name, *(one.name.upper() if one.required else f"[{one.name.upper()}]" for one in arguments)]
    )
    yield f"{level} kanserve {name}\n\n```sh\n{usage}{' [OPTIONS]' if options else ''}\n```\n\n{_help(command)}"
    rows = [(f"`{one.name.upper()}`", "", one.help) for one in arguments]
    rows += [(_spelled(one), _default(one), one.help) for one in options]
    if rows:
        table = "\n".join(f"| {' | '.join(_cell(cell) for cell in row)} |" for row in rows)
        yield f"| | default | |\n|---|---|---|\n{table}"


def _help(command: Any) -> str:
    """The help of a command; its examples are code."""
    paragraphs = [" ".join(part.split()) for part in textwrap.dedent(command.help or "").split("\n\n")]
    return "\n\n".join(
        f"```sh\n{part.removeprefix('Example: ')}\n```" if part.startswith("Example: ") else part.replace("<", "\\<")
        for part in paragraphs
    )


def _spelled(option: Any) -> str:
    names = ", ".join(f"`{name}`" for name in (*option.opts, *option.secondary_opts))
    annotation = getattr(getattr(option, "type_descriptor", None), "annotation", None)
    choices = [choice for choice in get_args(annotation) if isinstance(choice, str)]
    if choices:
        return f"{names}: {', '.join(f'`{choice}`' for choice in choices)}"
    return names


def _default(option: Any) -> str:
    if option.default in (None, False, "", ()) or callable(option.default):
        return ""
    values = option.default if isinstance(option.default, list | tuple) else [option.default]
    return ", ".join(f"`{value}`" for value in values)


def _cell(text: str | None) -> str:
    """A text as a cell of a table: on one line, without what would end the cell or begin a tag."""
    return re.sub(r"<(?=[^`]*$)", r"\\<", " ".join((text or "").split()).replace("|", "\\|"))


def calls(proto: str) -> Callable[[], Iterator[str]]:
    """The services and messages of a .proto file, with its comments."""

    def text() -> Iterator[str]:
        comments: list[str] = []
        inside: list[str] = []
        for line in (ROOT / "protos" / proto).read_text("utf-8").splitlines():
            words = line.strip()
            if words.startswith("//"):
                if not words.startswith("// buf:"):
                    comments.append(words.removeprefix("//").strip())
                continue
            said, comments = " ".join(comments), []
            if opened := re.fullmatch(r"(service|message|enum|oneof) (\w+) \{(\})?", words):
                if opened[1] == "oneof":
                    inside.append("")
                    continue
                name = ".".join([*filter(None, inside), opened[2]])
                yield f"{'##' if opened[1] == 'service' else '###'} {name}\n"
                yield said or {"service": "", "message": "", "enum": "One of:"}[opened[1]]
                if opened[3]:
                    yield "It has no fields."
                else:
                    head = {"service": "| call | takes | gives | |\n|---|---|---|---|"}
                    yield head.get(opened[1], "| field | type | |\n|---|---|---|").join(["\n", ""])
                    inside.append(opened[2])
            elif call := re.match(r"rpc (\w+)\(([\w ]+)\) returns \(([\w ]+)\)", words):
                yield f"| {call[1]} | `{call[2]}` | `{call[3]}` | {_cell(said)} |"
            elif field := re.match(r"((?:repeated |optional )?[\w.<>, ]+) (\w+) = (\d+)", words):
                yield f"| `{field[2]}` = {field[3]} | `{field[1]}` | {_cell(said)} |"
            elif value := re.match(r"(\w+) = (\d+)", words):
                yield f"| `{value[1]}` = {value[2]} | | {_cell(said)} |"
            elif words == "}" and inside:
                inside.pop()
                yield ""

    return text


def module_text(name: str) -> Callable[[], Iterator[str]]:
    """What the docstring of a module says, as Markdown: a line over a list is a heading."""

    def text() -> Iterator[str]:
        from importlib import import_module

        said = (import_module(name).__doc__ or "").strip()
        said = re.sub(r"^(?![-\s])(.+)\n(?=- )", r"\n### \1\n\n", said, flags=re.MULTILINE)
        # Outside code a < would begin a tag.
        yield re.sub(r"(^ {4}.*$|`[^`]*`)|<", lambda one: one[1] or "\\<", said, flags=re.MULTILINE)

    return text


TEXTS: dict[str, Callable[[], Iterator[str]]] = {
    "the public calls": parameter_table,
    "the command line": command_line,
    "formula.proto": calls("kanserve/v1/formula.proto"),
    "grpc_service.proto": calls("kanserve/inference/grpc_service.proto"),
    "the artifact format": module_text("kanserve.artifact.format"),
    "the network format": module_text("kanserve.network.serialization"),
}


def _fill(app: Sphinx, docname: str, content: list[str]) -> None:
    """The text in place of its mark. Rows of tables have no empty line between them."""

    def made(match: re.Match[str]) -> str:
        text = "\n\n".join(TEXTS[match[1]]()).replace("|\n\n|", "|\n|")
        return re.sub(
            r"(?:^\|.*\n?)+", lambda table: f":::{{div}} kan-names\n{table[0].rstrip()}\n:::\n", text, flags=re.M
        )

    if "<!-- made of " in content[0]:
        content[0] = MADE.sub(made, content[0])
        app.env.note_reread()  # at each build, since the code may have changed


def setup(app: Sphinx) -> dict[str, bool]:
    """Read by Sphinx."""
    app.connect("source-read", _fill)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
