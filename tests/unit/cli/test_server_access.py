"""Commands that ask a server: TLS, certificates, and a token that no command line shows."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from kanserve.network import serialization
from kanserve.serve.server import Server, start
from kanserve.serve.settings import Settings
from tests.support.networks.kans import classifier, raw_features, rows
from tests.support.servers import callers, keys

TABLE = ("predict", "{}/plain", "plain.csv")
FORMULA = ("formula", "{}/plain")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two models, published and as files, with a table of each, and what a caller has."""
    folder = tmp_path_factory.mktemp("access")
    callers.models(folder / "models")
    for name, kan in {"plain": raw_features(), "iris": classifier()}.items():
        serialization.save(kan, folder / f"{name}.safetensors")
        cells = [[variable.name for variable in kan.inputs], *rows(kan)[:3].tolist()]
        (folder / f"{name}.csv").write_text("".join(",".join(map(str, line)) + "\n" for line in cells))
    (folder / "ca.pem").write_bytes(keys.authority().certificate)
    (folder / "all.token").write_text(f"{callers.token('all')}\nfor everything\n")
    for role in ("read", "predict"):
        (folder / f"{role}.token").write_text(callers.token(role))
    (folder / "empty.token").write_text("\n")
    keys.authority().pair("all-robot").write(folder, "robot")
    return folder


@pytest.fixture(scope="module")
def secured(folder: Path) -> Iterator[Server]:
    """TLS, and a token for each role."""
    with start(callers.rules(folder, str(folder / "models"), certificates=False)) as server:
        yield server


@pytest.fixture(autouse=True)
def _in_the_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.delenv("KANSERVE_TOKEN", raising=False)


def at(server: Server, words: tuple[str, ...]) -> list[str]:
    return [word.format(server.address) for word in words]


@pytest.mark.parametrize("words", [TABLE, FORMULA])
def test_a_server_with_tls_is_asked_with_a_token_of_a_file_or_the_environment(kanserve, secured, monkeypatch, words):
    wanted = kanserve(words[0], "models/plain", *words[2:])
    assert wanted[0] == 0 and wanted[1]
    command = (*at(secured, words), "--tls-ca", "ca.pem")
    assert kanserve(*command, "--token-file", "all.token") == wanted
    monkeypatch.setenv("KANSERVE_TOKEN", callers.token("all"))
    assert kanserve(*command) == wanted
    assert kanserve(*command, "--tls", "--server-name", "localhost") == wanted
    monkeypatch.setenv("KANSERVE_TOKEN", "another token")  # the file goes first
    assert kanserve(*command, "--token-file", "all.token") == wanted
    assert kanserve(words[0], "plain.safetensors", *words[2:])[0] == 0  # a file needs none


def test_a_server_that_asks_for_a_certificate_gets_one(kanserve, folder):
    wanted = kanserve("predict", "models/plain", "plain.csv")
    with start(callers.rules(folder, str(folder / "models"))) as server:
        command = (*at(server, TABLE), "--tls-ca", "ca.pem")
        own = ("--tls-certificate", "robot.crt", "--tls-key", "robot.key")
        assert kanserve(*command, *own) == wanted


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (("--tls-ca", "ca.pem"), "needs a bearer token or a client certificate"),
        (("--tls-ca", "ca.pem", "--token-file", "read.token"), "needs the role predict"),
        (("--tls-ca", "ca.pem", "--token-file", "empty.token"), "empty.token must have a token in its first line"),
        (("--tls-ca", "ca.pem", "--token-file", "none.token"), "none.token cannot be read: No such file"),
        (("--tls-ca", "ca.pem", "--token-file", "models"), "models cannot be read: Is a directory"),
        (("--tls-ca", "ca.pem", "--token-file", "plain.safetensors"), "printable ASCII"),
        (("--tls-ca", "none.pem"), "none.pem cannot be read: No such file"),
        (("--tls-ca", "plain.csv"), "plain.csv is not PEM"),
        (("--tls-ca", "ca.pem", "--tls-key", "robot.key"), "give both, or neither"),
        (("--tls-certificate", "robot.crt", "--tls-key", "robot.key"), "--tls-certificate needs --tls or --tls-ca"),
        (("--server-name", "models.example"), "--server-name needs --tls or --tls-ca"),
        (("--tls-ca", "ca.pem", "--server-name", "models.example"), "give server_name= (--server-name)"),
        (("--tls",), "give that as tls= (--tls-ca)"),
        ((), "give tls= (--tls or --tls-ca"),
    ],
)
def test_what_a_server_refuses_or_an_option_lacks_is_one_line(kanserve, secured, more, says, monkeypatch):
    monkeypatch.setattr("kanserve.client.retrying.delay", lambda failures: 0.01)
    code, out, err = kanserve(*at(secured, TABLE), *more)
    assert (code, out) == (2, "") and says in err and err.count("\n") == 1


def test_a_server_on_a_socket_file_is_asked_by_its_path(kanserve, folder, tmp_path):
    path = tmp_path / "kanserve.sock"
    wanted = kanserve("predict", "models/plain", "plain.csv")
    with start(Settings(str(folder / "models"), unix_socket=str(path))):
        for model in ("plain", "plain/1"):
            assert kanserve("predict", f"unix:{path}/{model}", "plain.csv") == wanted
        code, out, err = kanserve("predict", f"unix:{path}", "plain.csv")
        assert (code, out) == (2, "") and "is no socket file of a server and a model" in err


@pytest.mark.parametrize("model", ["plain", "iris"])
def test_a_token_that_may_only_predict_is_enough_to_predict(kanserve, secured, folder, model):
    command = ("predict", f"{secured.address}/{model}", f"{model}.csv", "--tls-ca", "ca.pem", "--token-file")
    assert kanserve(*command, "predict.token") == kanserve("predict", f"models/{model}", f"{model}.csv")


def test_a_token_is_not_sent_to_another_machine_unencrypted(kanserve, monkeypatch):
    monkeypatch.setenv("KANSERVE_TOKEN", "a token")
    code, out, err = kanserve("predict", "models.example:8001/plain", "plain.csv")
    assert (code, out) == (2, "")
    assert err == "kanserve: A token must not be sent to models.example:8001 unencrypted: give --tls or --tls-ca.\n"


@pytest.mark.parametrize("source", ["plain.safetensors", "models/plain", "plain.csv"])
@pytest.mark.parametrize(
    "option", [("--tls",), ("--tls-ca", "ca.pem"), ("--token-file", "all.token"), ("--server-name", "a")]
)
def test_an_option_for_a_server_is_refused_where_there_is_none(kanserve, source, option):
    words = ("formula", source, "--target", "y") if source == "plain.csv" else ("predict", source, "plain.csv")
    code, out, err = kanserve(*words, *option)
    assert (code, out) == (2, "")
    assert err == f"kanserve: {option[0]} is for a server, host:port/name; {source} is none.\n"


def test_the_token_of_a_client_is_no_setting_of_a_server(kanserve, monkeypatch, folder):
    monkeypatch.setenv("KANSERVE_TOKEN", "a token of a client")
    assert kanserve("serve", "models", "--check-config")[0] == 0
