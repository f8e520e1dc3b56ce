"""The command line: each command reads files, calls one function and writes files or a table. Exit codes: 0 done, 1 a
bug in kanserve (with its traceback), 2 an error that the user can fix (one line on standard error), 130 interrupted,
141 nobody reads the output any more, as after `| head -1`."""

import itertools
import os
import signal
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn

from kanserve import __version__
from kanserve.errors import InputError, KanserveError, MissingDependencyError

try:
    import typer
except ImportError:  # the base installation has no command line
    print(f"kanserve: {MissingDependencyError('typer', 'all')}", file=sys.stderr)
    sys.exit(2)

from kanserve.cli import arguments, standard_streams
from kanserve.cli.commands import session as session_command
from kanserve.cli.commands.drift import show_drift
from kanserve.cli.commands.explain import explain_rows
from kanserve.cli.commands.export import export_network
from kanserve.cli.commands.flag_types import (
    Decimal,
    Force,
    HoldOut,
    Inputs,
    Json,
    KanFile,
    Quiet,
    Seed,
    TableFile,
    Target,
)
from kanserve.cli.commands.formula import show_formula
from kanserve.cli.commands.import_network import import_network
from kanserve.cli.commands.predict import predict_rows
from kanserve.cli.commands.publish import publish_network, sign_version, write_card
from kanserve.cli.commands.report import write_report
from kanserve.cli.commands.route import change_route
from kanserve.cli.commands.score import score_network
from kanserve.cli.commands.share import share_network
from kanserve.cli.commands.studio import open_studio
from kanserve.cli.terminal import free, show, tell, warn, write_whole

if TYPE_CHECKING:
    from kanserve.network.kan import Kan

