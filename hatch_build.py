"""What the build adds to the files: kernels, where there is a C compiler, the page of the studio, where there is node,
and the README's links as full addresses."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from hatchling.metadata.plugin.interface import MetadataHookInterface

# A link to a path, but not one to an address or a section. Blocks of code match as a whole, so that they are kept.
LINK = re.compile(
    r"^```.*?^```|(?P<picture>!?)\[(?P<text>[^\]]*)\]\((?![a-z]+:|#)(?P<path>[^)\s]+)\)", re.MULTILINE | re.DOTALL
)

PICTURE = re.compile(r'(?P<name>src|srcset)="(?![a-z]+:)(?P<path>[^"]+)"')


class BuiltFiles(BuildHookInterface):  # type: ignore[type-arg]  # hatchling finds it only without arguments
    """Puts the compiled library into wheels and editable installs, and the page of the studio into wheels and the
    source distribution. KANSERVE_NATIVE=0 leaves out the library, KANSERVE_STUDIO=0 builds no page.

    KANSERVE_PLATFORM=manylinux_2_17_x86_64 builds the wheel for that platform, and fails where it cannot be compiled.
    """

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version != "editable":
            self._add_page(build_data)
        if self.target_name == "wheel" and os.environ.get("KANSERVE_NATIVE") != "0":
            self._add_kernels(version, build_data)

    def _add_page(self, build_data: dict[str, Any]) -> None:
        """The page as it was built, or built now; a wheel from a source distribution has it from there."""
        sources, page = Path(self.root, "studio"), Path(self.root, "kanserve", "studio", "static")
        if not (page / "index.html").is_file() and os.environ.get("KANSERVE_STUDIO") != "0":
            npm = shutil.which("npm") if (sources / "package-lock.json").is_file() else None
            try:
                for command in (["ci", "--no-audit", "--no-fund"], ["run", "build"]) if npm else ():
                    subprocess.run([str(npm), *command], cwd=sources, check=True, capture_output=True, text=True)
            except (OSError, subprocess.CalledProcessError) as error:
                self._go_without("Without its page, 'kanserve studio' does not start.", error, None)
        if not (page / "index.html").is_file():
            self.app.display_warning("There is no page of the studio: 'make studio' builds it, with node.")
            return
        build_data["artifacts"].append("/kanserve/studio/static/**")

    def _add_kernels(self, version: str, build_data: dict[str, Any]) -> None:
        module = _build_module()
        wanted = module.get_platform()
        try:
            made = module.build(here=version == "editable")
        except (OSError, subprocess.CalledProcessError) as error:
            self._go_without("Without compiled kernels, kanserve trains slower.", error, wanted)
            return
        if module.headers() is not None:
            try:
                made += module.build_operators(here=version == "editable")
            except subprocess.CalledProcessError as error:
                self._go_without("Without compiled operators, onnxruntime runs networks slower.", error, wanted)
        elif wanted:  # few who install it need the operators, but whoever publishes should know
            self.app.display_warning(f"The wheel has no operators of onnxruntime: there is no {module.HEADER}.")
        if module.server_headers():
            try:
                made += module.build_server()
            except subprocess.CalledProcessError as error:
                self._go_without("Without its native transport, the server is slower.", error, wanted)
            if wanted:  # its libraries are in the wheel then, and so are their licenses
                licenses = f"{self.build_config.builder.project_id}.dist-info/licenses"
                for name, path in module.find_licenses().items():
                    build_data["force_include"][str(path)] = f"{licenses}/{name}.txt"
        if wanted or sys.platform.startswith("linux"):
            lacking = ", ".join(module.missing_for_wheel(wanted) if wanted else module.missing())
            what = "REST by the native transport" if module.server_headers() else "native transport: grpcio will serve"
            if lacking:
                where = f"The wheel for {wanted}" if wanted else "This install"
                self.app.display_warning(f"{where} has no {what}. It needs Debian's {lacking}.")
        build_data["artifacts"] += [str(path.relative_to(self.root)) for path in made]
        build_data["pure_python"] = False
        platform = wanted or sysconfig.get_platform().replace("-", "_").replace(".", "_")
        build_data["tag"] = f"py3-none-{platform}"

    def _go_without(self, consequence: str, error: Exception, wanted: str | None) -> None:
        reason = error.stderr if isinstance(error, subprocess.CalledProcessError) else error
        if wanted:
            raise SystemExit(f"The wheel for {wanted} cannot be compiled.\n{reason}")
        self.app.display_warning(f"{consequence}\n{reason}")


class Readme(MetadataHookInterface):
    """The README as an index shows it: there are no files beside it, so a path becomes an address in the repository."""

    def update(self, metadata: dict[str, Any]) -> None:
        repository, release = metadata["urls"]["Repository"], f"v{metadata['version']}"

        def full(link: re.Match[str]) -> str:
            if link["path"] is None:
                return link[0]
            kind = "raw" if link["picture"] else "blob"
            return f"{link['picture']}[{link['text']}]({repository}/{kind}/{release}/{link['path']})"

        def picture(source: re.Match[str]) -> str:
            return f'{source["name"]}="{repository}/raw/{release}/{source["path"]}"'

        text = Path(self.root, "README.md").read_text("utf-8")
        metadata["readme"] = {"content-type": "text/markdown", "text": PICTURE.sub(picture, LINK.sub(full, text))}


def _build_module() -> Any:
    """kanserve/native/build.py by its path: the package itself cannot be imported yet."""
    path = Path(__file__).parent / "kanserve" / "native" / "build.py"
    spec = importlib.util.spec_from_file_location("kanserve_native_build", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
