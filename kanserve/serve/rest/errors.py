"""Errors as HTTP: the status of each gRPC code, and the body {"error": text}."""

import json
from collections.abc import Mapping
from types import MappingProxyType

import grpc

from kanserve.serve.rest.messages import RestResponse

JSON = ("Content-Type", "application/json")
_Code = grpc.StatusCode

STATUSES: Mapping[grpc.StatusCode, int] = MappingProxyType(
    {
        _Code.OK: 200,
        _Code.INVALID_ARGUMENT: 400,
        _Code.UNAUTHENTICATED: 401,
        _Code.PERMISSION_DENIED: 403,
        _Code.NOT_FOUND: 404,
        _Code.FAILED_PRECONDITION: 409,
        _Code.ALREADY_EXISTS: 409,
        _Code.ABORTED: 409,
        _Code.CANCELLED: 499,
        _Code.RESOURCE_EXHAUSTED: 429,
        _Code.INTERNAL: 500,
        _Code.UNIMPLEMENTED: 501,
        _Code.UNAVAILABLE: 503,
        _Code.DEADLINE_EXCEEDED: 504,
    }
)


class HttpError(Exception):
    """A request that is refused before there is a call."""

    def __init__(self, status: int, text: str, *headers: tuple[str, str]) -> None:
        super().__init__(text)
        self.status, self.text, self.headers = status, text, headers

    def response(self) -> RestResponse:
        return refusal(self.status, self.text, *self.headers)


def refusal(status: int, text: str, *headers: tuple[str, str]) -> RestResponse:
    """The response of an error."""
    if status == 401:
        headers = (*headers, ("WWW-Authenticate", "Bearer"))
    return RestResponse(status, [JSON, *headers], json.dumps({"error": text}).encode())
