"""Train Kolmogorov-Arnold networks, turn them into formulas, export and serve them.

    data, unseen = data.split(0.25)                           # unseen rows show the errors on new ones
    kan = kanserve.fit([4, 3, 1], data)                       # train, or load one
    kan = kanserve.simplify(kan, data)                        # fewer edges, then named functions
    print(kanserve.formulas(kan)[0].text)                     # the formula is the network
    model = kanserve.compile(kan, data=unseen)                # ONNX, C and NumPy, checked against each other
    kanserve.publish("models", "knots", model)                # a version that `kanserve serve models` picks up

Importing this package is fast: each name below is imported when it is first used.
"""

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING

from kanserve import displays

if TYPE_CHECKING:
    from kanserve.analysis import explain as explain
    from kanserve.analysis import interactions as interactions
    from kanserve.analysis import meaning as meaning
    from kanserve.analysis import report as report
    from kanserve.analysis import separability as separability
    from kanserve.analysis import symmetry as symmetry
    from kanserve.artifact_compiler import compile as compile
    from kanserve.artifact_compiler import export as export
    from kanserve.client import AsyncClient as AsyncClient
    from kanserve.client import Client as Client
    from kanserve.data.dataset import Dataset as Dataset
    from kanserve.data.table_files import read_table as read_table
    from kanserve.editing import Session as Session
    from kanserve.errors import KanserveError as KanserveError
    from kanserve.estimator import KANClassifier as KANClassifier
    from kanserve.estimator import KANRegressor as KANRegressor
    from kanserve.formula import Formula as Formula
    from kanserve.formula import formulas as formulas
    from kanserve.formula import from_formula as from_formula
    from kanserve.formula import register_function as register_function
    from kanserve.importers import from_checkpoint as from_checkpoint
    from kanserve.importers import from_efficient_kan as from_efficient_kan
    from kanserve.importers import from_fast_kan as from_fast_kan
    from kanserve.importers import from_fourier_kan as from_fourier_kan
    from kanserve.importers import from_inkan as from_inkan
    from kanserve.importers import from_jaxkan as from_jaxkan
    from kanserve.importers import from_polynomial_kan as from_polynomial_kan
    from kanserve.importers import from_pykan as from_pykan
    from kanserve.importers import from_rational_kan as from_rational_kan
    from kanserve.network.derivatives import derivatives as derivatives
    from kanserve.network.evaluate import evaluate as evaluate
    from kanserve.network.evaluate import jacobian as jacobian
    from kanserve.network.evaluate import probabilities as probabilities
    from kanserve.network.kan import Kan as Kan
    from kanserve.network.kan import Layer as Layer
    from kanserve.network.kan import Variable as Variable
    from kanserve.network.kan import equal as equal
    from kanserve.network.kan import make_layer as make_layer
    from kanserve.network.serialization import load as load
    from kanserve.network.serialization import save as save
    from kanserve.plot import LiveProgress as LiveProgress
    from kanserve.plot import plot_edge as plot_edge
    from kanserve.plot import plot_losses as plot_losses
    from kanserve.plot import plot_network as plot_network
    from kanserve.plot import plot_pareto as plot_pareto
    from kanserve.plot import plot_residuals as plot_residuals
    from kanserve.repository import publish as publish
    from kanserve.runtime.model import LoadedModel as LoadedModel
    from kanserve.runtime.model import load_model as load_model
    from kanserve.runtime.model import model_card as model_card
    from kanserve.search import Findings as Findings
    from kanserve.search import find_formulas as find_formulas
    from kanserve.simplification import discover as discover
    from kanserve.simplification import prune as prune
    from kanserve.simplification import simplify as simplify
    from kanserve.simplification import symbolify as symbolify
    from kanserve.train import average as average
    from kanserve.train import create as create
    from kanserve.train import fit as fit
    from kanserve.train import score as score
    from kanserve.train.torch.export import from_torch as from_torch
    from kanserve.train.torch.export import to_torch as to_torch

__version__ = "0.1.0"

_HOMES = {
    "client": ("AsyncClient", "Client"),
    "artifact_compiler": ("compile", "export"),
    "errors": ("KanserveError",),
    "estimator": ("KANClassifier", "KANRegressor"),
    "formula": ("Formula", "formulas", "from_formula", "register_function"),
    "importers": (
        "from_checkpoint",
        "from_efficient_kan",
        "from_fast_kan",
        "from_fourier_kan",
        "from_inkan",
        "from_jaxkan",
        "from_polynomial_kan",
        "from_pykan",
        "from_rational_kan",
    ),
    "network.kan": ("Kan", "Layer", "Variable", "equal", "make_layer"),
    "network.derivatives": ("derivatives",),
    "plot": ("LiveProgress", "plot_edge", "plot_losses", "plot_network", "plot_pareto", "plot_residuals"),
    "analysis": ("explain", "interactions", "meaning", "report", "separability", "symmetry"),
    "network.evaluate": ("evaluate", "jacobian", "probabilities"),
    "repository": ("publish",),
    "runtime.model": ("LoadedModel", "load_model", "model_card"),
    "search": ("Findings", "find_formulas"),
    "network.serialization": ("load", "save"),
    "editing": ("Session",),
    "simplification": ("discover", "prune", "simplify", "symbolify"),
    "data.dataset": ("Dataset",),
    "data.table_files": ("read_table",),
    "train": ("average", "create", "fit", "score"),
    "train.torch.export": ("from_torch", "to_torch"),
}
displays.register(
    {
        **{
            f"{what}_page": f"kanserve.plot.notebook:{what}_page" for what in ("dataset", "formula", "network", "score")
        },
        **{name: f"kanserve.plot.live_progress:{name}" for name in ("live_in_notebook", "live_report")},
        "session_widget": "kanserve.studio.notebook_view:session_widget",
        "show_network": "kanserve.studio.notebook_view:show_network",
    }
)
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

# `from kanserve import *` leaves Python's own compile in place; kanserve.compile is public all the same.
__all__ = sorted(_HOME_OF.keys() - {"compile"})  # pyright: ignore[reportUnsupportedDunderAll]

if not TYPE_CHECKING:  # for a type checker with this function, every name would be there

    def __getattr__(name):
        if name not in _HOME_OF:
            if not name.startswith("_") and find_spec(f"kanserve.{name}") is not None:
                return import_module(f"kanserve.{name}")  # as in kanserve.formula.source
            from difflib import get_close_matches

            near = get_close_matches(name, _HOME_OF, 1)
            raise AttributeError(
                f"module 'kanserve' has no attribute {name!r}" + (f". Do you mean {near[0]!r}?" if near else "")
            )
        value = getattr(import_module(f"kanserve.{_HOME_OF[name]}"), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME_OF])
