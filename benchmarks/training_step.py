"""One training step (forward, backward and Adam) of the same networks in every library: time and memory.

Ours is `kanserve.nn.KAN`. Peers are flashkan, inkan, jaxkan and pykan from PyPI, two KANs in plain torch, in
efficient-kan's form and of Chebyshev polynomials, and, for scale, an MLP of the same widths. All run in float32 on one
thread. Times are medians of interleaved rounds in one process. Memory is measured in a process for each: the peak minus
the memory after the import.

    OMP_NUM_THREADS=1 python benchmarks/training_step.py [--small]
"""

import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks._steps import LIBRARIES, PEERS, Task
from benchmarks._timing import goal, interleaved, machine, table

COLUMNS = (
    Task("2-5-1", 256),
    Task("64-64-64-10", 256),
    Task("64-64-64-10", 4096),
    Task("784-64-10", 256),
    Task("784-64-10", 4096),
    Task("4-10-10-1 G50", 256),
    Task("4-10-10-1 G50", 4096),
)
AHEAD = 2.0  # of the best peer, in the median column
FLASHKAN = "flashkan"
AHEAD_OF_FLASHKAN = 1.5  # where a layer has hundreds of inputs
MANY_INPUTS = "784-64-10"
BEHIND = 3.0  # the MLP, where the layers are wide
NOISE = 1.0  # MB, random variation of the allocator
WIDE = Task("64-64-64-10", 256)


@dataclass(frozen=True)
class Column:
    """One network and batch: CPU seconds per step and peak memory in MB of each library."""

    task: Task
    seconds: Mapping[str, float]
    memory: Mapping[str, float]

    @property
    def name(self) -> str:
        return f"{self.task.net} B{self.task.batch}"

    @property
    def ahead(self) -> float:
        """How many times faster ours is than the best other KAN."""
        return min(self.seconds[peer] for peer in PEERS if peer in self.seconds) / self.seconds["kanserve"]

    @property
    def ahead_of_flashkan(self) -> float:
        return self.seconds[FLASHKAN] / self.seconds["kanserve"]

    @property
    def above(self) -> float:
        """How many MB more memory ours takes than the best other KAN."""
        return self.memory["kanserve"] - min(self.memory[peer] for peer in PEERS if peer in self.memory)


def main(arguments: list[str]) -> None:
    small = "--small" in arguments
    print(report([measure(task, small) for task in (COLUMNS[:1] if small else COLUMNS)]))


def measure(task: Task, small: bool) -> Column:
    steps = {name: make(task) for name, make in LIBRARIES.items()}
    seconds = interleaved(steps, rounds=3 if small else 9, seconds=0.01 if small else 0.1)
    return Column(task, seconds, {name: peak(name, task) for name in steps})


def peak(name: str, task: Task) -> float:
    """`_steps.peak` in a separate process."""
    command = [sys.executable, "-m", "benchmarks._steps", name, task.net, str(task.batch)]
    done = subprocess.run(command, cwd=Path(__file__).parents[1], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{name} failed on {task.net} at {task.batch} rows:\n{done.stderr}")
    return float(done.stdout.split()[-1])


def report(columns: list[Column]) -> str:
    """The tables and the goals."""
    names = list(columns[0].seconds)
    head = ["", *(column.name for column in columns)]
    times = [[name, *(f"{1e3 * column.seconds[name]:.3g}" for column in columns)] for name in names]
    times.append(["ours ahead", *(f"{column.ahead:.2f}x" for column in columns)])
    memory = [[name, *(f"{column.memory[name]:.1f}" for column in columns)] for name in names]
    median = float(np.median([column.ahead for column in columns]))
    behind = [column.seconds["kanserve"] / column.seconds["MLP"] for column in columns if column.task == WIDE]
    slow = [column.name for column in columns if column.ahead < 1]
    large = [column.name for column in columns if column.above > NOISE]
    lines = [
        "A training step in ms of CPU, one thread, float32",
        machine("kanserve", "torch", "flashkan", "inkan", "jaxkan", "jax", "pykan"),
        "",
        table(head, times),
        "",
        "Peak memory in MB above the imported library's",
        table(head, memory),
        "",
        goal(median >= AHEAD, f"≥ {AHEAD:g}x the best other KAN in the median column: {median:.2f}x"),
        *(
            goal(ratio <= BEHIND, f"{WIDE.net} B{WIDE.batch} within {BEHIND:g}x of the MLP: {ratio:.2f}x")
            for ratio in behind
        ),
        goal(not large, f"peak memory never above the best other KAN's, within {NOISE:g} MB", large),
        *(
            goal(
                column.ahead_of_flashkan >= AHEAD_OF_FLASHKAN,
                f"{column.name} ≥ {AHEAD_OF_FLASHKAN:g}x {FLASHKAN}: {column.ahead_of_flashkan:.2f}x",
            )
            for column in columns
            if column.task.net == MANY_INPUTS
        ),
        goal(not slow, "ours first in every column", slow),
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main(sys.argv[1:])
