"""What the logic of a call sees, without a server around it: real models, real threads, and nobody who calls."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from kanserve.serve.models.catalog import Catalog
from kanserve.serve.models.loader import Models
from kanserve.serve.scheduling.thread_pool import ThreadPool
from kanserve.serve.settings import Settings
from kanserve.serve.state import Call, ServerState, Table


class Fixed:
    """A table that never changes."""

    source: Any = None

    def __init__(self, catalog: Catalog) -> None:
        self.catalog = catalog

    def subscribe(self, changed: Callable[[Catalog], None]) -> Callable[[], None]:
        return lambda: None


@contextmanager
def state(table: Table, settings: Settings | None = None) -> Iterator[ServerState]:
    """The state with these models; nothing here looks at control, meters or access."""
    threads = ThreadPool(1)
    nobody: Any = None
    try:
        yield ServerState(settings or Settings(), table, nobody, nobody, nobody, threads)
    finally:
        threads.shutdown()


@contextmanager
def served(repository: object) -> Iterator[tuple[ServerState, Models]]:
    """The state of a repository's models, and the models, which can be loaded and let go."""
    settings = Settings(repository=str(repository))
    with Models(settings) as models:
        models.refresh()
        with state(models, settings) as made:
            yield made, models


def call(method: str = "") -> Call:
    """A call that has just come."""
    return Call("kanserve.v1.FormulaService", method, 0)
