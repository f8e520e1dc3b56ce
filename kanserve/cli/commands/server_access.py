"""How a command connects to a server: TLS, certificates and a token. The token is never on the command line, which
other users of the machine can read."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kanserve.errors import InputError

if TYPE_CHECKING:
    from kanserve.client import Client

VARIABLE = "KANSERVE_TOKEN"
_MOST_BYTES = 2**20  # of a token's file

Tls = Annotated[bool, typer.Option("--tls", help="For a server with TLS: trust the usual authorities.")]
TlsCa = Annotated[Path | None, typer.Option(help="For a server with TLS: trust this authority, a PEM file.")]
TlsCertificate = Annotated[
    Path | None, typer.Option(help="For a server that asks for it: your certificate, a PEM file.")
]
TlsKey = Annotated[Path | None, typer.Option(help="Its private key, a PEM file.")]
ServerName = Annotated[str, typer.Option(help="The name in the server's certificate, if its address has another.")]
TokenFile = Annotated[
    Path | None,
    typer.Option(help=f"For a server: a file whose first line is your token; default: the variable {VARIABLE}."),
]


@dataclass(frozen=True)
class ServerAccess:
    """The connection options of a command."""

    tls: bool = False
    tls_ca: Path | None = None
    tls_certificate: Path | None = None
    tls_key: Path | None = None
    server_name: str = ""
    token_file: Path | None = None

    def refuse(self, source: str) -> None:
        """Raise InputError if there are server options although `source` is not a server."""
        for name, value in vars(self).items():
            if value:
                raise InputError(f"{_option(name)} is for a server, host:port/name; {source} is none.")

    def client(self, address: str) -> "Client":
        """Connect to the server at an address. Raises InputError for options that contradict each other."""
        # gRPC would report a failed connection on standard error too, in lines of its own.
        os.environ.setdefault("GRPC_VERBOSITY", "NONE")
        from kanserve.client import Client
        from kanserve.client.connecting import is_local

        secure = self.tls or self.tls_ca is not None
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise InputError("--tls-certificate and --tls-key belong together: give both, or neither.")
        for name in ("tls_certificate", "server_name"):
            if getattr(self, name) and not secure:
                raise InputError(f"{_option(name)} needs --tls or --tls-ca.")
        token = self._token()
        if token and not secure and not is_local(address):
            raise InputError(f"A token must not be sent to {address} unencrypted: give --tls or --tls-ca.")
        return Client(
            address,
            tls=self.tls_ca or self.tls,
            certificate=self.tls_certificate,
            key=self.tls_key,
            server_name=self.server_name,
            token=token or None,
        )

    def _token(self) -> str:
        """The token from the file, else from the environment, or ""."""
        if self.token_file is None:
            return os.environ.get(VARIABLE, "").strip()
        try:
            with self.token_file.open("rb") as file:
                line = file.readline(_MOST_BYTES)
        except OSError as error:
            raise InputError(f"The token file {self.token_file} cannot be read: {error.strerror}.") from None
        if not line.strip():
            raise InputError(f"The token file {self.token_file} must have a token in its first line.")
        return line.decode("latin-1").strip()  # what is not ASCII is refused by the client


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"
