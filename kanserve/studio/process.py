"""The process of the studio: a port of its own on this machine, a token, and what is served of the model, watched."""

import secrets
import socket
import threading
import webbrowser
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from kanserve.errors import ConflictError, InputError, KanserveError, MissingDependencyError
from kanserve.studio.page_files import page_files

if TYPE_CHECKING:
    from kanserve.studio.opened_model import Opened


_TOKEN_BYTES = 32
_AGAIN_SECONDS = 3.0  # before a server that did not answer is asked again


@dataclass(frozen=True)
class StudioSettings:
    """How the studio is reached. Another `host` than 127.0.0.1 needs a certificate and its key; `server` is the
    address of a kanserve server whose versions of the model are shown."""

    host: str = "127.0.0.1"
    port: int = 0
    certificate: Path | None = None
    key: Path | None = None
    server: str = ""
    browser: bool = True
    seed: int = 0
    state: Path | None = None
    """The folder in which what was done is kept."""

    def __post_init__(self) -> None:
        if (self.certificate is None) != (self.key is None):
            raise InputError("TLS needs both a certificate and its key.")
        if self.host != "127.0.0.1" and self.certificate is None:
            raise InputError(
                f"On {self.host} others can reach the studio, so it needs TLS: give --tls-certificate and --tls-key."
            )

    @property
    def scheme(self) -> str:
        return "http" if self.certificate is None else "https"


class Studio:
    """A studio that listens; `address` opens it, token included. `pages` are other files than the built ones."""

    def __init__(
        self, opened: "Opened", settings: StudioSettings, pages: Mapping[str, tuple[bytes, str]] | None = None
    ) -> None:
        try:
            import uvicorn

            from kanserve.studio.app import application
        except ImportError as error:
            raise MissingDependencyError(error.name or "starlette", "studio") from None
        from kanserve.studio.workspace import Workspace

        pages = page_files() if pages is None else pages
        self._settings = settings
        self._socket = _bind(settings.host, settings.port)
        host = f"[{settings.host}]" if ":" in settings.host else settings.host
        authority = f"{host}:{self._socket.getsockname()[1]}"
        self.token = secrets.token_hex(_TOKEN_BYTES)
        self.origin = f"{settings.scheme}://{authority}"
        self.address = f"{self.origin}/#token={self.token}"
        self.workspace: Workspace = Workspace(opened, settings.seed, state=settings.state)
        config = uvicorn.Config(
            application(self.workspace, pages, authority, self.token, settings.scheme),
            access_log=False,
            log_level="critical",
            server_header=False,
            timeout_graceful_shutdown=1,
            ssl_certfile=settings.certificate,
            ssl_keyfile=settings.key,
            ws="none",
            lifespan="off",
        )
        close = self.workspace.close

        class Server(uvicorn.Server):
            async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
                close()  # first, since it ends what calls wait for
                await super().shutdown(sockets)

        self._server = Server(config)

    def run(self, ready: Callable[[str], None] = print) -> None:
        """Serve until interrupted; `ready` is told the address."""
        # The view of a large network takes a second: it is made while a browser starts.
        if not self.workspace.choosing:
            first = self.workspace.fit if self.workspace.fitting else self.workspace.view
            threading.Thread(target=first, daemon=True).start()
        if self._settings.server:
            threading.Thread(target=self._watch, daemon=True).start()
        ready(self.address)
        if self._settings.browser:
            threading.Thread(target=webbrowser.open, args=(self.address,), daemon=True).start()
        try:
            with suppress(KeyboardInterrupt):
                self._server.run(sockets=[self._socket])
        finally:
            self.workspace.close()
            self._socket.close()

    def stop(self) -> None:
        """End `run`."""
        self._server.should_exit = True

    def _watch(self) -> None:
        """Tell which version of the model the server answers with, as it changes."""
        from kanserve.client import Client

        pause = threading.Event()
        while not self._server.should_exit:
            name = self.workspace.model_name
            try:
                with Client(self._settings.server) as client:
                    for event in client.watch(name):
                        if event.newest and event.state == "ready":
                            self.workspace.served = event.version
                            self.workspace.events.tell("served", version=event.version, server=self._settings.server)
            except KanserveError as error:
                self.workspace.events.tell("served", version=0, server=self._settings.server, error=str(error))
            pause.wait(_AGAIN_SECONDS)


def _bind(host: str, port: int) -> socket.socket:
    """A socket that listens on an address; ConflictError if another program has its port."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    found = socket.socket(family, socket.SOCK_STREAM)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        found.bind((host, port))
        found.listen()  # so that a browser which is faster than the server waits for it
    except OSError as error:
        found.close()
        raise ConflictError(f"{host}:{port} cannot be used: {error.strerror}. Choose another --port.") from None
    return found
