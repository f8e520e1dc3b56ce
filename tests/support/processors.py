"""Run the tests that compute as on other processors: `make test-processors`, or some tests for some processors by
`python -m tests.support.processors --only Haswell Zen -- tests/unit/network`. With `--environment Nehalem` it prints
the variables with which other commands compute so.

Other processors run other kernels, which round differently. Environment variables make OpenBLAS use the kernels of a
named processor, and NumPy and torch leave out newer instructions. A second thread divides products, which also rounds
differently. Each setting that this processor can run is one run of pytest; the last lines list the settings and how
each ended.
"""

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from tests.support.paths import ROOT

# The tests of the server's transport, the command line and the packages are left out: they compute next to nothing.
TESTS = (
    "tests/agreement",
    "tests/docs/test_public_docstrings.py",
    *(
        f"tests/unit/{name}"
        for name in (
            *("analysis", "artifact", "batch", "client", "compatibility", "data", "editing", "estimator", "formula"),
            *("importers", "native", "network", "pde", "runtime", "search", "serve/rpc", "simplification", "train"),
            "test_artifact_compiler.py",
        )
    ),
)


@dataclass(frozen=True)
class Setting:
    """OpenBLAS's name of a processor, the flags of /proc/cpuinfo without which its kernels do not run, how many threads
    linear algebra has, and whether NumPy and torch do without what came after SSE4."""

    core: str
    flags: frozenset[str]
    threads: int
    old: bool = False

    @property
    def name(self) -> str:
        """As it is printed."""
        threads = "one thread" if self.threads == 1 else f"{self.threads} threads"
        return f"{self.core}, {threads}{', NumPy and torch without AVX' if self.old else ''}"

    def variables(self) -> dict[str, str]:
        """The environment variables that make it so."""
        found = {"OPENBLAS_CORETYPE": self.core, "OMP_NUM_THREADS": str(self.threads)}
        if self.old:
            found |= {"NPY_DISABLE_CPU_FEATURES": ",".join(_optional_features()), "ATEN_CPU_CAPABILITY": "default"}
        return found


SETTINGS = (
    Setting("Prescott", frozenset({"pni"}), 1),  # the flag of SSE3
    Setting("Nehalem", frozenset({"sse4_2"}), 1, old=True),
    Setting("Haswell", frozenset({"avx2", "fma"}), 2),
    Setting("Zen", frozenset({"avx2", "fma"}), 1),
    Setting("SkylakeX", frozenset({"avx512f", "avx512dq", "avx512bw", "avx512vl", "avx512cd"}), 2),
)


def main() -> None:
    """Run the tests of the arguments, or those that compute, in each setting; ends with 1 if any fails."""
    cores = {setting.core: setting for setting in SETTINGS}
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--only", nargs="+", choices=cores, default=[*cores], help="the processors; default: all")
    options.add_argument("--environment", choices=cores, help="print the variables of this one, and run nothing")
    options.add_argument("tests", nargs="*", default=TESTS, help="what pytest runs; default: what computes")
    chosen = options.parse_args()
    if chosen.environment:
        print(*(f"{name}={value}" for name, value in cores[chosen.environment].variables().items()))
        return
    flags = _processor_flags()
    print(description(), flush=True)
    ends = {}
    for setting in (cores[name] for name in chosen.only):
        print(f"\n{setting.name}:", flush=True)
        lacking = sorted(setting.flags - flags)
        ends[setting.name] = (
            f"not run: this processor lacks {', '.join(lacking)}" if lacking else _run(setting, chosen.tests)
        )
    print("", description(), *(f"{name}: {end}" for name, end in ends.items()), sep="\n")
    sys.exit(any("failed" in end for end in ends.values()))


def _run(setting: Setting, tests: Sequence[str]) -> str:
    command = [sys.executable, "-m", "pytest", "-q", "-n", "2", "--dist", "worksteal", *tests]
    begun = time.monotonic()
    done = subprocess.run(
        [*command, "-m", "not slow and not extended and not timing or examples"],
        cwd=ROOT,
        env=os.environ | setting.variables(),
    )
    taken = f"{time.monotonic() - begun:.0f} s"
    return f"passed, {taken}" if done.returncode == 0 else f"failed (pytest ended with {done.returncode}), {taken}"


def _optional_features() -> list[str]:
    """What NumPy would use of this processor, beyond what it was compiled for."""
    compiled = import_module("numpy._core._multiarray_umath")  # which has no types
    return [name for name in compiled.__cpu_dispatch__ if compiled.__cpu_features__[name]]


def _processor_flags() -> set[str]:
    return {flag for line in _cpuinfo("flags") for flag in line.split()}


def description() -> str:
    """The processor of this machine, and its cores."""
    return f"{next(iter(_cpuinfo('model name')), 'an unknown processor')}, {os.cpu_count()} cores"


def _cpuinfo(field: str) -> list[str]:
    """What /proc/cpuinfo says of the first core; nothing where there is no such file or line."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().split("\n\n")[0].splitlines() if path.is_file() else []
    return [line.partition(":")[2].strip() for line in lines if line.partition(":")[0].strip() == field]


if __name__ == "__main__":
    main()
