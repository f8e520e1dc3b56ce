"""Requests of ModelInfer with parameters: those that change nothing, and those that are refused."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from kanserve.inference import grpc_service_pb2 as pb

Parameters = Mapping[str, bool | int | float | str]
# Of the request, its input and its output. A size that is wrong is of no account: the bytes are counted.
IGNORED: dict[str, tuple[Parameters, Parameters, Parameters]] = {
    "KServe's client": ({}, {"binary_data_size": 16}, {}),
    "perf_analyzer": ({"triton_enable_empty_final_response": True}, {}, {}),
    "Triton's client": ({"priority": 1, "timeout": -5, "sequence_id": "a"}, {}, {"binary_data": True}),
    "all kinds, several": (
        {"a": True, "b": -1, "ü": "ö", "c": 0.5},
        {"binary_data_size": 1, "": ""},
        {"d": False, "e": 2},
    ),
    "names that elsewhere are refused": ({"shared_memory_region": "a", "classification": 1}, {"classification": 1}, {}),
    "names that begin alike": ({}, {"shared_memory_regio": "a", "shared_memory_region_": "b"}, {"classificatio": 1}),
}
REFUSED: dict[str, tuple[Parameters, Parameters, Parameters]] = {
    "input in shared memory": ({}, {"binary_data_size": 16, "shared_memory_region": "a"}, {}),
    "output in shared memory": ({}, {}, {"binary_data": True, "shared_memory_region": "a"}),
    "classification": ({}, {}, {"classification": 3}),
}
_FIELDS: dict[type, str] = {bool: "bool_param", int: "int64_param", float: "double_param", str: "string_param"}


def request(model: str, x: np.ndarray, raw: bool, parameters: tuple[Parameters, ...]) -> pb.ModelInferRequest:
    """A request for "y", with parameters of the request, its input and its output."""
    made = pb.ModelInferRequest(model_name=model)
    tensor, output = made.inputs.add(name="x", datatype="FP64", shape=x.shape), made.outputs.add(name="y")
    if raw:
        made.raw_input_contents.append(x.tobytes())
    else:
        tensor.contents.fp64_contents.extend(x.ravel())
    owners: tuple[Any, ...] = (made, tensor, output)
    for of, given in zip(owners, parameters, strict=True):
        for key, value in given.items():
            setattr(of.parameters[key], _FIELDS[type(value)], value)
    return made
