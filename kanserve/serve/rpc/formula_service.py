"""kanserve.v1.FormulaService, one plain function per call: formula, edges and exact derivatives of a model.

`CALLS` has all of them. Streaming calls return iterators and do not evaluate the network: the sources of a model
(`export_source`), and changes of the served versions (`watch`).
"""

import json
from collections.abc import Callable, Iterable, Mapping, Set
from types import MappingProxyType
from typing import Any

from kanserve.errors import FormulaError, InputError
from kanserve.formula import Formula, to_json
from kanserve.formula.constants.uncertainty_report import Alternative, Evidence
from kanserve.serve.models.catalog import Model
from kanserve.serve.rpc.differentiate_answer import differentiate_answer
from kanserve.serve.rpc.export_source import export_source
from kanserve.serve.rpc.network_answer import network_answer, variable
from kanserve.serve.rpc.watch import watch
from kanserve.serve.state import Call, ServerState
from kanserve.v1 import formula_pb2 as pb

TEXTS = ("text", "latex", "python", "c")  # of each output
# Of all outputs together, and their names in `kanserve.formula.from_network.sources`.
FUNCTIONS = {
    **{language: language for language in ("fortran", "julia", "matlab", "numpy", "octave", "rust")},
    **{language: language for language in ("sql", "postgresql", "sqlite", "duckdb", "bigquery", "excel")},
    **{f"{language}_function": language for language in ("c", "python")},
}


class Encoded:
    """A response that is encoded already, for whoever encodes responses."""

    __slots__ = ("_data",)

    def __init__(self, data: bytes) -> None:
        self._data = data

    def SerializeToString(self) -> bytes:
        return self._data


def find(state: ServerState, request: Any, call: Call) -> Model:
    """The model that a request names, recorded in the call (Any: each message has its own type)."""
    model = state.catalog.find(request.model_name, request.model_version)
    call.model, call.version = model.name, model.version
    return model


def get_formula(state: ServerState, request: pb.GetFormulaRequest, call: Call) -> Encoded:
    """GetFormula: see `formula_answer`."""
    return Encoded(formula_answer(find(state, request, call), request.formats, state.settings.max_message_bytes))


def formula_answer(model: Model, formats: Iterable[str], most: int) -> bytes:
    """A GetFormulaResponse of at most so many bytes, with one formula per output in the requested formats.

    FormulaError when it would be larger or cannot be written in a language; that it is too large for a message is seen
    by the size of its file, before anything is built.
    """
    wanted = frozenset(map(_known_format, formats))
    answer = b""
    if model.words.size <= most:
        answer = model.answers.get((pb.GetFormulaResponse, wanted), lambda: _write(model, wanted))
    if model.words.size > most or len(answer) > most:
        raise FormulaError(f"The formulas of {model.name!r} need more than {most} bytes. Simplify it first.")
    return answer


def _known_format(name: str) -> str:
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
        variables=[variable(one) for one in formula.variables],
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


def _alternative(one: Alternative, texts: Set[str]) -> pb.Alternative:
    return pb.Alternative(
        complexity=one.complexity,
        rmse=one.rmse,
        validation_rmse=one.validation_rmse,
        **_texts(one.formula, texts & {"text", "latex"}),
        **_tree(one.formula),
    )


def _texts(one: Formula, texts: Set[str]) -> dict[str, Any]:
    return {name: getattr(one, name) for name in texts}


def _tree(one: Formula) -> dict[str, Any]:
    """The fields of a message for the expression and its splines, as JSON texts."""
    data = to_json([one])
    return {"expression_json": json.dumps(data["formulas"][0]["tree"]), "tables_json": json.dumps(data["tables"])}


def get_network(state: ServerState, request: pb.GetNetworkRequest, call: Call) -> Encoded:
    """GetNetwork: see `network_answer`."""
    points = request.curve_points if request.HasField("curve_points") else None
    return Encoded(network_answer(find(state, request, call), points, state.settings.max_message_bytes))


def differentiate(state: ServerState, request: pb.DifferentiateRequest, call: Call) -> Encoded:
    """Differentiate: see `differentiate_answer`."""
    return Encoded(differentiate_answer(find(state, request, call), request.rows, call, hessian=request.hessian))


CALLS: Mapping[str, Callable[[ServerState, Any, Call], Any]] = MappingProxyType(
    {
        "GetFormula": get_formula,
        "GetNetwork": get_network,
        "Differentiate": differentiate,
        "ExportSource": export_source,
        "Watch": watch,
    }
)
