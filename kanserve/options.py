"""What every exporter is asked for."""

from dataclasses import dataclass
from typing import Literal

Precision = Literal["float", "double"]


@dataclass(frozen=True)
class ExportOptions:
    """The model's name, from which files and identifiers are named, and the type that the export computes in."""

    name: str = "model"
    precision: Precision = "double"
