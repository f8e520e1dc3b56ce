"""The messages and the services as other people's clients see them.

Interoperation is tested with Triton's released client, unmodified: it brings the protocol's messages of its own.
"""

import asyncio
import queue
import subprocess
import sys
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import grpc
import grpc.aio
import numpy as np
import pytest
import tritonclient.grpc as triton
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.descriptor_pool import Default, DescriptorPool
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from grpc_reflection.v1alpha.reflection import enable_server_reflection

from kanserve.inference import grpc_service_pb2 as inference
from kanserve.inference import model_config_pb2 as config
from kanserve.inference import wire
from kanserve.inference.grpc_service_pb2_grpc import GRPCInferenceServiceServicer
from kanserve.v1 import formula_pb2 as formula
from kanserve.v1 import formula_pb2_grpc
from tests.support.paths import ROOT
from tests.support.peers.protos import KSERVES, OURS, triton_message


def filled(message: Descriptor, choice: int = 0) -> Message:
    """A message with a different value in every field; of a oneof, its member number `choice` where there is one."""
    return _fill(GetMessageClass(message)(), choice, iter(range(1, 1000)))


def _fill(message: Any, choice: int, numbers: Iterator[int]) -> Message:
    for field in message.DESCRIPTOR.fields:
        if field.containing_oneof and field.containing_oneof.fields.index(field) != choice:
            continue
        value = getattr(message, field.name)
        if field.message_type and field.message_type.GetOptions().map_entry:
            key, entry = field.message_type.fields
            if entry.message_type:
                _fill(value[_scalar(key, numbers)], choice, numbers)
            else:
                value[_scalar(key, numbers)] = _scalar(entry, numbers)
        elif field.message_type and field.is_repeated:
            _fill(value.add(), choice, numbers)
            _fill(value.add(), choice, numbers)
        elif field.message_type:
            value.SetInParent()
            _fill(value, choice, numbers)
        elif field.is_repeated:
            value.extend([_scalar(field, numbers), _scalar(field, numbers)])
        else:
            setattr(message, field.name, _scalar(field, numbers))
    return cast(Message, message)  # Any, so that fields can be set by name


def _scalar(field: Any, numbers: Iterator[int]) -> Any:
    number = next(numbers)
    match field.type:
        case FieldDescriptor.TYPE_BOOL:
            return True
        case FieldDescriptor.TYPE_STRING:
            return f"text {number}"
        case FieldDescriptor.TYPE_BYTES:
            return bytes([number % 256, 0, 255])
        case FieldDescriptor.TYPE_FLOAT | FieldDescriptor.TYPE_DOUBLE:
            return number + 0.5
        case FieldDescriptor.TYPE_ENUM:
            return field.enum_type.values[-1].number
        case FieldDescriptor.TYPE_UINT32 | FieldDescriptor.TYPE_UINT64:
            return number
        case _:
            return -number


def exchange() -> None:
    """Send every message to Triton's classes and back; a fresh interpreter calls this (see below)."""
    for ours in OURS.values():
        for choice in range(5):
            sent = filled(ours, choice)
            received = GetMessageClass(triton_message(ours)).FromString(sent.SerializeToString())
            understood = {key: value for key, value in MessageToDict(sent).items() if key not in KSERVES}
            assert MessageToDict(received) == understood, ours.full_name
            assert type(sent).FromString(received.SerializeToString()) == sent, ours.full_name
            theirs = filled(triton_message(ours), choice)
            through_us = type(sent).FromString(theirs.SerializeToString()).SerializeToString()
            assert type(theirs).FromString(through_us) == theirs, ours.full_name
    print(len(OURS))


def python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=300)


@pytest.mark.slow
@pytest.mark.extended
@pytest.mark.parametrize(
    "imports",
    [
        "import tritonclient.grpc, kanserve.inference.wire",
        "import kanserve.inference.wire, tritonclient.grpc",
    ],
)
def test_messages_travel_to_tritons_classes_and_back_in_either_order_of_import(imports: str) -> None:
    done = python(f"{imports}; from tests.unit.protos.test_protos import exchange; exchange()")
    assert (done.returncode, done.stdout) == (0, f"{len(OURS)}\n"), done.stderr


@pytest.mark.parametrize("name", OURS)
def test_a_field_has_the_name_the_number_and_the_type_that_the_protocol_gives_it(name: str) -> None:
    theirs = triton_message(OURS[name])
    for field in (field_name for field_name in OURS[name].fields if field_name.name not in KSERVES):
        same = theirs.fields_by_number[field.number]
        assert (field.name, field.type, field.is_repeated) == (same.name, same.type, same.is_repeated)


