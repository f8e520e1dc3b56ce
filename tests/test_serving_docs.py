"""docs/serving.md says what the code says."""

import re
import tomllib

from kanserve.serve.configuration.reading import read
from kanserve.serve.settings import Grant, ModelSettings
from tests import serving_docs


def test_the_tables_are_those_of_the_code():
    text = serving_docs.PAGE.read_text()
    assert serving_docs.page(text) == text, "Run: python -m tests.serving_docs"


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
    assert [one.name for one in settings.access] == ["planner", "publisher"]
    assert settings.access[1] == Grant(("manage",), "publisher", settings.access[1].token_sha256)
