"""The `kanserve formula` command: the formula of a network or a served model, or a search for one in a table."""

import json
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from kanserve.cli import arguments
from kanserve.cli.commands.flag_types import Decimal, Force, Inputs, Json, Quiet, Seed, Target
from kanserve.cli.commands.formula_sources import Shown, alternatives, of_model
from kanserve.cli.commands.server_access import ServerAccess, ServerName, Tls, TlsCa, TlsCertificate, TlsKey, TokenFile
from kanserve.cli.terminal import finite, free, print_rows, show, warn, write_whole
from kanserve.data.dataset import Dataset
from kanserve.data.table_files import read_table
from kanserve.errors import FormulaError, InputError
from kanserve.network.kan import Kan

if TYPE_CHECKING:
    from kanserve.search import Findings, FindingsByOutput

Style = Literal["text", "latex", "python", "c", "json"]
TABLES = (".csv", ".parquet", ".pq")


def show_formula(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="A .safetensors file, a model's or version's folder, host:port/name[/version], or a table to search.",
        ),
    ],
    style: Annotated[Style, typer.Option("--as", help="How the formula is written.")] = "text",
    strict: Annotated[
        bool,
        typer.Option(
            "--strict/--no-strict",
            help="Refuse a formula that is not finite on 1000 rows of its range and its corners.",
        ),
    ] = False,
    pareto: Annotated[bool, typer.Option("--pareto", help="List the formulas found, the simplest first.")] = False,
    data: Annotated[Path | None, typer.Option(help="Rows for the standard errors of a network's constants.")] = None,
    target: Target = None,
    inputs: Inputs = None,
    units: Annotated[str, typer.Option(help="Units of the table's columns, as in 'm=kg,v=m/s'.")] = "",
    seconds: Annotated[
        float | None, typer.Option(min=0.1, help="How long to search; default: 60, or unlimited with --max-fits.")
    ] = None,
    max_fits: Annotated[
        int | None, typer.Option(min=1, help="The number of fits in the search; gives the same result on any machine.")
    ] = None,
    n_jobs: Annotated[int, typer.Option(min=-1, help="Worker processes of the search; -1: one per core.")] = 1,
    pick: Annotated[int | None, typer.Option(min=1, help="The number of the formula to write to --out.")] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="The file for the found formula's network.")] = None,
    decimal: Decimal = None,
    seed: Seed = 0,
    tls: Tls = False,
    tls_ca: TlsCa = None,
    tls_certificate: TlsCertificate = None,
    tls_key: TlsKey = None,
    server_name: ServerName = "",
    token_file: TokenFile = None,
    force: Force = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Print the formula of each output in raw units; or search a table for formulas.

    Example: kanserve formula simple.safetensors --as latex

    Example: kanserve formula houses.csv --target price --pareto --pick 2 --out law.safetensors
    """
    as_json = as_json or style == "json"
    style = "text" if style == "json" else style
    access = ServerAccess(tls, tls_ca, tls_certificate, tls_key, server_name, token_file)
    if Path(source).suffix.lower() in TABLES:
        from kanserve.search import find_formulas

        access.refuse(source)
        if data is not None:
            raise InputError("--data is for the formula of a network; a search uses the rows of its table.")
        rows = read_table(Path(source), arguments.require(target), inputs or (), "regression", decimal=decimal)
        options: dict[str, Any] = {"seconds": seconds, "max_fits": max_fits, "seed": seed, "n_jobs": n_jobs}
        options["units"] = arguments.pairs("--units", units, "m=kg,v=m/s") or None
        view = _View(style, as_json, pareto, out)
        if out is not None:
            free(out, force, reads=[Path(source)])
        _check_pick(pick, view, rows)
        found: Any = find_formulas(rows, **options, progress=not quiet)  # FindingsByOutput for several outputs
        if len(rows.outputs) > 1:
            _give_several(found, view)
        else:
            _give(found, pick, view)
    elif inputs or units or pick is not None or out is not None:
        raise InputError("--input, --units, --pick and --out are for a search: give a .csv or .parquet file first.")
    else:
        _show_laws(of_model(source, data, target, strict, access, decimal), _View(style, as_json, pareto))


@dataclass(frozen=True)
class _View:
    """How formulas are shown, and the file for the chosen one's network."""

    style: str
    as_json: bool
    pareto: bool
    out: Path | None = None


