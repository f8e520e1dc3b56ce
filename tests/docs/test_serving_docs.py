"""docs/serving.md says what the code says."""

import json
import re
import tomllib

from kanserve.serve.configuration.settings_sources import read
from kanserve.serve.settings import Grant, ModelSettings
from tests.support import serving_docs

DEPLOY = serving_docs.PAGE.parents[1] / "deploy"


def test_the_tables_are_those_of_the_code():
    text = serving_docs.PAGE.read_text()
    assert serving_docs.page(text) == text, "Run: python -m tests.support.serving_docs"


def test_the_file_of_the_page_is_taken(tmp_path, monkeypatch):
    (found,) = re.findall(r"```toml\n(.*?)```", serving_docs.PAGE.read_text(), re.DOTALL)
    for name in ("tls.crt", "tls.key", "planner"):
        (tmp_path / name).write_text(name)
        found = re.sub(rf'"/[a-z/]+/{re.escape(name)}"', f'"{tmp_path / name}"', found)
    (tmp_path / "models").mkdir()
    (tmp_path / "kanserve.toml").write_text(found)
    monkeypatch.chdir(tmp_path)
    settings = read(["--config", "kanserve.toml"], {})
    assert set(tomllib.loads(found)) == {"http_port", "workers", "tls_certificate", "tls_key", "models", "access"}
    assert settings.models == {"houses": ModelSettings(versions="latest:2", concurrency=4, warm_up=(1, 256))}
    assert [grant.name for grant in settings.access] == ["planner", "publisher"]
    assert settings.access[1] == Grant(("manage",), "publisher", settings.access[1].token_sha256)


def test_the_file_of_the_systemd_unit_is_taken_and_its_grace_is_shorter_than_systemds(tmp_path):
    (tmp_path / "kanserve.toml").write_text(
        (DEPLOY / "kanserve.toml").read_text().replace("/srv/kanserve/models", str(tmp_path))
    )
    settings = read([], {"KANSERVE_CONFIG": str(tmp_path / "kanserve.toml")})
    assert (settings.host, settings.host_of_http(), settings.http_port) == ("0.0.0.0", "127.0.0.1", 8002)
    (patience,) = re.findall(r"^TimeoutStopSec=(\d+)$", (DEPLOY / "kanserve.service").read_text(), re.MULTILINE)
    assert settings.grace_seconds + 10 < int(patience)


def test_the_image_is_asked_for_its_health_where_it_serves_it():
    text = (DEPLOY / "Dockerfile").read_text()
    (command,) = re.findall(r"^CMD (\[.*\])$", text, re.MULTILINE)
    repository, *arguments = json.loads(command)
    settings = read([".", *arguments], dict(re.findall(r"(KANSERVE_\w+)=(\S+)", text)))
    assert repository == "/models" and settings.host == "0.0.0.0"
    assert f"HTTPConnection('127.0.0.1', {settings.http_port}, timeout=4)" in text
    assert f"EXPOSE {settings.port} {settings.http_port}" in text
