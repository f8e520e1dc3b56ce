"""kanserve session: edit a network step by step. The file has the steps; each command replays it and writes it anew."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from kanserve.cli import arguments
from kanserve.cli.commands.flag_types import Force, Json, KanFile, Seed, TableFile, Target
from kanserve.cli.terminal import free as free_file
from kanserve.cli.terminal import listed, show, sparkline, write_whole

if TYPE_CHECKING:
    from kanserve.cli.commands.session_file import Opened
    from kanserve.editing import Session

app = typer.Typer(
    help="Edit a network step by step: suggest, snap, free, zero, set, round, refit; with undo and a replay.\n\n"
    "Begin with 'kanserve session new kan.safetensors houses.csv'. Edges are called by name, as in 'area->h1' in "
    "quotes: h1, h2 are the nodes of the first hidden layer, h2.1 the first of the second.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

SessionFile = Annotated[Path, typer.Argument(help="The file that 'kanserve session new' wrote.")]
Edge = Annotated[str, typer.Argument(help="An edge by its name, as in 'area->h1'; 'show' lists them.")]
Constant = Annotated[float | None, typer.Option(help="A constant of c·f(a·x + b) + d, with x in the table's unit.")]
Tolerance = Annotated[float | None, typer.Option(help="What may be lost, in standard deviations; default: found.")]


@app.command()
def new(
    kan_file: KanFile,
    table: TableFile,
    target: Target = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="Where the session goes.")] = Path("session.json"),
    seed: Seed = 0,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Begin a session: a fifth of the table's rows is held out and judges every edit.

    Example: kanserve session new kan.safetensors houses.csv --out houses.json
    """
    from kanserve.cli.commands.session_file import begin

    opened = begin(out, kan_file, table, target, seed)
    free_file(out, force, reads=[kan_file, table])
    opened.write()
    facts = {"file": str(out), "edges": opened.session.kan.edges, "held-out loss": opened.session.loss}
    show(facts, as_json, after=["kanserve", "session", "show", str(out)])


@app.command("show")
def show_session(file: SessionFile, as_json: Json = False) -> None:
    """List the edges, with their functions, shares and constants, then the formula, the losses and what was done.

    Example: kanserve session show houses.json
    """
    opened = _read(file)
    one = opened.session.snapshot()
    if as_json:
        show(one.as_dict(), True)
        return
    listed([_edge(edge) for edge in one.edges], False)
    facts = {
        "held-out loss": one.loss,
        "r2": list(one.r2),
        "formula": {formula.name: formula.text or formula.trouble for formula in one.formulas},
        "done": [done.step for done in one.history],
    }
    spline = next((edge for edge in sorted(one.edges, key=lambda edge: -edge.share) if not edge.function), None)
    words = ["suggest", str(file), spline.name] if spline else ["save", str(file), "--out", "edited.safetensors"]
    show(facts, False, after=["kanserve", "session", *words])


@app.command()
def suggest(
    file: SessionFile,
    edge: Edge,
    top: Annotated[int, typer.Option(min=1, max=100, help="How many functions are tried.")] = 8,
    as_json: Json = False,
) -> None:
    """Functions for an edge: R² to it, and the held-out loss once one is put in and everything is refitted shortly.

    Example: kanserve session suggest houses.json 'area->h1'
    """
    session = _read(file).session
    found = session.suggest(edge, top)
    rows = [
        {
            "function": one.function,
            "r2": one.r2,
            "loss": one.loss,
            "change": one.change,
            **dict(zip("abcd", one.constants, strict=True)),
        }
        for one in found
    ]
    after = ["kanserve", "session", "snap", str(file), edge, found[0].function] if found else []
    listed(rows, as_json, after)


@app.command()
def snap(
    file: SessionFile,
    edge: Edge,
    function: Annotated[str, typer.Argument(help="A named function, as in sin, x^2 or exp.")],
    refit: Annotated[int, typer.Option(min=0, help="Iterations of the refit that follows.")] = 12,
    as_json: Json = False,
) -> None:
    """Put the closest c·f(a·x + b) + d in place of an edge and refit everything shortly.

    Example: kanserve session snap houses.json 'area->h1' sqrt
    """
    _edit(file, lambda session: session.snap(edge, function, refit), as_json)


@app.command()
def free(
    file: SessionFile,
    edge: Edge,
    intervals: Annotated[int | None, typer.Option(help="Of the spline's grid, at least.")] = None,
    as_json: Json = False,
) -> None:
    """Put a spline in place of a named function, that equals it and can be refined.

    Example: kanserve session free houses.json 'area->h1'
    """
    _edit(file, lambda session: session.free(edge, intervals), as_json)


@app.command()
def zero(file: SessionFile, edge: Edge, as_json: Json = False) -> None:
    """Take an edge out; its mean stays, as a constant.

    Example: kanserve session zero houses.json 'area->h1'
    """
    _edit(file, lambda session: session.zero(edge), as_json)


@app.command("set")
def set_constants(
    file: SessionFile,
    edge: Edge,
    a: Constant = None,
    b: Constant = None,
    c: Constant = None,
    d: Constant = None,
    as_json: Json = False,
) -> None:
    """Give constants of a named function a value.

    Example: kanserve session set houses.json 'area->h1' --a 2 --b -0.5
    """
    _edit(file, lambda session: session.set(edge, a, b, c, d), as_json)


