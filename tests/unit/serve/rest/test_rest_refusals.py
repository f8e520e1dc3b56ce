"""What no caller should send: each is refused by a 4xx that says what to do, and takes little memory."""

import gzip
import json
import re
import zlib
from typing import Any

import numpy as np
import pytest

from kanserve.network.training_range import sample
from kanserve.serve.settings import Settings
from tests.support.servers import serving
from tests.support.servers.rest_port import TRANSPORTS, call, infer

MOST = 2**21  # bytes of a message
INFER = "/v2/models/raw/infer"


@pytest.fixture(scope="module", params=TRANSPORTS)
def settings(request, repository):
    return Settings(str(repository), port=0, http_port=0, max_message_bytes=MOST, transport=request.param)


@pytest.fixture(scope="module")
def at(server):
    return server.http_address


def tensor(**changed: Any) -> dict[str, Any]:
    """A right request with another input, from which what is None is left out."""
    one = {"name": "x", "datatype": "FP64", "shape": [1, 2], "data": [300.0, 101000.0]} | changed
    return {"inputs": [{name: value for name, value in one.items() if value is not None}]}


def text(data: str, shape: str = "[1, 2]") -> bytes:
    """A request with this text as its data."""
    return f'{{"inputs":[{{"name":"x","datatype":"FP64","shape":{shape},"data":{data}}}]}}'.encode()


