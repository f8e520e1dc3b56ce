"""Size and time of an installation on a fresh machine: every such figure in README, docs and deploy.

    python benchmarks/installation.py                                          one table, for this Python
    python benchmarks/installation.py --python python3.11 --python python3.13  one for each
    python benchmarks/installation.py --tests                                  runs the tests too
    python benchmarks/installation.py --tests --only test                      the rows of `make test` alone
    python benchmarks/installation.py --only extras                            a row for each extra: 4 GB to download
    python benchmarks/installation.py --write                                  into docs/installation.md too

Each row starts from a clone of the last commit with an empty HOME, so that nothing is cached, and installs from the
index that pip is configured for. CPU time is of all processes together; the size is the folder's usage on disk.
"""

import argparse
import itertools
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from benchmarks import _timing

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "installation.md"
BEGIN, END = "<!-- measured by benchmarks/installation.py -->\n", "<!-- end -->"
# Environment variables that are kept: package indexes, proxies and trusted certificates.
KEPT = re.compile(
    r"PATH|LANG|(PIP|UV)_(?!CACHE_DIR|NO_CACHE).*|SSL_CERT_.*|REQUESTS_CA_BUNDLE|https?_proxy|no_proxy", re.I
)
HEADING = ("| | seconds | CPU seconds | MB |", "|---|---:|---:|---:|")
NOT_FOR_USERS = ("bench", "test", "test-s3", "test-notebook", "dev", "release")
SERVERS = ("serve", "serve,onnx", "serve,onnx,sign,s3,tracing")


@dataclass(frozen=True)
class Cost:
    """The cost of a step: wall-clock seconds, CPU seconds of all processes, and the output."""

    wall: float
    cpu: float
    output: str


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--python", action="append", help="an interpreter; default: the one that runs this")
    options.add_argument("--tests", action="store_true", help="run the tests, too")
    options.add_argument("--only", choices=tuple(PARTS), action="append", help="of the rows only these")
    options.add_argument("--write", action="store_true", help=f"into {PAGE.relative_to(ROOT)}, too")
    chosen = options.parse_args()
    lines = []
    for python in chosen.python or [f"python{sys.version_info[0]}.{sys.version_info[1]}"]:
        rows = itertools.chain.from_iterable(PARTS[part](python, chosen.tests) for part in chosen.only or PARTS)
        for line in itertools.chain(_head(python), [""], HEADING, rows, [""]):
            print(line, flush=True)
            lines.append(line)
    if chosen.write:
        before, rest = PAGE.read_text("utf-8").split(BEGIN)
        PAGE.write_text(before + BEGIN + "\n".join(lines) + END + rest.split(END, 1)[1], "utf-8")


def _head(python: str) -> Iterator[str]:
    version = subprocess.run([python, "--version"], capture_output=True, text=True, check=True, env=_environment(ROOT))
    processor = _timing.machine().splitlines()[0].split(", OMP")[0]
    yield f"{datetime.now(UTC):%Y-%m-%d}, {processor}, {version.stdout.strip()}:"


def _rows_of_run(python: str, tests: bool) -> Iterator[str]:
    uv = shutil.which("uv")
    for installer, program in (("pip", ""), *((("uv", uv),) if uv else ())):
        with _fresh() as (clone, environment):
            command = ["make", f"PYTHON={python}", f"UV={program}"]
            yield _row(
                f"`make run`: install by {installer}", _run([*command, ".venv/.demo"], clone, environment), clone
            )
            yield _row("`make run`: the demo", _run([*command, "run"], clone, environment))


def _rows_of_test(python: str, tests: bool) -> Iterator[str]:
    with _fresh() as (clone, environment):
        command = ["make", f"PYTHON={python}", "UV="]
        # A torch that is there is kept, and which one it is decides most of the time and the size.
        _run([python, "-m", "venv", ".venv"], clone, environment)
        torch = _run([".venv/bin/python", "-m", "pip", "install", "torch"], clone, environment)
        version = re.search(r"Successfully installed.* torch-(\S+)", torch.output)
        yield _row(f"torch {version[1] if version else ''} by pip", torch, clone)
        yield _row(
            "`make test`: install by pip, beside torch", _run([*command, ".venv/.tested"], clone, environment), clone
        )
        if tests:
            ran = _run([*command, "test"], clone, environment)
            yield _row(f"`make test`: {', '.join(re.findall(r'[0-9]+ (?:passed|skipped)(?!:)', ran.output))}", ran)


def _rows_of_servers(python: str, tests: bool) -> Iterator[str]:
    return _rows_of_extras(python, "a server", SERVERS)


def _rows_of_each(python: str, tests: bool) -> Iterator[str]:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
    return _rows_of_extras(python, "an extra", [extra for extra in extras if extra not in NOT_FOR_USERS])


def _rows_of_extras(python: str, use: str, wanted_extras: Sequence[str]) -> Iterator[str]:
    for extras in wanted_extras:
        with _fresh() as (clone, environment):
            _run([python, "-m", "venv", ".venv"], clone, environment)
            wanted = ["install", "-c", "constraints.txt", f".[{extras}]"]
            environment |= {"KANSERVE_NATIVE": "0"}
            cost = _run([".venv/bin/python", "-m", "pip", *wanted], clone, environment)
            _run([".venv/bin/python", "-m", "pip", "uninstall", "-y", "pip", "setuptools"], clone, environment)
            yield _row(f"{use}, `.[{extras}]`", cost, clone)


# The rows by what they are about: each takes the interpreter, and whether to run the tests.
PARTS = {"run": _rows_of_run, "test": _rows_of_test, "server": _rows_of_servers, "extras": _rows_of_each}


def _row(name: str, cost: Cost, clone: Path | None = None) -> str:
    size = "" if clone is None else f"{_megabytes(clone / '.venv')}"
    return f"| {name} | {cost.wall:.0f} | {cost.cpu:.0f} | {size} |"


@contextmanager
def _fresh() -> Iterator[tuple[Path, dict[str, str]]]:
    """A clone of the last commit, and an environment with an empty HOME."""
    with tempfile.TemporaryDirectory(prefix="kanserve-") as folder:
        clone, home = Path(folder, "kanserve"), Path(folder, "home")
        home.mkdir()
        subprocess.run(["git", "clone", "--quiet", "--depth=1", ROOT.as_uri(), str(clone)], check=True)
        yield clone, _environment(home)


def _environment(home: Path) -> dict[str, str]:
    """Our environment without this checkout's virtual environment."""
    kept = {name: value for name, value in os.environ.items() if KEPT.fullmatch(name)}
    path = [folder for folder in kept["PATH"].split(os.pathsep) if not Path(folder).is_relative_to(sys.prefix)]
    return kept | {"PATH": os.pathsep.join(path), "HOME": str(home)}


def _run(command: Sequence[str], folder: Path, environment: dict[str, str]) -> Cost:
    before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    done = subprocess.run(
        command,
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    wall, after = time.monotonic() - begun, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout[-5000:]}")
    cpu = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
    return Cost(wall, cpu, done.stdout)


def _megabytes(folder: Path) -> int:
    """The disk usage of the files, hard links counted once, in MB of 10^6 bytes."""
    stats = (path.lstat() for path in folder.rglob("*"))
    blocks = {(stat.st_dev, stat.st_ino): stat.st_blocks for stat in stats}
    return round(sum(blocks.values()) * 512 / 1e6)


if __name__ == "__main__":
    main()
