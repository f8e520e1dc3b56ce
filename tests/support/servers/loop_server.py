"""The event loop of the native transport alone, with a test's own handlers, times and models: no pipeline."""

import ctypes
import socket
import threading
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, Self

from kanserve.serve.request import GoneError
from kanserve.serve.transport import native_library as native
from kanserve.serve.transport.native_queue import ANSWERED
from kanserve.serve.transport.native_request import NativeRequest, message_bytes
from tests.support import programs
from tests.support.peers.http2_peer import Peer
from tests.support.servers.server_process import until

ECHO, STREAM, ASIDE = "/test/Echo", "/test/Stream", "/test/Aside"
INFER, DIFFERENTIATE, _ = (method.path for method in ANSWERED)
SECOND = 1_000_000_000
TLS = tuple[str, str, str | None]  # the files of a certificate, its key, and the authorities of clients

Handler = Callable[[bytes, NativeRequest], None]
Streaming = Callable[[Iterator[bytes], NativeRequest], None]
Rows = Callable[[native.Event], tuple[bytes, int]]  # the outputs, and how many nanoseconds they took


def needs_native() -> Any:
    """The library; the test is skipped where it was not built."""
    library = native.library()
    if library is None:
        programs.skip("nghttp2")
    return library


def echo(message: bytes, context: NativeRequest) -> None:
    context.answer(message)


def echo_stream(messages: Iterator[bytes], context: NativeRequest) -> None:
    for message in messages:
        if not context.send(message):
            return
    context.finish()


def no_rows(event: native.Event) -> tuple[bytes, int]:
    raise AssertionError("rows came, but no model was published")


class LoopServer:
    """Answers ECHO and ASIDE by `unary`, and STREAM by `stream`, each call on a thread of its own. INFER and
    DIFFERENTIATE are answered by the loop, for models that `publish` was given; what it hands out, by `rows` and
    `unary`.
    """

    def __init__(
        self,
        unary: Handler = echo,
        stream: Streaming = echo_stream,
        rows: Rows = no_rows,
        *,
        patience: float = 60.0,
        tls: TLS | None = None,
        **config: int,
    ) -> None:
        self.library, self._unary, self._stream, self._rows = needs_native(), unary, stream, rows
        usual = {
            **{"max_message": 2**24, "max_held": 2**28, "inline_budget": 200_000, "max_streams": 1000},
            **{"max_metadata": 8192, "queue": 256, "hand_out_rows": 1, "keepalive": 60 * SECOND},
            **{"greeting_time": 10 * SECOND, "write_time": 60 * SECOND, "ping_time": 20 * SECOND},
            **{"linger_time": SECOND, "max_connections": 4096},
        }
        made = native.Config(**(usual | config))
        paths = {
            ECHO: native.Path(native.PATH_UNARY, 0, 1, 0, round(patience * SECOND)),
            STREAM: native.Path(native.PATH_STREAM, 0, 1, 1, 0),
            ASIDE: native.Path(native.PATH_UNARY, 0, 0, 1, round(patience * SECOND)),
            **{
                method.path: native.Path(native.PATH_UNARY, method.native, 1, 0, round(patience * SECOND))
                for method in ANSWERED[:2]
            },
        }
        self._paths = list(paths)
        names = (ctypes.c_char_p * len(paths))(*(path.encode() for path in paths))
        options = (native.Path * len(paths))(*paths.values())
        self.server = self.library.new(ctypes.byref(made), names, options, len(paths))
        self._watched: dict[int, NativeRequest] = {}
        self._threads: list[threading.Thread] = []
        if tls is not None:
            certificate, key, authorities = (name and name.encode() for name in tls)
            error = ctypes.create_string_buffer(300)
            functions = native.tls_functions()
            assert not self.library.use_tls(self.server, functions, certificate, key, authorities, error, 300), (
                error.value
            )
        listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        listener.setblocking(False)
        self.address = f"127.0.0.1:{listener.getsockname()[1]}"
        self.library.listen(self.server, listener.detach())

    def __enter__(self) -> Self:
        assert self.library.start(self.server) == 0
        for which in (native.QUEUE_MAIN, native.QUEUE_MAIN, native.QUEUE_ASIDE):
            self._begin(self._take, which)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def publish(self, *models: native.ServedModel) -> None:
        """Let the loop answer for these models, whose functions and arrays must live as long as the server."""
        assert self.library.publish(self.server, (native.ServedModel * len(models))(*models), len(models)) == 0

    def close(self) -> None:
        """Stop; wait for all threads; free all."""
        if not self.server:
            return
        self.library.stop(self.server)
        for thread in self._threads:
            thread.join()
        self._watched.clear()
        self.library.free(self.server)
        self.server = None

    @property
    def held(self) -> int:
        return int(self.library.held(self.server))

    @property
    def connections(self) -> int:
        return int(self.library.connections(self.server))

    def wait_idle(self) -> None:
        """Until nothing is under way and no byte is counted."""
        until(lambda: self.held == 0 and self.connections == 0 and self.library.queued(self.server) == 0)

    def wait_idle_of(self, peer: Peer) -> None:
        """Until nothing is under way, though a client is connected."""
        until(lambda: self.held == 0 and self.library.queued(self.server) == 0)
        assert self.connections == 1, peer

    def _begin(self, work: Callable[..., None], *arguments: Any) -> None:
        thread = threading.Thread(target=work, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _take(self, which: int) -> None:
        event = native.Event()
        while (kind := self.library.next(self.server, which, ctypes.byref(event))) != native.EVENT_END:
            if kind == native.EVENT_GONE:
                self._watched.pop(event.call).leave()
                self.library.release(event.call)
                continue
            if which == native.QUEUE_MAIN:
                self.library.taken(self.server)
            if kind == native.EVENT_ROWS:
                made, took = self._rows(event)
                self.library.answer_rows(event.call, made, len(made), took)
                continue
            context = NativeRequest(self.library, event, self._watched)
            if self._paths[event.path] == STREAM:
                self._begin(self._run, self._stream, context.received(), context)
            else:
                message = message_bytes(event.message or 0, event.length)
                self._begin(self._run, self._unary, message, context)
            del context

    @staticmethod
    def _run(work: Callable[[Any, NativeRequest], None], given: Any, context: NativeRequest) -> None:
        try:
            work(given, context)
        except GoneError:  # the caller has left
            pass
        finally:
            context.finish()
