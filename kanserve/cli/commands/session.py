"""The `kanserve session` command: edit a network. The file stores the steps; each command replays and rewrites it."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from kanserve.cli import arguments
from kanserve.cli.commands.flag_types import Force, Json, KanFile, Seed, TableFile, Target
from kanserve.cli.terminal import free as free_file
from kanserve.cli.terminal import print_rows, show, sparkline, write_whole

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
Tolerance = Annotated[float | None, typer.Option(help="The allowed loss, in standard deviations; default: automatic.")]


@app.command(short_help="Begin a session.")
def new(
    kan_file: KanFile,
    table: TableFile,
    target: Target = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="The file of the session.")] = Path("session.json"),
    seed: Seed = 0,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Begin a session: a fifth of the table's rows is held out to measure the loss of every edit.

    Example: kanserve session new kan.safetensors houses.csv --out houses.json
    """
    from kanserve.cli.commands.session_file import begin

    opened = begin(out, kan_file, table, target, seed)
    free_file(out, force, reads=[kan_file, table])
    opened.write()
    facts = {"file": str(out), "edges": opened.session.kan.edges, "held-out loss": opened.session.loss}
    show(facts, as_json, after=["kanserve", "session", "show", str(out)])


@app.command("show", short_help="List the edges, the formula, the losses and the steps.")
def show_session(file: SessionFile, as_json: Json = False) -> None:
    """List the edges, with their functions, shares and constants, then the formula, the losses and the steps.

    Example: kanserve session show houses.json
    """
    opened = _read(file)
    snapshot = opened.session.snapshot()
    if as_json:
        show(snapshot.as_dict(), True)
        return
    print_rows([_edge(edge) for edge in snapshot.edges], False)
    facts = {
        "held-out loss": snapshot.loss,
        "r2": list(snapshot.r2),
        "formula": {formula.name: formula.text or formula.trouble for formula in snapshot.formulas},
        "done": [entry.step for entry in snapshot.history],
    }
    spline = next((edge for edge in sorted(snapshot.edges, key=lambda edge: -edge.share) if not edge.function), None)
    words = ["suggest", str(file), spline.name] if spline else ["save", str(file), "--out", "edited.safetensors"]
    show(facts, False, after=["kanserve", "session", *words])


@app.command(short_help="Suggest functions for an edge.")
def suggest(
    file: SessionFile,
    edge: Edge,
    top: Annotated[int, typer.Option(min=1, max=100, help="How many functions are tried.")] = 8,
    as_json: Json = False,
) -> None:
    """Functions for an edge: R² to its curve, and the held-out loss with the function after a short refit.

    Example: kanserve session suggest houses.json 'area->h1'
    """
    session = _read(file).session
    found = session.suggest(edge, top)
    rows = [
        {
            "function": suggestion.function,
            "r2": suggestion.r2,
            "loss": suggestion.loss,
            "change": suggestion.change,
            **dict(zip("abcd", suggestion.constants, strict=True)),
        }
        for suggestion in found
    ]
    after = ["kanserve", "session", "snap", str(file), edge, found[0].function] if found else []
    print_rows(rows, as_json, after)


@app.command(short_help="Replace an edge by a named function.")
def snap(
    file: SessionFile,
    edge: Edge,
    function: Annotated[str, typer.Argument(help="A named function, as in sin, x^2 or exp.")],
    refit: Annotated[int, typer.Option(min=0, help="Iterations of the refit that follows.")] = 12,
    as_json: Json = False,
) -> None:
    """Replace an edge by the closest c·f(a·x + b) + d, with a short refit of everything.

    Example: kanserve session snap houses.json 'area->h1' sqrt
    """
    _edit(file, lambda session: session.snap(edge, function, refit), as_json)


@app.command(short_help="Replace a named function by an equal spline.")
def free(
    file: SessionFile,
    edge: Edge,
    grid: Annotated[int | None, typer.Option(help="The least number of the spline's grid intervals.")] = None,
    as_json: Json = False,
) -> None:
    """Replace a named function by an equal spline, which can be refined.

    Example: kanserve session free houses.json 'area->h1'
    """
    _edit(file, lambda session: session.free(edge, grid), as_json)


