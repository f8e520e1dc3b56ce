"""Each catalog is the one before with what has changed, so a load costs little beside thousands of other models."""

import random
import shutil
from contextlib import suppress
from pathlib import Path

import pytest

from kanserve.errors import ArtifactError, NotFoundError
from kanserve.serve.models.catalog import Catalog
from kanserve.serve.models.loader import Models
from tests.support.servers.catalogs import damage, loaded, publish, versions
from tests.support.servers.reload_checks import eventually


def contents(models: Models) -> tuple[dict[str, list[int]], dict[tuple[str, int], str]]:
    catalog = models.catalog
    return {name: list(found) for name, found in catalog.models.items()}, dict(catalog.reasons)


def test_a_change_of_one_model_copies_nothing_of_another_and_leaves_older_catalogs_as_they_were(tmp_path: Path) -> None:
    publish(tmp_path)
    publish(tmp_path, "owl")
    with loaded(tmp_path) as models:
        before = models.catalog
        publish(tmp_path)
        models.load("fox")
        assert models.catalog.models["owl"] is before.models["owl"]
        assert versions(models) == [1, 2] and list(before.models["fox"]) == [1]
        models.unload("owl")
        assert "owl" not in models.catalog.models and "owl" in before.models


def test_no_catalog_that_a_subscriber_sees_has_half_of_a_change(tmp_path: Path) -> None:
    names = [f"kan{number}" for number in range(8)]
    for name in names:
        publish(tmp_path, name)
    damage(tmp_path, names[3], 1)
    seen: list[Catalog] = []
    with loaded(tmp_path) as models:
        models.subscribe(seen.append)
        for name in names:
            publish(tmp_path, name)
        models.refresh()
    for catalog in seen:
        assert list(catalog.models) == sorted(catalog.models)
        for name in names:
            assert catalog.models.get(name) or (name, 1) in catalog.reasons
        assert not any(key in catalog.reasons for key, state in catalog.states.items() if state == "READY")
    assert {name: list(found) for name, found in seen[-1].models.items()} == {
        name: [2] if name == names[3] else [1, 2] for name in names
    }


@pytest.mark.slow
@pytest.mark.extended
@pytest.mark.parametrize("seed", range(4))
def test_after_any_changes_the_catalog_is_that_of_a_server_that_starts_now(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    names = ["elk", "fox", "owl", "yak"]
    publish(tmp_path, "ant")
    with loaded(tmp_path) as models:
        for _ in range(25):
            name = chance.choice(names)
            there = sorted(int(path.name) for path in (tmp_path / name).glob("[0-9]*"))
            match chance.choice(["publish", "publish", "damage", "remove", "refresh", "load"]):
                case "publish":
                    publish(tmp_path, name)
                case "damage" if there:
                    damage(tmp_path, name, publish(tmp_path, name))
                case "remove" if there:
                    shutil.rmtree(tmp_path / name / str(chance.choice(there)))
                case "refresh":
                    models.refresh()
                case "load":
                    with suppress(NotFoundError, ArtifactError):
                        models.load(name)
        models.refresh()
        eventually(lambda: not models.catalog.changing)
        with loaded(tmp_path) as fresh:
            assert contents(models) == contents(fresh)
