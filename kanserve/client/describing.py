"""Calls about a server and its models, written once for both clients as generators, like those in `predicting`."""

import json
from collections.abc import Awaitable, Callable, Generator, Sequence
from typing import Any, TypeVar

import numpy as np

from kanserve import errors
from kanserve.client.network_responses import Edge, Network, NetworkLayer, Node
from kanserve.client.responses import (
    Counted,
    ModelInfo,
    ModelStatistics,
    ModelStatus,
    ServedAlternative,
    ServedFormula,
)
from kanserve.formula.expressions.formula import Constant
from kanserve.formula.expressions.tree import Table
from kanserve.inference import grpc_service_pb2 as pb
from kanserve.network.conformal_intervals import ConformalInterval
from kanserve.network.kan import Variable
from kanserve.network.stability_index import InputDrift
from kanserve.v1 import formula_pb2

T = TypeVar("T")
Steps = Generator[tuple[str, Any], Any, T]  # yields (name of the call, request), is sent the response, returns T
Version = int | str


def run(steps: Steps[T], call: Callable[[str, Any], Any]) -> T:
    """Run the generator `steps`, answering each request with `call`; returns its result."""
    try:
        name, request = next(steps)
        while True:
            try:
                response = call(name, request)
            except errors.KanserveError as failed:
                name, request = steps.throw(failed)
            else:
                name, request = steps.send(response)
    except StopIteration as done:
        result: T = done.value
        return result


async def run_async(steps: Steps[T], call: Callable[[str, Any], Awaitable[Any]]) -> T:
    try:
        name, request = next(steps)
        while True:
            try:
                response = await call(name, request)
            except errors.KanserveError as failed:
                name, request = steps.throw(failed)
            else:
                name, request = steps.send(response)
    except StopIteration as done:
        result: T = done.value
        return result


def live() -> Steps[bool]:
    try:
        response = yield "ServerLive", pb.ServerLiveRequest()
    except errors.UnreachableError:
        return False
    return bool(response.live)


def ready(name: str, version: str) -> Steps[bool]:
    try:
        if name:
            response = yield "ModelReady", pb.ModelReadyRequest(name=name, version=version)
        else:
            response = yield "ServerReady", pb.ServerReadyRequest()
    except errors.UnreachableError:
        return False
    return bool(response.ready)


def models() -> Steps[tuple[ModelStatus, ...]]:
    response = yield "RepositoryIndex", pb.RepositoryIndexRequest()
    return tuple(
        ModelStatus(model.name, int(model.version), model.state == "READY", model.reason) for model in response.models
    )


def metadata(name: str, version: str) -> Steps[ModelInfo]:
    response = yield "ModelMetadata", pb.ModelMetadataRequest(name=name, version=version)
    facts = response.properties
    return ModelInfo(
        name=response.name,
        version=int(facts["version"]),
        versions=tuple(int(number) for number in response.versions),
        inputs=tuple(json.loads(facts["inputs"])),
        outputs=tuple(json.loads(facts["outputs"])),
        classes=tuple(json.loads(facts["classes"])),
        precision=facts["precision"],
        backend=facts["backend"],
        categories={name: tuple(known) for name, known in json.loads(facts.get("categories", "{}")).items()},
        may_be_missing=tuple(json.loads(facts.get("may_be_missing", "[]"))),
        intervals=tuple(map(ConformalInterval.from_json, json.loads(facts.get("intervals", "[]")))),
    )


def statistics(name: str, version: str) -> Steps[tuple[ModelStatistics, ...]]:
    response = yield "ModelStatistics", pb.ModelStatisticsRequest(name=name, version=version)
    return tuple(
        ModelStatistics(
            name=model.name,
            version=int(model.version),
            last=model.last_inference / 1000 if model.last_inference else None,
            rows=model.inference_count,
            executions=model.execution_count,
            succeeded=_count(model.inference_stats.success),
            failed=_count(model.inference_stats.fail),
            queued=_count(model.inference_stats.queue),
            decoded=_count(model.inference_stats.compute_input),
            computed=_count(model.inference_stats.compute_infer),
            encoded=_count(model.inference_stats.compute_output),
        )
        for model in response.model_stats
    )


def drift(name: str, version: str) -> Steps[tuple[InputDrift, ...]]:
    response = yield "GetDrift", formula_pb2.GetDriftRequest(model_name=name, model_version=version)
    return tuple(
        InputDrift(drift.name, drift.rows, drift.psi, drift.psi_above_chance, drift.outside_share)
        for drift in response.inputs
    )