BODIES: dict[str, tuple[Any, str]] = {  # and what the error says
    "nothing": (b"", "JSON"),
    "no JSON": (b"hello", "JSON"),
    "half of it": (b'{"inputs": [', "JSON"),
    "more than one": (b"{} {}", "JSON"),
    "an array": (b"[]", "object"),
    "a number": (b"7", "object"),
    "null": (b"null", "object"),
    "no UTF-8": (b'{"id": "\xff"}', "UTF-8"),
    "UTF-16": (json.dumps(tensor()).encode("utf-16"), "UTF-8"),
    "a byte order mark": (b"\xef\xbb\xbf{}", "JSON"),
    "a NUL": (b'{"id": "\0"}', "JSON"),
    "a lone surrogate": (rb'{"id": "\ud800", "inputs": [{"name": "x"}]}', "text"),
    "brackets": (b"[" * 100_000, "bytes apart"),
    "brackets in data": (text("[" * 60_000 + "]" * 60_000), "numbers|rows"),
    "a few brackets less": (b"[" * 60_000, "deep"),
    "objects": (b'{"a":' * 12_000, "deep"),
    "many objects": (b'{"inputs":[' + b"{}," * 60_000 + b"{}]}", "bytes apart"),
    "a key twice": (b'{"id": "1", "id": "2"}', "'id' twice"),
    "data twice": (text('[1, 2], "data": [3, 4]'), "'data' twice"),
    "NaN": (text("[NaN, 1]"), "NaN"),
    "Infinity": (text("[-Infinity, 1]"), "-Infinity"),
    "1e999": (text("[1e999, 1]"), "range"),
    "400 digits": (text(f"[1{'0' * 400}, 1]"), "range"),
    "5000 digits": (text(f"[1{'0' * 5000}, 1]"), "number"),
    "a hexadecimal number": (text("[0x10, 1]"), "JSON"),
    "a leading zero": (text("[01, 1]"), "JSON"),
    "a plus": (text("[+1, 1]"), "JSON"),
    "a trailing comma": (text("[1, 2,]"), "JSON"),
    "true in data": (tensor(data=[True, 1.0]), "boolean"),
    "a text in data": (tensor(data=["300.0", 1.0]), "quotes"),
    "an object in data": (tensor(data=[{}, 1.0]), "object"),
    "rows of rows": (tensor(data=[[[300.0, 1.0]]]), "once"),
    "ragged rows": (tensor(shape=[2, 2], data=[[1.0, 2.0], [3.0]]), "equal length"),
    "rows and numbers": (tensor(shape=[2, 2], data=[[1.0, 2.0], 3.0, 4.0]), "equal length"),
    "wide rows": (tensor(shape=[2, 2], data=[[1.0, 2.0, 3.0, 4.0]]), "rows of 2"),
    "data that are a text": (tensor(data="1, 2"), "array"),
    "data that are null": (tensor(data=None), "no data"),
    "data that are an object": (tensor(data={}), "array"),
    "too few numbers": (tensor(data=[1.0]), "needs 2 numbers"),
    "too many numbers": (tensor(data=[1.0, 2.0, 3.0]), "needs 2 numbers"),
    "a billion rows": (tensor(shape=[10**9, 2], data=[]), "needs 2000000000 numbers"),
    "a shape that overflows": (tensor(shape=[2**62, 4], data=[]), "needs|shape"),
    "a shape beyond 64 bits": (tensor(shape=[2**64, 2]), "whole number"),
    "a negative shape": (tensor(shape=[-1, 2]), "shape"),
    "a shape of floats": (tensor(shape=[1.0, 2.0]), "whole number"),
    "a shape of texts": (tensor(shape=["1", "2"]), "whole number"),
    "a shape of booleans": (tensor(shape=[True, 2]), "whole number"),
    "a shape of one": (tensor(shape=[2]), "shape"),
    "a shape of none": (tensor(shape=[]), "shape"),
    "no shape": (tensor(shape=None), "shape"),
    "a shape that is a number": (tensor(shape=2), "array"),
    "another width": (tensor(shape=[1, 3], data=[1.0, 2.0, 3.0]), r"\[rows, 2\], got \[1, 3\]. A row is \w+, \w+\."),
    "another name": (tensor(name="z"), "'x'"),
    "no name": (tensor(name=None), "'x'"),
    "a name that is a number": (tensor(name=7), "string"),
    "no datatype": (tensor(datatype=None), "FP64"),
    "integers": (tensor(datatype="INT64"), "FP64"),
    "texts": (tensor(datatype="BYTES"), "FP64"),
    "half precision in JSON": (tensor(datatype="FP16"), "binary"),
    "beyond single precision": (tensor(datatype="FP32", data=[1e39, 1.0]), "FP32"),
    "no inputs": ({}, "inputs"),
    "empty inputs": ({"inputs": []}, "inputs"),
    "inputs that are an object": ({"inputs": {}}, "array"),
    "an input that is a number": ({"inputs": [7]}, "object"),
    "two inputs": ({"inputs": tensor()["inputs"] * 2}, "one input"),
    "an id that is a number": (tensor() | {"id": 7}, "string"),
    "parameters that are a list": (tensor() | {"parameters": []}, "object"),
    "a parameter that is an object": (tensor() | {"parameters": {"a": {}}}, "'a'"),
    "a parameter beyond 64 bits": (tensor() | {"parameters": {"a": 2**64}}, "'a'"),
    "binary outputs by a number": (tensor() | {"parameters": {"binary_data_output": 1}}, "true or false"),
    "shared memory": (tensor(parameters={"shared_memory_region": "a"}), "shared memory"),
    "binary data in JSON": (tensor(data=None, parameters={"binary_data_size": 16}), "0 bytes of binary data"),
    "binary and JSON": (tensor(parameters={"binary_data_size": 0}), "both"),
    "a negative size": (tensor(data=None, parameters={"binary_data_size": -1}), "-1"),
    "a size that is a text": (tensor(data=None, parameters={"binary_data_size": "16"}), "whole number"),
    "an unknown output": (tensor() | {"outputs": [{"name": "z"}]}, "'y'"),
    "an output twice": (tensor() | {"outputs": [{"name": "y"}, {"name": "y"}]}, "y"),
    "an output without a name": (tensor() | {"outputs": [{}]}, "'y'"),
    "an output that is a text": (tensor() | {"outputs": ["y"]}, "object"),
    "outputs that are a text": (tensor() | {"outputs": "y"}, "array"),
    "classification": (tensor() | {"outputs": [{"name": "y", "parameters": {"classification": 1}}]}, "classification"),
}


@pytest.mark.parametrize("case", BODIES)
def test_a_body_that_is_none_is_refused_with_what_to_change(at, case):
    body, says = BODIES[case]
    answer = call(at, INFER, body)
    assert answer.status == 400
    assert len(answer.error) < 600
    assert re.search(says, answer.error, re.IGNORECASE), answer.error


