"""One table from the file to every place where its network can go: what lies between parts that pass their own tests.

The table has what tables have: an id, a date, a category, missing values, a currency, and names with spaces and units.
Its German twin has semicolons, decimal commas and its own currency signs.
"""

import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import kanserve
from kanserve.network.evaluate import evaluate
from kanserve.serve.settings import Settings
from tests.support import command_line, law_programs, server_process
from tests.support.rest_port import call
from tests.support.programs import want

ROWS = 900
TARGET, AREA, ROOMS, TOWN = "price (€)", "living area (m²)", "rooms", "town"
TOWNS = {"Essen": 0.0, "Köln": 60_000.0, "München": 210_000.0}
INPUTS = ["-i", AREA, "-i", ROOMS, "-i", TOWN]


def rows() -> list[dict[str, Any]]:
    """The table, as values."""
    generator = np.random.default_rng(0)
    found = []
    for number in range(ROWS):
        town = str(generator.choice(list(TOWNS)))
        area, rooms = round(generator.uniform(30, 180), 1), int(generator.integers(1, 7))
        price = 1900 * area + 6000 * rooms + TOWNS[town] + generator.normal(0, 4000)
        sold = f"20{generator.integers(10, 25)}-{generator.integers(1, 13):02}-{generator.integers(1, 29):02}"
        missing = number % 17 == 0
        found.append(
            {
                "id": 40_000 + number,
                "sold": sold,
                TOWN: None if number % 29 == 0 else town,
                AREA: area,
                ROOMS: None if missing else rooms,
                TARGET: round(price, 2),
            }
        )
    return found


def write(path: Path, table: list[dict[str, Any]], german: bool = False) -> None:
    """As a spreadsheet saves it: prices with currency and separators of thousands."""

    def text(name: str, value: Any) -> str:
        if value is None:
            return ""
        if name == TARGET:
            grouped = f"{value:,.2f}"
            return f"{grouped.translate(str.maketrans(',.', '.,'))} €" if german else f"€{grouped}"
        return str(value).replace(".", ",") if german and isinstance(value, float) else str(value)

    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter=";" if german else ",")
        writer.writerow(table[0])
        writer.writerows([text(name, value) for name, value in row.items()] for row in table)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("walk")
    table = rows()
    write(made / "houses.csv", table)
    write(made / "haeuser.csv", table, german=True)
    write(made / "new.csv", table[:40])
    return made
