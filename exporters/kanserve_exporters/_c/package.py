"""The files beside the C source: CMake and pkg-config files for building, testing and installing, and a README.

Most of these texts are in the folder `package_files`. In them `@` is the prefix with an underscore and `@@` the bare
prefix, as in `c_template`; `$AT$` is a plain @.
"""

from collections.abc import Mapping
from pathlib import Path

from kanserve.network.export_options import CForm
from kanserve_exporters._c.template import fill

_FILES = Path(__file__).parent / "package_files"


def package(
    prefix: str, words: Mapping[str, object], formula: list[str], form: CForm, derivatives: int
) -> dict[str, str]:
    """The texts of CMakeLists.txt, P.pc.in and README.md, by path; for the single-file forms only the README.

    `words` are the network's shape, inputs, outputs, meaning of the outputs and type; `formula` has its lines;
    `derivatives` is the order up to which the source has them.
    """
    readme = fill(
        _text("README.md").format(
            build=_text(f"build_{form}.md"),
            gradient="".join([_GRADIENT, _HESSIAN][:derivatives]),
            without=["", _WITHOUT, _WITHOUT_BOTH][derivatives],
            **words,
        ),
        prefix,
    )
    files = {"README.md": readme.replace("$FORMULA$", "\n".join(f"    {line}" for line in formula), 1)}
    if form == "files":
        files["CMakeLists.txt"] = fill(_text("CMakeLists.txt"), prefix).replace("$AT$", "@")
        files[f"{prefix}.pc.in"] = fill(_text("pkg_config.pc").format(**words), prefix).replace("$AT$", "@")
    return files


_GRADIENT = """
`@gradient(x, dy_dx)` gives the exact derivative of output q by raw input i at `dy_dx[q*@N_IN + i]`, and
`@gradient_batch` the outputs and derivatives of many rows.
"""

_HESSIAN = """
`@hessian(x, y, dy_dx, d2y_dx2)` gives the outputs, the derivatives and the second derivatives, that of output q by raw
inputs a and b at `d2y_dx2[(q*@N_IN + a)*@N_IN + b]`; y and dy_dx may be null. `@hessian_batch` does so for many rows.
"""

_WITHOUT = "- `-D@NO_GRADIENT` leaves out `@gradient` and `@gradient_batch`.\n"
_WITHOUT_BOTH = "- `-D@NO_GRADIENT` leaves out `@gradient`, `@hessian` and their batches.\n"


def _text(path: str) -> str:
    return (_FILES / f"{path}.in").read_text("utf-8")
