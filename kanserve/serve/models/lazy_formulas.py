"""The formulas of an artifact, parsed on demand. The file is checked when a model is loaded, and kept compressed."""

import gc
import json
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any, NoReturn

from kanserve.artifact.format import Artifact, read_json
from kanserve.artifact.naming_rules import FORMULA
from kanserve.errors import FormatError
from kanserve.formula.expressions.tree import SPLINE_NAME
from kanserve.network.kan import Kan
from kanserve.serve.models import chunked_json

if TYPE_CHECKING:
    from kanserve.formula import Formula
    from kanserve.formula.constants.uncertainty_report import Evidence

_SPLINES = "splines"
_KEPT = ("formulas", "evidence", "tables", "name", "unit", "low", "high", _SPLINES)
MOST_STEPS = 50_000  # steps of expressions that are checked when a model is loaded: a fifth of a second


class LazyFormulas:
    """The formulas of a network's outputs, and the evidence for them.

    FormatError, at once, when formula.json is not JSON, is of other outputs, or has an invalid expression. Expressions
    beyond MOST_STEPS in all, and numbers, are only checked when the formulas are requested: to parse all of them takes
    longer than the rest of loading, and most servers are never asked.
    """

    def __init__(self, artifact: Artifact, kan: Kan) -> None:
        try:
            outline = _outline(artifact.files[FORMULA])
            names = [formula["name"] for formula in outline["formulas"]["formulas"]]
            known = outline.get("evidence", [])
        except (KeyError, TypeError, IndexError, AttributeError) as error:
            raise FormatError(f"These are not kanserve formulas: {type(error).__name__}.") from None
        if names != [output.name for output in kan.outputs]:
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
        from kanserve.formula.constants import uncertainty_report

        return tuple(uncertainty_report.from_json(entry) for entry in self._read().get("evidence", []))

    def _read(self) -> dict[str, Any]:
        value: dict[str, Any] = read_json(zlib.decompress(self._packed), FORMULA)
        return value


def _outline(data: bytes) -> Any:
    """Read and check a JSON text, but keep only names; FormatError as `read_json`, or for an invalid expression.

    A large network has 30 MB of it. Parsed at once it would take many times as much memory, and hold the GIL for a
    tenth of a second. So values are dropped as they come, and at each number other threads get a chance to run.
    """

    def constant(text: str) -> NoReturn:
        raise FormatError(f"{FORMULA} must not contain {text}.")

    left = MOST_STEPS

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        nonlocal left
        whole = dict(items)
        if len(whole) != len(items):
            raise FormatError(f"{FORMULA} has a key twice.")
        kept = {key: value for key, value in items if key in _KEPT or SPLINE_NAME.fullmatch(key)}
        if "tree" in whole:
            left -= len(whole["tree"])
            kept[_SPLINES] = _splines(whole) if left >= 0 else ()
        if "tables" in kept and any(set(entry[_SPLINES]) - set(kept["tables"]) for entry in kept.get("formulas", ())):
            raise FormatError("A formula has a spline without a table.")
        return kept

    def number(text: str) -> float:
        return 0.0

    def integer(text: str) -> int | None:
        return int(text) if len(text) < 9 else None

    decoder = json.JSONDecoder(parse_constant=constant, object_pairs_hook=pairs, parse_float=number, parse_int=integer)
    try:
        with _collecting_nothing():
            return chunked_json.parse(data, decoder)
    except (ValueError, RecursionError) as error:
        raise FormatError(f"{FORMULA} is not JSON: {str(error)[:100]}.") from None


class _Unread(dict[str, Any]):
    """Stands for the tables of splines, which come after the formulas in the file: has a table of every name."""

    def __contains__(self, name: object) -> bool:
        return True


def _splines(entry: dict[str, Any]) -> tuple[str, ...]:
    """Check a formula and return the names of its splines."""
    from kanserve.formula.expressions.storage import formula_from_json

    try:
        return tuple({step[1] for step in formula_from_json(entry, _Unread()).tree if step[0] == "spline"})
    except (
        KeyError,
        TypeError,
        ValueError,
        AttributeError,
        IndexError,
    ) as error:  # so that the caller does not report broken JSON
        raise FormatError(f"A formula is invalid: {type(error).__name__}.") from None


@contextmanager
def _collecting_nothing() -> Iterator[None]:
    """Pause the garbage collector: many new lists would make it scan all objects repeatedly, with the GIL held."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
