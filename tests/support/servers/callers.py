"""Who calls a server with rules: its models and settings, and the channel and metadata of each kind of caller."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import grpc

from kanserve import repository
from kanserve.artifact_compiler import compile
from kanserve.serve.settings import Grant, Role, Settings
from tests.support.networks.kans import classifier, raw_features
from tests.support.servers import keys

TOKENS: dict[str, tuple[Role, ...]] = {
    "predict": ("predict",),
    "read": ("read",),
    "manage": ("manage",),
    "all": ("predict", "read", "manage"),
}
_OPTIONS = [("grpc.use_local_subchannel_pool", 1), ("grpc.initial_reconnect_backoff_ms", 100)]


def token(name: str) -> str:
    return f"the token of {name} in the tests"


def rules(folder: Path, repository: str, *, certificates: bool = True) -> Settings:
    """A server's settings: TLS, a token for each role, and, where it demands them, certificates by name."""
    authority = keys.authority()
    certificate, key = authority.pair("server").write(folder, "server")
    (folder / "clients.pem").write_bytes(authority.certificate)
    grants = [
        Grant(roles, name=name, token_sha256=hashlib.sha256(token(name).encode()).hexdigest())
        for name, roles in TOKENS.items()
    ]
    if certificates:
        grants += [Grant(roles, name=f"{name}-robot", certificate=f"{name}-robot") for name, roles in TOKENS.items()]
    return Settings(
        repository=repository,
        port=0,
        tls_certificate=certificate,
        tls_key=key,
        tls_client_ca=str(folder / "clients.pem") if certificates else "",
        access=tuple(grants),
    )


def models(root: Path) -> dict[str, int]:
    """Two models that need no compiler, with how many inputs each has."""
    kans = {"plain": raw_features(), "iris": classifier()}
    for name, kan in kans.items():
        repository.publish(root, name, compile(kan, ("numpy_source",), name=name))
    return {name: len(kan.inputs) for name, kan in kans.items()}


@dataclass(frozen=True)
class Caller:
    """What a caller shows."""

    pair: keys.Pair | None = None
    token: str = ""

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        return (("authorization", f"Bearer {self.token}"),) if self.token else ()

    def channel(self, address: str, authorities: bytes = b"") -> grpc.Channel:
        pair = (self.pair.key, self.pair.certificate) if self.pair else (None, None)
        found = grpc.ssl_channel_credentials(authorities or keys.authority().certificate, *pair)
        return grpc.secure_channel(address, found, options=_OPTIONS)
