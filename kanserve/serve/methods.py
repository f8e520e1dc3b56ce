"""Every call of the server, a row each: who may make it, when it is refused, and its path over REST.

Access, limits of messages, back-pressure, both transports, REST and its OpenAPI document read this table. Which
function answers a call follows from its name: `rpc.routes` finds `get_formula` for GetFormula.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from functools import cached_property
from types import MappingProxyType
from typing import Any

from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from kanserve.inference import wire
from kanserve.serve.scheduling.thread_pool import BRIEF, PATIENCE
from kanserve.serve.settings import ROLES, Role

INFERENCE, FORMULA = wire.SERVICE_NAME, wire.FORMULA_SERVICE_NAME
HEALTH, REFLECTION = wire.HEALTH_SERVICE_NAME, wire.REFLECTION_SERVICE_NAME
MODEL, VERSION = "{model}", "{version}"
_MODEL, _REPOSITORY = f"/v2/models/{MODEL}", "/v2/repository"

Arrays = Mapping[int, Any]  # by field number, the fields of a message that are arrays ({}) or contain some (Arrays)
TENSORS: Arrays = {5: {5: {6: {}, 7: {}}}, 7: {}}  # inputs.contents.fp32_contents, fp64_contents; raw_input_contents


class Turn(Enum):
    """Scheduling classes of calls: where they run, and what refuses them."""

    QUEUED = auto()  # on a thread of the pool; refused while the queue is full, and while the server stops
    ALWAYS = auto()  # like those, but answered while the server stops, and after the caller's deadline
    COMPUTES = auto()  # like those that are queued, and it counts towards the concurrency limit of its model
    PREDICTS = auto()  # like those that compute; refused unread while every model is at its limit
    COUNTED = auto()  # a stream that ends by itself, so that a stopping server waits for it
    CHANGES = auto()  # loads and unloads: never refused, on threads of their own, which may wait for long
    STANDARD = auto()  # of gRPC's standard services: never refused for load, so that a busy server does not look dead


@dataclass(frozen=True)
class Rest:
    """A REST path, and its entry in the OpenAPI document. A path of a model has a variant with a version."""

    verb: str  # the method of HTTP
    path: str
    about: str
    answer: str = "Nothing"  # the name of the answer's schema in `openapi_document`
    body: str = ""  # the name of the body's schema
    part: str = ""  # the field of the answer that is sent; empty: all
    query: str = ""  # the field of the request that the query has
    aside: str = ""  # answered by `rest.api` itself, to anybody: live, ready, model_ready, metrics or openapi

    @property
    def paths(self) -> tuple[str, ...]:
        if not self.path.startswith(_MODEL):
            return (self.path,)
        return self.path, self.path.replace(MODEL, f"{MODEL}/versions/{VERSION}")


@dataclass(frozen=True, eq=False)
class Method:
    """A call. The caller needs one of `roles`; with no roles, anybody may call."""

    service: str
    name: str
    roles: tuple[Role, ...]
    turn: Turn = Turn.QUEUED
    rest: tuple[Rest, ...] = ()
    arrays: Arrays = field(default_factory=dict)  # what of a request is numbers, which may be many
    lists: tuple[str, str] = ("", "")  # the field of the answer that lists models, and that of a model's name therein
    native: int = 0  # the number by which the loop of the native transport answers it; 0: it never does

    @cached_property
    def path(self) -> str:
        """The path of the call in the HTTP/2 request."""
        return f"/{self.service}/{self.name}"

    @cached_property
    def function(self) -> str:
        """The name of the function that answers the call."""
        return re.sub(r"(?<!^)(?=[A-Z])", "_", self.name).lower()

    @cached_property
    def request(self) -> type[Message]:
        return GetMessageClass(self._descriptor.input_type)

    @cached_property
    def response(self) -> type[Message]:
        return GetMessageClass(self._descriptor.output_type)

    @cached_property
    def reads_stream(self) -> bool:
        """Whether the request is a stream of messages."""
        return bool(self._descriptor.client_streaming)

    @cached_property
    def streams(self) -> bool:
        """Whether the response is a stream of messages."""
        return bool(self._descriptor.server_streaming)

    @property
    def is_ours(self) -> bool:
        """Whether the call belongs to one of kanserve's two services."""
        return self.service in (INFERENCE, FORMULA)

    @property
    def patience(self) -> int:
        """The time limit for its first message, in nanoseconds."""
        return PATIENCE if self.arrays else BRIEF

    @property
    def _descriptor(self) -> MethodDescriptor:
        found: MethodDescriptor = wire.SERVICES[self.service].methods_by_name[self.name]
        return found


_ANYBODY: tuple[Role, ...] = ()
_PREDICT: tuple[Role, ...] = ("predict",)
_READ: tuple[Role, ...] = ("read",)
_MANAGE: tuple[Role, ...] = ("manage",)