LARGE = {
    "a text among the numbers": ("1," * 50_000 + '"a",' + "1," * 50_000 + "1", "bytes apart"),
    "half of null among the numbers": ("1," * 50_000 + "nul,1", "array of numbers"),
    "letters of null": ("null" * 50_000, "array of numbers"),
    "empty places": ("1," * 50_000 + ",1", "array of numbers"),
    "many empty places": ("," * 100_000, "array of numbers"),
    "many dots": ("." * 100_000, "array of numbers"),
    "a trailing comma": ("1," * 50_000, "array of numbers"),
    "brackets": ("[" * 50_000 + "]" * 50_000, "array of numbers|rows|once"),
    "empty rows": ("[]," * 50_000 + "[]", "needs"),
    "rows and numbers": ("[1,2]," * 20_000 + "1,2", "array of numbers|equal length"),
    "numbers and rows": ("1,2," * 20_000 + "[1,2]", "once|numbers only"),
    "ragged rows": ("[1,2]," * 20_000 + "[1,2,3]", "equal length"),
    "a row of rows": ("[1,2]," * 20_000 + "[[1,2]]", "once|numbers only|equal length"),
    "another count": ("1," * 50_000 + "1", "needs 40002 numbers, got 50001"),
    "rows of one": ("[1]," * 40_001 + "[1]", "rows of 2"),
    "1e999": ("1e999," * 20_000 + "1", "range"),
}


@pytest.mark.parametrize("case", LARGE)
def test_a_large_body_that_is_none_is_refused_too(at, case):
    data, says = LARGE[case]
    answer = call(at, INFER, text(f"[{data}]", "[20001, 2]"))
    assert answer.status == 400
    assert re.search(says, answer.error), answer.error


def test_a_text_cannot_stand_for_numbers_that_were_cut_out(at):
    numbers = ",".join(["[300,101000]"] * 10_000)
    body = f'{{"id":[{numbers}],"inputs":[{{"name":"x","datatype":"FP64","shape":[10000,2],"data":"0"}}]}}'
    assert call(at, INFER, body.encode()).status == 400


@pytest.mark.parametrize("length", ["0", "-1", "+5", "1e3", "abc", "99999", "9" * 30, " "])
def test_a_length_of_the_json_that_is_none_is_refused(at, length):
    answer = call(at, INFER, tensor(), Inference_Header_Content_Length=length)
    assert (answer.status == 200) if length == " " else (answer.status == 400 and "bytes of the JSON" in answer.error)


def test_two_lengths_of_the_json_are_refused(at):
    length = str(len(json.dumps(tensor())))
    twice = {"Inference_Header_Content_Length": length, "inference_header_content_length": length}
    answer = call(at, INFER, tensor(), **twice)
    assert answer.status == 400 and "must come once" in answer.error


def test_binary_sizes_that_lie_are_refused(at):
    data = np.ones(2).tobytes()
    for size, left in ((8, data), (17, data), (16, data + b"x"), (16, data[:-1]), (2**40, data), (2**70, data)):
        head = json.dumps(tensor(data=None, parameters={"binary_data_size": size})).encode()
        answer = call(at, INFER, head + left, Inference_Header_Content_Length=str(len(head)))
        assert answer.status == 400 and ("bytes" in answer.error or "binary_data_size" in answer.error)


def test_what_is_too_large_is_413_compressed_or_not(at):
    large = text("[" + "1," * MOST + "1]")
    assert call(at, INFER, large).status == 413
    for coding, packed in (("gzip", gzip.compress(large)), ("deflate", zlib.compress(large))):
        assert call(at, INFER, packed, Content_Encoding=coding).status == 413
    x = sample(serving.kan("raw"), 1, seed=0)
    body = infer(np.repeat(x, 65_537, axis=0))
    body["inputs"][0]["datatype"], body["inputs"][0]["data"] = "FP64", [1] * 131_074
    answer = call(at, INFER, body)
    assert answer.status == 400 and "65536 rows" in answer.error


def test_an_answer_that_is_too_large_is_413(at):
    rows = np.repeat(sample(serving.kan("wide"), 1, seed=0), 10_000, axis=0).astype(np.float16)
    head = {"name": "x", "datatype": "FP16", "shape": list(rows.shape), "parameters": {"binary_data_size": rows.nbytes}}
    for binary, status in ((True, 200), (False, 413)):
        body = json.dumps({"inputs": [head], "parameters": {"binary_data_output": binary}}).encode()
        length = str(len(body))
        answer = call(at, "/v2/models/wide/infer", body + rows.tobytes(), Inference_Header_Content_Length=length)
        assert answer.status == status
    assert "larger" in answer.error or "fewer rows" in answer.error
    jacobian = call(at, "/v2/models/wide/gradient", {"rows": (np.ones((400, 24)) / 3).tolist()})
    assert jacobian.status == 413 and "fewer rows" in jacobian.error


