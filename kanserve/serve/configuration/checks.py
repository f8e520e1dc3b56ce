"""Checks across settings: whether they are consistent, and whether the files that they name exist."""

import os
import re
import stat
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from kanserve.errors import InputError, InvalidNameError
from kanserve.serve.settings import LONGEST_SOCKET_PATH, ROLES, Grant, Settings

# What HTTP itself uses is no header of the caller's: not all transports keep it.
_OF_HTTP = (
    "accept|accept-encoding|accept-language|connection|content-.*|cookie|expect|host|"
    "inference-header-content-length|keep-alive|origin|te|trailer|transfer-encoding|upgrade"
)
_HEADER = re.compile(rf"(?!(?:{_OF_HTTP})\Z)[a-z0-9_.-]{{1,100}}")
_SHA256 = re.compile(r"[0-9a-fA-F]{64}")

Named = Callable[[str], str]  # where a setting came from, by its name


def complaints(settings: Settings, named: Named) -> list[str]:
    """One line for each problem that keeps a server from running as intended."""
    return [
        *_repository(settings, named),
        *_addresses(settings, named),
        *_origins_logs_and_traces(settings, named),
        *_models(settings, named),
        *_routes(settings, named),
        *_tls(settings, named),
        *_access(settings, named),
    ]


def warnings(settings: Settings) -> list[str]:
    """Warnings about settings that are risky but may be intended."""
    risks: list[str] = []
    if not settings.reached_at():
        return risks
    if not settings.tls_certificate and any(grant.token_sha256 or grant.token_file for grant in settings.access):
        risks.append("tokens travel unencrypted: tls_certificate is not set, and the host is not local")
    if settings.anonymous is not None and "manage" in settings.anonymous:
        risks.append("anyone who reaches the port may load and unload models: anonymous has manage")
    return risks


def _repository(settings: Settings, named: Named) -> Iterator[str]:
    url = "://" in settings.repository
    if not settings.repository:
        yield f"{named('repository')}: wanted a folder or a URL, got nothing"
    elif not url and Path(settings.repository).is_file():
        yield (
            f"{named('repository')}: {settings.repository!r} is a file, and a repository is a folder: 'kanserve "
            "publish kan.safetensors models --name NAME' makes one of a network"
        )
    elif not url and not Path(settings.repository).is_dir():
        yield f"{named('repository')}: the folder {settings.repository!r} does not exist"
    if url and not settings.require_signature and not settings.trust_remote_code:
        yield (
            f"{named('repository')}: models from a URL are untrusted code: set require_signature, or trust_remote_code"
        )
    if settings.model_name:
        yield from _name(settings.model_name, named("model_name"))


def _routes(settings: Settings, named: Named) -> Iterator[str]:
    if settings.route_header:
        yield from _route_header(settings, named("route_header"))
    if not settings.routes:
        return
    from kanserve.serve.models.routes import read_routes  # imported late: rarely needed

    try:
        read_routes(settings.routes)
    except InputError as error:
        yield f"{named('routes')}: {error}"


def _route_header(settings: Settings, name: str) -> Iterator[str]:
    header = settings.route_header
    if not settings.routes:
        yield f"{name}: only with routes, whose weights it chooses by"
    if not _HEADER.fullmatch(header) or header.startswith("grpc-") or header.endswith("-bin"):
        yield f"{name}: wanted a header of your own in lower case, such as x-user-id, got {header!r:.80}"


def _addresses(settings: Settings, named: Named) -> Iterator[str]:
    if not settings.host:
        yield f"{named('host')}: wanted an address, got nothing"
    if settings.unix_socket:
        if settings.workers != 1:
            yield f"{named('unix_socket')}: only one process can listen there, and workers is {settings.workers}"
        if len(os.fsencode(settings.unix_socket)) > LONGEST_SOCKET_PATH:
            yield f"{named('unix_socket')}: wanted a path of at most {LONGEST_SOCKET_PATH} bytes"
        yield from _folder_of(settings.unix_socket, named("unix_socket"))
        if os.path.lexists(settings.unix_socket) and not stat.S_ISSOCK(os.lstat(settings.unix_socket).st_mode):
            yield f"{named('unix_socket')}: {settings.unix_socket} is there already and is not a socket"
    elif settings.http_port > 0 and settings.http_port == settings.port:
        yield f"{named('http_port')}: {settings.port} is the gRPC port already"


def _origins_logs_and_traces(settings: Settings, named: Named) -> Iterator[str]:
    for origin in settings.cors_origin:
        if origin != "*" and not re.fullmatch(r"https?://[^/?#\s]+", origin):
            yield f"{named('cors_origin')}: wanted * or an origin such as https://app.example, got {origin!r:.80}"
    if settings.access_log not in ("", "-"):
        yield from _folder_of(settings.access_log, named("access_log"))
    if settings.traces and not re.match(r"https?://[^/]", settings.traces):
        yield f"{named('traces')}: wanted http://.. or https://.., got {settings.traces!r:.80}"