def _count(statistic_duration: pb.StatisticDuration) -> Counted:
    return Counted(statistic_duration.count, statistic_duration.ns / 1e9)


def load(name: str) -> Steps[None]:
    yield "RepositoryModelLoad", pb.RepositoryModelLoadRequest(model_name=name)


def unload(name: str) -> Steps[None]:
    yield "RepositoryModelUnload", pb.RepositoryModelUnloadRequest(model_name=name)


def formula(name: str, version: str, formats: Sequence[str]) -> Steps[tuple[ServedFormula, ...]]:
    request = formula_pb2.GetFormulaRequest(model_name=name, model_version=version, formats=formats)
    response = yield "GetFormula", request
    functions = dict(response.functions)
    return tuple(
        ServedFormula(
            name=output.name,
            text=output.text,
            latex=output.latex,
            python=output.python,
            c=output.c,
            closed_form=output.closed_form,
            shortened=output.shortened,
            variables=tuple(as_variable(variable) for variable in output.variables),
            r2=output.r2 if output.HasField("r2") else None,
            max_error=output.max_error if output.HasField("max_error") else None,
            rmse=output.rmse if output.HasField("rmse") else None,
            tree=_tree(output),
            tables=_tables(output),
            domain=tuple(output.domain),
            constants=tuple(
                Constant(constant.value, constant.standard_error, constant.text) for constant in output.constants
            ),
            sigma=output.residual_standard_deviation if output.HasField("residual_standard_deviation") else None,
            degrees=output.degrees_of_freedom if output.HasField("degrees_of_freedom") else None,
            pareto=tuple(_alternative(alternative) for alternative in output.pareto),
            functions=functions,
        )
        for output in response.outputs
    )


def _alternative(alternative: formula_pb2.Alternative) -> ServedAlternative:
    return ServedAlternative(
        text=alternative.text,
        latex=alternative.latex,
        complexity=alternative.complexity,
        rmse=alternative.rmse,
        validation_rmse=alternative.validation_rmse if alternative.HasField("validation_rmse") else None,
        tree=_tree(alternative),
        tables=_tables(alternative),
    )


def _tree(output_formula: formula_pb2.OutputFormula | formula_pb2.Alternative) -> tuple[tuple[Any, ...], ...]:
    return tuple(tuple(step) for step in json.loads(output_formula.expression_json))


def _tables(output_formula: formula_pb2.OutputFormula | formula_pb2.Alternative) -> dict[str, Table]:
    return {spline: Table(**table) for spline, table in json.loads(output_formula.tables_json).items()}


def network(name: str, version: str, curve_points: int | None) -> Steps[Network]:
    if curve_points is not None and not 0 <= curve_points < 2**31:
        raise errors.InputError(f"curve_points is a number of 0 or more, got {curve_points!r}.")
    request = formula_pb2.GetNetworkRequest(model_name=name, model_version=version, curve_points=curve_points)
    response = yield "GetNetwork", request
    return Network(
        name=response.model_name,
        version=int(response.model_version),
        inputs=tuple(variable.name for variable in response.inputs),
        outputs=tuple(output.name for output in response.outputs),
        classes=tuple(response.classes),
        input_variables=tuple(as_variable(variable) for variable in response.inputs),
        output_variables=tuple(as_variable(output) for output in response.outputs),
        layers=tuple(_layer(layer) for layer in response.layers),
        input_affine=(np.array(response.input_shift), np.array(response.input_scale)),
        output_affine=(np.array(response.output_shift), np.array(response.output_scale)),
    )


def _layer(message: formula_pb2.NetworkLayer) -> NetworkLayer:
    return NetworkLayer(
        nodes=tuple(Node(node.name, tuple(node.subnodes), node.scale, node.bias) for node in message.nodes),
        subnodes=tuple((subnode.scale, subnode.bias) for subnode in message.subnodes),
        edges=tuple(
            Edge(
                source=edge.source,
                target=edge.target,
                kind=formula_pb2.EdgeKind.Name(edge.kind).removeprefix("EDGE_KIND_").lower(),
                function=edge.function,
                affine=(edge.a, edge.b, edge.c, edge.d),
                share=edge.share,
                x=np.array(edge.x),
                y=np.array(edge.y),
            )
            for edge in message.edges
        ),
    )


def as_variable(message: formula_pb2.Variable) -> Variable:
    return Variable(
        message.name,
        message.unit,
        message.low,
        message.high,
        message.fill_value if message.HasField("fill_value") else None,
        tuple(message.categories),
        tuple(message.category_values),
    )
