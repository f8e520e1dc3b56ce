"""Who can call the studio: each promise of docs/studio.md about security, on a studio that listens."""

import json
import re
import socket
import subprocess
import sys

import pytest

import kanserve
from kanserve.errors import DeadlineError, InputError, NotFoundError
from kanserve.studio import jobs as studio_jobs
from kanserve.studio.page_files import STATIC, page_files
from kanserve.studio.process import StudioSettings
from kanserve.studio.request_guards import POLICY
from kanserve.studio.worker import Worker
from tests.support.servers.studios import Running, opened_law, running

CALLS = (
    *("snapshot", "constants", "ruler", "pareto", "rows", "events", "edges/x-%3Eh1", "export/latex"),
    *("steps", "undo", "redo", "functions", "search", "search/cancel", "fit/cancel", "predict", "publish"),
)


@pytest.fixture(scope="module")
def studio():
    with running(opened_law()) as found:
        yield found


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("token", [None, "", "wrong", "0" * 64])
def test_no_call_is_answered_without_the_token(studio: Running, call: str, token: str | None):
    bodies: tuple[object, ...] = (None, {})
    for body in bodies:
        answer = studio.ask(f"/api/{call}", body, X_Kanserve_Token=token)
        assert answer.status == 401 and b"token" in answer.body


def test_the_token_has_256_bits_and_is_new_in_each_studio(studio: Running):
    assert re.fullmatch("[0-9a-f]{64}", studio.studio.token)
    with running(opened_law()) as other:
        assert other.studio.token != studio.studio.token


def test_two_tokens_are_none(studio: Running):
    connection = socket.create_connection(("127.0.0.1", int(studio.host.split(":")[1])))
    lines = ["GET /api/snapshot HTTP/1.1", f"Host: {studio.host}", "Connection: close"]
    lines += [f"X-Kanserve-Token: {studio.studio.token}"] * 2
    with connection:
        connection.sendall("\r\n".join([*lines, "", ""]).encode())
        assert connection.makefile("rb").readline().split()[1] == b"401"


def test_the_token_is_in_the_fragment_of_the_address_alone(studio: Running):
    before, _, fragment = studio.studio.address.partition("#")
    assert fragment == f"token={studio.studio.token}" and studio.studio.token not in before
    assert studio.ask(f"/api/snapshot?token={studio.studio.token}", X_Kanserve_Token=None).status == 401
    assert studio.ask("/api/snapshot", X_Kanserve_Token=None, Cookie=f"token={studio.studio.token}").status == 401


@pytest.mark.parametrize("host", ["localhost", "example.org", "127.0.0.1", "127.0.0.1:1", "attacker.example:80", ""])
def test_another_host_is_refused(studio: Running, host: str):
    for path in ("/", "/api/snapshot"):
        assert studio.ask(path, Host=host).status == 421


@pytest.mark.parametrize(
    "origin", ["null", "http://example.org", "https://{}", "http://{}.example.org", "http://localhost"]
)
def test_another_origin_is_refused(studio: Running, origin: str):
    assert studio.ask("/api/snapshot", Origin=origin.format(studio.host)).status == 403


def test_its_own_origin_is_allowed_and_no_other_page_is_told_so(studio: Running):
    answer = studio.ask("/api/snapshot", Origin=studio.studio.origin)
    assert answer.status == 200
    assert not [name for name in answer.headers if name.startswith("access-control") or name == "set-cookie"]
    preflight = studio.ask("/api/steps", method="OPTIONS", Origin="http://example.org")
    assert preflight.status == 403 and not [name for name in preflight.headers if name.startswith("access-control")]


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", None]
)
def test_a_body_that_is_not_called_json_is_refused(studio: Running, kind: str | None):
    assert studio.ask("/api/steps", b"{}", Content_Type=kind).status == 415


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b'"x"', b'{"base": NaN}', b"[" * 100_000, b"\xff"])
def test_a_body_that_is_no_json_object_is_an_error_and_changes_nothing(studio: Running, body: bytes):
    before = studio.get("snapshot")["view"]["revision"]
    assert studio.ask("/api/steps", body).status == 422
    assert studio.get("snapshot")["view"]["revision"] == before


