"""Networks of pykan 0.2.8 for the recipes, and how they become checkpoints."""

import importlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from tests.checkpoints.recipe import Made


def kan(width: Sequence[Any], grid: Any = 4, **settings: Any) -> Any:
    """A network that nobody trained."""
    library: Any = importlib.import_module("kan")
    return library.KAN(**{"width": list(width), "grid": grid, "auto_save": False, "seed": 3} | settings)


def rows(inputs: int, count: int = 48) -> torch.Tensor:
    """Rows (N, inputs) of [-1, 1], more of them near 1: a grid that follows them is not uniform."""
    drawn = np.random.default_rng(0).uniform(0, 1, (count, inputs))
    return torch.tensor(2 * np.sqrt(drawn) - 1, dtype=torch.get_default_dtype())


def fitted(model: Any, steps: int = 3, **settings: Any) -> Any:
    """The network after a few steps of its LBFGS, each output on a power of one law."""
    x = rows(model.width_in[0])
    law = torch.sin(3 * x[:, :1]) + x.prod(dim=1, keepdim=True) + x[:, -1:] ** 2
    y = torch.cat([law ** (n + 1) for n in range(model.width_in[-1])], dim=1)
    data = {"train_input": x, "train_label": y, "test_input": x[:8], "test_label": y[:8]}
    model.fit(data, opt="LBFGS", steps=steps, **settings)
    return model


def seen(model: Any) -> Any:
    """The network after a look at some rows, which its pruning and its fits of functions want."""
    model.get_act(rows(model.width_in[0]))
    return model


def made(model: Any, state_only: bool = False, **options: Any) -> Made:
    """The checkpoint of a network: all that it saves, or its arrays alone."""

    def write(path: Path) -> Path:
        if state_only:
            torch.save(model.state_dict(), path.with_suffix(".pt"))
            return path.with_suffix(".pt")
        # The rows that it saw last, which it saves too.
        model.cache_data = None if model.cache_data is None else model.cache_data[:2].clone()
        model.saveckpt(str(path))
        return path

    knots = model.act_fun[0].grid.detach().numpy().T.copy()
    return Made(model, write, answers(model), knots, model.act_fun[0].k, options)


def answers(model: Any) -> Callable[[NDArray[Any]], NDArray[Any]]:
    """Its forward on rows of the inputs that are left: a pruned one still takes them all, and looks at these."""

    def answer(x: NDArray[Any]) -> NDArray[Any]:
        wide = torch.zeros((len(x), int(model.input_id.max()) + 1), dtype=torch.from_numpy(x).dtype)
        wide[:, model.input_id.long()] = torch.from_numpy(x)
        with torch.no_grad():
            result: NDArray[Any] = model(wide).numpy()
        return result

    return answer
