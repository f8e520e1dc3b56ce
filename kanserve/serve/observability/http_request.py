"""One request to the HTTP port, from bytes to bytes; parsed and answered by the standard library, without a socket."""

import json
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from io import BytesIO

_JSON = "application/json"


class Request(BaseHTTPRequestHandler):
    """A request that has been received completely, and the bytes of its answer."""

    protocol_version = "HTTP/1.1"
    server_version = "kanserve"
    sys_version = ""

    def __init__(self, head: bytes) -> None:
        # The base constructor is not called: it would read from a socket and answer at once.
        self.rfile, self.wfile = BytesIO(head), BytesIO()
        self.raw_requestline = self.rfile.readline()
        self.command = self.path = self.requestline = ""
        self.request_version = "HTTP/1.1"
        self.close_connection = True

    @property
    def answered(self) -> bytes:
        assert isinstance(self.wfile, BytesIO)
        return self.wfile.getvalue()

    def understood(self) -> bool:
        """Whether the request is valid; if not, an error response has been written."""
        if not self.parse_request():
            return False
        self.path = self.path.partition("?")[0]
        if self.command not in ("GET", "HEAD"):
            self.refuse(HTTPStatus.METHOD_NOT_ALLOWED, Allow="GET, HEAD")
            return False
        if self.headers.get("Content-Length", "0") != "0" or "Transfer-Encoding" in self.headers:
            self.refuse(HTTPStatus.BAD_REQUEST)  # request bodies are not supported
            return False
        return True

    def refuse(self, status: HTTPStatus, **headers: str) -> None:
        """Answer with just a status, and end the connection."""
        self.close_connection = True
        self.answer(status, _JSON, json.dumps({"error": status.phrase}).encode(), **headers)

    def answer_json(self, status: HTTPStatus, body: dict[str, object]) -> None:
        self.answer(status, _JSON, json.dumps(body).encode())

    def answer(self, status: HTTPStatus, kind: str, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": kind, "Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.send_header("Connection", "close" if self.close_connection else "keep-alive")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Log nothing: requests of strangers would fill the log."""
