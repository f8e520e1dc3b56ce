"""The `kanserve export` command: a network in several formats, each checked if it runs here, or as a function."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from kanserve.cli import arguments
from kanserve.cli.commands.flag_types import DEFAULT_FORMATS, Force, Formats, Hessian, Json, KanFile
from kanserve.cli.terminal import free, print_rows, show, warn, write_whole
from kanserve.errors import ConflictError, InputError
from kanserve.network.export_options import CForm, ExportOptions, ExportPrecision, OnnxForm
from kanserve.network.kan import Kan

Language = Literal[
    "bigquery",
    "c",
    "duckdb",
    "excel",
    "fortran",
    "julia",
    "latex",
    "matlab",
    "numpy",
    "octave",
    "postgresql",
    "python",
    "rust",
    "sql",
    "sqlite",
]
_OF_ONE_FORMAT = {
    **dict.fromkeys(("gradient", "hessian", "c_form", "vector_math", "tolerance"), "c_source"),
    **dict.fromkeys(("onnx_form", "opset", "ir_version"), "onnx_graph"),
}


def export_network(
    kan_file: KanFile,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="A new folder, with one per format; or the formula's file.")
    ] = None,
    formats: Formats = DEFAULT_FORMATS,
    to: Annotated[
        Literal["edge-server"] | None,
        typer.Option(help="edge-server: C source of a server for this one model, a static binary without Python."),
    ] = None,
    name: Annotated[str, typer.Option(help="The model's name: files and C functions are named from it.")] = "model",
    precision: Annotated[
        ExportPrecision, typer.Option(help="The type that the files compute in; C also in integers of 16 or 8 bits.")
    ] = "double",
    tolerance: Annotated[
        float | None,
        typer.Option(
            help="C in integers: the largest error, as a share of the outputs' range, proven; it chooses int8 or int16."
        ),
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Measure size, errors and speed of each format; needs no --out.")
    ] = False,
    formula_only: Annotated[
        Language | None,
        typer.Option(help="Only the formulas: a function in this language, an SQL query, or formulas of cells."),
    ] = None,
    cells: Annotated[
        str, typer.Option(help="Excel: the cells of inputs, as in 'area=C2,rooms=[@rooms]'; else A2, B2, and so on.")
    ] = "",
    gradient: Annotated[bool, typer.Option("--gradient", help="C: also the derivatives of the outputs.")] = False,
    hessian: Hessian = False,
    c_form: Annotated[CForm, typer.Option(help="C: how the source is divided into files.")] = "files",
    processors: Annotated[
        list[str] | None,
        typer.Option(
            help="C: also a library for this processor, as in 'aarch64-linux-gnu'; repeat, or use commas. edge-server: "
            "what its README and CMake build for."
        ),
    ] = None,
    vector_math: Annotated[
        bool, typer.Option("--vector-math", help="C: batches may use the C library's vector math functions.")
    ] = False,
    onnx_form: Annotated[
        OnnxForm, typer.Option(help="ONNX: functions, or operators for runtimes without functions.")
    ] = "functions",
    opset: Annotated[int, typer.Option(help="ONNX: the opset version.")] = ExportOptions.opset,
    ir_version: Annotated[int, typer.Option(help="ONNX: the IR version.")] = ExportOptions.ir_version,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Write a network as an ONNX graph, C source and a NumPy module.

    Formats that can run here are compared with the network first; others are written too, with a note on standard
    error.

    Example: kanserve export simple.safetensors --out exported --formats c_source --precision float

    Example: kanserve export simple.safetensors --out exported --formats c_source --precision int16

    Example: kanserve export simple.safetensors --check

    Example: kanserve export simple.safetensors --formula-only fortran --name law

    Example: kanserve export simple.safetensors --formula-only postgresql --name houses

    Example: kanserve export simple.safetensors --to edge-server --name law --out law-server
    """
    options = ExportOptions(
        name=name,
        precision=precision,
        gradient=gradient,
        hessian=hessian,
        c_form=c_form,
        vector_math=vector_math,
        onnx_form=onnx_form,
        opset=opset,
        ir_version=ir_version,
        tolerance=tolerance,
    )
    targets = [word.strip() for option in processors or () for word in option.split(",") if word.strip()]
    plain = options == ExportOptions(name, precision) and formats == DEFAULT_FORMATS and not check
    others = {"options of formats": not plain, "cells": cells, "force": force, "processors": targets, "json": as_json}
    given = {option for option, there in others.items() if there}
    if to is not None:
        if given - {"processors", "json"}:
            raise InputError("--to edge-server takes --name, --precision, --processors and --out, and no other option.")
        _write_edge_server(kan_file, out, options, targets, as_json)
    elif formula_only is not None:
        if given - {"cells", "force"}:
            raise InputError(
                "--formula-only takes --name, --precision, --cells, --out and --force, and no other option."
            )
        of_inputs = arguments.pairs("--cells", cells, "area=C2,rooms=D2")
        _write_law(arguments.network(kan_file), formula_only, options, kan_file, out, force, of_inputs)
    elif cells:
        raise InputError("--cells is for --formula-only excel.")
    elif force:
        raise InputError("--force is only for --formula-only: an existing folder is never replaced.")
    else:
        _write_formats(kan_file, out, arguments.names(formats), options, targets, check, as_json)


