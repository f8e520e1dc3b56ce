"""Rows in a file, more than the memory that a fit may take: only batches of them become arrays and tensors."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROWS, COLUMNS = 1_000_000, 50  # 400 MB
LIMIT = 150  # MB of memory that the fit may take
SCRIPT = """
import resource, sys
import numpy as np
from kanserve.train import fit, score
from kanserve.data.dataset import Dataset

def held() -> int:
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmData")) * 1024

path, rows, columns, limit = sys.argv[1], *map(int, sys.argv[2:])
numbers = np.memmap(path, np.float64, "r", shape=(rows, columns))
fit([1, 1], (np.arange(20.0)[:, None], np.arange(20.0)), optimizer="adam", steps=2)  # loads torch
resource.setrlimit(resource.RLIMIT_DATA, (held() + limit * 2**20,) * 2)
data = Dataset(numbers[:, :-1], numbers[:, -1])
kan = fit([columns - 1, 1], data, optimizer="adam", steps=300, grid=(5,))
print(score(kan, data.take(np.arange(0, rows, 500))).r2[0])
try:
    numbers[:, :-1] + 0.0
except MemoryError:
    print("the limit holds")
"""


@pytest.mark.slow
@pytest.mark.extended
def test_adam_learns_from_a_file_that_is_larger_than_its_memory(tmp_path: Path) -> None:
    block = np.random.default_rng(0).uniform(-1, 1, (ROWS // 10, COLUMNS))
    block[:, -1] = np.sin(3 * block[:, 0]) + block[:, 1] ** 2
    with (tmp_path / "rows").open("wb") as file:
        for _ in range(10):
            block.tofile(file)
    words = [sys.executable, "-c", SCRIPT, str(tmp_path / "rows"), str(ROWS), str(COLUMNS), str(LIMIT)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    (tmp_path / "rows").unlink()
    assert done.returncode == 0, done.stderr
    r2, says = done.stdout.splitlines()
    assert float(r2) > 0.9 and says == "the limit holds"