app = typer.Typer(
    name="kanserve",
    help="Train a Kolmogorov-Arnold network, make it a formula, export it to ONNX, C and NumPy, and serve it.\n\n"
    "Begin with 'kanserve demo', or with your own table: 'kanserve fit data.csv --target y'.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

app.add_typer(session_command.app, name="session", short_help="Edit a network step by step, with undo and a replay.")


def main() -> None:
    """Run the command line and exit with its code."""
    standard_streams.open_closed()
    # So that commands clean up; the server has its own handlers. For SIGINT too, since train.fit answers a
    # KeyboardInterrupt with its best network so far, which is not wanted on the command line.
    warnings.showwarning = _show_warning
    for ending in (signal.SIGTERM, signal.SIGINT):
        signal.signal(ending, lambda number, frame: sys.exit(128 + number))
    try:
        code = app(prog_name="kanserve", standalone_mode=False)
        sys.stdout.flush()  # at the exit, an error would be neither a line nor an exit code
        sys.exit(code if isinstance(code, int) else 0)  # the parser turns Ctrl-C into 130
    except SystemExit as stop:
        if isinstance(stop.__context__, BrokenPipeError):  # which the parser turns into 1
            _end_unread()
        raise
    except KanserveError as error:
        _fail(str(error))
    except (typer.Abort, KeyboardInterrupt):
        sys.exit(130)
    except BrokenPipeError:
        _end_unread()
    except UnicodeDecodeError as error:
        _fail(f"A file that should be UTF-8 has the byte {error.object[error.start]:#x}. Save it as UTF-8.")
    except OSError as error:
        _fail(_of_a_file(error))
    except Exception as error:  # where the parser's error classes are depends on the version of typer
        # Only usage errors have these methods; all others are raised again. No arguments at all show the help.
        if not hasattr(error, "show") or not hasattr(error, "format_message"):
            raise
        if type(error).__name__ == "NoArgsIsHelpError":
            error.show()
            sys.exit(2)
        context = getattr(error, "ctx", None)
        message = error.format_message().replace("Value error, ", "").rstrip(".")
        _fail(f"{message}. See '{context.command_path if context else _command()} --help'.")


def _of_a_file(error: OSError) -> str:
    """The line to show for an error of a file or of the output."""
    if isinstance(error, FileNotFoundError):
        return f"There is no file or folder {str(error.filename)!r}." if error.filename else str(error)
    if error.filename is not None:
        return f"{error.filename}: {error.strerror}."
    if error.errno in standard_streams.NO_SPACE:
        standard_streams.drop_output()
        return f"The output cannot be written: {error.strerror}."
    return str(error)


def _show_warning(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
    """Show a warning as one line, without its source code, which tells the user of a command nothing."""
    warn(str(message))


def _command() -> str:
    """The command that the user typed, such as "kanserve fit", for parser errors that do not name it."""
    words = itertools.takewhile(str.isalpha, sys.argv[1:3] if sys.argv[1:2] == ["session"] else sys.argv[1:2])
    return " ".join(["kanserve", *words])


def _end_unread() -> NoReturn:
    """Exit like a program that SIGPIPE ends."""
    standard_streams.drop_output()
    sys.exit(128 + signal.SIGPIPE)


def _fail(message: str) -> NoReturn:
    warn(message)
    sys.exit(2)


@app.callback(invoke_without_command=True)
def kanserve(version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False) -> None:
    if version:
        from kanserve.serve.transport.native_library import running, versions

        print(f"kanserve {__version__}")
        transport, _, reason = running(os.environ.get("KANSERVE_TRANSPORT", "auto"), rest=True).partition("; ")
        words = [*([versions()] if transport == "native" else []), *([reason] if reason else [])]
        print(f"{transport} transport: {'; '.join(words)}")
        raise typer.Exit


@app.command(short_help="Train a network on a table.")
def fit(
    table: TableFile,
    target: Target = None,
    inputs: Inputs = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="The file of the network.")] = Path("kan.safetensors"),
    hidden: Annotated[
        str,
        typer.Option(
            help="Nodes of the hidden layers, as in '5' or '4,2'; '' for none, 'auto' for those that KANRegressor and "
            "KANClassifier choose, 'fewest' for the smallest network that explains the rows."
        ),
    ] = "auto",
    classify: Annotated[bool, typer.Option(help="The target's distinct values are classes.")] = False,
    optimizer: Annotated[
        Literal["auto", "lm", "lbfgs", "adam"], typer.Option(help="lm is Levenberg-Marquardt; auto chooses.")
    ] = "auto",
    checkpoint: Annotated[
        Path | None, typer.Option(help="Save progress in this file; the same command resumes from it.")
    ] = None,
    hold_out: HoldOut = 0.0,
    decimal: Decimal = None,
    seed: Seed = 0,
    force: Force = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Train a network on a table and write it to one file.

    Example: kanserve fit houses.csv --target price --out houses.safetensors

    Example: kanserve fit houses.csv --target price --hidden 5 --out houses.safetensors
    """
    from kanserve import train
    from kanserve.data import table_files as tables
    from kanserve.network import serialization
    from kanserve.simplification import discover
    from kanserve.train.constant_guard import shrunk_to_the_shares
    from kanserve.train.problem import GRIDS

    if hidden == "fewest" and (optimizer != "auto" or checkpoint is not None):
        raise InputError(
            "--hidden fewest cannot be combined with --optimizer or --checkpoint: leave them out, or give the nodes."
        )
    nodes, share = [] if hidden in ("auto", "fewest") else arguments.parse_hidden(hidden), 1.0
    kind: tables.Kind = "classification" if classify else "auto"
    table_rows = tables.read_table(table, arguments.require(target), inputs or (), kind, decimal=decimal)
    data = arguments.split_fit_rows(table_rows, hold_out)
    if not data.classes and len(data.outputs) == 1 and (labels := tables.count_labels(data.y)):
        warn(
            f"{data.outputs[0]!r} has {labels} different whole values, which are learned as numbers; "
            "--classify learns them as classes"
        )
    free(out, force, reads=[table])
    if hidden == "fewest":
        kan = discover(data, seed=seed, progress=False if quiet else tell)
    else:
        begin: Kan | list[int] = [len(data.inputs), *nodes, data.y.shape[1]]
        if hidden == "auto":
            from kanserve.estimator.hidden_choice import automatic_plan

            plan = automatic_plan(data, 3, {"optimizer": optimizer}, seed)
            begin, share = plan.structure(len(data.inputs), data.y.shape[1], GRIDS[0], 3, seed), plan.share
        kan = train.fit(begin, data, optimizer=optimizer, seed=seed, progress=not quiet, checkpoint=checkpoint)
        kan = shrunk_to_the_shares(kan, data, share)
    write_whole(out, lambda part: part.write_bytes(serialization.dumps(kan)))
    result = {
        "file": str(out),
        "shape": list(kan.shape),
        "edges": kan.edges,
        **arguments.scores(train.score(kan, data)),
    }
    words = ["kanserve", "simplify", str(out), str(table), *arguments.holding_out(hold_out)]
    words += arguments.decimal_option(decimal)
    show(result, as_json, after=[*words, *arguments.target_options(kan, target)])


app.command("import", short_help="Convert a network that another library has trained.")(import_network)


@app.command(short_help="Prune a network and replace its splines by named functions.")
def simplify(
    kan_file: KanFile,
    table: TableFile,
    target: Target = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="The file of the result.")] = Path("simple.safetensors"),
    hold_out: HoldOut = 0.0,
    decimal: Decimal = None,
    seed: Seed = 0,
    force: Force = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Prune a network and replace its splines by named functions, as far as the data allow.

    Example: kanserve simplify kan.safetensors houses.csv --out simple.safetensors
    """
    from kanserve import formula, train
    from kanserve.network import serialization
    from kanserve.simplification import simplify as simplify_kan

    kan = arguments.network(kan_file)
    data = arguments.split_fit_rows(arguments.data_of(kan, table, target, decimal), hold_out)
    free(out, force, reads=[kan_file, table])
    simple = simplify_kan(kan, data, seed=seed, progress=False if quiet else tell)
    write_whole(out, lambda part: part.write_bytes(serialization.dumps(simple)))
    result = {
        "file": str(out),
        "edges before": kan.edges,
        "edges": simple.edges,
        "symbolic": simple.symbolic,
        **arguments.scores(train.score(simple, data)),
        "formula": {law.name: law.text for law in formula.formulas(simple, strict=False)},
    }
    if not simple.symbolic and not as_json:
        result["splines"] = "s_l_j_i(x) in the formula is the spline from input i to sum j of layer l"
    words = ["kanserve", "publish", str(out), "models", "--name", "model"]
    if hold_out:  # else no row of the table is new to the network, so its errors on them say too little
        words += ["--data", str(table), *arguments.holding_out(hold_out), *arguments.target_options(kan, target)]
        words += arguments.decimal_option(decimal)
    show(result, as_json, after=words)


@app.command(short_help="Draw a network.")
def plot(
    kan_file: KanFile,
    out: Annotated[Path, typer.Option("--out", "-o", help="A .png, .svg or .pdf file.")] = Path("kan.png"),
    data: Annotated[
        Path | None, typer.Option(help="Rows on which the edges' shares of the signal are measured.")
    ] = None,
    kind: Annotated[
        Literal["auto", "flow", "matrix", "heatmap"],
        typer.Option(help="A graph with curves, tables of curves, or heat maps; auto chooses."),
    ] = "auto",
    theme: Annotated[
        Literal["auto", "light", "dark"],
        typer.Option(help="The background; auto: none, or as the SVG's reader has it."),
    ] = "auto",
    decimal: Decimal = None,
    force: Force = False,
) -> None:
    """Draw a network: nodes, and the curve on each edge, with a thickness by its share of the signal.

    Example: kanserve plot simple.safetensors --out simple.svg
    """
    from kanserve.data import table_files as tables
    from kanserve.plot import plot_network

    suffix = arguments.one_of("The ending of the picture", out.suffix.lower(), (".png", ".svg", ".pdf"))
    kan = arguments.network(kan_file)
    names = [variable.name for variable in kan.inputs]
    known = arguments.categories_of(kan.inputs)
    rows = None if data is None else tables.read_rows(data, names, categories=known, decimal=decimal)
    free(out, force)
    axes = plot_network(kan, rows, kind=kind, theme=theme)
    figure: Any = axes.figure
    write_whole(out, lambda part: figure.savefig(part, dpi=150, format=suffix[1:]))


app.command("export", short_help="Write a network as ONNX, C, NumPy or other source.")(export_network)


app.command("publish", short_help="Publish a network as the next version of a model.")(publish_network)


@app.command(
    short_help="Serve all models of a repository.",
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []},
)
def serve(context: typer.Context) -> None:
    """Serve all models of a repository over gRPC until SIGTERM or Ctrl-C; 'kanserve serve --help' has its flags."""
    from kanserve.cli.commands import serve as serve_command

    raise typer.Exit(serve_command.main(context.args))


