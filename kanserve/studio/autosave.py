"""What was done in a studio, kept on this machine so that the next one goes on with it.

A folder for each table or network, by its checksum: the networks, the steps between them and which columns were chosen.
No row is in it: the table is read again.
"""

import hashlib
import json
import os
import shutil
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from kanserve.data.dataset import Dataset
from kanserve.editing import Session, Step
from kanserve.editing.session_storage import data_checksum, step_in, step_out
from kanserve.errors import FormatError, KanserveError
from kanserve.formula import register_function
from kanserve.network import serialization
from kanserve.network.kan import Kan
from kanserve.network.own_functions import OWN, own_functions

MOST_KEPT = 20  # tables and networks; those that were used longest ago go
MOST_LISTED = 4  # on the first page
STATE = "state.json"


def state_folder() -> Path:
    """Where this user's programs keep what they go on with."""
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "kanserve" / "studio"


def table_key(path: Path) -> str:
    with path.open("rb") as file:
        return f"table-{hashlib.file_digest(file, 'sha256').hexdigest()[:32]}"


def network_key(kan: Kan, data: Dataset) -> str:
    whole = hashlib.sha256(serialization.dumps(kan) + data_checksum(data).encode())
    return f"network-{whole.hexdigest()[:32]}"


class Autosave:
    """The folder of one table or network; `folder` None keeps nothing."""

    def __init__(self, folder: Path | None, key: str = "") -> None:
        self._root = folder
        self._place = folder / key if folder is not None and key else None

    def of(self, key: str) -> "Autosave":
        return Autosave(self._root, key)

    def keep(self, session: Session, about: Mapping[str, Any]) -> None:
        """Write the session. What cannot be written is not kept: the studio goes on without."""
        if self._place is None:
            return
        states = session.states
        networks = [serialization.dumps(kan) for kan in (session.first, *(kan for _, kan in states))]
        names = [f"{hashlib.sha256(network).hexdigest()[:24]}.safetensors" for network in networks]
        used = dict.fromkeys(name for _, kan in states for name in own_functions(kan))
        state = {
            **about,
            "when": time.time(),
            "edges": session.kan.edges,
            "networks": names,
            "steps": [step_out(step) for step, _ in states],
            "functions": {name: OWN[name].formula for name in used if name in OWN and OWN[name].formula},
        }
        with suppress(OSError):
            self._place.mkdir(parents=True, exist_ok=True, mode=0o700)
            for name, network in zip(names, networks, strict=True):
                if not (self._place / name).exists():
                    _write(self._place / name, network)
            _write(self._place / STATE, json.dumps(state).encode())
            for old in self._place.glob("*.safetensors"):
                if old.name not in names:
                    old.unlink()
            for path in _newest_first(self._place.parent)[MOST_KEPT:]:
                shutil.rmtree(path, ignore_errors=True)

    def about(self) -> dict[str, Any] | None:
        """What is kept, without the networks: what it was told, when, and how many steps and edges; None if nothing."""
        return None if self._place is None else _about(self._place)

    def recall(self) -> tuple[Kan, Sequence[tuple[Step, Kan]]]:
        """The first network, and each step with the network after it. FormatError if they cannot be read."""
        try:
            assert self._place is not None
            state = json.loads((self._place / STATE).read_bytes())
            for name, formula in state["functions"].items():
                if name not in OWN:
                    register_function(name, formula)
            first, *later = (serialization.load(self._place / Path(name).name) for name in state["networks"])
            steps = [step_in(f"steps[{n}]", value) for n, value in enumerate(state["steps"])]
            return first, tuple(zip(steps, later, strict=True))
        except (OSError, ValueError, KeyError, TypeError, AttributeError, KanserveError) as error:
            raise FormatError(f"What was kept of this cannot be read: {error}") from None

    def recent(self) -> list[dict[str, Any]]:
        """What is kept of tables that are still where they were, the newest first."""
        found = [] if self._root is None else [_about(path) for path in _newest_first(self._root)]
        there = [about for about in found if about and about.get("path") and Path(about["path"]).is_file()]
        return there[:MOST_LISTED]


def _about(place: Path) -> dict[str, Any] | None:
    try:
        state = json.loads((place / STATE).read_bytes())
        return {**state, "steps": len(state["steps"]), "networks": None, "functions": None}
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _newest_first(root: Path) -> list[Path]:
    return sorted((path.parent for path in root.glob(f"*/{STATE}")), key=lambda at: -(at / STATE).stat().st_mtime)


def _write(path: Path, data: bytes) -> None:
    part = path.with_suffix(".part")
    part.write_bytes(data)
    part.replace(path)
