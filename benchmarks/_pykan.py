"""pykan on tabular data, as good as a user can get it in a given number of CPU seconds."""

import contextlib
import copy
import importlib
import io
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

Array = NDArray[np.float64]

CHUNK = 5  # LBFGS steps between two checks of the held-out rows and the time
HELD = 0.2


@contextlib.contextmanager
def elsewhere(dtype: torch.dtype = torch.float64) -> Iterator[None]:
    """Run in an empty folder without output, since pykan prints progress and writes checkpoints where it runs."""
    before = torch.get_default_dtype()
    silent, folder = io.StringIO(), tempfile.TemporaryDirectory()
    with folder, contextlib.chdir(folder.name), contextlib.redirect_stdout(silent), contextlib.redirect_stderr(silent):
        torch.set_default_dtype(dtype)
        try:
            yield
        finally:
            torch.set_default_dtype(before)


def trained(
    x: Array, y: Array, hidden: Sequence[int], classes: int, seconds: float, seed: int
) -> Callable[[Array], Array]:
    """pykan's network of cubic splines on three intervals, trained by its LBFGS, as a function of rows (N, inputs).

    `y` (N,) are numbers, or with `classes` > 0 class indices; the function then returns scores (N, classes). Columns
    and numbers are standardised first. A fifth of the rows is held out to keep the best network so far, which pykan
    does not do by itself. The first step is always taken.
    """
    kan: Any = importlib.import_module("kan")
    mean, spread = x.mean(axis=0), np.where(np.ptp(x, axis=0) > 0, x.std(axis=0), 1.0)
    shift, scale = (0.0, 1.0) if classes else (float(y.mean()), float(y.std()))
    places = np.random.default_rng(seed).permutation(len(x))
    held, rest = places[: round(HELD * len(x))], places[round(HELD * len(x)) :]
    rows = torch.from_numpy((x - mean) / spread)
    answers = torch.from_numpy(y.astype(np.int64) if classes else ((y - shift) / scale)[:, None])
    data = {"train_input": rows[rest], "train_label": answers[rest], "test_input": rows[held]}
    data["test_label"] = answers[held]
    loss = torch.nn.CrossEntropyLoss() if classes else torch.nn.MSELoss()
    with elsewhere():
        model = kan.KAN(width=[x.shape[1], *hidden, classes or 1], grid=3, k=3, seed=seed, auto_save=False)
        best, least = copy.deepcopy(model.state_dict()), np.inf
        begun, steps = time.process_time(), 1
        while steps > 0:
            model.fit(data, opt="LBFGS", steps=steps, loss_fn=loss)
            with torch.no_grad():
                found = float(loss(model(data["test_input"]), data["test_label"]))
            if found < least:
                best, least = copy.deepcopy(model.state_dict()), found
            spent = time.process_time() - begun
            left = int((seconds - spent) / (spent / steps)) if steps == 1 else CHUNK
            steps = min(CHUNK, left) if spent < seconds and np.isfinite(found) else 0
        model.load_state_dict(best)

    def run(new: Array) -> Array:
        with torch.no_grad():
            values: Array = model(torch.from_numpy((new - mean) / spread)).numpy()
        return values if classes else values[:, 0] * scale + shift

    return run