def test_every_answer_has_the_headers_that_keep_other_pages_out(studio: Running):
    for answer in (studio.ask("/"), studio.ask("/api/snapshot"), studio.ask("/none"), studio.ask("/", Host="x")):
        assert answer.headers["content-security-policy"] == POLICY
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cross-origin-opener-policy"] == "same-origin"
        assert answer.headers["cross-origin-resource-policy"] == "same-origin"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert "server" not in answer.headers
    for part in ("default-src 'none'", "script-src 'self'", "frame-ancestors 'none'", "base-uri 'none'"):
        assert part in POLICY
    assert "unsafe-eval" not in POLICY and "script-src 'self' 'unsafe" not in POLICY


def test_a_body_of_more_than_8_mb_is_refused_with_and_without_its_length(studio: Running):
    assert studio.ask("/api/predict", b"x", Content_Length=str(8 * 2**20 + 1)).status == 413
    connection = socket.create_connection(("127.0.0.1", int(studio.host.split(":")[1])))
    head = f"POST /api/predict HTTP/1.1\r\nHost: {studio.host}\r\nX-Kanserve-Token: {studio.studio.token}\r\n"
    head += "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    with connection:
        connection.sendall(head.encode())
        try:
            for _ in range(10):
                connection.sendall(b"100000\r\n" + b" " * 2**20 + b"\r\n")
        except (BrokenPipeError, ConnectionResetError):
            pass
        assert connection.makefile("rb").readline().split()[1] == b"413"


def test_it_listens_on_this_machine_alone_and_on_a_port_of_its_own(studio: Running):
    with running(opened_law()) as other:
        assert {one.host.split(":")[0] for one in (studio, other)} == {"127.0.0.1"}
        assert studio.host != other.host


def test_another_host_needs_tls():
    with pytest.raises(InputError, match="needs TLS"):
        StudioSettings(host="0.0.0.0")
    with pytest.raises(InputError, match="both"):
        StudioSettings(host="0.0.0.0", certificate=STATIC)


@pytest.mark.parametrize(
    "formula",
    [
        "__import__('os').system('true')",
        "().__class__",
        "x.__class__",
        "lambda: x",
        "[x for x in x]",
        "exec(x)",
        "x" * 9,
    ],
)
def test_an_own_function_is_only_what_the_grammar_has(studio: Running, formula: str):
    answer = studio.ask("/api/functions", {"name": "evil", "formula": formula})
    assert answer.status == 422 and "evil" not in json.dumps(studio.candidates("x->h1"))


@pytest.mark.parametrize("path", ["/../pyproject.toml", "/%2e%2e/app.py", "/static/index.html", "//etc/passwd", "/api"])
def test_only_the_files_of_the_page_are_read(studio: Running, path: str):
    assert studio.ask(path).status in (401, 404)


@pytest.mark.parametrize("name", ["../../etc/passwd", "A", "a b", "a/../b", "", "-rf"])
def test_a_model_is_not_published_by_a_name_that_is_a_path(studio: Running, name: str, tmp_path):
    body = {"base": studio.get("snapshot")["view"]["revision"], "repository": str(tmp_path), "name": name}
    assert studio.ask("/api/publish", body).status == 422
    assert not list(tmp_path.iterdir())


def test_the_page_that_was_not_built_names_the_command(tmp_path):
    with pytest.raises(NotFoundError, match="make studio"):
        page_files(tmp_path)


def _forever(rows: object) -> None:
    while True:
        pass


def _twice(rows: object, number: int) -> int:
    return 2 * number


@pytest.mark.slow
@pytest.mark.extended
def test_what_takes_longer_than_its_limit_is_ended_and_the_next_call_is_answered():
    worker = Worker()
    try:
        with pytest.raises(DeadlineError, match="nothing has changed"):
            worker.run(_forever, seconds=0.5)
        assert worker.run(_twice, 21, seconds=60) == 42
    finally:
        worker.end()


def test_the_server_of_models_has_no_studio_in_it():
    script = "import sys, kanserve.serve.server; print([m for m in sys.modules if 'studio' in m or 'starlette' in m])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_names_of_a_network_are_data_in_every_answer():
    name = '<img src=x onerror="alert(1)">'
    kan = kanserve.from_formula("2*a + 1", ranges={"a": (0, 1)})
    kan = kanserve.Kan(kan.layers, (kanserve.Variable(name, low=0, high=1),), kan.outputs)
    from kanserve.studio.opened_model import Opened

    with running(Opened(kan, "names")) as studio:
        answer = studio.ask("/api/snapshot")
        assert answer.headers["content-type"] == "application/json"
        assert answer.data["view"]["nodes"][0][0]["name"] == name


def test_jobs_take_no_code_from_a_request():
    assert not [name for name in vars(studio_jobs) if name in ("eval", "exec", "pickle")]