def test_data_types_have_the_protocols_numbers() -> None:
    theirs = Default().FindEnumTypeByName("inference.DataType")
    assert dict(config.DataType.items()) == {value.name: value.number for value in theirs.values}


def test_every_method_of_the_protocol_is_there_but_shared_memory_tracing_and_logging() -> None:
    theirs = Default().FindServiceByName(wire.SERVICE_NAME)
    left_out = {method.name for method in theirs.methods} - set(wire.METHODS)
    assert all("SharedMemory" in name or name in ("TraceSetting", "LogSettings") for name in left_out)
    for method in wire.METHODS.values():
        same = theirs.methods_by_name[method.name]
        names = (method.request.DESCRIPTOR.full_name, method.response.DESCRIPTOR.full_name)
        assert names == (f"kanserve.{same.input_type.full_name}", f"kanserve.{same.output_type.full_name}")
        assert (method.client_streaming, method.server_streaming) == (same.client_streaming, same.server_streaming)


def test_a_method_has_the_path_that_every_client_calls() -> None:
    assert wire.METHODS["ModelInfer"].path == "/inference.GRPCInferenceService/ModelInfer"


@pytest.mark.parametrize("wanted", [b"\x12\x03fox", b"\x0a\x03fox", b"\x0a\x05house\x12\x03fox"])
def test_the_model_to_load_is_in_field_2_or_where_that_is_empty_in_field_1(wanted: bytes) -> None:
    assert wire.get_requested_model(inference.RepositoryModelLoadRequest.FromString(wanted)) == "fox"
    assert wire.get_requested_model(inference.RepositoryModelUnloadRequest.FromString(wanted)) == "fox"


class Doubling(GRPCInferenceServiceServicer):
    """Answers every call of the protocol; its model doubles the one tensor that it is given."""

    def ServerLive(self, request: inference.ServerLiveRequest, context: object) -> inference.ServerLiveResponse:
        return inference.ServerLiveResponse(live=True)

    def ServerReady(self, request: inference.ServerReadyRequest, context: object) -> inference.ServerReadyResponse:
        return inference.ServerReadyResponse(ready=True)

    def ModelReady(self, request: inference.ModelReadyRequest, context: object) -> inference.ModelReadyResponse:
        return inference.ModelReadyResponse(ready=request.name == "fox")

    def ServerMetadata(
        self, request: inference.ServerMetadataRequest, context: object
    ) -> inference.ServerMetadataResponse:
        return inference.ServerMetadataResponse(name="kanserve", extensions=["statistics"])

    def ModelMetadata(
        self, request: inference.ModelMetadataRequest, context: object
    ) -> inference.ModelMetadataResponse:
        tensor = inference.ModelMetadataResponse.TensorMetadata(name="x", datatype="FP64", shape=[-1, 2])
        return inference.ModelMetadataResponse(name=request.name, inputs=[tensor], properties={"kind": "fox"})

    def ModelInfer(self, request: inference.ModelInferRequest, context: object) -> inference.ModelInferResponse:
        tensor = inference.ModelInferResponse.InferOutputTensor(
            name="y", datatype="FP64", shape=request.inputs[0].shape
        )
        doubled = 2 * np.frombuffer(request.raw_input_contents[0], "<f8")
        return inference.ModelInferResponse(
            model_name=request.model_name,
            id=request.id,
            outputs=[tensor],
            raw_output_contents=[doubled.tobytes()],
        )

    def ModelStreamInfer(
        self, request_iterator: Iterable[inference.ModelInferRequest], context: object
    ) -> Iterator[inference.ModelStreamInferResponse]:
        for request in request_iterator:
            yield inference.ModelStreamInferResponse(infer_response=self.ModelInfer(request, context))

    def ModelConfig(self, request: inference.ModelConfigRequest, context: object) -> inference.ModelConfigResponse:
        x = config.ModelInput(name="x", data_type=config.TYPE_FP64, dims=[2])
        return inference.ModelConfigResponse(config=config.ModelConfig(name=request.name, max_batch_size=8, input=[x]))

    def ModelStatistics(
        self, request: inference.ModelStatisticsRequest, context: object
    ) -> inference.ModelStatisticsResponse:
        stats = inference.InferStatistics(success=inference.StatisticDuration(count=3, ns=500))
        return inference.ModelStatisticsResponse(
            model_stats=[inference.ModelStatistics(name=request.name, inference_stats=stats)]
        )

    def RepositoryIndex(
        self, request: inference.RepositoryIndexRequest, context: object
    ) -> inference.RepositoryIndexResponse:
        one = inference.RepositoryIndexResponse.ModelIndex(name="fox", version="1", state="READY")
        return inference.RepositoryIndexResponse(models=[one])

    def RepositoryModelLoad(
        self, request: inference.RepositoryModelLoadRequest, context: grpc.ServicerContext
    ) -> inference.RepositoryModelLoadResponse:
        if wire.get_requested_model(request) != "fox":
            context.abort(grpc.StatusCode.NOT_FOUND, "no such model")
        return inference.RepositoryModelLoadResponse()

    def RepositoryModelUnload(
        self, request: inference.RepositoryModelUnloadRequest, context: object
    ) -> inference.RepositoryModelUnloadResponse:
        return inference.RepositoryModelUnloadResponse()


