"""The inference protocol on the wire: our messages under the protocol's method paths.

On the wire a call is a path and bytes, without the names of messages. So our messages are in the protobuf package
kanserve.inference: in the protocol's own package they would clash with another client's copy in the same process, since
protobuf refuses two definitions of a name. This module binds the service to /inference.GRPCInferenceService/..., where
clients expect it. The generated grpc_service_pb2_grpc only knows its own package: use its types, not its functions.
Reflection, which does send names, is answered from a pool with the protocol's names.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, overload

from kanserve.errors import MissingDependencyError

try:
    import grpc
    import grpc.aio
    from google.protobuf.descriptor import FileDescriptor, MethodDescriptor, ServiceDescriptor
    from google.protobuf.descriptor_pb2 import DescriptorProto, FileDescriptorProto
    from google.protobuf.descriptor_pool import DescriptorPool
    from google.protobuf.message import Message
    from google.protobuf.message_factory import GetMessageClass
    from grpc_health.v1 import health_pb2
    from grpc_reflection.v1alpha import reflection_pb2

    from kanserve.inference import grpc_service_pb2, grpc_service_pb2_grpc, model_config_pb2
    from kanserve.v1 import formula_pb2
except ModuleNotFoundError:
    raise MissingDependencyError("grpcio", "serve") from None

_PACKAGE = "inference"
_SERVICE = grpc_service_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"]

SERVICE_NAME = f"{_PACKAGE}.{_SERVICE.name}"
SERVICES: Mapping[str, ServiceDescriptor] = MappingProxyType(  # by the name under which each is called
    {
        SERVICE_NAME: _SERVICE,
        **{
            service.full_name: service
            for file in (formula_pb2, health_pb2, reflection_pb2)
            for service in file.DESCRIPTOR.services_by_name.values()
        },
    }
)
SERVICE_NAMES = tuple(SERVICES)
_, FORMULA_SERVICE_NAME, HEALTH_SERVICE_NAME, REFLECTION_SERVICE_NAME = SERVICE_NAMES


@dataclass(frozen=True)
class Method:
    """A call of the protocol."""

    name: str
    request: type[Message]
    response: type[Message]
    client_streaming: bool
    server_streaming: bool

    @property
    def path(self) -> str:
        """The path in the HTTP/2 request."""
        return f"/{SERVICE_NAME}/{self.name}"

    @property
    def kind(self) -> str:
        """The call's type in grpc's terms: "unary_unary", "stream_stream" and so on."""
        return "_".join("stream" if streams else "unary" for streams in (self.client_streaming, self.server_streaming))


def _method(method_descriptor: MethodDescriptor) -> Method:
    request, response = GetMessageClass(method_descriptor.input_type), GetMessageClass(method_descriptor.output_type)
    return Method(
        method_descriptor.name,
        request,
        response,
        method_descriptor.client_streaming,
        method_descriptor.server_streaming,
    )


METHODS: Mapping[str, Method] = MappingProxyType({method.name: _method(method) for method in _SERVICE.methods})


def handlers(servicer: grpc_service_pb2_grpc.GRPCInferenceServiceServicer) -> "grpc.GenericRpcHandler[Any, Any]":
    """The handlers for `server.add_generic_rpc_handlers`, of a synchronous or asyncio server."""
    made = {method.name: _handler(method, getattr(servicer, method.name)) for method in METHODS.values()}
    return grpc.method_handlers_generic_handler(SERVICE_NAME, made)


def _handler(method: Method, behavior: Callable[..., Any]) -> "grpc.RpcMethodHandler[Any, Any]":
    make = getattr(grpc, f"{method.kind}_rpc_method_handler")
    made: grpc.RpcMethodHandler[Any, Any] = make(
        behavior,
        request_deserializer=method.request.FromString,
        response_serializer=method.response.SerializeToString,
    )
    return made


def add_to_server(
    servicer: grpc_service_pb2_grpc.GRPCInferenceServiceServicer, server: grpc.Server | grpc.aio.Server
) -> None:
    """Bind a servicer, with the interface of a generated add_..._to_server, for frameworks that take one."""
    server.add_generic_rpc_handlers((handlers(servicer),))


@overload
def stub(channel: grpc.Channel) -> grpc_service_pb2_grpc.GRPCInferenceServiceStub: ...
@overload
def stub(channel: grpc.aio.Channel) -> "grpc_service_pb2_grpc.GRPCInferenceServiceAsyncStub": ...
def stub(channel: grpc.Channel | grpc.aio.Channel) -> grpc_service_pb2_grpc.GRPCInferenceServiceStub:
    """A client stub, typed as the generated one but with the protocol's paths."""
    made = object.__new__(grpc_service_pb2_grpc.GRPCInferenceServiceStub)
    for method in METHODS.values():
        connect = getattr(channel, method.kind)
        call = connect(
            method.path,
            request_serializer=method.request.SerializeToString,
            response_deserializer=method.response.FromString,
        )
        setattr(made, method.name, call)
    return made


def get_requested_model(
    request: grpc_service_pb2.RepositoryModelLoadRequest | grpc_service_pb2.RepositoryModelUnloadRequest,
) -> str:
    """The model to load or unload: field 2 for Triton and MLServer, or field 1 (called repository) for KServe."""
    return request.model_name or request.repository_name


def reflection_pool() -> DescriptorPool:
    """A separate descriptor pool with every service, under the name by which it is called."""
    pool = DescriptorPool()
    for file in (model_config_pb2.DESCRIPTOR, grpc_service_pb2.DESCRIPTOR):
        pool.AddSerializedFile(_rename(file).SerializeToString())
    for file in (formula_pb2.DESCRIPTOR, health_pb2.DESCRIPTOR, reflection_pb2.DESCRIPTOR):
        pool.AddSerializedFile(file.serialized_pb)
    return pool


def _rename(file: FileDescriptor) -> FileDescriptorProto:
    """A copy of a descriptor file of package kanserve.inference, moved to the protocol's package."""
    copy = FileDescriptorProto.FromString(file.serialized_pb)
    ours, theirs = f".{copy.package}.", f".{_PACKAGE}."
    copy.package = _PACKAGE
    for field in (field for message in _messages(copy.message_type) for field in message.field):
        if field.type_name:  # assigning an empty text would mark the field as present
            field.type_name = field.type_name.replace(ours, theirs, 1)
    for method in (method for service in copy.service for method in service.method):
        method.input_type = method.input_type.replace(ours, theirs, 1)
        method.output_type = method.output_type.replace(ours, theirs, 1)
    return copy


def _messages(found: Iterable[DescriptorProto]) -> Iterable[DescriptorProto]:
    for message in found:
        yield message
        yield from _messages(message.nested_type)


def varint(number: int) -> bytes:
    """A number as a protobuf varint, for messages serialized by hand: seven bits per byte, the lowest first."""
    made = bytearray()
    while number >= 0x80:
        made.append(number & 0x7F | 0x80)
        number >>= 7
    made.append(number)
    return bytes(made)
