"""The build compiles the kernels where there is a C compiler; where there is none the package is pure Python."""

import importlib.util
import os
import subprocess
import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class Kernels(BuildHookInterface):  # type: ignore[type-arg]  # hatchling finds it only without arguments
    """Puts the compiled library into wheels and editable installs. KANSERVE_NATIVE=0 leaves it out."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if os.environ.get("KANSERVE_NATIVE") == "0":
            return
        try:
            for path in _build_module().build():
                build_data["artifacts"].append(str(path.relative_to(self.root)))
        except OSError as error:
            self.app.display_warning(f"Without compiled kernels, kanserve trains slower. {error}")
        except subprocess.CalledProcessError as error:
            self.app.display_warning(f"Without compiled kernels, kanserve trains slower.\n{error.stderr}")
        else:
            self._add_operators(build_data)
            build_data["pure_python"] = False
            platform = sysconfig.get_platform().replace("-", "_").replace(".", "_")
            build_data["tag"] = f"py3-none-{platform}"

    def _add_operators(self, build_data: dict[str, Any]) -> None:
        """The operators of onnxruntime, where its header is; few need them, so nothing is said where it is not."""
        module = _build_module()
        if module.headers() is None:
            return
        try:
            made = module.build_operators()
        except subprocess.CalledProcessError as error:
            self.app.display_warning(f"Without compiled operators, onnxruntime runs networks slower.\n{error.stderr}")
        else:
            build_data["artifacts"] += [str(path.relative_to(self.root)) for path in made]


def _build_module() -> Any:
    """kanserve/native/build.py by its path: the package itself cannot be imported yet."""
    path = Path(__file__).parent / "kanserve" / "native" / "build.py"
    spec = importlib.util.spec_from_file_location("kanserve_native_build", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