def _check_pick(pick: int | None, view: _View, rows: Dataset) -> None:
    if pick is not None and view.out is None:
        raise InputError("--pick chooses the formula to write to a file; name the file with --out.")
    if pick is not None and len(rows.outputs) > 1:
        raise InputError("--pick is for one --target; with several, --out writes the best formula of each.")


def _show_laws(laws: Sequence[Shown], view: _View) -> None:
    if view.pareto:
        print_rows([row for law in laws for row in alternatives(law, view.style)], view.as_json)
    elif view.as_json:
        print(json.dumps(finite([law.facts(view.style) for law in laws]), ensure_ascii=False))
    else:
        for law in laws:
            _print(law, view.style)


def _give(found: "Findings", pick: int | None, view: _View) -> None:
    """Write the chosen formula's network if requested, and show the formula."""
    chosen = _pick(found, pick)
    if pick is not None and found.ended == "seconds":
        warn("the search ended by its time, so its list may differ from run to run; --max-fits ends it by its work")
    if view.out is not None:
        _write(view.out, found[chosen].kan)
    _show_found(found, chosen, view)


def _print(law: Shown, style: str) -> None:
    text = law.styles[style]
    if not text:
        raise FormulaError(f"The formula of {law.name} is too long for --as {style}; export the network instead.")
    print(f"{law.name} = {text}")
    if not law.closed_form:
        print("  (no closed form: s_l_j_i(x) is the spline from input i to sum j of layer l; exports hold its table)")
    for line in (*law.definitions, *(law.domain if style == "text" else ())):
        print(f"  where {line}")
    if style != "text":
        return
    estimated = [constant for constant in law.constants if constant.standard_error != 0]
    for constant in estimated:
        error = f"± {constant.standard_error:.2g}" if math.isfinite(constant.standard_error) else "(not determined)"
        print(f"  {constant.text} {error}")
    if law.sigma is not None:
        print(f"  standard deviation of the residuals {law.sigma:.4g}, {law.degrees} degrees of freedom")


def _pick(found: "Findings", pick: int | None) -> int:
    """The index of the chosen formula."""
    if pick is None:
        return found.candidates.index(found.best)
    if pick > len(found.candidates):
        raise InputError(f"--pick is a number in the list, from 1 to {len(found.candidates)}; got {pick}.")
    return pick - 1


def _write(out: Path, kan: Kan) -> None:
    from kanserve.network import serialization

    write_whole(out, lambda part: part.write_bytes(serialization.dumps(kan)))


def _give_several(found: "FindingsByOutput", view: _View) -> None:
    if view.out is not None:
        _write(view.out, found.kan)
    if not view.as_json:
        for findings in found.values():
            _show_found(findings, _pick(findings, None), replace(view, out=None))
        return
    outputs = {
        name: {
            "candidates": _list(findings, _pick(findings, None), view),
            "status": findings.status,
            "ended": findings.ended,
        }
        for name, findings in found.items()
    }
    show({"outputs": outputs} if view.out is None else {"outputs": outputs, "file": str(view.out)}, True)


def _list(found: "Findings", chosen: int, view: _View) -> list[dict[str, Any]]:
    """The facts of all formulas, or of the chosen one only."""
    rows: list[dict[str, Any]] = [
        {
            "number": place + 1,
            "chosen": place == chosen,
            "complexity": candidate.complexity,
            "error": candidate.error,
            "validation": candidate.validation,
            "exact": candidate.exact,
            "refuted": candidate.refuted,
            "defined": candidate.defined,
            "where": candidate.formula.domain,
            "formula": f"{candidate.formula.name} = {getattr(candidate.formula, view.style)}",
        }
        for place, candidate in enumerate(found.candidates)
    ]
    return rows if view.pareto else [rows[chosen]]


def _show_found(found: "Findings", chosen: int, view: _View) -> None:
    rows = _list(found, chosen, view)
    after = () if view.out is None else ("kanserve", "publish", str(view.out), "models", "--name", "model")
    if view.as_json:
        facts = {"candidates": rows, "status": found.status, "ended": found.ended}
        show(facts if view.out is None else {**facts, "file": str(view.out)}, True)
    elif view.pareto:
        print(found.meaning, file=sys.stderr)
        print_rows(rows, False, after)
    else:
        candidate = found.candidates[chosen]
        _print(Shown.of(candidate.formula), view.style)
        if candidate.defined < 1 and view.style == "text":
            print(f"  finite on {candidate.defined:.1%} of the rows")
