"""The servicers: each call of the wire handed to its plain function, and its errors to the table of status codes."""

import logging
from collections.abc import Callable, Iterator
from contextlib import suppress
from time import perf_counter_ns
from typing import Protocol, TypeVar

import grpc

from kanserve.errors import DeadlineError, DrainingError, KanserveError
from kanserve.inference import grpc_service_pb2 as pb
from kanserve.inference.grpc_service_pb2_grpc import GRPCInferenceServiceServicer
from kanserve.serve import formulas, inference, status
from kanserve.serve.admission import limited
from kanserve.serve.models import Catalog
from kanserve.serve.statistics import Statistics
from kanserve.serve.workers import Arrival, Workers
from kanserve.v1 import formula_pb2 as formula
from kanserve.v1.formula_pb2_grpc import FormulaServiceServicer

STREAMS = 32  # streams that may be open; each holds a thread of its own

_logger = logging.getLogger(__name__)
_Request = TypeVar("_Request")
_Response = TypeVar("_Response")


class State(Protocol):
    """What the servicers see of the server."""

    catalog: Catalog
    workers: Workers
    statistics: Statistics


class _Answering:
    def __init__(self, state: State) -> None:
        self._state = state

    def _answer(
        self,
        call: Callable[[Catalog, _Request], _Response],
        request: _Request,
        context: grpc.ServicerContext,
    ) -> _Response:
        try:
            _admit(self._state.workers.arrival, request, context)
            return call(self._state.catalog, request)
        except Exception as error:
            failed = _failure(error)
        status.abort(context, failed)


class InferenceAnswers(_Answering, GRPCInferenceServiceServicer):
    """The inference protocol. Loading and unloading at a client's wish wait for a way to say who may."""

    def __init__(self, state: State) -> None:
        super().__init__(state)
        stream = limited(self.ModelStreamInfer, STREAMS)
        self.ModelStreamInfer = stream  # type: ignore[method-assign]  # grpc takes any callable

    def ServerLive(self, request: pb.ServerLiveRequest, context: grpc.ServicerContext) -> pb.ServerLiveResponse:
        return pb.ServerLiveResponse(live=True)

    def ServerReady(self, request: pb.ServerReadyRequest, context: grpc.ServicerContext) -> pb.ServerReadyResponse:
        return pb.ServerReadyResponse(ready=not self._state.workers.draining)

    def ModelReady(self, request: pb.ModelReadyRequest, context: grpc.ServicerContext) -> pb.ModelReadyResponse:
        if self._state.workers.draining:
            return pb.ModelReadyResponse(ready=False)
        return self._answer(inference.model_ready, request, context)

    def ServerMetadata(
        self, request: pb.ServerMetadataRequest, context: grpc.ServicerContext
    ) -> pb.ServerMetadataResponse:
        return inference.server_metadata()

    def ModelMetadata(
        self, request: pb.ModelMetadataRequest, context: grpc.ServicerContext
    ) -> pb.ModelMetadataResponse:
        return self._answer(inference.model_metadata, request, context)

    def ModelConfig(self, request: pb.ModelConfigRequest, context: grpc.ServicerContext) -> pb.ModelConfigResponse:
        return self._answer(inference.model_config, request, context)

    def ModelStatistics(
        self, request: pb.ModelStatisticsRequest, context: grpc.ServicerContext
    ) -> pb.ModelStatisticsResponse:
        return self._answer(self._state.statistics.report, request, context)

    def RepositoryIndex(
        self, request: pb.RepositoryIndexRequest, context: grpc.ServicerContext
    ) -> pb.RepositoryIndexResponse:
        return self._answer(inference.repository_index, request, context)

    def ModelInfer(self, request: pb.ModelInferRequest, context: grpc.ServicerContext) -> pb.ModelInferResponse:
        return self._answer(self._infer, request, context)

    def RepositoryModelLoad(
        self, request: pb.RepositoryModelLoadRequest, context: grpc.ServicerContext
    ) -> pb.RepositoryModelLoadResponse:
        status.abort(context, _UNIMPLEMENTED)

    def RepositoryModelUnload(
        self, request: pb.RepositoryModelUnloadRequest, context: grpc.ServicerContext
    ) -> pb.RepositoryModelUnloadResponse:
        status.abort(context, _UNIMPLEMENTED)

    def _infer(self, catalog: Catalog, request: pb.ModelInferRequest) -> pb.ModelInferResponse:
        statistics, arrived = self._state.statistics, self._state.workers.arrival.at
        begun = perf_counter_ns()
        try:
            response, execution = inference.infer(catalog, request)
        except Exception:
            with suppress(KanserveError):
                statistics.failed(catalog.find(request.model_name, request.model_version), perf_counter_ns() - begun)
            raise
        statistics.succeeded(execution, begun - arrived)
        return response

    def ModelStreamInfer(
        self, requests: Iterator[pb.ModelInferRequest], context: grpc.ServicerContext
    ) -> Iterator[pb.ModelStreamInferResponse]:
        """ModelInfer for each request, in order. One that fails is answered with its error, and the stream goes on."""
        for request in requests:
            with self._state.workers.counted() as arrival:
                yield self._stream_response(request, context, arrival)

    def _stream_response(
        self, request: pb.ModelInferRequest, context: grpc.ServicerContext, arrival: Arrival
    ) -> pb.ModelStreamInferResponse:
        try:
            _admit(arrival, request, context)
        except KanserveError as error:
            status.abort(context, status.failure(error))
        try:
            return pb.ModelStreamInferResponse(infer_response=self._infer(self._state.catalog, request))
        except Exception as error:
            empty = pb.ModelInferResponse(model_name=request.model_name, id=request.id)
            return pb.ModelStreamInferResponse(error_message=_failure(error).text, infer_response=empty)


class FormulaAnswers(_Answering, FormulaServiceServicer):
    """kanserve.v1.FormulaService."""

    def GetFormula(
        self, request: formula.GetFormulaRequest, context: grpc.ServicerContext
    ) -> formula.GetFormulaResponse:
        return self._answer(formulas.get_formula, request, context)

    def GetNetwork(
        self, request: formula.GetNetworkRequest, context: grpc.ServicerContext
    ) -> formula.GetNetworkResponse:
        return self._answer(formulas.get_network, request, context)

    def Differentiate(
        self, request: formula.DifferentiateRequest, context: grpc.ServicerContext
    ) -> formula.DifferentiateResponse:
        return self._answer(formulas.differentiate, request, context)


_UNIMPLEMENTED = status.Failure(
    grpc.StatusCode.UNIMPLEMENTED,
    "Models are not loaded or unloaded by clients. Publish to the repository and send the server SIGHUP.",
)


def _admit(arrival: Arrival, request: object, context: grpc.ServicerContext) -> None:
    """Refuse what could not be read, or is too late: for a server that stops, or a caller that no longer waits."""
    if isinstance(request, KanserveError):
        raise request
    if arrival.late:
        raise DrainingError("The server is stopping and takes no new work. Try again, or another server.")
    if not context.is_active() or context.time_remaining() == 0:
        raise DeadlineError("The deadline passed, or the caller left, before the call could begin.")


def _failure(error: Exception) -> status.Failure:
    failed = status.failure(error)
    if failed is status.INTERNAL:
        _logger.error("a call failed", exc_info=error)
    return failed
