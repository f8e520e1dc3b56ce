"""The sources of formulas for `kanserve formula`, and what it shows of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kanserve.cli import arguments
from kanserve.cli.commands.server_access import ServerAccess
from kanserve.data.number_texts import Decimal
from kanserve.errors import InputError, NotFoundError
from kanserve.formula import Formula, formulas
from kanserve.formula import from_json as formulas_from
from kanserve.formula.constants.recognition import Constant
from kanserve.formula.constants.uncertainty_report import Alternative, Evidence, evidence
from kanserve.formula.constants.uncertainty_report import from_json as evidence_from
from kanserve.formula.expressions.formula import definition
from kanserve.network.encoding import encode, is_encoded
from kanserve.network.kan import Kan


@dataclass(frozen=True)
class Other:
    """An alternative formula: text and LaTeX, complexity, and its RMSE on training and held-out rows."""

    styles: Mapping[str, str]
    complexity: float
    rmse: float
    validation_rmse: float | None


@dataclass(frozen=True)
class Shown:
    """What is shown of one output's formula; `styles` has it in each notation, by name."""

    name: str
    styles: Mapping[str, str]
    closed_form: bool
    domain: tuple[str, ...]
    definitions: tuple[str, ...]
    constants: tuple[Constant, ...]
    sigma: float | None
    degrees: int | None
    others: tuple[Other, ...]

    @classmethod
    def of(cls, formula: Formula, known: Evidence | None = None) -> "Shown":
        known = known or Evidence()
        others = tuple(_other(alternative) for alternative in known.alternatives)
        styles = _styles(formula)
        known_of = (known.constants, known.sigma, known.degrees, others)
        return cls(formula.name, styles, formula.closed_form, formula.domain, formula.definitions, *known_of)

    def facts(self, style: str) -> dict[str, Any]:
        """The facts as a dictionary for JSON, with the formula in one notation."""
        return {
            "output": self.name,
            "formula": self.styles[style],
            "closed_form": self.closed_form,
            "domain": self.domain,
            "definitions": self.definitions,
            "constants": [
                {"value": constant.value, "text": constant.text, "standard_error": constant.standard_error}
                for constant in self.constants
            ],
            "residual_standard_deviation": self.sigma,
            "degrees_of_freedom": self.degrees,
        }


def of_model(
    source: str,
    data: Path | None,
    target: list[str] | None,
    strict: bool,
    access: ServerAccess,
    decimal: Decimal | None,
) -> list[Shown]:
    """The formulas of a network's file, a published version, or a served model. With `strict`, a formula of a file or
    folder that is not finite on 1000 rows of its range and its corners is refused, else shown with its conditions; a
    served model has no network to check."""
    path = Path(source)
    if path.is_dir():
        access.refuse(source)
        artifact = arguments.read_version(path)
        if strict:
            formulas(artifact.kan())
        known = tuple(evidence_from(entry) for entry in artifact.evidence)
        found = formulas_from(artifact.formulas)
        if not all(law.tree for law in found):  # of a large network, which are not stored
            found = formulas(artifact.kan(), strict=False)
        if data is not None:
            return _with_rows(artifact.kan(), found, data, target, decimal)
        return [Shown.of(law, known[q] if known else None) for q, law in enumerate(found)]
    if path.suffix == ".safetensors" or path.exists() or "/" not in source:
        access.refuse(source)
        kan = arguments.network(path)
        return _with_rows(kan, formulas(kan, strict=strict), data, target, decimal)
    if data is not None:
        raise InputError("--data is for a network's file or a version's folder, not for a served model.")
    if strict:
        raise InputError(
            "--strict is for a network's file or a version's folder; a served formula shows its conditions."
        )
    return _read_served(access, *arguments.parse_served(source))


def alternatives(law: Shown, style: str) -> list[dict[str, Any]]:
    """The list of alternatives for an output's formula. Raises NotFoundError if there are none."""
    if not law.others:
        raise NotFoundError(
            f"{law.name} has no alternative formulas: search its table, 'kanserve formula data.csv --target {law.name} "
            "--pareto', or give a model that was compiled with candidates."
        )
    spelled = "latex" if style == "latex" else "text"
    return [
        {
            "complexity": alternative.complexity,
            "error": alternative.rmse,
            "validation": alternative.validation_rmse,
            "formula": f"{law.name} = {alternative.styles[spelled]}",
        }
        for alternative in law.others
    ]


def _with_rows(
    kan: Kan, found: Sequence[Formula], table: Path | None, target: list[str] | None, decimal: Decimal | None
) -> list[Shown]:
    if table is None or kan.classes:
        return [Shown.of(law) for law in found]
    rows = arguments.data_of(kan, table, target, decimal)
    return [Shown.of(law, evidence(law, encode(kan, rows.x), rows.y[:, q])) for q, law in enumerate(found)]


def _read_served(access: ServerAccess, address: str, name: str, version: str) -> list[Shown]:
    with access.client(address) as client:
        return [
            Shown(
                law.name,
                _styles(law),
                law.closed_form,
                law.domain,
                tuple(map(definition, filter(is_encoded, law.variables))),
                law.constants,
                law.sigma,
                law.degrees,
                tuple(
                    Other(
                        {"text": found.text, "latex": found.latex}, found.complexity, found.rmse, found.validation_rmse
                    )
                    for found in law.pareto
                ),
            )
            for law in client.formula(name, version)
        ]


def _other(alternative: Alternative) -> Other:
    return Other(_styles(alternative.formula), alternative.complexity, alternative.rmse, alternative.validation_rmse)


def _styles(formula: Any) -> dict[str, str]:
    """A local or served formula in each notation."""
    return {style: getattr(formula, style) for style in ("text", "latex", "python", "c")}
