"""Errors as HTTP: the status of each gRPC code, and the body {"error": text}."""

import json
from collections.abc import Mapping
from types import MappingProxyType

from kanserve.serve.rest.messages import RestResponse
from kanserve.serve.status import Code

JSON = ("Content-Type", "application/json")

STATUSES: Mapping[Code, int] = MappingProxyType(
    {
        Code.OK: 200,
        Code.INVALID_ARGUMENT: 400,
        Code.UNAUTHENTICATED: 401,
        Code.PERMISSION_DENIED: 403,
        Code.NOT_FOUND: 404,
        Code.FAILED_PRECONDITION: 409,
        Code.ALREADY_EXISTS: 409,
        Code.ABORTED: 409,
        Code.CANCELLED: 499,
        Code.RESOURCE_EXHAUSTED: 429,
        Code.INTERNAL: 500,
        Code.UNIMPLEMENTED: 501,
        Code.UNAVAILABLE: 503,
        Code.DEADLINE_EXCEEDED: 504,
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
