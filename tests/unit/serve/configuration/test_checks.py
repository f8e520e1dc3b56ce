"""Settings that are right one by one, and do not go together."""

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest

from kanserve.serve.configuration.checks import complaints, warnings
from kanserve.serve.settings import Grant, ModelSettings, Settings

DIGEST = hashlib.sha256(b"secret").hexdigest()


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models").mkdir()
    for name in ("certificate.pem", "key.pem", "ca.pem"):
        (tmp_path / name).write_text("PEM")
    (tmp_path / "routes.json").write_text("{}")
    (tmp_path / "token").write_text("secret\n")
    (tmp_path / "empty").write_text("\n")
    return tmp_path


def said(settings: Settings) -> list[str]:
    return complaints(settings, lambda name: name)


TLS = Settings(tls_certificate="certificate.pem", tls_key="key.pem")

GOOD = {
    "defaults": Settings(),
    "TLS": replace(TLS, tls_client_ca="ca.pem"),
    "a URL with a signature": Settings(repository="s3://bucket/models", require_signature=("key.pem",)),
    "a URL with trust": Settings(repository="s3://bucket/models", trust_remote_code=True),
    "origins": Settings(cors_origin=("*", "http://localhost:3000")),
    "a header to choose by": Settings(routes="routes.json", route_header="x-user-id"),
    "a socket": Settings(unix_socket="here.sock"),
    "explicit": Settings(model_control="explicit", load=("houses",)),
    "tokens": Settings(access=(Grant(("read",), token_file="token"), Grant(("read",), token_sha256="0" * 64))),
    "versions": Settings(versions="latest:2", models={"a": ModelSettings(versions="1,3", max_rows=7, warm_up=(7,))}),
    "one file for one port": Settings(port=0, http_port=0),
}


@pytest.mark.parametrize("case", GOOD)
def test_what_goes_together_is_taken(case):
    assert said(GOOD[case]) == []


BAD = {
    "no repository": (Settings(repository="none"), "repository: the folder 'none' does not exist"),
    "a URL with neither": (Settings(repository="s3://bucket/models"), "repository: models from a URL"),
    "a name": (Settings(model_name="../x"), "model_name: A model's name"),
    "a name of a model": (Settings(models={"A": ModelSettings()}), "[models.A]: A model's name"),
    "a socket for several": (Settings(unix_socket="a.sock", workers=2), "unix_socket: only one process"),
    "a socket of a long name": (Settings(unix_socket="a" * 108), "unix_socket: wanted a path"),
    "a socket in no folder": (Settings(unix_socket="none/a.sock"), "unix_socket: the folder 'none' does not exist"),
    "a socket where a file is": (Settings(unix_socket="token"), "unix_socket: token is there already"),
    "one port for two": (Settings(port=8001, http_port=8001), "http_port: 8001 is the gRPC port"),
    "a log in no folder": (Settings(access_log="none/log"), "access_log: the folder"),
    "traces to nowhere": (Settings(traces="localhost:4318"), "traces: wanted http://"),
    "an origin with a path": (Settings(cors_origin=("https://a.example/x",)), "cors_origin: wanted * or an origin"),
    "a header without weights": (Settings(route_header="x-user-id"), "route_header: only with routes"),
    **{
        f"the header {header}": (Settings(routes="routes.json", route_header=header), "route_header: wanted a header")
        for header in ("X-User", "user id", "content-type", "host", "grpc-timeout", "user-bin", ":path", "a" * 101)
    },
    "what to load, by signal": (Settings(load=("houses",)), "load: only with model_control explicit"),
    "versions": (Settings(versions="newest"), "versions: wanted all, latest"),
    "versions of a model": (Settings(models={"a": ModelSettings(versions="0")}), "[models.a] versions: wanted all"),
    "a backend": (Settings(backend="fortran"), "backend: wanted one of c_source"),
    "more rows than may come": (Settings(max_rows=10, warm_up=(11,)), "warm_up: wanted rows from 1 to max_rows, 10"),
    "a key alone": (Settings(tls_key="key.pem"), "tls_key: wanted tls_certificate"),
    "a certificate alone": (Settings(tls_certificate="certificate.pem"), "tls_certificate: wanted tls_key"),
    "authorities alone": (Settings(tls_client_ca="ca.pem"), "tls_client_ca: wanted tls_certificate"),
    "a key that is not there": (replace(TLS, tls_key="none"), "tls_key: none: No such file"),
    "a key of signatures that is not there": (
        Settings(require_signature=("none",)),
        "require_signature: none: No such",
    ),
    "a grant without a way to show it": (Settings(access=(Grant(("read",)),)), "[[access]] 1: wanted one of"),
    "a grant with two": (
        Settings(access=(Grant(("read",), token_sha256=DIGEST, token_file="token"),)),
        "[[access]] 1: wanted one of token_sha256, token_file and certificate, got token_sha256 and token_file",
    ),
    "a grant for nothing": (Settings(access=(Grant((), token_file="token"),)), "[[access]] 1 roles: wanted one of"),
    "a certificate nobody asks for": (
        Settings(access=(Grant(("read",), certificate="planner"),)),
        "[[access]] 1 certificate: wanted tls_client_ca",
    ),
    "a hash": (Settings(access=(Grant(("read",), token_sha256="abc"),)), "[[access]] 1 token_sha256: wanted 64"),
    "a token that is not there": (
        Settings(access=(Grant(("read",), token_file="none"),)),
        "[[access]] 1 token_file: none",
    ),
    "an empty token": (Settings(access=(Grant(("read",), token_file="empty"),)), "[[access]] 1 token_file: wanted a"),
    "one token for two": (
        Settings(access=(Grant(("read",), token_file="token"), Grant(("manage",), token_sha256=DIGEST))),
        "[[access]] 2: has the same token as [[access]] 1",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_what_does_not_go_together_is_one_line(case):
    settings, wanted = BAD[case]
    lines = said(settings)
    assert any(line.startswith(wanted) for line in lines), lines
    assert len(lines) == 1


def test_tokens_in_the_clear_are_warned_of():
    grants = (Grant(("read",), token_file="token"),)
    assert "unencrypted" in warnings(Settings(host="0.0.0.0", access=grants))[0]
    assert "unencrypted" in warnings(Settings(host="127.example.org", access=grants))[0]  # another's name
    assert not warnings(Settings(access=grants)) and not warnings(replace(TLS, host="0.0.0.0", access=grants))


def test_managing_by_anybody_is_warned_of():
    assert "load and unload" in warnings(Settings(host="0.0.0.0", anonymous=("manage",)))[0]
    assert not warnings(Settings(anonymous=("manage",)))
