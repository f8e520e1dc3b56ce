"""Two networks as pages of the site whose sliders move, without a server: `kanserve share` of knots and of houses.

The studio's page is built by node. Without it the site is whole, and the pages say what they lack.
"""

import re
from pathlib import Path

import numpy as np
from sphinx.application import Sphinx
from sphinx.util import logging

import kanserve
from kanserve.data.dataset import Dataset
from kanserve.data.datasets import load_knots
from kanserve.errors import NotFoundError
from kanserve.network.kan import Kan
from kanserve.studio.calls import Calls
from kanserve.studio.opened_model import Opened
from kanserve.studio.workspace import Workspace

MISSING = "<!doctype html><title>kanserve</title><p>This page needs the studio, which 'make studio' builds.</p>"

# The formula of `make run`, for which no fit is needed here.
SIGNATURE = (
    "0.0182 - 2.955*(0.8454*sin(1.314*meridinal_translation_real + 0.0093) - 0.0131*short_geodesic_imag_part - 0.004)"
    "*(0.2319*cusp_volume + 0.0514*hyperbolic_torsion_degree - 0.1597*longitudinal_translation - 0.0653*volume"
    " - 0.3031)"
)
INVARIANTS = tuple(dict.fromkeys(re.findall(r"[a-z]+_[a-z_]+|volume", SIGNATURE)))

_log = logging.getLogger(__name__)


def knots() -> tuple[Kan, Dataset]:
    """The signature of a knot from its geometry."""
    data = load_knots(inputs=INVARIANTS)
    ranges = {name: (float(x.min()), float(x.max())) for name, x in zip(data.inputs, data.x.T, strict=True)}
    return kanserve.from_formula({"signature": SIGNATURE}, inputs=INVARIANTS, ranges=ranges), data


def houses() -> tuple[Kan, Dataset]:
    """Made-up prices of houses, by a network whose curves are as they were fitted."""
    rng = np.random.default_rng(4)
    x = np.column_stack([rng.uniform(30, 200, 600), rng.gamma(2, 4, 600), rng.integers(1900, 2024, 600)])
    price = 1.9 * x[:, 0] * np.exp(-0.05 * x[:, 1]) + 0.2 * (x[:, 2] - 1900) + rng.normal(0, 6, 600)
    data = Dataset(x, price, ("area", "distance", "year"), ("price",))
    return kanserve.fit([3, 2, 1], data, grid=(5,), starts=1), data


def _write(app: Sphinx, error: Exception | None) -> None:
    if error is not None or app.builder.format != "html":
        return
    folder = Path(app.outdir, "live")
    folder.mkdir(parents=True, exist_ok=True)
    for made in (knots, houses):
        name = made.__name__
        try:
            page = shared(name, *made())
        except NotFoundError as trouble:
            _log.info(str(trouble))
            page = MISSING
        (folder / f"{name}.html").write_text(page, "utf-8")


def shared(name: str, kan: Kan, data: Dataset) -> str:
    """The page of a network."""
    workspace = Workspace(Opened(kan, name, data))
    try:
        return Calls(workspace).shared_page()
    finally:
        workspace.close()


def setup(app: Sphinx) -> dict[str, bool]:
    """Read by Sphinx."""
    app.connect("build-finished", _write)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