class Echoing(formula_pb2_grpc.FormulaServiceServicer):
    """Gives back what it is given."""

    def GetFormula(self, request: formula.GetFormulaRequest, context: object) -> formula.GetFormulaResponse:
        outputs = [formula.OutputFormula(name="y", text="2*x", r2=0.0)]
        return formula.GetFormulaResponse(model_name=request.model_name, outputs=outputs)

    def GetNetwork(self, request: formula.GetNetworkRequest, context: object) -> formula.GetNetworkResponse:
        edge = formula.NetworkEdge(kind=formula.EDGE_KIND_SYMBOLIC, function="sin", a=2.0, x=[0.0], y=[0.0])
        return formula.GetNetworkResponse(layers=[formula.NetworkLayer(edges=[edge])])

    def Differentiate(self, request: formula.DifferentiateRequest, context: object) -> formula.DifferentiateResponse:
        return formula.DifferentiateResponse(values=request.rows)

    def Explain(self, request: formula.ExplainRequest, context: object) -> formula.ExplainResponse:
        return formula.ExplainResponse(outputs=["y"], base=[1.0], contributions=request.rows)

    def GetDrift(self, request: formula.GetDriftRequest, context: object) -> formula.GetDriftResponse:
        return formula.GetDriftResponse(inputs=[formula.InputDrift(name="x", rows=3, psi=0.5)])

    def Feedback(self, request: formula.FeedbackRequest, context: object) -> formula.FeedbackResponse:
        return formula.FeedbackResponse(coverage=[formula.IntervalCoverage(level=0.9, values=2, covered=1)])

    def ExportSource(
        self, request: formula.ExportSourceRequest, context: object
    ) -> Iterator[formula.ExportSourceResponse]:
        for data in (b"a", b"b"):
            yield formula.ExportSourceResponse(model_name=request.model_name, data=data, last=data == b"b")

    def Watch(self, request: formula.WatchRequest, context: object) -> Iterator[formula.WatchResponse]:
        state = formula.VersionState(model_name=request.model_name, state=formula.MODEL_STATE_READY)
        yield formula.WatchResponse(versions=[state], whole=True)


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    server = grpc.server(ThreadPoolExecutor(4))
    wire.add_to_server(Doubling(), server)
    formula_pb2_grpc.add_FormulaServiceServicer_to_server(Echoing(), server)
    enable_server_reflection(wire.SERVICE_NAMES, server, wire.reflection_pool())
    port = server.add_insecure_port("localhost:0")
    server.start()
    yield f"localhost:{port}"
    server.stop(None).wait()


@pytest.fixture
def channel(address: str) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(address) as channel:
        yield channel


def test_tritons_client_gets_an_answer_to_every_question(address: str) -> None:
    with triton.InferenceServerClient(address) as client:
        assert client.is_server_live() and client.is_server_ready()
        assert client.is_model_ready("fox") and not client.is_model_ready("owl")
        assert client.get_server_metadata().extensions == ["statistics"]
        assert client.get_model_metadata("fox").inputs[0].shape == [-1, 2]
        assert client.get_model_config("fox").config.input[0].data_type == config.TYPE_FP64
        assert client.get_inference_statistics("fox").model_stats[0].inference_stats.success.ns == 500
        assert client.get_model_repository_index().models[0].state == "READY"
        client.load_model("fox")
        client.unload_model("fox")
        with pytest.raises(triton.InferenceServerException, match="no such model"):
            client.load_model("owl")


def test_tritons_client_infers_one_by_one_and_in_a_stream(address: str) -> None:
    rows = np.array([[1.0, 2.0], [3.0, np.inf]])
    x = triton.InferInput("x", [2, 2], "FP64")
    x.set_data_from_numpy(rows)
    answers: queue.SimpleQueue[triton.InferResult] = queue.SimpleQueue()
    with triton.InferenceServerClient(address) as client:
        assert (client.infer("fox", [x]).as_numpy("y") == 2 * rows).all()
        client.start_stream(lambda result, error: answers.put(result))
        for name in ("a", "b"):
            client.async_stream_infer("fox", [x], request_id=name)
        client.stop_stream()
    assert [answers.get(timeout=10).get_response().id for _ in range(2)] == ["a", "b"]


