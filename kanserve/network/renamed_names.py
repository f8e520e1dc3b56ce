"""Renamed names of 0.1. The old ones work until 0.3, with a DeprecationWarning that gives the new one."""

import sys
import warnings
from collections.abc import Sequence
from importlib import import_module
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from importlib.abc import Loader

RENAMED = {
    "kanserve.compiler": "kanserve.artifact_compiler",
    "kanserve.compilers": "kanserve.runtime.c_compilers",
    "kanserve.datasets": "kanserve.data.datasets",
    "kanserve.duals": "kanserve.network.dual_numbers",
    "kanserve.functions": "kanserve.network.functions",
    "kanserve.importance": "kanserve.network.signal_shares",
    "kanserve.ir": "kanserve.network.kan",
    "kanserve.jets": "kanserve.network.derivatives",
    "kanserve.physics": "kanserve.pde",
    "kanserve.places": "kanserve.network.edge_names",
    "kanserve.questions": "kanserve.analysis",
    "kanserve.ranges": "kanserve.network.training_range",
    "kanserve.reference": "kanserve.network.evaluate",
    "kanserve.rounding": "kanserve.network.rounding_error",
    "kanserve.serialization": "kanserve.network.serialization",
    "kanserve.session": "kanserve.editing",
    "kanserve.special": "kanserve.network.special",
    "kanserve.splines": "kanserve.network.splines",
    "kanserve.table": "kanserve.data",
    "kanserve.train.checkpoints": "kanserve.train.common.checkpoints",
    "kanserve.train.convert": "kanserve.train.torch.module_conversion",
    "kanserve.train.exchange": "kanserve.train.torch.torch_export",
    "kanserve.train.grids": "kanserve.train.common.grids",
    "kanserve.train.levenberg": "kanserve.train.lm.levenberg_marquardt",
    "kanserve.train.modules": "kanserve.train.torch.modules",
    "kanserve.train.operators": "kanserve.train.torch.operators",
    "kanserve.train.parameters": "kanserve.train.lm.parameter_vector",
}

NAMES = {
    "derivative": "jacobian",
    "layer": "make_layer",
}
"""Public names of `kanserve` itself: `layer` and `Layer`, `derivative` and `derivatives` differed by a letter."""


def new_name(old: str) -> str:
    """The new name of a renamed public name; warns on the line that used the old one."""
    new = NAMES[old]
    warnings.warn(
        f"kanserve.{old} is now kanserve.{new}; the old name goes with 0.3.", DeprecationWarning, stacklevel=3
    )
    return new


def warn_renamed(old: str, new: str) -> None:
    """Warn whoever uses an old name, two calls up."""
    warnings.warn(f"{old} is now {new}; the old name goes with 0.3.", DeprecationWarning, stacklevel=3)


class _Renamed:
    """A finder and loader: imports the module of the new name for the old one. Without the base classes of
    importlib.abc, whose import takes as long as the rest of `import kanserve`."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        return ModuleSpec(fullname, cast("Loader", self)) if fullname in RENAMED else None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        new = RENAMED[spec.name]
        warnings.warn(f"{spec.name} is now {new}; the old name goes with 0.3.", DeprecationWarning, stacklevel=2)
        module = import_module(new)
        spec.loader_state = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Restore the module's own spec, which importing under the old name replaced."""
        assert module.__spec__ is not None
        module.__spec__ = module.__spec__.loader_state


def install() -> None:
    """Make the old names importable."""
    # First, since an old folder left behind by an update, with only caches in it, would be found as a package.
    sys.meta_path.insert(0, _Renamed())
