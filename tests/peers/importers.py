"""Every recipe of `tests/checkpoints` made anew by the real libraries, imported, and held to them. `make importers`.

A line for each: how far the network of its file and that of the live model are from the library's own forward on 1,000
rows, in parts of the largest output, and whether its formula, its NumPy module, its ONNX graph and its C source are the
network, as the tests ask of the stored ones. Ends with 1 where one is not.

efficient-kan and fast-kan are on no package index: their layers are those of a checkout where EFFICIENT_KAN (its folder
`src`) and FAST_KAN name one, and elsewhere are written from their formulas.

    python -m tests.peers.importers [PART OF A NAME ...]
"""

import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import count, islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks._timing import installed, machine
from kanserve.errors import CheckpointError
from kanserve.formula import formulas
from kanserve.importers import from_checkpoint
from kanserve.network.export_options import ExportOptions, Precision
from kanserve.network.kan import Kan
from kanserve.runtime import numpy_backend, onnx_backend
from kanserve_exporters import numpy_source as numpy_exporter
from kanserve_exporters import onnx_graph as onnx_exporter
from tests.checkpoints.make import make
from tests.checkpoints.recipe import Made
from tests.support import c_agreement
from tests.support.formula_agreement import check
from tests.support.peers.imported_checkpoints import Stored, difference, stored
from tests.support.row_agreement import TYPES, assert_backend_held, assert_held

ROWS = 1000
AT_ONCE = 8  # networks in a C program
LIBRARIES = ("pykan", "inkan", "jaxkan")


@dataclass(eq=False)
class Line:
    """What is said of a checkpoint."""

    name: str
    said: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    kan: Kan | None = None

    def note(self, what: str, reason: str = "") -> None:
        """Say that something is right, or with a reason that it is not."""
        self.said.append(f"{what} WRONG" if reason else what)
        if reason:
            self.wrong.append(f"{self.name}, {what}: {reason}")

    def ask(self, form: str, build: str, claim: Callable[[], None]) -> None:
        """Say that a form is the network, once for all of its builds, or that this one is not."""
        try:
            claim()
        except AssertionError as error:
            self.note(f"{form} {build}", str(error) or "not the network")
        else:
            self.said += [form] if form not in self.said else []


def imported(name: str, one: Stored, made: Made) -> Line:
    """The network of a checkpoint beside its library: by its file, and by the live model."""
    line = Line(name)
    for way, source in (("file", one.path), ("live", made.model)):
        try:
            found = from_checkpoint(source, **one.options)
        except CheckpointError as error:
            line.note(f"{way} refused", "" if one.refused and one.refused in str(error) else str(error))
            continue
        if one.refused:
            line.note(way, "imported, and has no equal here")
            continue
        try:
            far = difference(found.kan, one)
        except ValueError as error:
            line.note(way, str(error))
            continue
        limit = "" if far <= one.allowed else f"{far:.1e} from {one.library}, allowed {one.allowed:.0e}"
        line.note(f"{way} {far:.1e} of {one.allowed:.0e}", limit)
        line.kan = found.kan if way == "file" else line.kan
    return line


def exported(line: Line, kan: Kan) -> None:
    """Ask its formula, and the backends that need no compiler."""
    line.ask("formula", "", lambda: check(kan, formulas(kan, strict=False)))
    for precision in TYPES:
        options = ExportOptions("net", precision)

        def numpy(options: ExportOptions = options) -> None:
            backend = numpy_backend.load(numpy_exporter.export(kan, options))
            assert_backend_held(backend, kan, options.floating, "NumPy")

        def onnx(options: ExportOptions = options) -> None:
            assert_backend_held(onnx_backend.load(onnx_exporter.export(kan, options)), kan, options.floating, "ONNX")

        line.ask("NumPy", precision, numpy)
        line.ask("ONNX", precision, onnx)


def compiled(lines: Mapping[str, Line], folder: Path) -> None:
    """Ask the C source of several networks, which are one program."""
    for precision in TYPES:
        kans = {name: line.kan for name, line in lines.items() if line.kan and precision in TYPES}
        if not kans:
            continue
        fast = ("-O2", "-march=native", "-ffp-contract=fast", *(f"-D{name}_FAST" for name in kans))
        at = folder / precision
        at.mkdir(parents=True)
        x = c_agreement.write(at, kans, precision)
        for build, flags in (("portable", ("-O0", "-ffp-contract=off")), ("fast", fast)):
            for name, forms in c_agreement.answers(at, kans, precision, *flags).items():
                lines[name].ask("C", f"{build} {precision}", _claim(kans[name], x[name], forms, precision))


def _claim(
    kan: Kan, x: NDArray[np.float64], forms: list[NDArray[np.floating]], precision: Precision
) -> Callable[[], None]:
    def claim() -> None:
        for got in forms:
            assert_held(kan, x, got, precision, "C")

    return claim


def lines(folder: Path, parts: list[str]) -> Iterator[Line]:
    """All that is said of each checkpoint whose name has one of the parts, or of each."""
    chosen = make(folder, ROWS, parts)
    for number in count():
        several = list(islice(chosen, AT_ONCE))
        if not several:
            return
        held = stored(folder)
        found = {name.replace("/", "_"): imported(name, held[name], made) for name, made in several}
        for line in found.values():
            if line.kan is not None:
                exported(line, line.kan)
        compiled(found, folder / f"c{number}")
        yield from found.values()


def main(parts: list[str]) -> int:
    if missing := [library for library in LIBRARIES if not installed(library)]:
        print(f"Not installed: {', '.join(missing)}. 'make importers' installs them.")
        return 1
    print(machine("pykan", "inkan", "jaxkan", "torch"))
    begun, imports = time.process_time(), 0
    wrong: list[str] = []
    with tempfile.TemporaryDirectory(prefix="kanserve-importers-") as folder:
        for line in lines(Path(folder), parts):
            print(f"{line.name}: {', '.join(line.said)}", flush=True)
            wrong += line.wrong
            imports += line.kan is not None
    print(
        f"{imports} checkpoints imported, {len(wrong)} claims wrong, {time.process_time() - begun:.0f} s of CPU",
        *wrong,
        sep="\n",
    )
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
