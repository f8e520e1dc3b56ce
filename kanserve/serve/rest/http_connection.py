"""One connection to the HTTP port: its next request as it arrives, and the rest of the answer to send."""

import socket
from http import HTTPStatus
from typing import Any

from kanserve.serve.rest.http_head import END, Chunks, Head
from kanserve.serve.rest.messages import RestRequest, RestResponse


class Connection:
    """A client connection: what was received of its next request, or the rest of the answer to send."""

    def __init__(self, accepted: socket.socket, address: Any, deadline: float) -> None:
        self.socket = accepted
        self.descriptor = accepted.fileno()
        family = "ipv6" if accepted.family == socket.AF_INET6 else "ipv4"
        self.peer = f"{family}:[{address[0]}]:{address[1]}" if family == "ipv6" else f"ipv4:{address[0]}:{address[1]}"
        self.deadline = deadline
        self.received = bytearray()
        self.head: Head | None = None
        self.chunks: Chunks | None = None
        self.without_body = False  # of the answer: the request was HEAD
        self.unsent = memoryview(b"")
        self.last = False
        self.asked = False  # whether another thread answers its request
        self.taken = 0  # bytes of the body of that request

    @property
    def reading(self) -> bool:
        return not self.unsent and not self.asked

    @property
    def idle(self) -> bool:
        return self.head is None and not self.asked

    @property
    def held(self) -> int:
        return len(self.received) + (len(self.chunks.body) if self.chunks else 0) + self.taken

    def complete(self) -> bool:
        """Whether the whole body has arrived."""
        assert self.head is not None
        if self.chunks is not None:
            return self.chunks.take(self.received)
        return len(self.received) >= (self.head.length or 0)

    def take_body(self) -> bytes:
        assert self.head is not None
        if self.chunks is not None:
            body, self.chunks = bytes(self.chunks.body), None
        else:
            length = self.head.length or 0
            with memoryview(self.received) as view:
                body = bytes(view[:length])
            del self.received[:length]
        self.taken = len(body)
        return body

    def request(self, body: bytes) -> RestRequest:
        assert self.head is not None
        self.without_body = self.head.method == "HEAD"
        return RestRequest(
            self.head.method, self.head.target, self.head.headers, body, self.peer, alive=self.is_connected
        )

    def next_request(self) -> None:
        """Forget the request whose answer is being sent."""
        self.head, self.chunks, self.asked, self.taken = None, None, False, 0

    def is_connected(self) -> bool:
        """Whether the client has not closed its side; may be called from any thread."""
        try:
            return self.socket.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) != b""
        except BlockingIOError:
            return True
        except OSError:
            return False

    def write_response(self, response: RestResponse) -> bytes:
        try:
            phrase = HTTPStatus(response.status).phrase
        except ValueError:
            phrase = "Error"
        lines = [f"HTTP/1.1 {response.status} {phrase}", "Server: kanserve"]
        lines += [f"{name}: {value}" for name, value in response.headers]
        lines += [f"Content-Length: {len(response.body)}", f"Connection: {'close' if self.last else 'keep-alive'}"]
        head = "\r\n".join(lines).encode("latin-1") + END
        return head if self.without_body else head + response.body
