"""The formulas of an artifact, parsed on demand. The file is checked when a model is loaded, and kept compressed."""

import zlib
from typing import TYPE_CHECKING, Any

from kanserve.artifact.format import Artifact, read_json
from kanserve.artifact.naming_rules import FORMULA
from kanserve.errors import FormatError, FormulaError
from kanserve.network.kan import Kan

if TYPE_CHECKING:
    from kanserve.formula import Formula
    from kanserve.formula.constants.uncertainty_report import Evidence

# Of formula.json; ten times as many took a second to read. Those of a larger file, which only older versions of
# kanserve wrote, are not given: nobody reads them, and they are larger than a message.
MOST_BYTES = 2**22


class LazyFormulas:
    """The formulas of a network's outputs, and the evidence for them.

    FormatError, at once, when formula.json is not JSON, is of other outputs, or has an invalid expression. A file of
    more than MOST_BYTES is not looked at.
    """

    def __init__(self, artifact: Artifact, kan: Kan) -> None:
        data = artifact.files[FORMULA]
        self.edges = kan.edges
        self.size = len(data)  # of the file, and about that of an answer with all formulas
        self._packed = b""
        if len(data) > MOST_BYTES:
            return
        value = read_json(data, FORMULA)
        try:
            known = value.get("evidence", [])
            formulas, _ = _formulas(value), _evidence(value)
        except (KeyError, TypeError, AttributeError) as error:
            raise FormatError(f"These are not kanserve formulas: {type(error).__name__}.") from None
        if [formula.name for formula in formulas] != [output.name for output in kan.outputs]:
            raise FormatError("The formulas are not those of the network's outputs. Compile the model again.")
        if not isinstance(known, list) or len(known) not in (0, len(kan.outputs)):
            raise FormatError(f"The evidence of {FORMULA} must have one entry for each output.")
        if all(formula.tree for formula in formulas):
            self._packed = zlib.compress(data, 1)

    def read(self) -> "tuple[tuple[Formula, ...], tuple[Evidence, ...]]":
        """The formulas, and the evidence for each, or none; FormulaError if the network is too large to have any."""
        if not self._packed:
            raise FormulaError(
                f"The network has {self.edges} edges: its formulas are too large to be read. Simplify it first."
            )
        value = read_json(zlib.decompress(self._packed), FORMULA)
        return _formulas(value), _evidence(value)


def _formulas(value: dict[str, Any]) -> "tuple[Formula, ...]":
    from kanserve.formula import from_json

    return from_json(value["formulas"])


def _evidence(value: dict[str, Any]) -> "tuple[Evidence, ...]":
    from kanserve.formula.constants import uncertainty_report

    return tuple(uncertainty_report.from_json(entry) for entry in value.get("evidence", []))
