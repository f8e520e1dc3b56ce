"""The `kanserve import` command: convert a network that another library trained."""

from pathlib import Path
from typing import Annotated, Any

import typer

from kanserve import importers
from kanserve.cli.commands.flag_types import Force, Json, Quiet
from kanserve.cli.terminal import free, show, warn, write_whole
from kanserve.importers.checkpoint_files import CACHE, SETTINGS, STATE, pykan_prefix, read
from kanserve.importers.conversion import TOLERANCE, Basis, Checkpoint, Squash
from kanserve.network.kan import Base


def import_network(
    path: Annotated[
        Path,
        typer.Argument(help="A torch file, .safetensors or .npz; or the path given to pykan's saveckpt, as model/0.1."),
    ],
    library: Annotated[
        importers.Library | None, typer.Option("--from", help="The library; default: detected from the arrays.")
    ] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="The file of the network.")] = Path("kan.safetensors"),
    inputs: Annotated[
        list[str] | None, typer.Option("--input", "-i", help="The name of an input; repeat for all, in order.")
    ] = None,
    outputs: Annotated[
        list[str] | None, typer.Option("--output", help="The name of an output; repeat for all, in order.")
    ] = None,
    base: Annotated[
        Base | None, typer.Option(help="The base function beside the splines, if the file does not have it.")
    ] = None,
    denominator: Annotated[
        float | None, typer.Option(help="The denominator of radial functions, if not the default.")
    ] = None,
    tolerance: Annotated[
        float, typer.Option(help="The allowed error of outputs with refitted edges, relative to the largest output.")
    ] = TOLERANCE,
    basis: Annotated[
        Basis | None, typer.Option(help="The polynomials of a polynomial KAN, if its arrays are not called by them.")
    ] = None,
    parameters: Annotated[
        list[float] | None,
        typer.Option("--parameter", help="A constant of these polynomials, as Jacobi's a and b; repeat for all."),
    ] = None,
    squash: Annotated[
        Squash | None, typer.Option(help="How a polynomial KAN brings its inputs into [-1, 1]; default: tanh.")
    ] = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="Also run the other library, and refuse if the outputs differ.")
    ] = False,
    force: Force = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Convert a network that another library has trained: pykan, efficient-kan, fast-kan, inkan, jaxkan, or layers of
    polynomials (ChebyKAN), Fourier series (FourierKAN) or quotients (KAT).

    It computes the same as before; anything without an equivalent here is refused, with its place and the reason. The
    other library is only needed for --verify.

    Example: kanserve import model/0.1 --from pykan --input mass --input speed --output energy
    """
    from kanserve.importers import verification
    from kanserve.network import serialization

    options = importers.check_options(
        {
            "inputs": inputs or (),
            "outputs": outputs or (),
            "base": base,
            "denominator": denominator,
            "tolerance": tolerance,
            "basis": basis,
            "parameters": parameters or (),
            "squash": squash,
        }
    )
    checkpoint: Checkpoint = read(path)
    free(out, force, reads=_files(path))
    conversion = importers.convert(checkpoint, library or "", options)
    kan = conversion.kan
    found = verification.require(verification.compare(checkpoint, conversion, options)) if verify else None
    write_whole(out, lambda part: part.write_bytes(serialization.dumps(kan)))
    notes = list(conversion.notes)
    if found is not None and found.only_one:
        notes.append(f"In {found.only_one} of the compared rows only one of the two gives finite numbers.")
    if found is not None and found.unsteady:
        notes.append(
            f"{found.unsteady} rows were not compared: they are near a pole or a jump, where rounding decides."
        )
    facts: dict[str, Any] = {
        "file": str(out),
        "library": conversion.library,
        "shape": list(kan.shape),
        "edges": kan.edges,
        "symbolic": kan.symbolic,
    }
    if found is not None:
        facts["largest difference"] = found.difference if as_json else str(found)
    if as_json:
        facts["notes"] = notes
    elif not quiet:
        for note in notes:
            warn(note)
    show(facts, as_json, after=["kanserve", "publish", str(out), "models", "--name", "model"])


def _files(path: Path) -> list[Path]:
    """The files that belong to a checkpoint path."""
    prefix = pykan_prefix(path)
    if prefix is None:
        return [path]
    return [prefix.with_name(prefix.name + ending) for ending in (SETTINGS, STATE, CACHE)]
