"""Small models in a repository, and the table that loads them, without a server."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kanserve import repository
from kanserve.serve.models.loader import Models
from kanserve.serve.settings import Settings
from tests.support.servers import serving


@dataclass
class Counted:
    """The loads that were counted, as (model, version, reason)."""

    loads: list[tuple[str, int, str]] = field(default_factory=list)

    def loaded(self, model: str, version: int, seconds: float, reason: str) -> None:
        assert seconds >= 0
        self.loads.append((model, version, reason))


@contextmanager
def loaded(root: Path | str, *arguments: Any, **options: Any) -> Iterator[Models]:
    with Models(Settings(repository=str(root), **options), *arguments) as models:
        models.refresh()
        yield models


def publish(root: Path, name: str = "fox", times: int = 1, kind: str = "mixed") -> int:
    return [repository.publish(root, name, serving.artifact(kind)) for _ in range(times)][-1]


def damage(root: Path, name: str, version: int) -> None:
    path = root / name / str(version) / "kan.safetensors"
    data = path.read_bytes()
    path.unlink()
    path.write_bytes(bytes([data[0] ^ 1]) + data[1:])


def versions(models: Models, name: str = "fox") -> list[int]:
    return list(models.catalog.models.get(name, {}))
