"""What tests run of README.md and docs/guide.md: their blocks, and the tables that they read."""

import re
from pathlib import Path

import numpy as np

from tests.support.paths import ROOT

README = (ROOT / "README.md").read_text("utf-8")
GUIDE = (ROOT / "docs" / "guide.md").read_text("utf-8")


def blocks(language: str, text: str = README) -> list[str]:
    """The blocks of code in this language, in their order."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def write_tables(folder: Path) -> None:
    """houses.csv to train on, held_out.csv with other rows to score on, and new.csv to predict for."""
    rng = np.random.default_rng(0)
    x = np.column_stack([rng.uniform(40, 220, 300), rng.integers(1, 7, 300), rng.integers(1950, 2025, 300)])
    price = 2000 * x[:, 0] + 10_000 * np.sqrt(x[:, 1]) + 300 * (x[:, 2] - 1950) + rng.normal(0, 3000, 300)
    head, form = "area,rooms,year,price", ["%.3f", "%d", "%d", "%.2f"]
    for name, rows in (("houses", slice(240)), ("held_out", slice(240, None))):
        np.savetxt(folder / f"{name}.csv", np.column_stack([x, price])[rows], form, ",", header=head, comments="")
    np.savetxt(folder / "new.csv", x[:3], form[:3], ",", header="area,rooms,year", comments="")
