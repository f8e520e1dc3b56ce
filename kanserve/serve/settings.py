"""The settings of a server: one table, from which flags, environment variables, file keys and docs are made.

Plain data that needs no package, to keep the serving process small. `configuration` reads and checks it, in a process
of its own.
"""

import ipaddress
import json
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal, get_args

Role = Literal["predict", "read", "manage"]
Control = Literal["signal", "poll", "explicit"]
Transport = Literal["auto", "native", "grpcio"]

ROLES: tuple[Role, ...] = get_args(Role)
LONGEST_SOCKET_PATH = 107  # bytes, of Linux; others take a few less


def _set(default: Any, says: str, least: float | None = None, most: float | None = None) -> Any:
    """A field with its help text and its bounds (Any, as `dataclasses.field` is typed)."""
    return field(default=default, metadata={"help": says, "least": least, "most": most})


def _table(says: str, make: Any = tuple) -> Any:
    """A dataclass field for a setting that only a settings file can set, not the environment or the command line.
    `says` is its help text, `make` its default factory."""
    return field(default_factory=make, metadata={"help": says, "file": True})


@dataclass(frozen=True)
class Grant:
    """The roles of a caller who presents this token, or the client certificate with this name."""

    roles: tuple[Role, ...]
    name: str = _set("", "Who it is, for the log.")
    token_sha256: str = _set("", "SHA-256 of the bearer token, 64 hexadecimal digits.")
    token_file: str = _set("", "A file whose first line is the bearer token.")
    certificate: str = _set("", "The common name or a DNS or URI name of the client certificate.")
    models: tuple[str, ...] = _set((), "Only these models; default: all.")


@dataclass(frozen=True)
class ModelSettings:
    """Settings of one model; the server's are the defaults."""

    versions: str = _set("", "all, latest, latest:N, or numbers as in 1,3.")
    backend: str = _set("", "c_source, onnx_graph or numpy_source.")
    max_rows: int = _set(0, "The most rows of one request.", 0)
    concurrency: int = _set(0, "The most requests that are computed at once; more are refused.", 0)
    warm_up: tuple[int, ...] = _set((), "Row counts to predict before a version is ready, as in 1,256.")


