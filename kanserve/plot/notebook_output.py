"""Whether this runs in a notebook, and output that appears in its cell."""

import sys
from typing import Any


def shell() -> Any:
    """IPython's shell if it has a kernel, as notebooks have; otherwise None."""
    ipython = sys.modules.get("IPython")
    found = ipython.get_ipython() if ipython is not None else None
    return found if hasattr(found, "kernel") else None


def in_notebook() -> bool:
    """Whether output can be HTML."""
    return shell() is not None


class Shown:
    """HTML that a notebook shows, with the text that is kept where it cannot."""

    def __init__(self, html: str, text: str = "") -> None:
        self.html, self.text = html, text

    def _repr_html_(self) -> str:
        return self.html

    def __repr__(self) -> str:
        return self.text or "a picture"


def show_html(html: str, text: str = "") -> Any:
    """Show HTML in the cell that runs; what it returns has `update(Shown(...))`."""
    return display(Shown(html, text), display_id=True)


def display(shown: Any, **options: Any) -> Any:
    """IPython's display, which a notebook has."""
    return sys.modules["IPython"].display.display(shown, **options)
