"""The paths of the HTTP port: which operation a request asks for."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Protocol
from urllib.parse import unquote

from kanserve.inference import grpc_service_pb2 as pb
from kanserve.inference import wire
from kanserve.serve.rest import codecs
from kanserve.serve.rest.categories import Coded
from kanserve.serve.rest.codecs import MessageCodec
from kanserve.serve.rest.errors import HttpError
from kanserve.serve.rest.infer import InferCodec
from kanserve.serve.rest.messages import RestRequest, RestResponse
from kanserve.v1 import formula_pb2

_INFERENCE, _FORMULA = wire.SERVICE_NAME, wire.FORMULA_SERVICE_NAME
_MODEL, _VERSION = "{model}", "{version}"


class Codec(Protocol):
    """One call between HTTP and gRPC: `decode` its body, then `encode` the answer."""

    def decode(self, request: RestRequest, body: bytes | memoryview, coded: Coded | None = None) -> bytes: ...
    def encode(self, answer: bytes) -> RestResponse: ...


@dataclass(frozen=True)
class Operation:
    """What a path does: by the gRPC call of this path, or, without one, as `aside` says."""

    method: str  # of HTTP
    call: str = ""  # the path of the gRPC call
    codec: Callable[[str, str], Codec] | None = None  # of a model and a version
    aside: str = ""  # live, ready, model_ready, metrics or openapi


@dataclass(frozen=True)
class Route:
    """The operation of a request, and the model that its path names."""

    operation: Operation
    model: str = ""
    version: str = ""


def _metadata(model: str, version: str) -> Codec:
    return MessageCodec(pb.ModelMetadataRequest(name=model, version=version), pb.ModelMetadataResponse)


def _config(model: str, version: str) -> Codec:
    return MessageCodec(pb.ModelConfigRequest(name=model, version=version), pb.ModelConfigResponse, part="config")


def _statistics(model: str, version: str) -> Codec:
    return MessageCodec(pb.ModelStatisticsRequest(name=model, version=version), pb.ModelStatisticsResponse)


def _formula(model: str, version: str) -> Codec:
    request = formula_pb2.GetFormulaRequest(model_name=model, model_version=version)
    return MessageCodec(request, formula_pb2.GetFormulaResponse, codecs.write_formats)


def _gradient(model: str, version: str) -> Codec:
    request = formula_pb2.DifferentiateRequest(model_name=model, model_version=version)
    return MessageCodec(request, formula_pb2.DifferentiateResponse, codecs.write_rows)


def _server(model: str, version: str) -> Codec:
    return MessageCodec(pb.ServerMetadataRequest(), pb.ServerMetadataResponse)


def _index(model: str, version: str) -> Codec:
    return MessageCodec(pb.RepositoryIndexRequest(), pb.RepositoryIndexResponse, codecs.write_index, part="models")


def _load(model: str, version: str) -> Codec:
    return MessageCodec(
        pb.RepositoryModelLoadRequest(model_name=model), pb.RepositoryModelLoadResponse, codecs.write_load
    )


def _unload(model: str, version: str) -> Codec:
    return MessageCodec(
        pb.RepositoryModelUnloadRequest(model_name=model), pb.RepositoryModelUnloadResponse, codecs.write_load
    )


_OF_A_MODEL = {
    "": Operation("GET", f"/{_INFERENCE}/ModelMetadata", _metadata),
    "/ready": Operation("GET", aside="model_ready"),
    "/config": Operation("GET", f"/{_INFERENCE}/ModelConfig", _config),
    "/stats": Operation("GET", f"/{_INFERENCE}/ModelStatistics", _statistics),
    "/infer": Operation("POST", f"/{_INFERENCE}/ModelInfer", InferCodec),
    "/formula": Operation("GET", f"/{_FORMULA}/GetFormula", _formula),
    "/gradient": Operation("POST", f"/{_FORMULA}/Differentiate", _gradient),
}

OPERATIONS: Mapping[str, Operation] = MappingProxyType(  # by path
    {
        "/v2": Operation("GET", f"/{_INFERENCE}/ServerMetadata", _server),
        "/v2/health/live": Operation("GET", aside="live"),
        "/v2/health/ready": Operation("GET", aside="ready"),
        "/v2/models/stats": Operation("GET", f"/{_INFERENCE}/ModelStatistics", _statistics),
        **{
            f"/v2/models/{_MODEL}{version}{end}": operation
            for version in ("", f"/versions/{_VERSION}")
            for end, operation in _OF_A_MODEL.items()
        },
        "/v2/repository/index": Operation("POST", f"/{_INFERENCE}/RepositoryIndex", _index),
        f"/v2/repository/models/{_MODEL}/load": Operation("POST", f"/{_INFERENCE}/RepositoryModelLoad", _load),
        f"/v2/repository/models/{_MODEL}/unload": Operation("POST", f"/{_INFERENCE}/RepositoryModelUnload", _unload),
        "/openapi.json": Operation("GET", aside="openapi"),
        "/metrics": Operation("GET", aside="metrics"),
    }
)


def find_route(method: str, target: str) -> Route:
    """The route of a request line. HttpError 404 for a path that is not there, 405 for another method."""
    path = target.partition("?")[0].partition("#")[0]
    if not path.startswith("/"):  # as a proxy is asked: http://host/path
        path = "/" + path.partition("://")[2].partition("/")[2]
    parts = path.strip("/").split("/")
    model = version = ""
    if parts[:2] == ["v2", "models"] and len(parts) > 2 and parts[2:] != ["stats"]:
        model, parts[2] = parts[2], _MODEL
        if parts[3:4] == ["versions"] and len(parts) > 4:
            version, parts[4] = parts[4], _VERSION
    elif parts[:3] == ["v2", "repository", "models"] and len(parts) > 3:
        model, parts[3] = parts[3], _MODEL
    operation = OPERATIONS.get("/" + "/".join(parts))
    if operation is None or (_MODEL in parts and not model) or (_VERSION in parts and not version):
        raise HttpError(404, "There is no such path here. GET /openapi.json lists those that there are.")
    allowed = ("GET", "HEAD") if operation.method == "GET" else (operation.method,)
    if method not in allowed:
        raise HttpError(405, f"This path takes {operation.method}, got {method:.20}.", ("Allow", ", ".join(allowed)))
    return Route(operation, unquote(model), unquote(version))
