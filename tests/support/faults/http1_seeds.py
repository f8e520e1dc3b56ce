"""Inputs that the fuzzers of HTTP/1.1 begin with."""

import gzip
import json
from collections.abc import Iterator

import numpy as np

# What the steps of fuzz_http1.c begin with.
_BEGIN, _SEND, _CHUNK, _TAKE, _TAKE_ASIDE, _WORK, _TURN, _READ, _OTHER = 0, 2, 5, 6, 7, 8, 9, 10, 11
_MODELS = (("raw", 2), ("iris", 3), ("single", 2), ("aside", 2))


def bodies() -> Iterator[bytes]:
    """Of fuzz_rest.c."""
    for number, (_, inputs) in enumerate(_MODELS):
        for body, length in _requests(inputs):
            yield bytes([number | (128 if length else 0), length & 255, length >> 8]) + body


def _requests(inputs: int) -> Iterator[tuple[bytes, int]]:
    """Bodies, and how long their JSON is if bytes follow it."""
    for rows in (1, 3):
        for datatype, dtype in (("FP64", "<f8"), ("FP32", "<f4")):
            x = np.linspace(-2, 2, rows * inputs).astype(dtype).reshape(rows, inputs)
            tensor = {"name": "x", "datatype": datatype, "shape": [rows, inputs]}
            wanted = [
                {"name": name, "parameters": {"binary_data": rows == 1}} for name in ("y", "probabilities", "label")
            ]
            for more in ({}, {"id": 'é"\n', "outputs": wanted}, {"parameters": {"binary_data_output": True}}):
                for data in (x.tolist(), x.ravel().tolist()):
                    yield json.dumps({**more, "inputs": [{**tensor, "data": data}]}, ensure_ascii=False).encode(), 0
                raw = {**tensor, "parameters": {"binary_data_size": x.nbytes}}
                head = json.dumps({**more, "inputs": [raw]}).encode()
                yield head + x.tobytes(), len(head)
    for text in ("[1e999]", "[NaN]", "[-0.0,18446744073709551615]", "[null]", "[[]]", "[1,2,3,4,5,6,7,8,9]"):
        yield b'{"inputs":[{"name":"x","datatype":"FP64","shape":[1,2],"data":%s}]}' % text.encode(), 0


def connections() -> Iterator[bytes]:
    """Of fuzz_http1.c."""
    after = bytes([_TAKE, 0, _TAKE_ASIDE, 0, _WORK, 80, 9, _TURN, 0, _READ, 0])
    for target in range(8):
        for flags in (0, 8, 16, 32, 64, 128, 192):
            for more in (0, 1, 2, 8, 16, 128):
                begun = bytes([_BEGIN, target | flags, more])
                yield begun + bytes([_SEND, 16]) + b"0123456789abcdef" + after
                yield begun + bytes([_CHUNK, 5]) + b"chunk" + bytes([_SEND, 5]) + b"0\r\n\r\n" + after
    for body, _ in _requests(2):
        if len(body) < 200:
            whole = b"POST /v2/models/raw/infer HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body)
            for part in (body, gzip.compress(body)):
                coded = whole if part is body else whole.replace(b"Host: x", b"Content-Encoding: gzip\r\nHost: x")
                coded = coded.replace(b"%d\r\n" % len(body), b"%d\r\n" % len(part))
                sent = bytes([_SEND, len(coded)]) + coded + bytes([_SEND, len(part)]) + part
                for other in (0, 1, 8, 9, 16, 24, 26, 32, 33):
                    yield sent + bytes([_OTHER, other]) + sent + after + after
