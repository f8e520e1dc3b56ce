"""One request to the HTTP port, from bytes to bytes; the standard library reads and answers it, and sees no socket."""

import json
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from io import BytesIO

_JSON = "application/json"


class Request(BaseHTTPRequestHandler):
    """A request whose bytes are all there, and the bytes of its answer; the standard library reads and writes both."""

    protocol_version = "HTTP/1.1"
    server_version = "kanserve"
    sys_version = ""

    def __init__(self, head: bytes) -> None:
        # Without the constructor of the base, which would read from a socket and answer there and then.
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
        """Whether it can be answered; if not, an answer has been written that says why."""
        if not self.parse_request():
            return False
        self.path = self.path.partition("?")[0]
        if self.command not in ("GET", "HEAD"):
            self.refuse(HTTPStatus.METHOD_NOT_ALLOWED, Allow="GET, HEAD")
            return False
        if self.headers.get("Content-Length", "0") != "0" or "Transfer-Encoding" in self.headers:
            self.refuse(HTTPStatus.BAD_REQUEST)  # where its body ends, nobody here wants to find out
            return False
        return True

    def refuse(self, status: HTTPStatus, **headers: str) -> None:
        """Answer with no more than a status, and end the connection."""
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
        """Say nothing: what strangers ask for here is not worth a line each."""