app.command("predict", short_help="Predict the rows of a table.")(predict_rows)
app.command("explain", short_help="Say how much each input contributes to predictions.")(explain_rows)
app.command("report", short_help="Write a page with scores, effects of inputs and single rows.")(write_report)
app.command("score", short_help="Score a network on new samples, or predict a large file.")(score_network)
app.command("drift", short_help="Compare the rows that a served model answers with its training rows.")(show_drift)
app.command("formula", short_help="Print the formulas of a network, or search a table for one.")(show_formula)
app.command("route", short_help="Name versions of a served model, and split its requests among them.")(change_route)
app.command("sign", short_help="Sign a published version.")(sign_version)
app.command("card", short_help="Write the model card of a published model.")(write_card)
app.command("share", short_help="Write a network as one HTML file that needs no server.")(share_network)
app.command("studio", short_help="Open a page to see, edit, export and publish a network.")(open_studio)


@app.command(short_help="Show what a file or a published version holds.")
def inspect(
    path: Annotated[Path, typer.Argument(help="A .safetensors file, or the folder of a published model or version.")],
    as_json: Json = False,
) -> None:
    """Show what a file holds: shape, edges, inputs with units and ranges.

    Example: kanserve inspect models/houses/1
    """
    from kanserve.network import serialization

    facts: dict[str, Any] = {}
    if path.is_dir():
        artifact = arguments.read_version(path)
        kan = artifact.kan()
        facts["files"] = {name: len(data) for name, data in sorted(artifact.files.items())}
    else:
        kan = arguments.network(path)
    facts = {
        "shape": list(kan.shape),
        "edges": kan.edges,
        "symbolic": kan.symbolic,
        "inputs": [serialization.variable_out(variable) for variable in kan.inputs],
        "outputs": [serialization.variable_out(output) for output in kan.outputs],
        "classes": list(kan.classes),
        "layers": [
            {
                "order": layer.order,
                "intervals": layer.intervals,
                "base": layer.base,
                "extrapolation": layer.extrapolation,
                "splines": int(layer.spline_mask.sum()),
                "functions": sorted(layer.functions[layer.functions != ""].tolist()),
            }
            for layer in kan.layers
        ],
        **facts,
    }
    show(facts, as_json)


@app.command(short_help="Run the whole pipeline on real data, from fit to server.")
def demo(
    folder: Annotated[
        Path, typer.Option(help="Where pictures, exports and the repository go; replaced at each run.")
    ] = Path("knots-demo"),
    keep_serving: Annotated[
        bool, typer.Option("--keep-serving", help="Leave the server running until Ctrl-C.")
    ] = False,
    port: Annotated[int, typer.Option(min=0, max=65535, help="The server's port; 0 takes a free one.")] = 0,
    folds: Annotated[int, typer.Option(min=2, max=20, help="In how many parts the rows are cross-validated.")] = 5,
) -> None:
    """The whole pipeline on real data: the signature of 1118 knots from their geometric invariants."""
    from kanserve.cli.demo import run

    run(folder, keep_serving=keep_serving, port=port, count=folds)
