"""Repositories behind URLs: fsspec's store in memory, and a real S3 endpoint on loopback."""

import itertools
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest

from kanserve import repository
from kanserve.artifact import format
from kanserve.errors import (
    ArtifactError,
    ConflictError,
    FormatError,
    IntegrityError,
    NotFoundError,
)
from tests.support.artifacts import small
from tests.support.peers import s3_store

_numbers = itertools.count()


@pytest.fixture(params=["memory", pytest.param("s3", marks=[pytest.mark.slow, pytest.mark.extended])])
def scheme(request: pytest.FixtureRequest) -> str:
    if request.param == "s3":
        request.getfixturevalue("store")
    return str(request.param)


@pytest.fixture
def root(scheme: str) -> str:
    return f"{scheme}://bucket/models{next(_numbers)}"


def keys(root: str) -> list[str]:
    scheme, path = root.split("://")
    found = s3_store.files(scheme).find(path)
    return sorted(file.split(f"{path}/", 1)[1] for file in found)


@pytest.mark.slow
def test_versions_count_up_and_come_back_as_they_were(root: str) -> None:
    assert repository.names(root) == ()
    assert repository.publish(root, "model", small(provenance={"n": "1"})) == 1
    assert repository.publish(root, "model", small(provenance={"n": "2"})) == 2
    assert repository.publish(root, "model", small(), version=10) == 10
    assert repository.publish(root, "other", small()) == 1
    assert repository.names(root) == ("model", "other")
    assert repository.versions(root, "model") == (1, 2, 10)
    assert repository.open(root).index() == {"model": (1, 2, 10), "other": (1,)}
    assert repository.read(root, "model").files == small().files
    assert repository.read(root, "model", 2).manifest.provenance == {"n": "2"}


@pytest.mark.slow
def test_a_signature_travels_with_its_version(root: str) -> None:
    repository.publish(root, "model", replace(small(), signature=b"s" * 64))
    assert repository.read(root, "model").signature == b"s" * 64


@pytest.mark.slow
def test_a_version_never_changes(root: str) -> None:
    repository.publish(root, "model", small(provenance={"n": "1"}))
    with pytest.raises(ConflictError, match="Version 1"):
        repository.publish(root, "model", small(), version=1)
    assert repository.read(root, "model", 1).manifest.provenance == {"n": "1"}


@pytest.mark.slow
def test_what_is_not_there_is_said(root: str) -> None:
    with pytest.raises(NotFoundError, match="no model 'model'"):
        repository.versions(root, "model")
    with pytest.raises(NotFoundError, match="no model 'model'"):
        repository.read(root, "model")
    repository.publish(root, "model", small())
    with pytest.raises(NotFoundError, match="no version 2 of 'model'"):
        repository.read(root, "model", 2)


@pytest.mark.slow
def test_keys_that_name_no_model_or_escape_the_root_are_not_there(root: str) -> None:
    repository.publish(root, "model", small())
    for key in (
        *("MODEL/1/manifest.json", ".hidden/1/manifest.json", "model/01/manifest.json", "model/0/manifest.json"),
        *("model/2/deep/manifest.json", "model/manifest.json", "manifest.json", "more/1/kan.safetensors"),
        "a b/1/manifest.json",
    ):
        s3_store.put(root, key, b"{}")
    if root.startswith("s3"):  # whose keys may be anything
        for key in ("/1/manifest.json", "../1/manifest.json", "model//manifest.json", "x/../manifest.json"):
            s3_store.put(root, key, b"{}")
    s3_store.put(f"{root}x", "beside/1/manifest.json", b"{}")
    assert repository.names(root) == ("model",)
    assert repository.versions(root, "model") == (1,)
    repository.read(root, "model")


@pytest.mark.slow
@pytest.mark.parametrize("key", ["more.txt", "numpy_source/more.py", "../more", "numpy_source//model.py", ".more"])
def test_a_file_that_the_manifest_does_not_list_is_refused(root: str, key: str) -> None:
    repository.publish(root, "model", small())
    if ("/../" in f"/{key}" or "//" in key) and root.startswith("memory"):
        pytest.skip("only S3 has such keys")
    s3_store.put(root, f"model/1/{key}")
    with pytest.raises(FormatError, match="does not list"):
        repository.read(root, "model")


@pytest.mark.slow
def test_damage_is_refused(root: str) -> None:
    repository.publish(root, "model", small(), card=False)
    good = {key: small().files.get(key.removeprefix("model/1/"), b"") for key in keys(root)}
    good["model/1/manifest.json"] = format.dumps(small().manifest)
    if root.startswith("s3"):  # a few: each is a dozen calls
        good = {key: good[key] for key in ("model/1/manifest.json", "model/1/kan.safetensors")}
    for key, data in good.items():
        for damaged in (data[:-1], data + b"\n", bytes([*data[:-1], data[-1] ^ 1]) if data else b"x"):
            if damaged != data:
                s3_store.put(root, key, damaged)
                with pytest.raises(ArtifactError):
                    repository.read(root, "model")
        s3_store.put(root, key, data)
    assert repository.read(root, "model").files == small().files
    s3_store.put(root, "model/1/kan.safetensors", b"")
    with pytest.raises(IntegrityError):
        repository.read(root, "model")


@pytest.mark.slow
def test_a_version_without_its_manifest_is_not_seen_and_can_be_cleaned_away(root: str) -> None:
    repository.publish(root, "model", small())
    for path, data in small().files.items():
        s3_store.put(root, f"model/2/{path}", data)
    assert repository.versions(root, "model") == (1,)
    assert repository.publish(root, "model", small()) == 3  # somebody may still be writing the second
    assert repository.clean(root) == 0
    assert repository.clean(root, older_than=-10) == 1
    assert {key.split("/")[1] for key in keys(root) if "card" not in key} == {"1", "3"}


@pytest.mark.slow
def test_publishers_who_race_get_a_version_each(root: str) -> None:
    def publish(number: int) -> int:
        return repository.publish(root, "model", small(provenance={"n": str(number)}))

    with ThreadPoolExecutor(4) as pool:
        got = list(pool.map(publish, range(8)))
    assert sorted(got) == list(range(1, 9))
    for number, version in enumerate(got):
        assert repository.read(root, "model", version).manifest.provenance == {"n": str(number)}


@pytest.mark.slow
def test_publishers_who_race_for_one_version_have_one_winner(root: str) -> None:
    def publish(number: int) -> str | None:
        try:
            repository.publish(root, "model", small(provenance={"n": str(number)}), version=1)
        except ConflictError:
            return None
        return str(number)

    with ThreadPoolExecutor(4) as pool:
        (winner,) = [version for version in pool.map(publish, range(6)) if version is not None]
    assert repository.read(root, "model").manifest.provenance == {"n": winner}


@pytest.mark.slow
def test_nothing_is_written_to_disk(root: str) -> None:
    repository.publish(root, "model", small())
    source = repository.open(root)
    source.read("model", 1)  # what is imported at first is cached by Python
    opened: list[Any] = []
    recording = True

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if recording and event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            opened.append(arguments[0])

    sys.addaudithook(hook)
    source.read("model", 1)
    recording = False
    assert opened == []
