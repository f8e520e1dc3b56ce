"""kanserve.v1.FormulaService, one plain function per call: formula, edges and exact derivatives of a model.

Streaming calls return iterators and do not evaluate the network.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Set
from threading import Event
from time import perf_counter_ns
from typing import Any

import numpy as np

from kanserve.artifact.naming_rules import check_name
from kanserve.errors import DrainingError, FormulaError, InputError, IntegrityError, NotFoundError
from kanserve.formula import Formula, to_json
from kanserve.formula.constants.uncertainty_report import Alternative, Evidence
from kanserve.serve.models.catalog import Catalog, Model
from kanserve.serve.observability.metrics import measure_drift
from kanserve.serve.rpc.differentiate_answer import differentiate_answer
from kanserve.serve.rpc.explain_answer import explain_answer
from kanserve.serve.rpc.network_answer import network_answer, variable
from kanserve.serve.rpc.tensors import decode_measured, decode_rows
from kanserve.serve.state import Call, ServerState
from kanserve.v1 import formula_pb2 as pb

TEXTS = ("text", "latex", "python", "c")  # of each output
# Of all outputs together, and their names in `kanserve.formula.from_network.sources`.
FUNCTIONS = {
    **{language: language for language in ("fortran", "julia", "matlab", "numpy", "octave", "rust")},
    **{language: language for language in ("sql", "postgresql", "sqlite", "duckdb", "bigquery", "excel")},
    **{f"{language}_function": language for language in ("c", "python")},
}
SOURCES = ("c_source", "numpy_source")
PART_BYTES = 2**18  # of a file, in one message
_LIBRARIES = (".so", ".dylib", ".dll", ".a", ".lib", ".wasm")
LOOK = 0.25  # seconds between checks of an idle stream whether its client has left

_STATES = {
    "READY": pb.MODEL_STATE_READY,
    "UNAVAILABLE": pb.MODEL_STATE_UNAVAILABLE,
    "LOADING": pb.MODEL_STATE_LOADING,
    "UNLOADING": pb.MODEL_STATE_UNLOADING,
}
_States = Mapping[tuple[str, int], pb.VersionState]


class Encoded:
    """A response that is already serialized."""

    __slots__ = ("_data",)

    def __init__(self, data: bytes) -> None:
        self._data = data

    def SerializeToString(self) -> bytes:
        return self._data


def find(state: ServerState, request: Any, call: Call) -> Model:
    """The model that a request names; also recorded in the call."""
    model = state.catalog.find(request.model_name, request.model_version)
    call.model, call.version = model.name, model.version
    return model


def get_formula(state: ServerState, request: pb.GetFormulaRequest, call: Call) -> Encoded:
    """GetFormula: see `formula_answer`."""
    return Encoded(formula_answer(find(state, request, call), request.formats, state.settings.max_message_bytes))


def formula_answer(model: Model, formats: Iterable[str], most: int) -> bytes:
    """A GetFormulaResponse of at most `most` bytes, with one formula per output in the requested formats. Raises
    FormulaError if it would be larger (judged by its file's size first) or cannot be written in a language."""
    wanted = frozenset(map(_check_format, formats))
    answer = b""
    if model.words.size <= most:
        answer = model.answers.get((pb.GetFormulaResponse, wanted), lambda: _write(model, wanted))
    if model.words.size > most or len(answer) > most:
        raise FormulaError(f"The formulas of {model.name!r} need more than {most} bytes. Simplify it first.")
    return answer


def _check_format(name: str) -> str:
    if name not in TEXTS and name not in FUNCTIONS:
        raise InputError(f"A format is one of {', '.join((*TEXTS, *sorted(FUNCTIONS)))}; got {name!r:.60}.")
    return name


def _write(model: Model, wanted: frozenset[str]) -> bytes:
    formulas, evidence = model.words.read()
    texts = wanted & {*TEXTS} if wanted else {*TEXTS}
    response = pb.GetFormulaResponse(
        model_name=model.name,
        model_version=str(model.version),
        outputs=[
            _formula(model, q, formula, evidence[q] if evidence else Evidence(), texts)
            for q, formula in enumerate(formulas)
        ],
        classes=model.kan.classes,
    )
    for function in wanted & FUNCTIONS.keys():
        from kanserve.formula.from_network.sources import law  # most servers are never asked

        response.functions[function] = law(formulas, model.kan.inputs, model.kan.outputs, FUNCTIONS[function])
    return response.SerializeToString(deterministic=True)


def _formula(model: Model, q: int, formula: Formula, known: Evidence, texts: Set[str]) -> pb.OutputFormula:
    message = pb.OutputFormula(
        name=formula.name,
        closed_form=formula.closed_form,
        shortened=formula.shortened,
        variables=[variable(symbol) for symbol in formula.variables],
        constants=[
            pb.Constant(value=constant.value, text=constant.text, standard_error=constant.standard_error)
            for constant in known.constants
        ],
        residual_standard_deviation=known.sigma,
        degrees_of_freedom=known.degrees,
        pareto=[_alternative(alternative, texts) for alternative in known.alternatives],
        domain=formula.domain,
        **_texts(formula, texts),
        **_tree(formula),
    )
    if (metrics := model.manifest.metrics) is not None:
        for name in ("r2", "max_error", "rmse"):
            if (value := getattr(metrics, name)[q]) is not None:
                setattr(message, name, value)
    return message


def _alternative(alternative: Alternative, texts: Set[str]) -> pb.Alternative:
    return pb.Alternative(
        complexity=alternative.complexity,
        rmse=alternative.rmse,
        validation_rmse=alternative.validation_rmse,
        **_texts(alternative.formula, texts & {"text", "latex"}),
        **_tree(alternative.formula),
    )


def _texts(formula: Formula, texts: Set[str]) -> dict[str, Any]:
    return {name: getattr(formula, name) for name in texts}


def _tree(formula: Formula) -> dict[str, Any]:
    """The message fields for the expression and its splines, as JSON texts."""
    data = to_json([formula])
    return {"expression_json": json.dumps(data["formulas"][0]["tree"]), "tables_json": json.dumps(data["tables"])}


def get_network(state: ServerState, request: pb.GetNetworkRequest, call: Call) -> Encoded:
    """GetNetwork: see `network_answer`."""
    points = request.curve_points if request.HasField("curve_points") else None
    return Encoded(network_answer(find(state, request, call), points, state.settings.max_message_bytes))


def differentiate(state: ServerState, request: pb.DifferentiateRequest, call: Call) -> Encoded:
    """Differentiate: see `differentiate_answer`."""
    return Encoded(differentiate_answer(find(state, request, call), request.rows, call, hessian=request.hessian))


def explain(state: ServerState, request: pb.ExplainRequest, call: Call) -> pb.ExplainResponse:
    """Explain: see `explain_answer`."""
    return explain_answer(find(state, request, call), request.rows, call)


def get_drift(state: ServerState, request: pb.GetDriftRequest, call: Call) -> pb.GetDriftResponse:
    """GetDrift: the drift of each input, of all processes of the server together."""
    model = find(state, request, call)
    response = pb.GetDriftResponse(model_name=model.name, model_version=str(model.version))
    for entry in state.control.snapshot()["inputs"]:
        if entry["of"][:2] == [model.name, model.version]:
            response.inputs.extend(
                pb.InputDrift(
                    name=drift.name,
                    rows=drift.rows,
                    psi=drift.psi,
                    psi_above_chance=drift.psi_above_chance,
                    outside_share=drift.outside,
                )
                for drift in measure_drift(entry)
            )
    return response


def feedback(state: ServerState, request: pb.FeedbackRequest, call: Call) -> pb.FeedbackResponse:
    """Feedback: count how many measured values lie in the prediction intervals of a version.

    NotFoundError if it has none; TensorError for other arrays than rows and a value for each output. At most as many
    rows as of Differentiate.
    """
    model = find(state, request, call)
    if not model.manifest.intervals:
        raise NotFoundError(
            f"Version {model.version} of {model.name!r} has no prediction intervals, which measured values could be "
            "compared with. Compile it with samples that it was not trained on: data=."
        )
    rows = decode_rows(request.rows, model.kan.inputs, model.max_differentiated_rows)
    measured = decode_measured(request.measured, len(rows), len(model.kan.outputs))
    call.rows, begun = len(rows), perf_counter_ns()
    answers = model.backend.predict(rows.astype(model.backend.dtype)).astype(np.float64)
    call.computed = perf_counter_ns() - begun
    response = pb.FeedbackResponse(model_name=model.name, model_version=str(model.version))
    for interval in model.manifest.intervals:
        values, covered = model.coverage.add(interval, answers, measured)
        response.coverage.add(level=interval.level, values=values, covered=covered)
    return response


def export_source(state: ServerState, request: pb.ExportSourceRequest, call: Call) -> Iterator[pb.ExportSourceResponse]:
    """ExportSource: stream the published source files of a model in parts; compiled libraries only on request. They are
    read and verified again, and must be those of the loaded version. Raises InputError for a format that is not a
    source, NotFoundError if the model lacks it, IntegrityError if the repository has changed."""
    if request.format not in SOURCES:
        raise InputError(f"A source is one of {', '.join(SOURCES)}; got {request.format!r:.60}.")
    model = state.catalog.find(request.model_name, request.model_version)
    call.model, call.version = model.name, model.version
    artifact = state.table.source.read(model.name, model.version)
    if artifact.manifest != model.manifest:
        raise IntegrityError(f"Version {model.version} of {model.name!r} differs from the one that was loaded.")
    files = {
        path: (data, artifact.manifest.files[f"{request.format}/{path}"].sha256)
        for path, data in sorted(artifact.part(request.format).items())
        if request.include_libraries or not path.endswith(_LIBRARIES)
    }
    return _parts(model.name, str(model.version), files, call)


def _parts(
    name: str, version: str, files: dict[str, tuple[bytes, str]], call: Call
) -> Iterator[pb.ExportSourceResponse]:
    """The messages of the stream. They hold no model: a slow stream would keep an unloaded version in memory."""
    for path, (data, sha256) in files.items():
        for start in range(0, max(1, len(data)), PART_BYTES):
            if not call.alive():
                return
            end = start + PART_BYTES
            yield pb.ExportSourceResponse(
                model_name=name,
                model_version=version,
                path=path,
                data=data[start:end],
                last=end >= len(data),
                size=len(data),
                sha256=sha256,
            )


def watch(state: ServerState, request: pb.WatchRequest, call: Call) -> Iterator[pb.WatchResponse]:
    """Watch: stream the state of every version (of one or all models), then changes, until the client leaves. Each
    client is sent the difference between the last sent state and the current one, so a slow client costs no memory.
    Raises InvalidNameError; a stopping server raises DrainingError, so that clients go elsewhere."""
    if request.model_name:
        check_name(request.model_name)
        call.model = request.model_name if request.model_name in state.catalog.models else ""
    return _tell(state, request.model_name, call)


def states(catalog: Catalog, name: str = "") -> dict[tuple[str, int], pb.VersionState]:
    """The state of each version in a catalog, for one model or for all."""
    return {
        (model, version): pb.VersionState(
            model_name=model,
            model_version=str(version),
            state=_STATES[state],
            reason=catalog.reasons.get((model, version), ""),
            newest=state == "READY" and version == max(catalog.models[model]),
        )
        for (model, version), state in catalog.states.items()
        if name in ("", model)
    }


def _tell(state: ServerState, name: str, call: Call) -> Iterator[pb.WatchResponse]:
    changed = Event()
    end = state.table.subscribe(lambda catalog: changed.set())
    try:
        catalog = state.catalog
        sent, contents = states(catalog, name), catalog.contents
        del catalog  # it would keep its models in memory
        yield pb.WatchResponse(versions=sent.values(), whole=True)
        while _wait(changed, state, call):
            changed.clear()
            catalog = state.catalog
            now, known, contents = states(catalog, name), contents, catalog.contents
            del catalog
            anew = {key for key, content in contents.items() if known.get(key, content) != content}
            if difference := list(_differences(sent, now, anew)):
                yield pb.WatchResponse(versions=difference)
            sent = now
    finally:
        end()


def _wait(changed: Event, state: ServerState, call: Call) -> bool:
    """Wait until something changes. Returns False once the client has left."""
    while call.alive():
        if state.threads.draining:
            raise DrainingError("The server is stopping. Watch another, or this one when it is back.")
        if changed.wait(LOOK):
            return True
    return False


def _differences(told: _States, now: _States, anew: set[tuple[str, int]]) -> Iterator[pb.VersionState]:
    """The versions whose state differs from the one last sent, or whose content was replaced under the same state."""
    for name, version in told:
        if (name, version) not in now:
            yield pb.VersionState(model_name=name, model_version=str(version), state=pb.MODEL_STATE_REMOVED)
    for key, state in now.items():
        if told.get(key) != state or key in anew:
            yield state