@app.command()
def zero(file: SessionFile, edge: Edge, as_json: Json = False) -> None:
    """Remove an edge; its mean stays as a constant.

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
    """Set constants of a named function.

    Example: kanserve session set houses.json 'area->h1' --a 2 --b -0.5
    """
    _edit(file, lambda session: session.set(edge, a, b, c, d), as_json)


@app.command("round")
def round_constants(
    file: SessionFile,
    digits: Annotated[int, typer.Argument(help="Significant digits.")],
    edges: Annotated[list[str] | None, typer.Argument(help="Only of these edges; default: all.")] = None,
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
        Literal["input", "output"] | None, typer.Option(help="Which of the two, if both have the old name.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Rename an input or an output of the network.

    Example: kanserve session rename houses.json area size
    """
    _edit(file, lambda session: session.rename(old, new_name, of or ""), as_json)


@app.command(short_help="Fit all constants and splines again.")
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
    """Prune edges and nodes that the data do not need. Hidden nodes may be renumbered.

    Example: kanserve session prune houses.json
    """
    _edit(file, lambda session: session.prune("auto" if tolerance is None else tolerance), as_json)


@app.command()
def symbolify(
    file: SessionFile,
    all_edges: Annotated[bool, typer.Option("--all-edges", help="Also edges for which that costs accuracy.")] = False,
    tolerance: Tolerance = None,
    as_json: Json = False,
) -> None:
    """Replace splines by named functions, as far as the data allow.

    Example: kanserve session symbolify houses.json
    """
    limit: Any = "auto" if tolerance is None else tolerance
    _edit(file, lambda session: session.symbolify((), all_edges, limit), as_json)


@app.command()
def undo(file: SessionFile, as_json: Json = False) -> None:
    """Undo the last step.

    Example: kanserve session undo houses.json
    """
    _edit(file, lambda session: session.undo(), as_json)


@app.command()
def redo(file: SessionFile, as_json: Json = False) -> None:
    """Redo the step that was undone last.

    Example: kanserve session redo houses.json
    """
    _edit(file, lambda session: session.redo(), as_json)


@app.command()
def plot(
    file: SessionFile,
    edge: Edge,
    candidates: Annotated[int, typer.Option(min=0, max=20, help="How many candidate functions to draw.")] = 3,
    out: Annotated[Path, typer.Option("--out", "-o", help="A .png, .svg or .pdf file.")] = Path("edge.png"),
    force: Force = False,
) -> None:
    """Draw an edge and candidate functions for it.

    Example: kanserve session plot houses.json 'area->h1' --out area.svg
    """
    suffix = arguments.one_of("The ending of the picture", out.suffix.lower(), (".png", ".svg", ".pdf"))
    opened = _read(file)
    free_file(out, force, reads=[file])
    figure: Any = opened.session.plot_edge(edge, candidates).figure
    write_whole(out, lambda part: figure.savefig(part, dpi=150, format=suffix[1:]))


@app.command(short_help="Print a Python program that replays the session.")
def python(file: SessionFile) -> None:
    """Print a Python program that replays the session and writes the same network.

    Example: kanserve session python houses.json > edits.py
    """
    from kanserve.cli.commands.session_file import script

    print(script(_read(file)), end="")


@app.command()
def save(
    file: SessionFile,
    out: Annotated[Path, typer.Option("--out", "-o", help="The file of the network.")] = Path("edited.safetensors"),
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Write the edited network.

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
    """Read a session, edit it, write it, and show the change of the loss."""
    opened = _read(file)
    before = opened.session.loss
    after = edit(opened.session)
    opened.write()
    done = [entry.step for entry in after.history]
    facts = {"last step": done[-1] if done else "", "edges": after.kan.edges, "loss before": before, "loss": after.loss}
    show(facts, as_json, after=["kanserve", "session", "show", str(file)])


def _edge(edge: Any) -> dict[str, Any]:
    """The row of an edge in a list."""
    numbers = edge.constants or ("",) * 4
    return {
        "edge": edge.name,
        "share": f"{edge.share:.1%}",
        "curve": sparkline(edge.curve),
        "function": edge.function + (" + spline" if edge.function and edge.spline else "") or "spline",
        **dict(zip("abcd", numbers, strict=True)),
    }
