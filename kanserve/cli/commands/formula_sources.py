"""Where `kanserve formula` has its formulas from, and what it shows of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kanserve.cli import arguments
from kanserve.errors import InputError, NotFoundError
from kanserve.formula import Formula, formulas
from kanserve.formula import from_json as formulas_from
from kanserve.formula.constants.constants import Constant
from kanserve.formula.constants.uncertainty_report import Alternative, Evidence, evidence
from kanserve.formula.constants.uncertainty_report import from_json as evidence_from
from kanserve.network import serialization
from kanserve.network.kan import Kan


@dataclass(frozen=True)
class Other:
    """A formula of a list: text and LaTeX, complexity, and its errors (RMSE) on the rows learned from and held out."""

    styles: Mapping[str, str]
    complexity: float
    rmse: float
    validation_rmse: float | None


@dataclass(frozen=True)
class Shown:
    """What is shown of one output's formula; `styles` are its spellings by their names."""

    name: str
    styles: Mapping[str, str]
    closed_form: bool
    domain: tuple[str, ...]
    constants: tuple[Constant, ...]
    sigma: float | None
    degrees: int | None
    others: tuple[Other, ...]

    @classmethod
    def of(cls, one: Formula, known: Evidence | None = None) -> "Shown":
        """A formula that is here, with what is known of it."""
        known = known or Evidence()
        others = tuple(_other(alternative) for alternative in known.alternatives)
        styles = _styles(one)
        return cls(one.name, styles, one.closed_form, one.domain, known.constants, known.sigma, known.degrees, others)

    def facts(self, style: str) -> dict[str, Any]:
        """For scripts; the formula in one style."""
        return {
            "output": self.name,
            "formula": self.styles[style],
            "closed_form": self.closed_form,
            "domain": self.domain,
            "constants": [
                {"value": constant.value, "text": constant.text, "standard_error": constant.standard_error}
                for constant in self.constants
            ],
            "residual_standard_deviation": self.sigma,
            "degrees_of_freedom": self.degrees,
        }


def of_model(source: str, data: Path | None, target: list[str] | None, strict: bool) -> list[Shown]:
    """The formulas of a network's file, of a published version, or of a model of a server.

    With `strict` a formula that is not finite on 1000 rows of its range and its corners is refused, of a file and of a
    folder alike; else it is shown with its conditions. Of a served model there is no network to ask.
    """
    path = Path(source)
    if path.is_dir():
        artifact = arguments.read_version(path)
        if strict:
            formulas(artifact.kan())
        known = tuple(evidence_from(one) for one in artifact.evidence)
        if data is not None:
            return _with_rows(artifact.kan(), formulas_from(artifact.formulas), data, target)
        found = formulas_from(artifact.formulas)
        return [Shown.of(one, known[q] if known else None) for q, one in enumerate(found)]
    if path.suffix == ".safetensors" or path.exists() or "/" not in source:
        kan = serialization.load(path)
        return _with_rows(kan, formulas(kan, strict=strict), data, target)
    if data is not None:
        raise InputError("--data is for a network's file or a version's folder; a server says what its model knows.")
    if strict:
        raise InputError(
            "--strict is for a network's file or a version's folder; a served formula says its conditions."
        )
    return _served(*arguments.served(source))


def alternatives(one: Shown, style: str) -> list[dict[str, Any]]:
    """The rows of an output's list of formulas; NotFoundError when it has none."""
    if not one.others:
        raise NotFoundError(
            f"{one.name} has no list of formulas: search its table, 'kanserve formula data.csv --target {one.name} "
            "--pareto', or give a model that was compiled with candidates."
        )
    spelled = "latex" if style == "latex" else "text"
    return [
        {
            "complexity": other.complexity,
            "error": other.rmse,
            "validation": other.validation_rmse,
            "formula": f"{one.name} = {other.styles[spelled]}",
        }
        for other in one.others
    ]


def _with_rows(kan: Kan, found: Sequence[Formula], table: Path | None, target: list[str] | None) -> list[Shown]:
    if table is None or kan.classes:
        return [Shown.of(one) for one in found]
    rows = arguments.data_of(kan, table, target)
    return [Shown.of(one, evidence(one, rows.x, rows.y[:, q])) for q, one in enumerate(found)]


def _served(address: str, name: str, version: str) -> list[Shown]:
    from kanserve.client import Client

    with Client(address) as client:
        return [
            Shown(
                one.name,
                _styles(one),
                one.closed_form,
                one.domain,
                one.constants,
                one.sigma,
                one.degrees,
                tuple(
                    Other({"text": each.text, "latex": each.latex}, each.complexity, each.rmse, each.validation_rmse)
                    for each in one.pareto
                ),
            )
            for one in client.formula(name, version)
        ]


def _other(one: Alternative) -> Other:
    return Other(_styles(one.formula), one.complexity, one.rmse, one.validation_rmse)


def _styles(one: Any) -> dict[str, str]:
    """The spellings of a formula, be it here or served."""
    return {style: getattr(one, style) for style in ("text", "latex", "python", "c")}
