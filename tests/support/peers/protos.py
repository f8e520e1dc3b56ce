"""The messages of the inference protocol, ours and those of Triton."""

from collections.abc import Iterator

from google.protobuf.descriptor import Descriptor
from google.protobuf.descriptor_pool import Default

from kanserve.inference import grpc_service_pb2 as inference
from kanserve.inference import model_config_pb2 as config


def our_messages() -> Iterator[Descriptor]:
    for file in (inference.DESCRIPTOR, config.DESCRIPTOR):
        for message in file.message_types_by_name.values():
            yield message
            yield from (nested for nested in message.nested_types if not nested.GetOptions().map_entry)


def triton_message(ours: Descriptor) -> Descriptor:
    return Default().FindMessageTypeByName(ours.full_name.removeprefix("kanserve."))


# What KServe has and Triton has not.
KSERVES = {"properties"}


OURS = {our_message.full_name: our_message for our_message in our_messages()}
