"""The figures of new pictures: text stays text in SVG, and without a ground SVG follows the reader's light or dark."""

import io
import re
from typing import Any

from matplotlib import rc_context
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from kanserve.plot.palette import AUTO, DARK, LIGHT, Palette

RESOLUTION = 144.0  # dots per inch


class Picture(Figure):
    """A matplotlib Figure that pyplot does not know, so that it need not be closed.

    `savefig` keeps the text of an SVG as text. The colours of theme="auto" become those of the light or the dark theme
    in an SVG, by the reader's prefers-color-scheme. In a notebook, `axes.figure` shows it.
    """

    def __init__(self, palette: Palette, size: tuple[float, float]) -> None:
        super().__init__(figsize=size, dpi=RESOLUTION, facecolor=palette.paper or "none")
        FigureCanvasAgg(self)
        self._palette = palette

    def savefig(self, fname: Any, *, transparent: bool | None = None, **kwargs: Any) -> None:
        """As matplotlib's."""
        ending = kwargs.get("format") or str(fname).rpartition(".")[2]
        if str(ending).lower() != "svg":
            super().savefig(fname, transparent=transparent, **kwargs)
            return
        with rc_context({"svg.fonttype": "none"}):
            if self._palette is not AUTO:
                super().savefig(fname, transparent=transparent, **kwargs)
                return
            buffer = io.StringIO()
            super().savefig(buffer, transparent=transparent, **(kwargs | {"format": "svg"}))
        text = adaptive(buffer.getvalue())
        if isinstance(fname, io.TextIOBase):
            fname.write(text)
        elif hasattr(fname, "write"):
            fname.write(text.encode())
        else:
            with open(fname, "w", encoding="utf-8") as file:
                file.write(text)

    def _repr_html_(self) -> str:
        buffer = io.StringIO()
        self.savefig(buffer, format="svg")
        return re.sub(r"^.*?(?=<svg)", "", buffer.getvalue(), count=1, flags=re.DOTALL)


def adaptive(svg: str) -> str:
    """An SVG of `AUTO` with rules that replace its colours by those of `LIGHT` and `DARK`."""
    rules = "".join(
        f"@media (prefers-color-scheme: {scheme}){{{_rules(palette)}}}"
        for scheme, palette in (("light", LIGHT), ("dark", DARK))
    )
    return re.sub(r"(<svg\b[^>]*>)", rf"\1<style>{rules}</style>", svg, count=1)


def _rules(palette: Palette) -> str:
    rules = []
    for role, colour in AUTO.roles.items():
        if colour:
            for kind in ("fill", "stroke"):
                rules.append(f'[style*="{kind}: {colour.lower()}"]{{{kind}:{palette.of(role)} !important}}')
    # Areas, which are translucent on an unknown ground, are opaque on a known one.
    rules.append(f'[style*="fill: {AUTO.density.lower()}"]{{fill-opacity:1 !important}}')
    return "".join(rules)