def _write_formats(
    kan_file: Path,
    out: Path | None,
    formats: Sequence[str],
    options: ExportOptions,
    processors: Sequence[str],
    check: bool,
    as_json: bool,
) -> None:
    """Write the files of all formats that agree with the network, or only measure them."""
    from kanserve.artifact.directory import write_files
    from kanserve.artifact.naming_rules import check_name
    from kanserve.artifact_compiler import check_files, export_files

    if check and options.in_integers:
        raise InputError("--check measures double and float; the README.md of C in integers says its bound and error.")
    if out is None and not check:
        raise InputError("Give an output folder with --out, or only measure with --check.")
    if out is not None and out.exists():
        raise ConflictError(f"{out} is there already; choose another folder.")
    refuse_unused(options, formats)
    check_name(options.name)
    kan = arguments.network(kan_file)
    rows: Sequence[Mapping[str, Any]] = []
    if not check:
        files, notes = check_files(kan, formats, options, processors)
    else:
        from kanserve.cli.commands.export_check import check as measured

        files, notes = export_files(kan, formats, options, processors)
        rows = measured(kan, files, formats, options.floating)
        notes = {row["format"]: row["note"] for row in rows if row["agrees"] is None} | notes
    agrees = all(row["agrees"] is not False for row in rows)
    if out is not None and agrees:
        write_files(out, files)
    _show(files, rows, as_json)
    warn_not_compared(formats, notes)
    if not agrees:
        warn("A format disagrees with the network: nothing is written. This is a bug in kanserve; please report it.")
        raise typer.Exit(1)


def _write_edge_server(
    kan_file: Path, out: Path | None, options: ExportOptions, processors: Sequence[str], as_json: bool
) -> None:
    from kanserve.artifact.directory import write_files
    from kanserve.serve.edge_server import edge_server

    if len(processors) > 1:
        raise InputError("--to edge-server takes one of --processors.")
    if out is None:
        raise InputError("Give an output folder with --out.")
    if out.exists():
        raise ConflictError(f"{out} is there already; choose another folder.")
    processor = processors[0] if processors else None
    files = edge_server(arguments.network(kan_file), options.name, precision=options.floating, target=processor)
    write_files(out, files)
    _show(files, [], as_json)


def warn_not_compared(formats: Sequence[str], notes: Mapping[str, str]) -> None:
    """Warn of each format that was not compared, with the reason from the notes."""
    from kanserve.artifact_compiler import not_compared

    for line in not_compared(formats, notes):
        warn(line)


def refuse_unused(options: ExportOptions, formats: Sequence[str]) -> None:
    """Raise InputError for an option of a format that was not chosen."""
    for name, needed in _OF_ONE_FORMAT.items():
        if needed not in formats and getattr(options, name) != getattr(ExportOptions, name):
            raise InputError(f"--{name.replace('_', '-')} is for {needed}, which is not among the formats.")


def _write_law(
    kan: Kan,
    language: str,
    options: ExportOptions,
    source: Path,
    out: Path | None,
    force: bool,
    cells: Mapping[str, str],
) -> None:
    """Write the formulas as a function, to a file or standard output."""
    from kanserve import formula
    from kanserve.artifact.naming_rules import check_name

    check_name(options.name)
    if out is not None:
        free(out, force, reads=[source])
    text = formula.source(kan, language, name=options.name, precision=options.floating, cells=cells)
    if out is None:
        print(text, end="")
    else:
        write_whole(out, lambda part: part.write_text(text, "utf-8"))


def _show(files: Mapping[str, bytes], rows: Sequence[Mapping[str, Any]], as_json: bool) -> None:
    sizes = {path: f"{len(data)} bytes" for path, data in sorted(files.items())}
    if not rows:
        show(sizes, as_json)
    elif as_json:
        show({"files": {path: len(data) for path, data in sorted(files.items())}, "check": rows}, True)
    else:
        print_rows(rows, False)
