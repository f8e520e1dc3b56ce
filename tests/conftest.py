"""The fixtures that several modules share, how a run of pytest is ordered, and what it says at its end.

pytest -n 3 -m "not timing"; pytest -m timing    # what judges by a clock or by memory runs alone, after the rest

Three tiers, each within the next: without `slow` and `extended`, without `extended`, and all.
What a fixture needs is imported where it is made: most tests need none of it.
"""

import gc
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Generator, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support import made_once
from tests.support.paths import ROOT
from tests.support.programs import skipped_by

if TYPE_CHECKING:
    from kanserve.client import Client
    from kanserve.serve.server import Server
    from kanserve.serve.settings import Settings


FILES = 4096  # that a process of the tests may open


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--transport", choices=("auto", "grpcio"), default="auto", help="The transport of servers.")


def pytest_configure(config: pytest.Config) -> None:
    """Name a folder for what the processes of this run share; with --transport grpcio, hide the native transport."""
    if not hasattr(config, "workerinput"):  # pytest-xdist's processes take the environment of the one that begins
        holder = tempfile.TemporaryDirectory(prefix="kanserve-tests-", ignore_cleanup_errors=True)
        config.add_cleanup(holder.cleanup)
        os.environ[made_once.FOLDER] = holder.name
    if sys.platform != "win32":  # tests hold a thousand connections at both ends; ordinary users begin with 1024 files
        import resource

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if 0 <= soft < FILES:
            resource.setrlimit(resource.RLIMIT_NOFILE, (FILES if hard < 0 else min(FILES, hard), hard))
    if config.getoption("transport") == "grpcio":
        from kanserve.serve.transport import native_library

        native_library.library = lambda: None  # type: ignore[assignment]  # it has the cache of the other
        os.environ["KANSERVE_TRANSPORT"] = "grpcio"  # of servers in processes of their own


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Collect tests without collecting garbage: they leave hardly any, and it takes a tenth of the time."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that judge by a clock come last, also where one process runs everything."""
    items.sort(key=lambda item: item.get_closest_marker("timing") is not None)


@pytest.fixture(scope="module", autouse=True)
def _few_objects_to_collect() -> Iterator[None]:
    """Keep what earlier modules and imports left out of garbage collection, which takes up to a second with it."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(scope="module", autouse=True)
def _random_states(request: pytest.FixtureRequest) -> list[tuple[Any, Any]]:
    """The module's generators of random numbers, and the state in which its import left each."""
    module = vars(request.module).values()
    return [(value, value.bit_generator.state) for value in module if hasattr(value, "bit_generator")]


@pytest.fixture(autouse=True)
def _same_random_numbers(_random_states: list[tuple[Any, Any]]) -> None:
    """Let each test draw the same numbers, whichever others ran before it in its process."""
    for generator, state in _random_states:
        generator.bit_generator.state = state
    if numpy := sys.modules.get("numpy"):
        numpy.random.seed(0)  # where scikit-learn draws the seed of an estimator without random_state


@pytest.fixture(autouse=True)
def _no_functions_of_other_tests() -> Iterator[None]:
    """Take out of the table what a test registered."""
    yield
    if own := sys.modules.get("kanserve.network.own_functions"):
        from kanserve.formula.expressions import parsing
        from kanserve.network.functions import FUNCTIONS

        for name in own.OWN:
            del FUNCTIONS[name], parsing.TABLE_NAMES[name]
            parsing.FUNCTION_NAMES.remove(name)
        own.OWN.clear()


@pytest.fixture
def kanserve(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Any]:
    """The command line: kanserve("fit", "rows.csv") gives the exit code, standard output and standard error."""
    from tests.support import command_line

    return partial(command_line.run, monkeypatch, capsys)


@pytest.fixture(scope="module")
def repository() -> Path:
    """A repository of models of the zoo. It is shared: read it only."""
    from tests.support.servers import serving

    return serving.folder()


@pytest.fixture(scope="module")
def settings(repository: Path) -> "Settings":
    """The settings of `server`. A module that needs others has a fixture of this name."""
    from kanserve.serve.settings import Settings

    return Settings(str(repository), port=0)


@pytest.fixture(scope="module")
def server(settings: "Settings") -> Iterator["Server"]:
    """A server in this process."""
    from kanserve.serve.server import start

    with start(settings) as running:
        yield running


@pytest.fixture(scope="module")
def stub(server: "Server") -> Iterator[Any]:
    """The inference service of `server`."""
    import grpc

    from kanserve.inference import wire

    with grpc.insecure_channel(server.address) as channel:
        yield wire.stub(channel)


@pytest.fixture(scope="module")
def client(server: "Server") -> Iterator["Client"]:
    """Our own client of `server`."""
    from kanserve.client import Client

    with Client(server.address) as connected:
        yield connected


@pytest.fixture(scope="module")
def slow(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A repository with a model that waits or breaks when a row says so, and the FIFO that it waits for."""
    from tests.support.servers import serving

    return serving.slow(tmp_path_factory.mktemp("slow"))


@pytest.fixture
def torch_threads() -> Iterator[None]:
    """Give torch its threads back: benchmarks and examples let it have one."""
    import torch

    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def store() -> Iterator[str]:
    """A store that speaks S3, which the environment names."""
    from tests.support.peers import s3_store

    with s3_store.s3() as address, s3_store.environment(address):
        yield address


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What became of each hostile checkpoint, read in a process of its own under an audit hook."""
    from tests.support.faults import hostile_checkpoints
    from tests.support.servers import server_process

    folder = tmp_path_factory.mktemp("hostile")
    command = [sys.executable, "-W", "error", "-m", "tests.support.faults.hostile_checkpoints", str(folder)]
    environment = server_process.ENVIRONMENT | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stderr == "" and not list(folder.rglob(hostile_checkpoints.MARK))
    return [json.loads(line) for line in done.stdout.splitlines()]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Under xdist this runs where the reports of all processes arrive."""
    reasons = [
        report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        for report in terminalreporter.stats.get("skipped", [])
    ]
    if reasons:
        terminalreporter.write_line(skipped_by(reasons))
