"""The picture of a network beside pykan's: CPU seconds, files left behind, and what it says in words.

Both draw the same networks on the same 500 rows, untrained, as a user does: one call, then one saved PNG. Files are
counted in the folder where both run. pykan's pictures of edges are files that it writes there before it draws.

    OMP_NUM_THREADS=1 python benchmarks/pictures.py [--small] [--pictures FOLDER]
"""

import argparse
import contextlib
import importlib
import io
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import torch

import kanserve
from benchmarks._timing import goal, machine, table
from kanserve.network.kan import Kan

SHAPES = ((2, 5, 1), (4, 10, 1), (8, 8, 1))
ROWS = 500
GOAL = 10.0  # times faster


@dataclass(frozen=True)
class Drawn:
    """A picture: how long it took, the files besides the picture itself, and the words in it."""

    seconds: float
    files: int
    words: tuple[str, ...]


def measure(shapes: tuple[tuple[int, ...], ...] = SHAPES, keep: Path | None = None) -> list[tuple[str, Drawn, Drawn]]:
    """For each network: its shape, our picture, pykan's."""
    matplotlib.use("agg")
    warnings.simplefilter("ignore")
    found = []
    for shape in shapes:
        name = "-".join(map(str, shape))
        kan = kanserve.create(shape, grid=5, seed=0)
        x = np.random.default_rng(0).uniform(-1, 1, (ROWS, shape[0]))
        _ours(kan, x)  # imports, and the cache of fonts
        mine = _timed(partial(_ours, kan, x), keep and keep / f"{name}.ours.png")
        found.append((name, mine, _timed(_pykan(shape, x), keep and keep / f"{name}.pykan.png")))
    return found


def _ours(kan: Kan, x: Any) -> Any:
    return kanserve.plot_network(kan, x).figure


def _pykan(shape: tuple[int, ...], x: Any) -> Callable[[], Any]:
    """pykan's picture of a network of the same shape, whose rows have gone through it."""
    library: Any = importlib.import_module("kan")
    with contextlib.redirect_stdout(io.StringIO()):
        model = library.KAN(width=list(shape), grid=5, k=3, seed=0, auto_save=False)
        model(torch.from_numpy(x).float())

    def draw() -> Any:
        names = [f"x{i + 1}" for i in range(shape[0])]
        model.plot(folder="./figures", in_vars=names, out_vars=["y"])
        return plt.gcf()

    return draw


def _timed(draw: Callable[[], Any], keep: Path | None) -> Drawn:
    """Draw in an empty folder, and save the picture."""
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        begun = time.process_time()
        with contextlib.redirect_stdout(io.StringIO()):
            figure = draw()
            figure.savefig("picture.png")
        seconds = time.process_time() - begun
        if keep is not None:
            keep.write_bytes(Path("picture.png").read_bytes())
        files = sum(path.is_file() for path in Path().rglob("*")) - 1
    texts = [str(text.get_text()) for text in figure.findobj(matplotlib.text.Text) if text.get_visible()]
    plt.close(figure)
    return Drawn(seconds, files, tuple(text for text in texts if text))


def report(found: list[tuple[str, Drawn, Drawn]]) -> str:
    """The table, and whether the goal is met."""
    rows = [
        [
            name,
            *(f"{one.seconds:.2f}" for one in pair),
            *(str(one.files) for one in pair),
            *(str(len(one.words)) for one in pair),
        ]
        for name, *pair in found
    ]
    head = ["network", "ours, s", "pykan, s", "our files", "pykan's files", "our words", "pykan's words"]
    least = min(theirs.seconds / mine.seconds for _, mine, theirs in found)
    met = goal(least >= GOAL, f"at least {GOAL:g} times as fast as pykan, here {least:.1f}")
    return f"{table(head, rows)}\n{met}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--small", action="store_true", help="one network, to show that it works")
    parser.add_argument("--pictures", type=Path, help="keep the pictures in this folder")
    asked = parser.parse_args()
    if asked.pictures:
        asked.pictures.mkdir(parents=True, exist_ok=True)
    print(machine("kanserve", "pykan", "matplotlib", "torch"))
    print(report(measure(SHAPES[:1] if asked.small else SHAPES, asked.pictures and asked.pictures.resolve())))
