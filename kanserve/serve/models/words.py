"""What an artifact says in formulas, for whoever asks. The file is checked when a model is loaded, and kept packed."""

import gc
import json
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any, NoReturn

from kanserve.artifact.format import Artifact, read_json
from kanserve.artifact.names import FORMULA
from kanserve.errors import FormatError
from kanserve.ir import Kan

if TYPE_CHECKING:
    from kanserve.formula import Formula
    from kanserve.formula.evidence import Evidence

_LOOKED_AT = ("formulas", "evidence", "name")


class Words:
    """The formulas of a network's outputs, and what is known of them.

    FormatError, at once, when formula.json is not JSON or of other outputs; later, for who asks, when what it says is
    no formula. To make formulas of all of it takes longer than everything else that loading does, and most servers are
    never asked.
    """

    def __init__(self, artifact: Artifact, kan: Kan) -> None:
        try:
            outline = _outline(artifact.files[FORMULA])
            names = [one["name"] for one in outline["formulas"]["formulas"]]
            known = outline.get("evidence", [])
        except (KeyError, TypeError, IndexError, AttributeError) as error:
            raise FormatError(f"These are not kanserve formulas: {type(error).__name__}.") from None
        if names != [one.name for one in kan.outputs]:
            raise FormatError("The formulas are not those of the network's outputs. Compile the model again.")
        if not isinstance(known, list) or len(known) not in (0, len(kan.outputs)):
            raise FormatError(f"The evidence of {FORMULA} must have one entry for each output.")
        self._packed = zlib.compress(artifact.files[FORMULA], 1)

    @cached_property
    def formulas(self) -> "tuple[Formula, ...]":
        from kanserve.formula import from_json

        return from_json(self._read()["formulas"])

    @cached_property
    def evidence(self) -> "tuple[Evidence, ...]":
        from kanserve.formula import evidence

        return tuple(evidence.from_json(one) for one in self._read().get("evidence", []))

    def _read(self) -> dict[str, Any]:
        value: dict[str, Any] = read_json(zlib.decompress(self._packed), FORMULA)
        return value


def _outline(data: bytes) -> Any:
    """A JSON text of which all is read but only names are kept; FormatError as `read_json`.

    A large network has 30 MB of it. Read at once they would be many times as much in memory, and keep Python's lock
    for a tenth of a second: so values are dropped as they come, and each number is a moment in which others may go on.
    """

    def constant(text: str) -> NoReturn:
        raise FormatError(f"{FORMULA} must not contain {text}.")

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        kept = {key: value for key, value in items if key in _LOOKED_AT}
        if len({key for key, _ in items}) != len(items):
            raise FormatError(f"{FORMULA} has a key twice.")
        return kept

    def number(text: str) -> None:
        return None

    try:
        with _collecting_nothing():
            return json.loads(
                data, parse_constant=constant, object_pairs_hook=pairs, parse_float=number, parse_int=number
            )
    except (ValueError, RecursionError) as error:
        raise FormatError(f"{FORMULA} is not JSON: {str(error)[:100]}.") from None


@contextmanager
def _collecting_nothing() -> Iterator[None]:
    """Many new lists make the collector look through everything again and again, and everybody waits for it."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