@app.command("round")
def round_constants(
    file: SessionFile,
    digits: Annotated[int, typer.Argument(help="Significant digits.")],
    edges: Annotated[list[str] | None, typer.Argument(help="Of these edges; default: all.")] = None,
    as_json: Json = False,
) -> None:
    """Round the constants of named functions.

    Example: kanserve session round houses.json 3
    """
    _edit(file, lambda session: session.round(digits, edges or ()), as_json)


@app.command()
def rename(
    file: SessionFile,
    old: Annotated[str, typer.Argument(help="An input or an output.")],
    new_name: Annotated[str, typer.Argument(metavar="NEW", help="Its name from now on.")],
    of: Annotated[
        Literal["input", "output"] | None, typer.Option(help="Which of the two, where both have the old name.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Rename an input or an output of the network.

    Example: kanserve session rename houses.json area size
    """
    _edit(file, lambda session: session.rename(old, new_name, of or ""), as_json)


@app.command()
def refit(
    file: SessionFile,
    steps: Annotated[int, typer.Option(help="Iterations.")] = 100,
    smooth: Annotated[float, typer.Option(help="How strongly splines are smoothed.")] = 0.0,
    as_json: Json = False,
) -> None:
    """Fit all constants and splines to the rows that are not held out.

    Example: kanserve session refit houses.json
    """
    _edit(file, lambda session: session.refit(steps, smooth), as_json)


@app.command()
def prune(file: SessionFile, tolerance: Tolerance = None, as_json: Json = False) -> None:
    """Take out what the data do not ask for. Names of hidden nodes may move up.

    Example: kanserve session prune houses.json
    """
    _edit(file, lambda session: session.prune("auto" if tolerance is None else tolerance), as_json)


@app.command()
def symbolify(
    file: SessionFile,
    all_edges: Annotated[bool, typer.Option("--all-edges", help="Also where that costs.")] = False,
    tolerance: Tolerance = None,
    as_json: Json = False,
) -> None:
    """Name the functions of all edges, as far as the data allow.

    Example: kanserve session symbolify houses.json
    """
    limit: Any = "auto" if tolerance is None else tolerance
    _edit(file, lambda session: session.symbolify((), all_edges, limit), as_json)


@app.command()
def undo(file: SessionFile, as_json: Json = False) -> None:
    """Go back before the last step.

    Example: kanserve session undo houses.json
    """
    _edit(file, lambda session: session.undo(), as_json)


@app.command()
def redo(file: SessionFile, as_json: Json = False) -> None:
    """Do again what was undone last.

    Example: kanserve session redo houses.json
    """
    _edit(file, lambda session: session.redo(), as_json)


@app.command()
def plot(
    file: SessionFile,
    edge: Edge,
    candidates: Annotated[int, typer.Option(min=0, max=20, help="How many functions beside it.")] = 3,
    out: Annotated[Path, typer.Option("--out", "-o", help="A .png, .svg or .pdf file.")] = Path("edge.png"),
    force: Force = False,
) -> None:
    """Draw an edge and the functions that it could be.

    Example: kanserve session plot houses.json 'area->h1' --out area.svg
    """
    suffix = arguments.one_of("the ending of the picture", out.suffix.lower(), (".png", ".svg", ".pdf"))
    opened = _read(file)
    free_file(out, force, reads=[file])
    figure: Any = opened.session.plot_edge(edge, candidates).figure
    write_whole(out, lambda part: figure.savefig(part, dpi=150, format=suffix[1:]))


@app.command()
def python(file: SessionFile) -> None:
    """Print a Python program that replays the session and writes the equal network.

    Example: kanserve session python houses.json > edits.py
    """
    from kanserve.cli.commands.session_file import script

    print(script(_read(file)), end="")


@app.command()
def save(
    file: SessionFile,
    out: Annotated[Path, typer.Option("--out", "-o", help="Where the network goes.")] = Path("edited.safetensors"),
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Write the network as the session left it.

    Example: kanserve session save houses.json --out edited.safetensors
    """
    from kanserve.network import serialization

    opened = _read(file)
    free_file(out, force, reads=[file, opened.kan, opened.table])
    kan = opened.session.kan
    write_whole(out, lambda part: part.write_bytes(serialization.dumps(kan)))
    facts = {"file": str(out), "edges": kan.edges, "symbolic": kan.symbolic, "held-out loss": opened.session.loss}
    show(facts, as_json, after=["kanserve", "formula", str(out)])


def _read(file: Path) -> "Opened":
    from kanserve.cli.commands.session_file import read

    return read(file)


def _edit(file: Path, edit: "Callable[[Session], Session]", as_json: bool) -> None:
    """Read a session, edit it, write it and show what that did to the loss."""
    opened = _read(file)
    before = opened.session.loss
    after = edit(opened.session)
    opened.write()
    done = [one.step for one in after.history]
    facts = {"last step": done[-1] if done else "", "edges": after.kan.edges, "loss before": before, "loss": after.loss}
    show(facts, as_json, after=["kanserve", "session", "show", str(file)])


def _edge(one: Any) -> dict[str, Any]:
    """What a list of edges shows of one."""
    numbers = one.constants or ("",) * 4
    return {
        "edge": one.name,
        "share": f"{one.share:.1%}",
        "curve": sparkline(one.curve),
        "function": one.function + (" + spline" if one.function and one.spline else "") or "spline",
        **dict(zip("abcd", numbers, strict=True)),
    }
