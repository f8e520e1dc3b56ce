"""Flags, environment and file: which is the stronger, what is refused and how it is said."""

import hashlib
import json
import os
import re
import socket
import tomllib
from dataclasses import fields
from pathlib import Path

import pytest

from kanserve import repository
from kanserve.cli.commands import serve as serve_command
from kanserve.client import Client
from kanserve.errors import InputError
from kanserve.serve import settings
from kanserve.serve.configuration import flags
from kanserve.serve.configuration.settings_sources import configuration, read
from kanserve.serve.server import start
from kanserve.serve.settings import Grant, ModelSettings, Settings
from tests.support.paths import ROOT
from tests.support.servers import serving


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with an empty repository, where the environment sets nothing."""
    (tmp_path / "models").mkdir()
    monkeypatch.chdir(tmp_path)
    for name in list(os.environ):
        if name.startswith("KANSERVE_"):
            monkeypatch.delenv(name)
    return tmp_path


def file(text: str) -> str:
    Path("kanserve.toml").write_text(text)
    return "kanserve.toml"


def refused(*arguments: str, **environ: str) -> list[str]:
    with pytest.raises(InputError) as caught:
        read(arguments, environ)
    return str(caught.value).splitlines()


def test_nothing_set_is_what_the_table_says(folder):
    assert read([], {}) == Settings()


def test_flags_are_stronger_than_the_environment_and_that_than_the_file(folder):
    path = file("port = 1\nthreads = 1\nqueue = 1\n")
    found = configuration(["models", "--config", path, "--port", "3"], {"KANSERVE_PORT": "2", "KANSERVE_THREADS": "2"})
    assert (found.settings.port, found.settings.threads, found.settings.queue) == (3, 2, 1)
    assert found.origins["port"] == "--port"
    assert found.origins["threads"] == "KANSERVE_THREADS"
    assert found.origins["queue"] == "queue in kanserve.toml"
    assert "streams" not in found.origins


@pytest.mark.slow
def test_every_setting_has_a_flag_and_a_variable_that_take_its_default(folder):
    for setting in flags.of_settings():
        if setting.name in (
            "repository",
            "anonymous",
        ):  # the first has no flag, the second's default is that it is not set
            continue
        text = flags.default(setting)
        if isinstance(setting.default, bool):
            arguments = [flags.flag(setting.name) if setting.default else flags.flag("no_" + setting.name)]
        else:
            arguments = [f"{flags.flag(setting.name)}={text}"]
        assert read(arguments, {}) == read([], {f"KANSERVE_{setting.name.upper()}": text}) == Settings(), setting.name


def test_lists_are_parted_by_commas_and_a_flag_may_be_given_again(folder):
    assert read(["--warm-up", "1, 256"], {}).warm_up == (1, 256)
    assert read(["--warm-up", "1", "--warm-up", "256"], {}).warm_up == (1, 256)
    assert read([], {"KANSERVE_WARM_UP": "1,256"}).warm_up == (1, 256)
    assert read(["--config", file("warm_up = [1, 256]")], {}).warm_up == (1, 256)
    assert read(["--config", file('anonymous = "read"')], {"KANSERVE_ANONYMOUS": ""}).anonymous == ()


def test_only_the_file_has_models_and_access(folder):
    digest = hashlib.sha256(b"secret").hexdigest()
    path = file(f"""
        [models.houses]
        versions = "latest:2"
        warm_up = [1, 16]

        [[access]]
        name = "planner"
        roles = ["predict", "read"]
        token_sha256 = "{digest}"
        models = ["houses"]
    """)
    found = read([], {"KANSERVE_CONFIG": path})
    assert found.models == {"houses": ModelSettings(versions="latest:2", warm_up=(1, 16))}
    assert found.access == (Grant(roles=("predict", "read"), name="planner", token_sha256=digest, models=("houses",)),)
    assert settings.loads(settings.dumps(found)) == found
    assert "unknown flag" in refused("--models", "x")[0]
    assert "unknown setting" in refused(KANSERVE_ACCESS="x")[0]


def test_variables_that_the_build_reads_are_no_misspelt_settings(folder):
    code = [ROOT / "hatch_build.py", *(ROOT / "kanserve").rglob("*.py")]
    found = {name for path in code for name in re.findall(r"environ[^\n]*\"(KANSERVE_[A-Z_]+)\"", path.read_text())}
    assert found >= {"KANSERVE_SERVER_LIBRARIES", "KANSERVE_STUDIO"}
    others = found - {"KANSERVE_CONFIG", *(f"KANSERVE_{setting.name.upper()}" for setting in fields(Settings))}
    assert read([], dict.fromkeys(others, "x")) == Settings()


ROLES = "predict, read or manage, separated by commas"
NONE = "unknown"

WRONG = {
    "a number that is none": (["--port", "abc"], {}, "", "--port: wanted a whole number from 0 to 65535, got 'abc'"),
    "a port too large": (["--port=70000"], {}, "", "--port: wanted a whole number from 0 to 65535, got '70000'"),
    "a variable": ([], {"KANSERVE_PIN": "maybe"}, "", "KANSERVE_PIN: wanted true or false, got 'maybe'"),
    "a choice": ([], {}, 'log_format = "xml"', "log_format in kanserve.toml: wanted text or json, got 'xml'"),
    "a truth as a number": (
        [],
        {},
        "port = true",
        "port in kanserve.toml: wanted a whole number from 0 to 65535, got True",
    ),
    "an infinite wait": (["--grace-seconds", "inf"], {}, "", "--grace-seconds: wanted a number from 0, got 'inf'"),
    "fewer than none": (["--workers", "-1"], {}, "", "--workers: wanted a whole number from 0 to 1024, got '-1'"),
    "a role": (["--anonymous", "predict,rule"], {}, "", f"--anonymous: wanted {ROLES}, got 'rule'"),
    "a flag misspelt": (["--thread", "3"], {}, "", f"--thread: {NONE} flag; did you mean --threads?"),
    "a variable misspelt": (
        [],
        {"KANSERVE_THREAD": "3"},
        "",
        f"KANSERVE_THREAD: {NONE} setting; did you mean KANSERVE_THREADS?",
    ),
    "a key misspelt": ([], {}, "thread = 3", f"thread in kanserve.toml: {NONE} setting; did you mean threads?"),
    "a key of a model misspelt": (
        [],
        {},
        "[models.a]\nversion = '1'",
        f"[models.a] version in kanserve.toml: {NONE} setting; did you mean versions?",
    ),
    "a grant without roles": (
        [],
        {},
        "[[access]]\ntoken_file = 'x'",
        f"[[access]] 1 roles in kanserve.toml: wanted {ROLES}, got nothing",
    ),
    "a file that is none": (["--config", "none.toml"], {}, "", "none.toml: No such file or directory"),
    "a file that is not TOML": ([], {}, "port 3", "kanserve.toml: not TOML"),
    "a flag without its value": (["--port"], {}, "", "--port"),
    "two repositories": (["models", "others"], {}, "", "'others': unexpected argument; wanted one repository"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_said_in_one_line_with_its_place(case, folder):
    arguments, environ, text, said = WRONG[case]
    if text:
        environ = {**environ, "KANSERVE_CONFIG": file(text)}
    (line,) = refused(*arguments, **environ)
    assert line.startswith(said) or (case == "a flag without its value" and said in line)


def test_all_that_is_wrong_is_said_at_once(folder):
    assert len(refused("--port", "x", "--threads", "x", "--fly", KANSERVE_FLY="1", KANSERVE_QUEUE="x")) == 5


def test_the_flags_of_kserve_are_taken(folder):
    given = [
        "--model_name=houses",
        "--model_dir=models",
        "--http_port=8080",
        "--grpc_port",
        "9000",
        "--enable_grpc=true",
    ]
    found = configuration(given, {})
    assert (found.settings.model_name, found.settings.repository) == ("houses", "models")
    assert (found.settings.http_port, found.settings.port) == (8080, 9000)
    assert found.origins["port"] == "--grpc-port"
    assert found.warnings == ("--enable-grpc has no meaning here",)


def test_a_server_with_kserves_spelling_is_reached_from_outside_its_pod(folder):
    assert configuration(["--model_dir=models"], {}).settings.host == "0.0.0.0"
    assert configuration(["--model-dir=models"], {}).settings.host == "127.0.0.1"
    assert configuration(["--model_dir=models", "--host=10.0.0.1"], {}).settings.host == "10.0.0.1"
    assert configuration(["--model_dir=models"], {"KANSERVE_HOST": "10.0.0.2"}).settings.host == "10.0.0.2"


def test_the_variables_that_kubernetes_makes_of_a_service_are_left_alone(folder):
    made = {
        "KANSERVE_SERVICE_HOST": "10.0.0.1",
        "KANSERVE_SERVICE_PORT": "8001",
        "KANSERVE_SERVICE_PORT_GRPC": "8001",
        "KANSERVE_PORT": "tcp://10.0.0.1:8001",
        "KANSERVE_PORT_8001_TCP": "tcp://10.0.0.1:8001",
        "KANSERVE_PORT_8001_TCP_ADDR": "10.0.0.1",
        "KANSERVE_EDGE_PORT": "tcp://10.0.0.2:8001",
    }
    assert read([], made) == Settings()


def test_what_check_config_prints_is_a_file_that_says_the_same(folder, capsys):
    arguments = ["models", "--port", "7", "--warm-up", "1,2", "--model-name", "a", "--no-reflection"]
    Path("first.toml").write_text("[models.a]\nmax_rows = 7\n")
    assert serve_command.main([*arguments, "--config", "first.toml", "--check-config"]) == 0
    printed = capsys.readouterr().out
    assert "port = 7  # --port" in printed
    assert set(tomllib.loads(printed)) >= {setting.name for setting in flags.of_settings()} - {"anonymous"}
    assert read(["--config", file(printed)], {}) == read([*arguments, "--config", "first.toml"], {})


def test_check_config_shows_no_secret(folder, capsys):
    digest = hashlib.sha256(b"secret").hexdigest()
    path = file(
        f"traces = 'http://me:secret@localhost:4318'\n[[access]]\nroles = ['read']\ntoken_sha256 = '{digest}'\n"
    )
    assert serve_command.main(["--config", path, "--check-config"]) == 0
    printed = capsys.readouterr().out
    assert digest not in printed and "secret" not in printed and "localhost:4318" in printed


def test_check_config_says_what_is_wrong_and_ends_with_2(folder, capsys):
    assert serve_command.main(["none", "--port", "x", "--check-config"]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err == "kanserve: --port: wanted a whole number from 0 to 65535, got 'x'\n"
    assert serve_command.main(["none", "--check-config"]) == 2
    assert capsys.readouterr().err == "kanserve: REPOSITORY: the folder 'none' does not exist\n"


def test_help_has_every_flag_with_its_default(folder, capsys):
    assert serve_command.main(["--help"]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    for setting in flags.of_settings():
        assert flags.flag(setting.name) in printed and f"[{flags.default(setting)}]" in printed, setting.name


def test_the_settings_reach_the_next_process_through_a_descriptor(folder):
    found = read(["--port", "7"], {})
    number = serve_command.hand_over(found)
    assert os.get_inheritable(number)
    with open(number, "rb") as handed:
        assert settings.loads(handed.read().decode()) == found


def test_every_setting_says_what_it_is():
    for kind in (Settings, ModelSettings):
        assert all(field.metadata["help"].endswith(".") for field in fields(kind))
    assert json.loads(settings.dumps(Settings()))["port"] == 8001


def test_the_addresses_that_other_machines_reach_are_those_of_both_ports(folder):
    assert read([], {}).reached_at() == read(["--http-host", "0.0.0.0"], {}).reached_at() == ()
    assert read(["--http-host", "0.0.0.0", "--http-port", "0"], {}).reached_at() == ("0.0.0.0",)
    assert read(["--host", "models.local", "--http-port", "0"], {}).reached_at() == ("models.local",)
    both = read(["--host", "10.0.0.1", "--http-host", "10.0.0.2", "--http-port", "0"], {})
    assert both.reached_at() == ("10.0.0.1", "10.0.0.2")
    assert read(["--unix-socket", "kanserve.sock", "--host", "10.0.0.1"], {}).reached_at() == ()


def test_an_ipv6_address_is_taken_with_its_brackets_too(folder):
    found = read(["--host", "[::1]", "--http-host", "[::]"], {})
    assert (found.host, found.host_of_http()) == ("::1", "::")
    assert read(["--host", "::1"], {}) == read(["--host", "[::1]"], {}) == read([], {"KANSERVE_HOST": "[::1]"})


@pytest.mark.parametrize("host", ["::1", "[::1]"])
def test_a_server_listens_on_an_ipv6_address_in_both_spellings(tmp_path, host):
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError as error:
        pytest.skip(f"this machine has no IPv6: {error}")
    repository.publish(tmp_path, "mixed", serving.artifact("mixed"))
    with start(tmp_path, host=host, port=0) as server, Client(server.address) as client:
        assert server.address == f"[::1]:{server.port}" and client.ready("mixed")
