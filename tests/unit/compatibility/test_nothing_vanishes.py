"""What a caller of the last release uses is still there: names, parameters, exceptions, options, and gRPC messages."""

import json
from collections.abc import Iterator
from functools import reduce

import pytest
from google.protobuf.descriptor_pb2 import DescriptorProto, FileDescriptorProto, FileDescriptorSet
from google.protobuf.message import Message

import kanserve
from kanserve.inference import grpc_service_pb2, model_config_pb2
from kanserve.v1 import formula_pb2
from tests.support import public_api
from tests.support.paths import ROOT

RELEASED = json.loads(public_api.RELEASED.read_text("utf-8"))
MODULES = (grpc_service_pb2, model_config_pb2, formula_pb2)


@pytest.fixture(scope="module")
def now() -> dict[str, list[str]]:
    return public_api.names()


@pytest.mark.parametrize("name", RELEASED["names"])
def test_a_public_name_is_there_and_takes_what_it_took(name, now):
    first, *rest = name.split(".")
    value = reduce(getattr, rest, getattr(kanserve, first))
    if not callable(value):
        return
    taken, released = public_api.parameters(value), RELEASED["names"][name]
    if public_api.OPEN not in taken:
        assert set(released) <= set(taken)
    assert [one for one in taken if one in released] == [one for one in released if one in taken], "another order"
    assert not set(public_api.required(value)) - set(released), "a new parameter needs a default"


def test_each_exception_is_what_it_was():
    now = {line.split(": ")[0]: set(line.split(": ")[1].split(", ")) for line in public_api.exceptions()}
    for line in RELEASED["exceptions"]:
        name, _, bases = line.partition(": ")
        assert set(bases.split(", ")) <= now[name], name


@pytest.mark.parametrize("command", RELEASED["commands"])
def test_each_command_has_its_options(command):
    assert set(RELEASED["commands"][command]) <= set(public_api.commands()[command])


def messages(file: FileDescriptorProto) -> Iterator[tuple[str, DescriptorProto]]:
    waiting = [(f"{file.package}.{one.name}", one) for one in file.message_type]
    for name, message in waiting:  # which grows
        yield name, message
        waiting += [(f"{name}.{one.name}", one) for one in message.nested_type]


def enums(file: FileDescriptorProto) -> dict[str, int]:
    own = [(one.name, one) for one in file.enum_type]
    own += [(f"{name}.{one.name}", one) for name, message in messages(file) for one in message.enum_type]
    return {f"{name}.{value.name}": value.number for name, enum in own for value in enum.value}


def fields(file: FileDescriptorProto) -> dict[str, tuple[int, int, int, str]]:
    """By message and number: the number, the type, whether it is repeated, and the message or enum that it is."""
    return {
        f"{name}.{field.name}": (field.number, field.type, field.label, field.type_name)
        for name, message in messages(file)
        for field in message.field
    }


def methods(file: FileDescriptorProto) -> dict[str, tuple[object, ...]]:
    return {
        f"{service.name}.{one.name}": (one.input_type, one.output_type, one.client_streaming, one.server_streaming)
        for service in file.service
        for one in service.method
    }


def described(message: Message) -> FileDescriptorProto:
    assert isinstance(message, FileDescriptorProto)
    return message


def test_clients_in_the_field_find_every_message_field_value_and_call():
    released = FileDescriptorSet.FromString((ROOT / "protos" / "released.binpb").read_bytes())
    current = FileDescriptorProto(), FileDescriptorProto(), FileDescriptorProto()
    for module, file in zip(MODULES, current, strict=True):
        module.DESCRIPTOR.CopyToProto(file)
    of_package = {(file.package, file.name.split("/")[-1]): file for file in current}
    counted = 0
    for old in released.file:
        new = of_package[old.package, old.name.split("/")[-1]]
        for kind in (fields, enums, methods):
            was, now = kind(old), kind(new)
            assert {key: now.get(key) for key in was} == was
            counted += len(was)
    assert counted > 200
