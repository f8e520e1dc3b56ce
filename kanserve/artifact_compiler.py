"""Compile a network to an artifact: the exporters' files, its formulas, and golden rows (test vectors)."""

import hashlib
import logging
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import kanserve_exporters
from kanserve import formula
from kanserve.artifact.directory import write_files
from kanserve.artifact.format import Artifact, Metrics, assemble
from kanserve.artifact.manifest import INTERVALS
from kanserve.artifact.naming_rules import check_name
from kanserve.data.dataset import Dataset, Target, TrainingData
from kanserve.errors import ConflictError, ExportError, InputError, MissingDependencyError, NotFoundError
from kanserve.formula import Formula
from kanserve.formula.constants.uncertainty_report import (
    Candidate,
    Candidates,
    Evidence,
    agrees,
    evidence,
    list_candidates,
    to_json,
)
from kanserve.formula.from_network.stored_formulas import formulas_to_store
from kanserve.network.conformal_intervals import ConformalInterval, conformal_intervals
from kanserve.network.encoding import encode
from kanserve.network.evaluate import evaluate, softmax
from kanserve.network.export_options import ExportOptions, ExportPrecision, Precision
from kanserve.network.fitted_rows import share_of_fitted_rows, too_many_seen
from kanserve.network.kan import Kan, require_kan
from kanserve.network.parameter_names import names_parameters
from kanserve.network.rounding_error import rounding, scale, steady_rows
from kanserve.network.training_bins import with_missing_bins
from kanserve.network.training_range import breaking_point, ranges
from kanserve.runtime import c_backend, load_backend
from kanserve.train.encoded_data import samples_for
from kanserve.train.scoring import score
from kanserve_exporters import c_source

Array = NDArray[np.float64]

EXPORTERS = ("onnx_graph", "c_source", "numpy_source")
GOLDEN_ROWS = 32
_STEADY = 1e-2  # of its scale: a row that changes by more when rounded to float cannot test a float backend


@names_parameters()
def compile(
    kan: Kan,
    formats: Sequence[str] = EXPORTERS,
    *,
    name: str | None = None,
    precision: Precision | None = None,
    options: ExportOptions | None = None,
    processors: Sequence[str] = (),
    data: TrainingData | None = None,
    target: Target = None,
    candidates: Candidates | Sequence[Candidate] = (),
    provenance: Mapping[str, str] | None = None,
) -> Artifact:
    """The artifact of a network, with every backend that this machine can run checked against the golden rows.

    `options` are the exporters' options; `name` ("model") and `precision` ("double") override theirs. `processors` are
    other machines, such as "aarch64-linux-gnu", for which libraries are added beside the C source.

    `data` are rows that the network has not seen: the artifact then records how well it fits them, prediction intervals
    of 80, 90 and 95 % (`kanserve.network.conformal_intervals`), and for closed forms the standard errors of the
    constants on these rows (the last two not for a classifier or weighted rows, where the theory does not apply). There
    are no intervals if the network was fitted to these rows, of which it has a record: its errors on them are smaller
    than on new rows. The note "intervals" of the provenance, the model card and a warning of the logger "kanserve" say
    so.
    `candidates` are the formulas that `find_formulas` found for the single output; InputError if none of them equals
    the network. C source has the derivatives of the outputs where they cost little. Without a C compiler the C source
    has no library; the provenance notes this, and any backend that could not be run.

    Parameters
    ----------
    kan : Kan
        The network.
    formats : sequence of str or str
        The formats that the artifact holds.
    name, precision, options, processors
        As `kanserve.export` takes them.
    data : Dataset, tuple of array_like or DataFrame, optional
        Samples that the network has not seen.
    target : str or sequence of str, optional
        The columns of a DataFrame that are the targets.
    candidates : sequence, optional
        Formulas that `find_formulas` found.
    provenance : mapping of str to str, optional
        Notes for people.

    Returns
    -------
    Artifact
        What `kanserve.publish` takes.

    Raises
    ------
    InputError
        An option cannot be used.
    GoldenError
        A backend does not compute what the network computes.

    Examples
    --------
    >>> import kanserve
    >>> kan = kanserve.from_formula("2*x + 1", ranges={"x": (0, 1)})
    >>> kanserve.compile(kan, ["numpy_source"]).backends
    ('numpy_source',)
    """
    require_kan(kan)
    kan = replace(kan, members=()) if kan.members else kan  # which a server does not need
    options = _options(options or ExportOptions(), name, precision)
    rows = None if data is None else samples_for(kan, data, target)
    if rows is not None and rows.x.shape[1] == len(kan.inputs):  # others are refused below
        kan = with_missing_bins(kan, rows.x)
    return _compile(kan, _list(formats), options, True, processors, rows, candidates, provenance)


