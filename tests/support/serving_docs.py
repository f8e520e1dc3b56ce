"""The tables of docs/serving.md, made from the code. `python -m tests.support.serving_docs` writes them anew."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import fields
from typing import Any

from kanserve.serve import status
from kanserve.serve.auth import grants as access
from kanserve.serve.configuration import flags
from kanserve.serve.observability import logs, prometheus
from kanserve.serve.settings import ROLES, Grant, ModelSettings
from tests.support.paths import DOCS

PAGE = DOCS / "serving.md"


def tables() -> dict[str, str]:
    """The lines between `<!-- NAME -->` and `<!-- end -->`."""
    return {
        "flags": "\n".join(_flags()),
        "models": "\n".join(_keys(ModelSettings, "[models.NAME]")),
        "access": "\n".join(_keys(Grant, "[[access]]")),
        "roles": "\n".join(_roles()),
        "metrics": metrics_table(),
        "log": "\n".join(
            ["| field | |", "|---|---|", *(f"| `{name}` | {says} |" for name, says in logs.FIELDS.items())]
        ),
        "codes": "\n".join(_codes()),
    }


def metrics_table() -> str:
    """The metrics, a line each."""
    lines = ["| metric | type | labels | |", "|---|---|---|---|"]
    for row in prometheus.TABLE:
        labels = ", ".join(f"`{label}`" for label in row.labels)
        lines.append(f"| `{row.name}` | {row.kind} | {labels} | {row.meaning} |")
    return "\n".join(lines)


def page(text: str) -> str:
    """The page with its tables as they should be."""
    for name, table in tables().items():
        before, start, rest = text.partition(f"<!-- {name} -->\n")
        _, end, after = rest.partition("<!-- end -->")
        assert start and end, name
        text = f"{before}{start}{table}\n{end}{after}"
    return text


def _flags() -> Iterator[str]:
    yield from ("| flag | default | |", "|---|---|---|")
    for setting in flags.of_settings():
        default = flags.default(setting)
        yield f"| `{flags.flag(setting.name)}` | {f'`{default}`' if default else ''} | {setting.metadata['help']} |"
    yield "| `--config` | | A TOML file with settings. |"
    yield "| `--check-config` | | Print the settings and exit. |"


def _keys(kind: type[Any], title: str) -> Iterator[str]:
    yield from (f"| `{title}` | |", "|---|---|")
    for field in fields(kind):
        yield f"| `{field.name}` | {field.metadata.get('help', 'What it may do: ' + ', '.join(ROLES) + '.')} |"


def _roles() -> Iterator[str]:
    yield from ("| calls | for whom |", "|---|---|")
    calls: defaultdict[tuple[str, ...], list[str]] = defaultdict(list)
    for path, needed in access.NEEDS.items():
        calls[tuple(needed)].append(path.rsplit("/", 1)[1] if "health" not in path else path.rsplit(".", 1)[1])
    for roles, names in sorted(calls.items(), key=lambda one: len(one[0]) % len(ROLES)):
        yield f"| {', '.join(names)} | {' or '.join(roles) or 'anybody'} |"


def _codes() -> Iterator[str]:
    yield from ("| code | error | |", "|---|---|---|")
    for kind, code in status.CODES.items():
        if code is not status.INTERNAL.code:
            yield f"| {code.name} | {kind.__name__} | {(kind.__doc__ or '').splitlines()[0]} |"


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text()))
