"""A session as a file: the paths of its network and table, relative to the file, and its steps.

{"kan": "kan.safetensors", "table": "houses.csv", "target": ["price"], "session": {...}}
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kanserve.artifact.format import read_json
from kanserve.cli.arguments import data_of
from kanserve.cli.arguments import network as network_of
from kanserve.cli.terminal import write_whole
from kanserve.data.dataset import Dataset
from kanserve.editing import Session
from kanserve.errors import FormatError, NotFoundError
from kanserve.network.kan import Kan

MOST_BYTES = 5_000_000
_TYPES: dict[str, type | tuple[type, ...]] = {"kan": str, "table": str, "target": list, "session": dict}


@dataclass(frozen=True, eq=False)
class Opened:
    """A session with its files; `target` is empty if the network's outputs name the columns."""

    file: Path
    kan: Path
    table: Path
    target: tuple[str, ...]
    session: Session

    def write(self) -> None:
        """Write the session's file atomically."""
        value = {
            "kan": os.path.relpath(self.kan, self.file.parent),
            "table": os.path.relpath(self.table, self.file.parent),
            "target": list(self.target),
            "session": json.loads(self.session.to_json()),
        }
        write_whole(self.file, lambda part: part.write_text(json.dumps(value, indent=1) + "\n", "utf-8"))


def begin(file: Path, kan: Path, table: Path, target: list[str] | None, seed: int) -> Opened:
    """Start a session, which is not yet written."""
    network, data = _load(kan, table, target)
    return Opened(file, kan, table, tuple(target or ()), Session(network, data, seed=seed))


def read(file: Path) -> Opened:
    """Read a session from its file and replay it. Raises NotFoundError or FormatError."""
    if not file.is_file():
        raise NotFoundError(f"There is no file {str(file)!r}; begin one with 'kanserve session new'.")
    if file.stat().st_size > MOST_BYTES:
        raise FormatError(f"{file} is not a session: it has more than {MOST_BYTES} bytes.")
    value = read_json(file.read_bytes(), str(file))
    if not isinstance(value, dict) or set(value) != set(_TYPES):
        raise FormatError(f"{file} is not a session file: it must be an object with the keys {', '.join(_TYPES)}.")
    for name, kind in _TYPES.items():
        if not isinstance(value[name], kind):
            raise FormatError(f"{file}: {name} is of the wrong type, {type(value[name]).__name__}.")
    target: list[Any] = value["target"]
    if not all(isinstance(column, str) for column in target) or "\0" in value["kan"] + value["table"]:
        raise FormatError(f"{file}: target must be names of columns, kan and table names of files.")
    kan, table = (Path(os.path.normpath(file.parent / value[name])) for name in ("kan", "table"))
    network, data = _load(kan, table, target)
    session = Session.from_json(json.dumps(value["session"]), network, data)
    return Opened(file, kan, table, tuple(target), session)


def script(opened: Opened) -> str:
    """A Python program that reads both files, replays the steps and writes the network."""
    kan = network_of(opened.kan)
    targets, kind = ([output.name for output in kan.outputs], "auto") if not kan.classes else ([], "classification")
    arguments = f"{list(opened.target) or targets!r}, {[variable.name for variable in kan.inputs]!r}, {kind!r}"
    lines = [
        opened.session.as_python(),
        "",
        'if __name__ == "__main__":',
        f"    kan = kanserve.load({str(opened.kan)!r})",
        f"    data = kanserve.read_table({str(opened.table)!r}, {arguments})",
        '    kanserve.save(replay(kan, data), "edited.safetensors")',
    ]
    return "\n".join(lines) + "\n"


def _load(kan: Path, table: Path, target: list[str] | None) -> tuple[Kan, Dataset]:
    network = network_of(kan)
    return network, data_of(network, table, target or None)
