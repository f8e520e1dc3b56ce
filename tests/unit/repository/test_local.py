"""Where a repository may be: a folder, a folder that is one version, a URL, and what is none of these."""

import sys
from importlib import import_module
from pathlib import Path

import pytest

from kanserve import repository
from kanserve.artifact import write
from kanserve.errors import (
    ArtifactError,
    InputError,
    InvalidNameError,
    MissingDependencyError,
    NotFoundError,
)
from tests.support.artifacts import small


@pytest.mark.slow
@pytest.mark.parametrize("url", ["nonsense://x/y", "memory://", "s3://", "simplecache::s3://bucket/models"])
def test_a_url_that_leads_nowhere_is_refused(url: str) -> None:
    if "s3" in url:
        pytest.importorskip("s3fs")
    with pytest.raises(InputError, match="URL"):
        repository.names(url)


def test_a_package_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    with pytest.raises(MissingDependencyError, match="pip install gcsfs"):
        repository.names("gs://bucket/models")
    monkeypatch.setitem(sys.modules, "s3fs", None)
    for name in [module for module in sys.modules if module.startswith("s3fs.")]:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(import_module("fsspec.registry")._registry, "s3", raising=False)
    with pytest.raises(MissingDependencyError, match=r"s3fs.*kanserve\[s3\]"):
        repository.names("s3://bucket/models")
    monkeypatch.setitem(sys.modules, "fsspec", None)
    with pytest.raises(MissingDependencyError, match=r"fsspec.*kanserve\[remote\]"):
        repository.names("memory://bucket/models")


def test_a_file_url_is_the_folder(tmp_path: Path) -> None:
    repository.publish(tmp_path, "model", small())
    for scheme in ("file", "local"):
        assert repository.names(f"{scheme}://{tmp_path}") == ("model",)
    (tmp_path / "link").symlink_to(tmp_path / "model")
    assert repository.names(f"file://{tmp_path}") == ("model",)
    assert not repository.is_remote(f"file://{tmp_path}") and repository.is_remote("s3://bucket")


@pytest.mark.parametrize("name", ["..", "", "../model", "/etc", "a/b", "model\0", "MODEL", "*", "::x"])
def test_a_hostile_name_asks_for_nothing(name: str) -> None:
    """No store is there, so that any question would say so."""
    for act in (
        lambda: repository.read("memory://nowhere", name, 1),
        lambda: repository.versions("memory://nowhere", name),
        lambda: repository.publish("memory://nowhere", name, small()),
    ):
        with pytest.raises(InvalidNameError):
            act()


def test_a_folder_that_is_one_version_is_one_model(tmp_path: Path) -> None:
    """As KServe mounts it at /mnt/models."""
    write(tmp_path / "mounted", small(name="inside"))
    source = repository.open(tmp_path / "mounted")
    assert source.index() == {"inside": (1,)} and source.names() == ("inside",) and source.versions("inside") == (1,)
    assert source.read("inside", 1).files == small().files
    named = repository.open(tmp_path / "mounted", name="outside")
    assert named.names() == ("outside",)
    for name, version in (("inside", 1), ("outside", 2)):
        with pytest.raises(NotFoundError):
            named.read(name, version)
    with pytest.raises(InvalidNameError):
        repository.open(tmp_path / "mounted", name="../x")
    (tmp_path / "mounted" / "more").touch()
    with pytest.raises(ArtifactError, match="does not list"):
        named.read("outside", 1)


def test_a_folder_of_versions_is_one_model(tmp_path: Path) -> None:
    for version in (1, 3):
        repository.publish(tmp_path, "inside", small(), version)
    source = repository.open(tmp_path / "inside")
    assert source.index() == {"inside": (1, 3)} and source.names() == ("inside",)
    assert source.read("inside", 3).files == small().files
    named = repository.open(tmp_path / "inside", name="outside")
    assert named.versions("outside") == (1, 3)
    for name, version in (("inside", 1), ("outside", 2)):
        with pytest.raises(NotFoundError):
            named.read(name, version)
    (tmp_path / "linked").symlink_to(tmp_path / "inside")
    assert repository.open(tmp_path / "linked").names() == ("linked",)
    (tmp_path / "inside" / "4").symlink_to(tmp_path / "inside" / "1")
    assert source.versions("inside") == (1, 3)


def test_a_folder_of_models_is_one_also_where_a_name_is_given(tmp_path: Path) -> None:
    repository.publish(tmp_path, "model", small())
    assert repository.open(tmp_path, name="other").names() == ("model",)
