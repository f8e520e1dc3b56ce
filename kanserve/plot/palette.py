"""The colours of all pictures, one for each role, on a light, a dark, and an unknown background. Colour carries state
only, and each state is shown twice: a snapped edge is blue and has a name and a solid frame; a free spline is ink and
has s(x) and ticks at its knots; a candidate is vermilion and dashed; a pruned edge is dotted; what is outside the
training range is hatched. Width and tint are the share of the signal, by its square root. The colours for an unknown
background have a contrast of 4.2 with white and with the dark background. Where a picture can know its background (SVG,
HTML), "auto" becomes light or dark."""

from dataclasses import dataclass, fields
from typing import Literal, get_args

from kanserve.errors import InputError

Theme = Literal["auto", "light", "dark"]
Role = Literal[
    "paper",
    "ink",
    "second",
    "third",
    "line",
    "ghost",
    "snapped",
    "spline",
    "candidate",
    "good",
    "outside",
    "caution",
    "density",
]


@dataclass(frozen=True)
class Palette:
    """Colours as #RRGGBB: `paper` is the background ("" for none); `ink`, `second`, `third` are text, `caution` text
    next to `outside`; `line` frames, `ghost` pruned edges; the others states."""

    paper: str
    ink: str
    second: str
    third: str
    line: str
    ghost: str
    snapped: str
    spline: str
    candidate: str
    good: str
    outside: str
    caution: str
    density: str

    def of(self, role: Role) -> str:
        colour: str = getattr(self, role)
        return colour

    @property
    def roles(self) -> dict[Role, str]:
        return {field.name: getattr(self, field.name) for field in fields(self)}  # type: ignore[misc]  # names are roles


# The ancestors by which notebooks and the documentation's site say that their ground is light or dark.
FORCED_LIGHT = ('[data-jp-theme-light="true"]', ".vscode-light")
FORCED_DARK = ('[data-jp-theme-light="false"]', ".vscode-dark", 'html[theme="dark"]')

LIGHT = Palette(
    paper="#FFFFFF",
    ink="#171B20",
    second="#4C5661",
    third="#6A747E",
    line="#CFCFC6",
    ghost="#B4B8B1",
    snapped="#0B63AD",
    spline="#2B323A",
    candidate="#B9480A",
    good="#00694F",
    outside="#E69F00",
    caution="#8A5A00",
    density="#D9DCD6",
)
DARK = Palette(
    paper="#14191E",
    ink="#E9ECEF",
    second="#B0B9C2",
    third="#8C96A0",
    line="#3A434C",
    ghost="#4E5863",
    snapped="#6BB8F5",
    spline="#D5DBE1",
    candidate="#FF9D61",
    good="#4BD0A8",
    outside="#F2B84B",
    caution="#F2B84B",
    density="#2D353D",
)
AUTO = Palette(
    paper="",
    ink="#757D84",
    second="#717C88",
    third="#707C8B",
    line="#8F969D",
    ghost="#8E969C",
    snapped="#2180CD",
    spline="#727D84",
    candidate="#D25211",
    good="#108C6D",
    outside="#AB6E04",
    caution="#AB6F04",
    density="#858D94",
)
SHADE_ON_AUTO = 0.3
"""Opacity of large areas in `AUTO`, whose grey must show on white and on black."""


def palette(theme: Theme, ground: str = "") -> Palette:
    """The palette of a theme; "auto" on a known background is the light or the dark one."""
    if theme not in get_args(Theme):
        raise InputError(f"theme is 'auto', 'light' or 'dark', got {theme!r:.60}.")
    if theme == "light" or (theme == "auto" and ground and luminance(ground) > 0.18):
        return LIGHT
    return DARK if theme == "dark" or ground else AUTO


def luminance(colour: str) -> float:
    """The relative luminance of #RRGGBB, as WCAG 2 defines it."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(colour: str, other: str) -> float:
    """The contrast of two colours, from 1 to 21, as WCAG 2 defines it."""
    dark, light = sorted((luminance(colour), luminance(other)))
    return (light + 0.05) / (dark + 0.05)