# fmt: off
METHODS: tuple[Method, ...] = (
    Method(INFERENCE, "ServerMetadata", ROLES, Turn.ALWAYS, (
        Rest("GET", "/v2", "Name, version and extensions of the server", "ServerMetadata"),)),
    Method(INFERENCE, "ServerLive", _ANYBODY, Turn.ALWAYS, (
        Rest("GET", "/v2/health/live", "Whether the process answers", "Live", aside="live"),)),
    Method(INFERENCE, "ServerReady", _ANYBODY, Turn.ALWAYS, (
        Rest("GET", "/v2/health/ready", "Whether the server takes requests", "Ready", aside="ready"),)),
    Method(INFERENCE, "ModelMetadata", ROLES, Turn.QUEUED, (
        Rest("GET", _MODEL, "Names, types and shapes of the model's inputs and outputs", "ModelMetadata"),)),
    Method(INFERENCE, "ModelReady", ROLES, Turn.ALWAYS, (
        Rest("GET", f"{_MODEL}/ready", "Whether the model takes requests", "Ready", aside="model_ready"),)),
    Method(INFERENCE, "ModelConfig", ROLES, Turn.QUEUED, (
        Rest("GET", f"{_MODEL}/config", "The model's configuration, as Triton has it", "ModelConfig", part="config"),)),
    Method(INFERENCE, "ModelStatistics", ROLES, Turn.QUEUED, (
        Rest("GET", "/v2/models/stats", "Counts and times of all models", "Statistics"),
        Rest("GET", f"{_MODEL}/stats", "Counts and times of the model's requests", "Statistics")),
        lists=("model_stats", "name")),
    Method(INFERENCE, "RepositoryIndex", ROLES, Turn.QUEUED, (
        Rest("POST", f"{_REPOSITORY}/index", "Every model and version that was found", "Index", "IndexRequest",
             part="models"),),
        lists=("models", "name")),
    Method(INFERENCE, "ModelInfer", _PREDICT, Turn.PREDICTS, (
        Rest("POST", f"{_MODEL}/infer", "Predict rows", "InferResponse", "InferRequest"),),
        arrays=TENSORS, native=1),
    Method(INFERENCE, "ModelStreamInfer", _PREDICT, Turn.PREDICTS, arrays=TENSORS),
    Method(INFERENCE, "RepositoryModelLoad", _MANAGE, Turn.CHANGES, (
        Rest("POST", f"{_REPOSITORY}/models/{MODEL}/load", "Load a model as the repository now has it",
             body="LoadRequest"),)),
    Method(INFERENCE, "RepositoryModelUnload", _MANAGE, Turn.CHANGES, (
        Rest("POST", f"{_REPOSITORY}/models/{MODEL}/unload", "Unload all versions of a model", body="UnloadRequest"),)),
    Method(FORMULA, "GetFormula", _READ, Turn.COMPUTES, (
        Rest("GET", f"{_MODEL}/formula", "The model as a formula per output", "Formula", query="formats"),),
        native=3),
    Method(FORMULA, "GetNetwork", _READ, Turn.COMPUTES),
    Method(FORMULA, "ExportSource", _READ, Turn.COUNTED),
    Method(FORMULA, "Watch", _READ, lists=("versions", "model_name")),
    # It reveals no more of the formula than predictions at nearby points.
    Method(FORMULA, "Differentiate", _PREDICT, Turn.COMPUTES, (
        Rest("POST", f"{_MODEL}/gradient", "The outputs and their exact derivatives", "GradientResponse",
             "GradientRequest"),),
        arrays={3: {2: {}}}, native=2),
    Method(FORMULA, "Explain", _PREDICT, Turn.COMPUTES, (
        Rest("POST", f"{_MODEL}/explanation", "How much each input contributes to predictions", "ExplainResponse",
             "ExplainRequest"),),
        arrays={3: {2: {}}}),
    Method(FORMULA, "GetDrift", ROLES, Turn.QUEUED, (
        Rest("GET", f"{_MODEL}/drift", "How the latest rows are spread, beside the training rows", "Drift"),)),
    Method(FORMULA, "Feedback", _PREDICT, Turn.COMPUTES, (
        Rest("POST", f"{_MODEL}/feedback", "Compare measured values with the prediction intervals", "FeedbackResponse",
             "FeedbackRequest"),),
        arrays={3: {2: {}}, 4: {2: {}}}),
    # Health probes have no credentials. They learn whether the server and its services run, and nothing of models.
    Method(HEALTH, "Check", _ANYBODY, Turn.STANDARD),
    Method(HEALTH, "Watch", _ANYBODY, Turn.STANDARD),
    Method(REFLECTION, "ServerReflectionInfo", ROLES, Turn.STANDARD),
)
# fmt: on
PAGES = (
    Rest("GET", "/openapi.json", "This document", aside="openapi"),
    Rest("GET", "/metrics", "Metrics for Prometheus", "Metrics", aside="metrics"),
)

BY_PATH: Mapping[str, Method] = MappingProxyType({method.path: method for method in METHODS})
ROUTES: Mapping[str, tuple[Rest, Method | None]] = MappingProxyType(  # by the path over REST
    {path: (rest, method) for method in METHODS for rest in method.rest for path in rest.paths}
    | {page.path: (page, None) for page in PAGES}
)