def test_what_the_service_leaves_out_is_unimplemented(address: str) -> None:
    with triton.InferenceServerClient(address) as client:
        with pytest.raises(triton.InferenceServerException) as caught:
            client.get_system_shared_memory_status()
        assert caught.value.status() == "StatusCode.UNIMPLEMENTED"


def test_our_stub_calls_what_triton_calls(channel: grpc.Channel) -> None:
    stub = wire.stub(channel)
    tensor = inference.ModelInferRequest.InferInputTensor(name="x", datatype="FP64", shape=[1])
    request = inference.ModelInferRequest(id="a", inputs=[tensor], raw_input_contents=[np.array([1.5]).tobytes()])
    assert np.frombuffer(stub.ModelInfer(request).raw_output_contents[0]) == [3.0]
    assert [response.infer_response.id for response in stub.ModelStreamInfer(iter([request, request]))] == ["a", "a"]


def test_our_stub_and_a_server_work_in_asyncio_too() -> None:
    async def call() -> bool:
        server = grpc.aio.server(ThreadPoolExecutor(1))
        wire.add_to_server(Doubling(), server)
        port = server.add_insecure_port("localhost:0")
        await server.start()
        async with grpc.aio.insecure_channel(f"localhost:{port}") as channel:
            answer = await wire.stub(channel).ServerLive(inference.ServerLiveRequest())
        await server.stop(None)
        return answer.live

    assert asyncio.run(call())


def test_reflection_lists_the_services_under_the_names_by_which_they_are_called(channel: grpc.Channel) -> None:
    database = ProtoReflectionDescriptorDatabase(channel)
    assert set(database.get_services()) == set(wire.SERVICE_NAMES)
    assert {"inference.GRPCInferenceService", "kanserve.v1.FormulaService", "grpc.health.v1.Health"} < set(
        wire.SERVICE_NAMES
    )
    pool = DescriptorPool(database)
    for name in wire.SERVICE_NAMES:
        assert pool.FindServiceByName(name).methods
    served = pool.FindServiceByName(wire.SERVICE_NAME).methods_by_name["ModelInfer"]
    assert served.input_type.full_name == "inference.ModelInferRequest"


def test_a_message_described_by_reflection_reads_what_ours_writes() -> None:
    pool = wire.reflection_pool()
    for name, ours in OURS.items():
        described = GetMessageClass(pool.FindMessageTypeByName(name.removeprefix("kanserve.")))
        sent = filled(ours)
        assert MessageToDict(described.FromString(sent.SerializeToString())) == MessageToDict(sent)


def test_arrays_and_absent_numbers_pass_through_the_formula_service(channel: grpc.Channel) -> None:
    stub = formula_pb2_grpc.FormulaServiceStub(channel)
    rows = np.array([[0.1, -np.inf, np.nan]])
    sent = formula.Float64Array(shape=rows.shape, values=rows.astype("<f8").tobytes())
    came = stub.Differentiate(formula.DifferentiateRequest(rows=sent)).values
    assert np.array_equal(np.frombuffer(came.values, "<f8").reshape(came.shape), rows, equal_nan=True)
    output = stub.GetFormula(formula.GetFormulaRequest(model_name="fox")).outputs[0]
    assert output.HasField("r2") and not output.HasField("rmse")
    edge = stub.GetNetwork(formula.GetNetworkRequest(curve_points=0)).layers[0].edges[0]
    assert (edge.kind, edge.function, edge.a) == (formula.EDGE_KIND_SYMBOLIC, "sin", 2.0)
    parts = list(stub.ExportSource(formula.ExportSourceRequest(model_name="fox")))
    assert [(part.model_name, part.data, part.last) for part in parts] == [("fox", b"a", False), ("fox", b"b", True)]
    (told,) = stub.Watch(formula.WatchRequest(model_name="fox"))
    assert told.whole and told.versions[0].state == formula.MODEL_STATE_READY


def test_the_bytes_of_an_array_are_those_of_repeated_doubles() -> None:
    numbers = [1.0, -0.0, np.pi]
    packed = formula.GetNetworkResponse(input_shift=numbers).SerializeToString()
    array = formula.Float64Array(values=np.array(numbers, "<f8").tobytes()).SerializeToString()
    assert packed[1:] == array[1:]  # the first byte is the number of the field


@pytest.mark.parametrize("package", ["grpc", "google.protobuf", "grpc_health", "grpc_reflection"])
def test_without_the_packages_of_the_extra_the_error_names_it(package: str) -> None:
    done = python(f"import sys; sys.modules[{package!r}] = None; import kanserve.inference.wire")
    assert "MissingDependencyError" in done.stderr and "pip install 'kanserve[serve]'" in done.stderr