def _list(formats: Sequence[str]) -> list[str]:
    """The formats as a list. Raises InputError if they are not names."""
    names = [formats] if isinstance(formats, str) else list(formats)
    if not all(isinstance(name, str) for name in names):
        raise InputError("formats are names such as 'onnx_graph'; give samples as data=.")
    return names


def _compile(
    kan: Kan,
    formats: Sequence[str],
    options: ExportOptions,
    derivatives: bool,
    processors: Sequence[str] = (),
    rows: Dataset | None = None,
    candidates: Candidates | Sequence[Candidate] = (),
    provenance: Mapping[str, str] | None = None,
) -> Artifact:
    """Like `compile`. With `derivatives`, C gets them even if the options do not ask, provided they are cheap."""
    intervals, origin = (options.intervals, {}) if rows is None or options.intervals else _intervals(kan, rows)
    options = replace(options, intervals=intervals)
    others = list_candidates(candidates)
    golden, fit = golden_rows(kan), None if rows is None else metrics(kan, rows)
    parts, notes = _export(kan, formats, options, derivatives, processors)
    written = formulas_to_store(kan)
    artifact = assemble(
        kan,
        parts,
        formulas=formula.to_json(written),
        evidence=_evidence(kan, written, rows, others, golden),
        golden=golden,
        name=options.name,
        precision=options.floating,
        metrics=fit,
        provenance=_make_with(rows) | dict(provenance or {}) | origin | notes,
        intervals=intervals,
    )
    return _check(artifact, formats)


def _export(
    kan: Kan, formats: Sequence[str], options: ExportOptions, derivatives: bool, processors: Sequence[str]
) -> tuple[dict[str, bytes], dict[str, str]]:
    """Like `export_files`; C gets derivatives if they are requested, or wanted, cheap and possible."""
    added = derivatives and not options.gradient and "c_source" in formats and c_source.has_cheap_gradient(kan)
    if added and options.precision == "double":
        try:
            return export_files(kan, formats, replace(options, gradient=True), processors)
        except ExportError:  # a function that has no derivative in C
            pass
    return export_files(kan, formats, options, processors)


def _evidence(
    kan: Kan,
    written: Sequence[Formula],
    rows: Dataset | None,
    candidates: Sequence[Candidate],
    golden: tuple[Array, Array],
) -> list[Any]:
    """The evidence for each output's formula as JSON data; empty if there is none."""
    if candidates and len(written) > 1:
        raise InputError(f"Candidates are formulas of one output; this network has {len(written)}.")
    if candidates and not any(agrees(candidate.formula, golden[0], golden[1][:, 0]) for candidate in candidates):
        raise InputError("None of the candidates gives what the network gives: they belong to another one.")
    if rows is None or rows.classes or not all(formula.tree for formula in written):
        found = [evidence(law, candidates=candidates) for law in written]
    else:
        x = encode(kan, rows.x)
        found = [evidence(law, x, rows.y[:, q], candidates, rows.weights) for q, law in enumerate(written)]
    return [to_json(item) for item in found] if any(item != Evidence() for item in found) else []


def golden_rows(kan: Kan) -> tuple[Array, Array]:
    """The golden rows x and outputs y: GOLDEN_ROWS rows in the training range (chosen by `steady_rows`), one just
    outside it (unless rounding changes it much), one with a NaN and, if inputs may be missing, one without any."""
    x = steady_rows(kan, GOLDEN_ROWS)
    if len(x) == 0:
        raise ExportError(f"The network is finite nowhere in its training range. {breaking_point(kan)}")
    low, high = ranges(kan).T
    outside = (high + (high - low) / 100)[None]
    y = evaluate(kan, outside)
    if np.isfinite(y).all():
        size = np.maximum(np.abs(y), scale(evaluate(kan, x)).min(axis=0))
        if not (rounding(kan, outside, "float") <= _STEADY * size).all():
            outside = outside[:0]
    missing = x[:1].copy()
    missing[0, 0] = np.nan
    filled = [i for i, variable in enumerate(kan.inputs) if variable.fill_value is not None]
    if filled:
        missing = np.concatenate([missing, x[:1]])
        missing[1, filled] = np.nan
    x = np.concatenate([x, outside, missing])
    return x, evaluate(kan, x)


