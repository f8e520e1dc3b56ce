"""The figures of new pictures. In SVG, text stays text; without a background, SVG follows the reader's theme."""

import io
import re
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from kanserve.plot.palette import AUTO, DARK, FORCED_DARK, FORCED_LIGHT, LIGHT, Palette

RESOLUTION = 144.0  # dots per inch
PNG_LEVEL = 4  # of compression: takes a quarter less time than the usual 6, for files that are 2% larger
_CLASS = "kanserve-picture"


class Picture(Figure):
    """A matplotlib Figure that pyplot does not know, so it need not be closed. `savefig` keeps SVG text as text, and
    theme="auto" follows the reader's prefers-color-scheme in SVG. Notebooks show it for Axes on the last line of a
    cell."""

    def __init__(self, palette: Palette, size: tuple[float, float]) -> None:
        super().__init__(figsize=size, dpi=RESOLUTION, facecolor=palette.paper or "none")
        FigureCanvasAgg(self)
        self._palette = palette

    def savefig(self, fname: Any, *, transparent: bool | None = None, **kwargs: Any) -> None:
        """Like matplotlib's."""
        ending = kwargs.get("format") or str(fname).rpartition(".")[2]
        if str(ending).lower() == "png":
            kwargs["pil_kwargs"] = {"compress_level": PNG_LEVEL, **(kwargs.get("pil_kwargs") or {})}
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
        with rc_context({"svg.fonttype": "none"}):
            super().savefig(buffer, format="svg")
        svg = re.sub(r"^.*?(?=<svg)", "", buffer.getvalue(), count=1, flags=re.DOTALL)
        return f'<div class="{_CLASS}">{adaptive(svg, notebook=True) if self._palette is AUTO else svg}</div>'


class PictureAxes(Axes):
    """The Axes of a `Picture`; notebooks show them as that picture."""

    def _repr_html_(self) -> str:
        whole = self.get_figure()
        assert isinstance(whole, Picture)
        return whole._repr_html_()


def adaptive(svg: str, *, notebook: bool = False) -> str:
    """Add rules to an SVG of `AUTO` that replace its colours by those of `LIGHT` or `DARK`. In a notebook, its theme
    overrides the reader's setting, and the rules apply only to this picture."""
    scope = f".{_CLASS} " if notebook else ""
    rules = "".join(
        f"@media (prefers-color-scheme: {scheme}){{{_rules(palette, (scope,))}}}"
        for scheme, palette in (("light", LIGHT), ("dark", DARK))
    )
    if notebook:
        for forced, palette in ((FORCED_LIGHT, LIGHT), (FORCED_DARK, DARK)):
            rules += _rules(palette, tuple(f"{theme} {scope}" for theme in forced))
    return re.sub(r"(<svg\b[^>]*>)", rf"\1<style>{rules}</style>", svg, count=1)


def _rules(palette: Palette, scopes: tuple[str, ...]) -> str:
    rules = []

    def rule(style: str, declaration: str) -> str:
        return ",".join(f'{scope}[style*="{style}"]' for scope in scopes) + f"{{{declaration} !important}}"

    for role, colour in AUTO.roles.items():
        if colour:
            for kind in ("fill", "stroke"):
                rules.append(rule(f"{kind}: {colour.lower()}", f"{kind}:{palette.of(role)}"))
    # Areas, which are translucent on an unknown ground, are opaque on a known one.
    rules.append(rule(f"fill: {AUTO.density.lower()}", "fill-opacity:1"))
    return "".join(rules)
