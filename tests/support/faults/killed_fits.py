"""A process of its own that fits, is killed or interrupted at random moments, and is begun again.

It forks, so that every new beginning costs milliseconds and not the import of torch:

    python -m tests.support.faults.killed_fits FOLDER

It prints what came of it, as JSON: one entry for each optimizer.
"""

import json
import logging
import os
import random
import signal
import sys
import time
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np

from kanserve.data.dataset import Dataset
from kanserve.network.evaluate import evaluate
from kanserve.network.kan import Kan, equal
from kanserve.network.serialization import load, save
from kanserve.train import Progress, fit

KILLS, INTERRUPTS = 10, 8
SHAPE = [2, 3, 1]
OPTIONS: dict[str, dict[str, Any]] = {
    "lm": {"optimizer": "lm", "starts": 12, "noise_free": True},
    "adam": {"optimizer": "adam", "steps": 150, "batch": 100},
    "lbfgs": {"optimizer": "lbfgs", "steps": 50},
}


def rows() -> Dataset:
    x = np.random.default_rng(0).uniform(-1, 1, (400, 2))
    return Dataset(x, np.exp(np.sin(np.pi * x[:, 0]) + x[:, 1] ** 2), weights=np.arange(1.0, 401))


def killed(folder: Path, options: dict[str, Any], seconds: float) -> int:
    """Fit with a checkpoint in a process that SIGKILL ends at random moments, until one lives; how often it was."""
    generator = random.Random(1)
    for kills in range(KILLS + 1):
        child = os.fork()
        if child == 0:
            save(fit(SHAPE, rows(), checkpoint=folder / "fit.checkpoint", **options), folder / "killed")
            os._exit(0)
        if kills < KILLS:
            time.sleep(generator.uniform(0, seconds / 6))  # the moment is what is tried, nothing is waited for
            os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        if not os.WIFSIGNALED(status):
            break
    return kills


def interrupted_at_random(folder: Path, options: dict[str, Any], seconds: float) -> list[str]:
    """What became of fits that an interrupt met at random moments, each with the checkpoint of the one before."""
    signal.signal(signal.SIGALRM, _interrupt_a_fit)
    generator = random.Random(2)
    found: list[str] = []
    for _ in range(INTERRUPTS):
        path = folder / "interrupted.checkpoint"
        told: list[Progress] = []
        if found.count("early") % 4 == 0:  # from the beginning now and then
            path.unlink(missing_ok=True)
        try:
            signal.setitimer(signal.ITIMER_REAL, generator.uniform(0, seconds))
            kan = fit(SHAPE, rows(), checkpoint=path, progress=told.append, **options)
            signal.setitimer(signal.ITIMER_REAL, 0)
        except KeyboardInterrupt:
            found.append("none" if not told else "lost")
            continue
        finite = bool(np.isfinite(evaluate(kan, rows().x)).all())
        found.append(("whole" if told and told[-1].share == 1 else "early") if finite else "not finite")
    return found


def _interrupt_a_fit(_: int, frame: FrameType | None) -> None:
    """What Ctrl-C does, if the fit has not just returned."""
    while frame is not None:
        if frame.f_code is fit.__code__:
            raise KeyboardInterrupt
        frame = frame.f_back


def interrupted(folder: Path, options: dict[str, Any]) -> Kan:
    """What a fit that would take long gives after a SIGINT of another process, once it has told of its progress."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGINT, signal.default_int_handler)

        def report(_: Progress) -> None:
            os.write(writer, b".")

        long = options | {"steps": 10**5, "starts": 10**5, "patience": 10**5}
        save(fit(SHAPE, rows(), checkpoint=folder / "long.checkpoint", progress=report, **long), folder / "short")
        os._exit(0)
    os.close(writer)
    os.read(reader, 1)
    os.kill(child, signal.SIGINT)
    while os.read(reader, 1000):  # until the child has ended
        pass
    os.waitpid(child, 0)
    return load(folder / "short")


def tried(folder: Path, options: dict[str, Any]) -> dict[str, Any]:
    """What came of one optimizer's fits."""
    folder.mkdir()
    want = fit(SHAPE, rows(), **options)
    before = time.monotonic()
    fit(SHAPE, rows(), **options)
    seconds = time.monotonic() - before
    kills = killed(folder, options, seconds)
    moments = interrupted_at_random(folder, options, 0.5 * seconds)
    after = fit(SHAPE, rows(), checkpoint=folder / "interrupted.checkpoint", **options)
    return {
        "kills": kills,
        "killed": equal(load(folder / "killed"), want),
        "moments": sorted(set(moments)),
        "resumed": equal(after, want),
        "finite": bool(np.isfinite(evaluate(interrupted(folder, options), rows().x)).all()),
        "files": sorted(path.name for path in folder.iterdir()),
    }


if __name__ == "__main__":
    logging.getLogger("kanserve").addHandler(logging.NullHandler())
    print(json.dumps({name: tried(Path(sys.argv[1]) / name, options) for name, options in OPTIONS.items()}))
