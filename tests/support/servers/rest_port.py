"""REST calls to a server of the tests."""

import http.client
import json
from contextlib import closing
from typing import Any, NamedTuple

import numpy as np

TRANSPORTS = ("auto", "grpcio")  # HTTP in C where it was built, and in Python


class Answer(NamedTuple):
    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def json(self) -> Any:
        """The body, or the part of it that is JSON."""
        length = self.headers.get("Inference-Header-Content-Length")
        return json.loads(self.body[: int(length)] if length else self.body)

    @property
    def error(self) -> str:
        """The text of an error, which has nothing beside it."""
        assert self.headers["Content-Type"] == "application/json"
        (text,) = self.json.values()
        assert set(self.json) == {"error"} and isinstance(text, str)
        return text


def call(address: str, path: str, body: Any = None, method: str = "", **headers: str) -> Answer:
    """A request on its own connection. A body that is not bytes is sent as JSON; names of headers have _ for -."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    if body is not None and not isinstance(body, bytes):
        body = json.dumps(body).encode()
    if body is not None:
        named = {"Content-Type": "application/json", **named}
    with closing(http.client.HTTPConnection(address, timeout=60)) as connection:
        connection.request(method or ("GET" if body is None else "POST"), path, body, named)
        response = connection.getresponse()
        return Answer(response.status, response.headers, response.read())


def infer(x: np.ndarray, datatype: str = "FP64", **more: Any) -> dict[str, Any]:
    """The JSON of an inference."""
    return {"inputs": [{"name": "x", "datatype": datatype, "shape": list(x.shape), "data": x.tolist()}], **more}


def output(answer: Answer, name: str = "y") -> Any:
    """One output of an inference in JSON, flat."""
    assert answer.status == 200, answer.body
    return next(output["data"] for output in answer.json["outputs"] if output["name"] == name)
