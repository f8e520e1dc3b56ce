"""Requests that no client of ours would send: of every method, with names, types, shapes and bytes of all kinds."""

import random
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import numpy as np
from google.protobuf.message import Message
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from kanserve.inference import grpc_service_pb2 as pb
from kanserve.inference import wire
from kanserve.v1 import formula_pb2
from tests.support.faults import hostile_texts

KINDS: dict[str, str] = {f"/{wire.SERVICE_NAME}/{method.name}": method.kind for method in wire.METHODS.values()}
for _file in (formula_pb2.DESCRIPTOR, health_pb2.DESCRIPTOR, reflection_pb2.DESCRIPTOR):
    for _service in _file.services_by_name.values():
        for _one in _service.methods:
            _ends = ("stream" if end else "unary" for end in (_one.client_streaming, _one.server_streaming))
            KINDS[f"/{_service.full_name}/{_one.name}"] = "_".join(_ends)

_PROTOCOL, _FORMULAS = f"/{wire.SERVICE_NAME}/", f"/{wire.FORMULA_SERVICE_NAME}/"
_SIZES = (0, 1, 2, 3, 4, 7, -1, -2, 2**16, 65_537, 2**31 - 1, 2**31, 2**32, 2**62, 2**63 - 1, -(2**63))
_WRONG_TYPES = ("FP16", "BF16", "BYTES", "BOOL", "INT8", "INT64", "UINT8", "", "fp64", "X" * 99)
_NUMBERS = (0.0, -0.0, 0.5, 1e308, -1e308, 5e-324, float("nan"), float("inf"), float("-inf"))
_FORMATS = (
    *("text", "latex", "python", "c", "fortran", "c_function", "rust", "julia", "sql", "excel"),
    *("", "TEXT", "../c", "x" * 1000),
)