@dataclass(frozen=True)
class Settings:
    """All settings of a server."""

    repository: str = _set("models", "A folder of models, or an fsspec URL such as s3://bucket/models.")
    model_name: str = _set("", "The model's name where the repository is the folder of one model, or of one version.")

    host: str = _set("127.0.0.1", "The address to listen on.")
    port: int = _set(8001, "The gRPC port; 0 takes a free one.", 0, 65_535)
    unix_socket: str = _set("", "Listen on this socket file instead of a port.")
    http_port: int = _set(
        -1, "A port for REST, /metrics and health over HTTP; 0 takes a free one, -1: none.", -1, 65_535
    )
    http_host: str = _set("", "The address to listen on for that port; default: host.")
    cors_origin: tuple[str, ...] = _set(
        (), "Web pages of these origins may call REST, as in https://app.example; * for all."
    )

    transport: Transport = _set(  # noqa: RUF009  # it is dataclasses.field
        "auto", "native: an event loop in C; grpcio: that package's; auto: native where it was built."
    )
    workers: int = _set(
        1, "Processes that serve; 1: only this one, without a supervisor; 0: one for each core.", 0, 1024
    )
    pin: bool = _set(False, "Tie each worker to a core of its own.")
    threads: int = _set(8, "Requests that a process answers at once; models that are slow get more.", 1, 1024)

    queue: int = _set(256, "Requests that may wait for a thread; more are refused.", 0)
    streams: int = _set(
        64,
        "Streams that may be open at once; each holds a thread of its own. One connection has at most half.",
        1,
        4096,
    )
    max_connections: int = _set(
        4096, "Connections of the native transport at once; at more, the oldest that waits for its client is closed.", 8
    )
    max_message_bytes: int = _set(16 * 2**20, "The largest request or response.", 1024, 2**31 - 1)
    max_rows: int = _set(65_536, "The most rows of one request.", 1)
    grace_seconds: float = _set(25.0, "How long a stopping server may take to finish accepted calls.", 0)
    keepalive_seconds: float = _set(60.0, "A client that has been silent for this long is pinged.", 1)

    model_control: Control = _set(  # noqa: RUF009  # it is dataclasses.field
        "poll",
        "poll: look for new versions every poll_seconds, and at SIGHUP; signal: only at SIGHUP; explicit: load only "
        "what is named.",
    )
    poll_seconds: float = _set(5.0, "How often to look for new versions, with poll.", 0.05)
    load: tuple[str, ...] = _set((), "The models to load at the start, with explicit.")
    versions: str = _set("all", "Which versions of a model are served: all, latest, latest:N, or numbers as in 1,3.")
    routes: str = _set("", "A JSON file with aliases of versions and weights of requests; read again when it changes.")
    route_header: str = _set(
        "", "A header or metadata key, such as x-user-id, that chooses the version by weights; default: the request id."
    )
    backend: str = _set("", "c_source, onnx_graph or numpy_source; default: the fastest that a model has.")
    concurrency: int = _set(64, "The most requests of one model that are computed at once; more are refused.", 1)
    drift_rows: int = _set(
        2000,
        "How many of a model's latest requests drift is measured on, one row of each; 0: it is not measured.",
        0,
        10_000_000,
    )
    warm_up: tuple[int, ...] = _set((1,), "Row counts to predict before a version is ready, as in 1,256.")

    tls_certificate: str = _set("", "A PEM file with the certificate chain; read again when it changes.")
    tls_key: str = _set("", "A PEM file with its private key.")
    tls_client_ca: str = _set("", "A PEM file with the CAs of client certificates, which are then required.")
    anonymous: tuple[Role, ...] | None = _set(
        None,
        "What a caller without credentials may do: predict,read,manage; default: predict,read, or nothing with access.",
    )
    require_signature: tuple[str, ...] = _set(
        (), "PEM files of public Ed25519 keys, one of which must have signed a model."
    )
    trust_remote_code: bool = _set(False, "Load models from a URL without a signature.")
    reflection: bool = _set(True, "Answer gRPC reflection.")

    log_format: Literal["text", "json"] = _set("text", "text or json.")
    log_level: Literal["debug", "info", "warning", "error"] = _set("info", "debug, info, warning or error.")
    access_log: str = _set("", "A file for one JSON line per call; - is standard output.")
    traces: str = _set("", "An OTLP/HTTP endpoint for traces, as http://localhost:4318/v1/traces.")

    models: dict[str, ModelSettings] = _table("Settings of single models, by name.", dict)  # noqa: RUF009
    access: tuple[Grant, ...] = _table("Who may do what.")

    def __post_init__(self) -> None:
        for name in ("host", "http_host"):  # an IPv6 address may come in brackets, as in [::1]:8001
            value = getattr(self, name)
            if value.startswith("[") and value.endswith("]"):
                object.__setattr__(self, name, value[1:-1])

    def host_of_http(self) -> str:
        return self.http_host or self.host

    def reached_at(self) -> tuple[str, ...]:
        """The addresses at which other machines may reach the server, by gRPC or HTTP."""
        hosts = [] if self.unix_socket else [self.host]
        if self.http_port >= 0:
            hosts.append(self.host_of_http())
        return tuple(dict.fromkeys(host for host in hosts if not _is_loopback(host)))


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:  # a host name, which may resolve to any machine
        return False


def dumps(settings: Settings) -> str:
    """Settings as JSON, for `loads`."""
    return json.dumps(asdict(settings))


def loads(text: str) -> Settings:
    """Settings from `dumps`. `kanserve serve` passes them by execv to `python -m kanserve.serve NUMBER`, in an
    inherited file descriptor that contains only this JSON, which the new process reads and closes."""
    values = json.loads(text)
    values["models"] = {name: _make(ModelSettings, value) for name, value in values["models"].items()}
    values["access"] = tuple(_make(Grant, value) for value in values["access"])
    made: Settings = _make(Settings, values)
    return made


def _make(kind: type[Any], values: dict[str, Any]) -> Any:
    """Rebuild a dataclass from JSON, which has lists instead of tuples (Any: an instance of `kind`)."""
    known = {setting.name for setting in fields(kind)}
    return kind(
        **{name: tuple(value) if isinstance(value, list) else value for name, value in values.items() if name in known}
    )
