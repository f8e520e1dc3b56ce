"""Run the fuzzers under ASan and UBSan, one on each core, each for FUZZ seconds (60), one line for each.

    FUZZ=3600 python -m tests.fuzz.run_fuzzers [NAMES]

The inputs that reach new code are kept in .venv/fuzz, where the next run begins. An input that finds a fault is printed
and kept there; once the fault is mended, move it to tests/fuzz/regressions/NAME, whose files a test runs.
"""

import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.support.faults import fuzzers
from tests.support.paths import ROOT


def fuzz(name: str, compiler: str, seconds: int, folder: Path) -> bool:
    """Whether nothing was found."""
    missing = fuzzers.lacks(name)
    if missing:
        print(f"{name:12} was not run: it needs {missing}.", flush=True)
        return True
    corpus = folder / name
    corpus.mkdir(parents=True, exist_ok=True)
    fuzzers.write_seeds(corpus, name)
    program = fuzzers.compiled(folder, name, compiler, libfuzzer=True)
    known = fuzzers.REGRESSIONS / name
    inputs = [f"-artifact_prefix={folder / name}-", str(corpus), *([str(known)] if known.is_dir() else ())]
    length = f"-max_len={fuzzers.longest(name)}"
    command = [str(program), f"-max_total_time={seconds}", length, "-timeout=20", "-print_final_stats=1"]
    # To look for leaks after each input would take most of the time, so that is done for the kept ones at the end.
    done = subprocess.run([*command, "-detect_leaks=0", *inputs], capture_output=True, text=True, errors="replace")
    runs_made = re.search(r"stat::number_of_executed_units: (\d+)", done.stderr)
    reached = re.findall(r"cov: (\d+)", done.stderr)
    if done.returncode == 0:
        done = subprocess.run([str(program), "-runs=0", *inputs], capture_output=True, text=True, errors="replace")
    runs = f"{int(runs_made[1]) if runs_made else 0:12,} runs, {reached[-1] if reached else 0} places reached"
    found = "nothing found" if done.returncode == 0 else f"FOUND\n{done.stderr[-6000:]}"
    print(f"{name:12} {runs}: {found}", flush=True)
    return done.returncode == 0


def main() -> int:
    compiler = fuzzers.clang()
    if compiler is None:
        print("Fuzzing needs clang with libFuzzer (on Debian clang and libclang-rt-dev): nothing was run.")
        return 0
    seconds, names = int(os.environ.get("FUZZ", "60")), sys.argv[1:] or fuzzers.FUZZERS
    folder = ROOT / ".venv" / "fuzz"
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return 0 if all(list(pool.map(lambda name: fuzz(name, compiler, seconds, folder), names))) else 1


if __name__ == "__main__":
    sys.exit(main())