class Maker:
    """Makes requests; `models` are those that are served, with how many inputs each has."""

    def __init__(self, models: dict[str, int], seed: int = 0) -> None:
        self._models = models
        self._rng = random.Random(seed)
        self._names = hostile_texts.names()
        self._make: dict[str, Callable[[], Message]] = {
            f"{_PROTOCOL}ServerLive": pb.ServerLiveRequest,
            f"{_PROTOCOL}ServerReady": pb.ServerReadyRequest,
            f"{_PROTOCOL}ServerMetadata": pb.ServerMetadataRequest,
            f"{_PROTOCOL}ModelReady": lambda: pb.ModelReadyRequest(name=self._model(), version=self._version()),
            f"{_PROTOCOL}ModelMetadata": lambda: pb.ModelMetadataRequest(name=self._model(), version=self._version()),
            f"{_PROTOCOL}ModelConfig": lambda: pb.ModelConfigRequest(name=self._model(), version=self._version()),
            f"{_PROTOCOL}ModelStatistics": lambda: pb.ModelStatisticsRequest(
                name=self._model(), version=self._version()
            ),
            f"{_PROTOCOL}ModelInfer": self._infer,
            f"{_PROTOCOL}ModelStreamInfer": self._infer,
            f"{_PROTOCOL}RepositoryIndex": lambda: pb.RepositoryIndexRequest(
                repository_name=self._name(), ready=self._rng.random() < 0.5
            ),
            # Never of a model that is there: what loading does is tested elsewhere, and takes long.
            f"{_PROTOCOL}RepositoryModelLoad": lambda: pb.RepositoryModelLoadRequest(
                repository_name=self._name(), model_name=self._name()
            ),
            f"{_PROTOCOL}RepositoryModelUnload": lambda: pb.RepositoryModelUnloadRequest(
                repository_name=self._name(), model_name=self._name()
            ),
            f"{_FORMULAS}GetFormula": lambda: formula_pb2.GetFormulaRequest(
                model_name=self._model(),
                model_version=self._version(),
                formats=self._rng.choices(_FORMATS, k=self._rng.choice((0, 0, 1, 1, 2, 20))),
            ),
            f"{_FORMULAS}GetNetwork": lambda: formula_pb2.GetNetworkRequest(
                model_name=self._model(),
                model_version=self._version(),
                curve_points=self._rng.choice((0, 1, 2, 33, 1000, 10**6, 2**32 - 1)),
            ),
            f"{_FORMULAS}Differentiate": self._differentiate,
            f"{_FORMULAS}Explain": self._explain,
            f"{_FORMULAS}GetDrift": lambda: formula_pb2.GetDriftRequest(
                model_name=self._model(), model_version=self._version()
            ),
            f"{_FORMULAS}Feedback": self._feedback,
            f"{_FORMULAS}ExportSource": lambda: formula_pb2.ExportSourceRequest(
                model_name=self._model(),
                model_version=self._version(),
                format=self._rng.choice(("c_source", "numpy_source", "onnx_graph", "..", "", self._name())),
            ),
            f"{_FORMULAS}Watch": lambda: formula_pb2.WatchRequest(model_name=self._model()),
            f"/{wire.HEALTH_SERVICE_NAME}/Check": lambda: health_pb2.HealthCheckRequest(service=self._name()),
            f"/{wire.HEALTH_SERVICE_NAME}/Watch": lambda: health_pb2.HealthCheckRequest(service=self._name()),
            f"/{wire.HEALTH_SERVICE_NAME}/List": pb.ServerLiveRequest,
            f"/{wire.REFLECTION_SERVICE_NAME}/ServerReflectionInfo": self._reflect,
        }
        self._often = [
            *KINDS,
            *[f"{_PROTOCOL}ModelInfer"] * 3 * len(KINDS),
            *[f"{_FORMULAS}Differentiate"] * len(KINDS),
        ]

    def requests(self, count: int) -> Iterator[tuple[str, bytes]]:
        """Paths and messages; one in ten is of random or damaged bytes."""
        for _ in range(count):
            path = self._rng.choice(self._often)
            data = self._make[path]().SerializeToString()
            if self._rng.random() < 0.1:
                data = self._damaged(data)
            yield path, data

    def _damaged(self, data: bytes) -> bytes:
        damaged = bytearray(data or b"\x0a\x01a")
        match self._rng.randrange(4):
            case 0:
                damaged[self._rng.randrange(len(damaged))] = self._rng.randrange(256)
            case 1:
                del damaged[self._rng.randrange(len(damaged)) :]
            case 2:
                damaged += self._rng.randbytes(self._rng.randrange(1, 40))
            case _:
                damaged = bytearray(self._rng.randbytes(self._rng.randrange(100)))
        return bytes(damaged)

    def _name(self) -> str:
        return self._rng.choice(self._names)

    def _model(self) -> str:
        return self._rng.choice(sorted(self._models)) if self._rng.random() < 0.9 else self._name()

    def _version(self) -> str:
        return self._rng.choice((*("", "1") * 12, "2", "0", "-1", "01", "1.0", "latest", "../1", "9" * 50, "١"))

    def _shape(self, inputs: int) -> list[int]:
        if self._rng.random() < 0.5:
            return [self._rng.choice((0, 1, 2, 3, 8)), inputs]
        if self._rng.random() < 0.5:
            return [self._rng.choice(_SIZES), self._rng.choice((inputs, inputs, *_SIZES))]
        return self._rng.choices(_SIZES, k=self._rng.choice((0, 1, 2, 3, 4, 8, 64)))

    def _values(self, shape: list[int]) -> list[float]:
        """As many as the shape says, where that is few; or one more, or fewer."""
        count = 1
        for length in shape:
            count = count * length if 0 <= count * length <= 1000 else self._rng.randrange(20)
        return self._rng.choices(_NUMBERS, k=max(0, count + self._rng.choice((0, 0, 0, 0, 1, -1))))

    def _infer(self) -> pb.ModelInferRequest:
        name = self._model()
        inputs = self._models.get(name, 2)
        request = pb.ModelInferRequest(model_name=name, model_version=self._version(), id=self._rng.choice(("", "a")))
        for _ in range(self._rng.choice((*(1,) * 20, 0, 2, 9))):
            self._add_input(request, inputs)
        for _ in range(self._rng.choice((0, 0, 0, 0, 1, 2))):
            request.outputs.add(name=self._rng.choice(("y", "output", "probabilities", "label", "", self._name())))
        if self._rng.random() < 0.05:
            request.parameters[self._name()[:100]].string_param = self._name()
        return request

    def _add_input(self, request: pb.ModelInferRequest, inputs: int) -> None:
        shape = self._shape(inputs)
        kind = self._rng.choice(("FP64", "FP32") if self._rng.random() < 0.8 else _WRONG_TYPES)
        name = "x" if self._rng.random() < 0.9 else self._name()
        tensor = request.inputs.add(name=name, datatype=kind, shape=shape)
        values = self._values(shape)
        with np.errstate(over="ignore"):
            array = np.array(values, "<f4" if kind == "FP32" else "<f8")
        raw, typed = self._rng.choice((*((True, False), (False, True)) * 4, (True, True), (False, False)))
        if raw:
            data = array.tobytes()
            request.raw_input_contents.append(data[: len(data) - self._rng.choice((0, 0, 0, 0, 1, 4))])
        if typed:
            fields = ("fp64_contents", "fp32_contents") if self._rng.random() < 0.9 else ("bytes_contents",)
            field = fields[kind == "FP32"] if len(fields) == 2 else fields[0]
            filling = [b"\xff"] * len(values) if field == "bytes_contents" else array.tolist()
            getattr(tensor.contents, field).extend(filling)
        if self._rng.random() < 0.03:
            tensor.parameters["shared_memory_region"].string_param = "/etc/passwd"
        if self._rng.random() < 0.03:
            tensor.parameters["binary_data_size"].int64_param = self._rng.choice(_SIZES)

    def _differentiate(self) -> formula_pb2.DifferentiateRequest:
        name = self._model()
        shape = self._shape(self._models.get(name, 2))
        data = np.array(self._values(shape), "<f8").tobytes()
        rows = formula_pb2.Float64Array(shape=shape, values=data[: len(data) - self._rng.choice((0, 0, 0, 1))])
        return formula_pb2.DifferentiateRequest(model_name=name, model_version=self._version(), rows=rows)

    def _explain(self) -> formula_pb2.ExplainRequest:
        asked = self._differentiate()
        return formula_pb2.ExplainRequest(
            model_name=asked.model_name, model_version=asked.model_version, rows=asked.rows
        )

    def _feedback(self) -> formula_pb2.FeedbackRequest:
        asked, shape = self._differentiate(), self._shape(2)
        measured = formula_pb2.Float64Array(shape=shape, values=np.array(self._values(shape), "<f8").tobytes())
        return formula_pb2.FeedbackRequest(
            model_name=asked.model_name, model_version=asked.model_version, rows=asked.rows, measured=measured
        )

    def _reflect(self) -> reflection_pb2.ServerReflectionRequest:
        field = self._rng.choice(("file_by_filename", "file_containing_symbol", "list_services", "host"))
        return reflection_pb2.ServerReflectionRequest(**{field: self._name()})


class Sender:
    """Sends bytes as requests and says what came of them."""

    def __init__(self, channel: grpc.Channel, metadata: tuple[tuple[str, str], ...] = ()) -> None:
        self._calls: dict[str, Any] = {
            path: getattr(channel, kind)(path, bytes, bytes) for path, kind in KINDS.items()
        }  # Any: grpc has a type for each kind of call
        self._metadata = metadata

    def send(self, path: str, data: bytes, seconds: float = 60.0) -> tuple[grpc.StatusCode, str, bytes]:
        """The code, the text and the first answer. Of a stream without an end no more than that is read."""
        kind = KINDS[path]
        asked = iter([data]) if kind.startswith("stream") else data
        try:
            answer = self._calls[path](asked, timeout=seconds, metadata=self._metadata)
            if kind.endswith("unary"):
                return grpc.StatusCode.OK, "", answer
            first = next(answer, b"")
            if path.endswith("/Watch"):
                answer.cancel()
            else:
                for _ in answer:
                    pass
        except grpc.RpcError as error:
            return error.code(), error.details() or "", b""
        return grpc.StatusCode.OK, "", first
