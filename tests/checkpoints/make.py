"""Makes the checkpoints in this folder anew, with the real libraries.

    python -m tests.checkpoints.make [FOLDER]

pykan, inkan and jaxkan must be installed (the extra `bench` has them). efficient-kan and fast-kan are on no package
index: their layers are taken from a checkout where EFFICIENT_KAN (its folder `src`) and FAST_KAN say where one is, as
for the files that lie here, and are elsewhere written from their formulas.

Beside the files of the library lies NAME_answers.npz: rows x, what the library answered (y), the file to import
(source), what the files do not say (options, as JSON), and a word of the reason where nobody can import it (refused).
A name that ends in _double was made in double, others in float32.
"""

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

from benchmarks._pykan import elsewhere
from tests.checkpoints import of_efficient_kan, of_fast_kan, of_inkan, of_jaxkan, of_pykan, of_pykan_functions
from tests.checkpoints.recipe import Made, rows

ROWS = 60
RECIPES: dict[str, tuple[Callable[[], Made], ...]] = {
    "pykan": (*of_pykan.RECIPES, *of_pykan_functions.RECIPES),
    "efficient_kan": of_efficient_kan.RECIPES,
    "fast_kan": of_fast_kan.RECIPES,
    "inkan": of_inkan.RECIPES,
    "jaxkan": of_jaxkan.RECIPES,
}


def make(folder: Path, count: int = ROWS, parts: Sequence[str] = ()) -> Iterator[tuple[str, Made]]:
    """Write each checkpoint, or those whose names have one of the parts, with about so many rows.

    Gives the name of each, library first, and what was made.
    """
    for library, recipes in RECIPES.items():
        (folder / library).mkdir(parents=True, exist_ok=True)
        for recipe in recipes:
            name = f"{library}/{recipe.__name__}"
            if not parts or any(part in name for part in parts):
                yield name, _written(recipe, folder.resolve() / library, count)


def _written(recipe: Callable[[], Made], folder: Path, count: int) -> Made:
    double = recipe.__name__.endswith("_double")
    with elsewhere(torch.float64 if double else torch.float32):
        Path("model").mkdir()  # where pykan keeps its history, unasked
        made = recipe()
        x = rows(made.knots, count, made.margin)
        y = made.answer(x)
        file = made.write(folder / recipe.__name__)
    assert y.dtype == (np.float64 if double else np.float32), f"{recipe.__name__} answers in {y.dtype}"
    # After the answers: pykan saves which rows it saw last.
    np.savez_compressed(
        folder / f"{recipe.__name__}_answers.npz",
        x=x,
        y=y,
        source=np.array(file.name),
        options=np.array(json.dumps(dict(made.options))),
        refused=np.array(made.refused),
    )
    return made


def main() -> None:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent
    for name, made in make(folder):
        print(f"{name}: {type(made.model).__name__}, {made.knots.dtype}")


if __name__ == "__main__":
    main()