def metrics(kan: Kan, data: Dataset) -> Metrics:
    """How well the network fits the rows, per output; for a classifier, its probabilities, with the accuracy."""
    fit = score(kan, data)
    answers = evaluate(kan, data.x)
    answers = softmax(answers) if kan.classes else answers
    with np.errstate(all="ignore"):
        largest = np.abs(answers - data.y).max(axis=0)
    return Metrics(
        rows=len(data),
        r2=_finite(fit.r2),
        rmse=_finite(fit.rmse),
        max_error=_finite(largest.tolist()),
        accuracy=None if fit.accuracy is None else _finite([fit.accuracy])[0],
    )


def _intervals(kan: Kan, data: Dataset) -> tuple[tuple[ConformalInterval, ...], dict[str, str]]:
    """Prediction intervals from unseen samples, and a note on their origin, or on why there are none. None for
    classifiers and weighted rows, for which they are undefined, or if the network was fitted to the rows."""
    if kan.classes or data.weights is not None:
        return (), {}
    seen = share_of_fitted_rows(kan, data)
    if too_many_seen(seen):
        note = (
            f"none: the network was fitted to {_percent(seen)} of these {len(data)} rows, and its errors on them are "
            "smaller than on new rows. Hold rows out of the fit, and compile with those: fitted, unseen = "
            "data.split(0.25)"
        )
        logging.getLogger("kanserve").warning("Prediction intervals: %s.", note)
        return (), {INTERVALS: note}
    note = f"by the errors on {len(data)} rows that the network was not fitted to (split conformal prediction)"
    if seen is None:
        note = (
            f"by the errors on {len(data)} rows (split conformal prediction); the network has no record that tells "
            "whether it was fitted to them, so make sure that it was not"
        )
    intervals = conformal_intervals(evaluate(kan, data.x), data.y)
    if not intervals:
        note = f"none: {len(data)} rows are too few, or the network is not finite on them; 90 % take at least 9 rows"
    return intervals, {INTERVALS: note}


def _percent(share: float) -> str:
    return "all" if share == 1 else f"{100 * share:.0f} %"


def _options(options: ExportOptions, name: str | None, precision: ExportPrecision | None) -> ExportOptions:
    """The options of an artifact. Raises InputError for options that it cannot have."""
    options = replace(options, name=name or options.name, precision=precision or options.precision)
    check_name(options.name)
    if options.c_form != "files":
        raise InputError(
            f'An artifact holds C as "files", got "{options.c_form}": a header of its own is what its library is built '
            "from. 'kanserve export --c-form' writes the other forms."
        )
    if options.in_integers:
        raise InputError("An artifact computes in double or float; 'kanserve export' writes C in integers.")
    return options


@names_parameters()
def export(
    kan: Kan,
    folder: str | os.PathLike[str],
    formats: Sequence[str] = EXPORTERS,
    *,
    name: str | None = None,
    precision: ExportPrecision | None = None,
    options: ExportOptions | None = None,
    processors: Sequence[str] = (),
) -> tuple[Path, ...]:
    """Write a network as source, graph and library files, like `kanserve export`.

    Each format that runs on this machine is compared with the network before anything is written. A format that
    cannot run here (C without a compiler, ONNX without onnxruntime) is written without this check; the logger
    "kanserve" warns.

    Parameters
    ----------
    kan : Kan
        The network.
    folder : str or path
        A new folder. Each format gets a folder of its own in it. Missing parent folders are made.
    formats : sequence of str or str
        One or more of "onnx_graph", "c_source", "numpy_source", "javascript_source" and "wasm_module".
    name : str, default="model"
        Files and C functions are named from it.
    precision : {"double", "float", "int16", "int8"}, default="double"
        The type that the exported files compute in; integers are for C alone.
    options : ExportOptions, optional
        Further options of single formats; `name` and `precision` override those in it.
    processors : sequence of str
        Other machines for which a C library is built, such as "aarch64-linux-gnu".

    Returns
    -------
    tuple of Path
        The files that were written, sorted.

    Raises
    ------
    ConflictError
        The folder is there already.
    InputError
        An option cannot be used, or the folder cannot be written.
    NotFoundError
        Unknown format.
    GoldenError
        A format does not compute what the network computes.

    Examples
    --------
    >>> import kanserve, tempfile, pathlib
    >>> kan = kanserve.from_formula("2*x + 1", ranges={"x": (0, 1)})
    >>> place = pathlib.Path(tempfile.mkdtemp())
    >>> [path.name for path in kanserve.export(kan, place / "line", ["numpy_source"], name="line")]
    ['line.py']
    """
    formats = _list(formats)
    require_kan(kan)
    options = options or ExportOptions()
    options = replace(options, name=name or options.name, precision=precision or options.precision)
    if os.path.lexists(folder):
        raise ConflictError(f"{os.fspath(folder)} is there already; choose another folder.")
    files, notes = check_files(kan, formats, options, processors)
    write_files(Path(folder), files)
    for line in not_compared(formats, notes):
        logging.getLogger("kanserve").warning("%s", line)
    return tuple(Path(folder, path) for path in sorted(files))