@pytest.mark.parametrize(
    ("packed", "coding", "status"),
    [
        (b"hello", "gzip", 400),
        (gzip.compress(b"{}", mtime=0)[:-3], "gzip", 400),
        (gzip.compress(b"{}", mtime=0) + b"more", "gzip", 400),
        (zlib.compress(b"{}"), "br", 415),
        (zlib.compress(b"{}"), "gzip, deflate", 415),
    ],
)
def test_a_coding_that_is_none_is_refused(at, packed, coding, status):
    assert call(at, INFER, packed, Content_Encoding=coding).status == status


@pytest.mark.parametrize(
    ("path", "method", "status", "allowed"),
    [
        ("/v2/models/raw/infer", "GET", 405, "POST"),
        ("/v2/models/raw/infer", "PUT", 405, "POST"),
        ("/v2/models/raw", "POST", 405, "GET, HEAD"),
        ("/v2/models/raw", "OPTIONS", 405, "GET, HEAD"),
        ("/v2/repository/index", "GET", 405, "POST"),
        ("/v2/models/raw/predict", "POST", 404, None),
        ("/v2/models//infer", "POST", 404, None),
        ("/v2/models/raw/versions//infer", "POST", 404, None),
        ("/v2/models/raw/versions", "GET", 404, None),
        ("/v1/models/raw:predict", "POST", 404, None),
        ("/v2/models/raw/versions/x/infer", "POST", 400, None),
        ("/v2/models/raw/versions/9/infer", "POST", 404, None),
        ("/v2/models/fox/infer", "POST", 404, None),
        ("/v2/models/%ff%fe/infer", "POST", 404, None),
        ("/v2/models/raw/infer?x=1", "POST", 200, None),
        ("/v2/models/raw/infer/", "POST", 200, None),
    ],
)
def test_a_path_takes_its_method_only(at, path, method, status, allowed):
    body = tensor() if method in ("POST", "PUT") else None
    answer = call(at, path, body, method)
    assert (answer.status, answer.headers["Allow"]) == (status, allowed)
    assert status == 200 or answer.error


@pytest.mark.parametrize("kind", ["application/x-www-form-urlencoded", "text/plain", "multipart/form-data; boundary=x"])
def test_a_body_that_a_page_of_the_web_could_send_is_415(at, kind):
    answer = call(at, INFER, tensor(), Content_Type=kind)
    assert answer.status == 415 and "application/json" in answer.error


def test_no_content_type_is_taken_but_from_a_browser(at):
    assert call(at, INFER, tensor(), Content_Type="").status == 200
    assert call(at, INFER, tensor(), Content_Type="", Origin="https://example.com").status == 415
    assert call(at, INFER, tensor(), Origin="https://example.com").status == 200


@pytest.mark.parametrize(
    "body",
    [
        b"",
        {},
        {"rows": 7},
        {"rows": [1.0, 2.0]},
        {"rows": [[1.0]]},
        {"rows": [[1.0, 2.0], [3.0]]},
        {"rows": []},
        {"rows": [[]]},
        {"rows": [[[1.0, 2.0]]]},
    ],
)
def test_rows_that_are_none_have_no_gradient(at, body):
    answer = call(at, "/v2/models/raw/gradient", body)
    assert answer.status == 400 or (body == {"rows": []} and answer.status == 200)


@pytest.mark.parametrize("path", ["/v2/repository/index", "/v2/repository/models/raw/unload"])
def test_small_bodies_are_small_and_of_the_right_types(at, path):
    assert call(at, path, b" " * 70_000).status in (400, 403)
    assert call(at, path, {"ready": "yes", "parameters": "none"}).status in (400, 403)


def test_a_formula_takes_a_query_of_64_fields(at):
    assert call(at, f"/v2/models/graph/formula?{'a=1&' * 70}").status == 400