def _models(settings: Settings, named: Named) -> Iterator[str]:
    if settings.load and settings.model_control != "explicit":
        yield f"{named('load')}: only with model_control explicit, which is {settings.model_control}"
    for name in settings.load:
        yield from _name(name, named("load"))
    yield from _of_a_model(settings.versions, settings.backend, settings.warm_up, settings.max_rows, named)
    for name, model in settings.models.items():

        def within(setting: str, name: str = name) -> str:
            return f"[models.{name}] {setting}"

        yield from _name(name, f"[models.{name}]")
        yield from _of_a_model(
            model.versions or "all", model.backend, model.warm_up, model.max_rows or settings.max_rows, within
        )


def _of_a_model(versions: str, backend: str, warm_up: Sequence[int], max_rows: int, named: Named) -> Iterator[str]:
    if versions not in ("all", "latest") and not _policy(versions):
        yield f"{named('versions')}: wanted all, latest, latest:N or numbers as in 1,3, got {versions!r:.80}"
    if backend:
        from kanserve import runtime  # imported late: rarely needed, and it imports numpy

        if backend not in runtime.names():
            yield f"{named('backend')}: wanted one of {', '.join(runtime.names())}, got {backend!r:.80}"
    for rows in warm_up:
        if not 1 <= rows <= max_rows:
            yield f"{named('warm_up')}: wanted rows from 1 to max_rows, {max_rows}, got {rows}"


def _policy(text: str) -> bool:
    from kanserve.serve.models.loader import policy  # imported late: it imports numpy

    try:
        policy(text)
    except InputError:
        return False
    return True


def _tls(settings: Settings, named: Named) -> Iterator[str]:
    if settings.tls_key and not settings.tls_certificate:
        yield f"{named('tls_key')}: wanted tls_certificate beside it"
    if settings.tls_certificate and not settings.tls_key:
        yield f"{named('tls_certificate')}: wanted tls_key beside it"
    if settings.tls_client_ca and not settings.tls_certificate:
        yield f"{named('tls_client_ca')}: wanted tls_certificate and tls_key beside it"
    for name in ("tls_certificate", "tls_key", "tls_client_ca"):
        if path := getattr(settings, name):
            yield from _readable(path, named(name))
    for path in settings.require_signature:
        yield from _readable(path, named("require_signature"))


def _access(settings: Settings, named: Named) -> Iterator[str]:
    seen: dict[str, int] = {}
    for number, grant in enumerate(settings.access, 1):
        where = f"[[access]] {number}"
        yield from _grant(grant, settings, where)
        digest = grant.token_sha256.lower() or _digest(grant.token_file)
        if digest and seen.setdefault(digest, number) != number:
            yield f"{where}: has the same token as [[access]] {seen[digest]}"
        if grant.certificate and seen.setdefault(f"certificate {grant.certificate}", number) != number:
            yield f"{where}: has the same certificate as [[access]] {seen[f'certificate {grant.certificate}']}"


def _grant(grant: Grant, settings: Settings, where: str) -> Iterator[str]:
    if not grant.roles:
        yield f"{where} roles: wanted one of {', '.join(ROLES)}, got nothing"
    for name in grant.models:
        yield from _name(name, f"{where} models")
    shown = [name for name in ("token_sha256", "token_file", "certificate") if getattr(grant, name)]
    if len(shown) != 1:
        got = " and ".join(shown) or "none"
        yield f"{where}: wanted one of token_sha256, token_file and certificate, got {got}"
    if grant.certificate and not settings.tls_client_ca:
        yield f"{where} certificate: wanted tls_client_ca, without which no client certificate is requested"
    if grant.token_sha256 and not _SHA256.fullmatch(grant.token_sha256):
        yield f"{where} token_sha256: wanted 64 hexadecimal digits"
    if grant.token_file:
        problems = [*_readable(grant.token_file, f"{where} token_file")]
        yield from problems or _token(grant, where)


def _token(grant: Grant, where: str) -> Iterator[str]:
    if not _digest(grant.token_file):
        yield f"{where} token_file: wanted a token in the first line of {grant.token_file}, got nothing"


def _digest(path: str) -> str:
    """The SHA-256 of the token in a file; "" if there is none."""
    try:
        with open(path, "rb") as file:
            token = file.readline().strip()
    except OSError:
        return ""  # `_readable` reports it
    from hashlib import sha256  # it loads OpenSSL, which takes 10 ms

    return sha256(token).hexdigest() if token else ""


def _name(name: str, where: str) -> Iterator[str]:
    from kanserve.artifact.naming_rules import check_name  # imported late: rarely needed, and it imports numpy

    try:
        check_name(name)
    except InvalidNameError as error:
        yield f"{where}: {error}"


def _readable(path: str, where: str) -> Iterator[str]:
    try:
        with open(path, "rb") as file:
            file.read(1)
    except OSError as error:
        yield f"{where}: {path}: {error.strerror}"


def _folder_of(path: str, where: str) -> Iterator[str]:
    if not Path(path).absolute().parent.is_dir():
        yield f"{where}: the folder {str(Path(path).parent)!r} does not exist"