def check_files(
    kan: Kan, formats: Sequence[str], options: ExportOptions, processors: Sequence[str] = ()
) -> tuple[dict[str, bytes], dict[str, str]]:
    """The files of the formats, checked against golden rows if they run here, and why the others were not run."""
    check_name(options.name)
    alone = [name for name in formats if name == "c_source" and (options.c_form != "files" or options.in_integers)]
    files, notes = export_files(kan, alone, options, processors) if alone else ({}, {})
    checked = [name for name in formats if name not in alone]
    if checked and options.in_integers:
        raise InputError(
            f"Only C computes in integers: choose the format c_source alone, without {', '.join(checked)}."
        )
    if checked:
        artifact = _compile(kan, checked, _options(replace(options, c_form="files"), None, None), False, processors)
        files |= {path: data for path, data in artifact.files.items() if path.split("/")[0] in checked}
        notes = {**artifact.manifest.provenance, **notes}
    return files, notes


def not_compared(formats: Sequence[str], notes: Mapping[str, str]) -> list[str]:
    """A line for each format that was not compared with the network, with the reason from the notes."""
    reasons = {name: notes.get(name) or notes.get(f"{name} not checked") for name in formats}
    return [f"{name} is not compared with the network: {why}" for name, why in reasons.items() if why]


def export_files(
    kan: Kan, formats: Sequence[str], options: ExportOptions, processors: Sequence[str] = ()
) -> tuple[dict[str, bytes], dict[str, str]]:
    """The files of all formats, each in its folder, with libraries of the C source; and notes. Without a compiler, the
    library for this machine is left out with a note; without the tools for `processors`, MissingDependencyError is
    raised."""
    if processors and ("c_source" not in formats or options.c_form != "files" or options.in_integers):
        raise InputError(
            'Libraries for other processors are built from the format c_source in the form "files", in double or float.'
        )
    files: dict[str, bytes] = {}
    notes: dict[str, str] = {}
    for kind in formats:
        made = dict(kanserve_exporters.get(kind).export(kan, options))
        if kind == "c_source" and options.in_integers:
            pass  # it is compared with the network bit by bit as it is written, and says its bound
        elif kind == "c_source" and options.c_form == "files":
            for processor in processors:
                made |= c_backend.build(made, target=processor)
            try:
                # One of them may be this machine: then its library is there already.
                if c_backend.library_name() not in made:
                    made |= c_backend.build(made, vector_math=options.vector_math)
            except (MissingDependencyError, NotFoundError) as error:
                notes["c_source"] = f"no library: {error}"[:500]
        elif kind == "c_source":
            notes[kind] = f'kanserve runs C in the form "files", this is "{options.c_form}"'
        files |= {f"{kind}/{path}": data for path, data in made.items()}
    return files, notes


def _check(artifact: Artifact, formats: Sequence[str]) -> Artifact:
    """Check every backend that runs here against the golden rows. Raises GoldenError on failure."""
    notes = {}
    for kind in formats:
        try:
            load_backend(artifact, kind)
        except (MissingDependencyError, NotFoundError) as error:
            notes[f"{kind} not checked"] = str(error)[:500]
    manifest = replace(artifact.manifest, provenance={**artifact.manifest.provenance, **notes})
    return replace(artifact, manifest=manifest)


def _make_with(data: Dataset | None) -> dict[str, str]:
    try:
        made = {"kanserve": version("kanserve")}
    except PackageNotFoundError:
        made = {"kanserve": "not installed"}  # run from its source
    if data is not None:
        digest = hashlib.sha256(data.x.tobytes() + data.y.tobytes())
        made["data"] = f"{len(data)} rows, sha256 {digest.hexdigest()} of x and y as float64"
    return made


def _finite(values: Sequence[float]) -> tuple[float | None, ...]:
    return tuple(value if math.isfinite(value) else None for value in values)
