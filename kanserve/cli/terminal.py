"""Output of the command line: tables for people, JSON for scripts, and files that are written atomically."""

import errno
import json
import math
import os
import shlex
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.cells import cell_len
from rich.console import Console
from rich.table import Column, Table

from kanserve.errors import ConflictError, InputError, NotFoundError

if TYPE_CHECKING:
    from kanserve.simplification import SimplifyStep

WIDTH = 100
LEAST = 24  # characters of the last column, unless it has fewer
BLOCKS = "▁▂▃▄▅▆▇█"


def show(facts: Mapping[str, Any], as_json: bool, after: Sequence[str] = ()) -> None:
    """Print facts as a table or as JSON; `after` is the command line to try next. Plain text if piped."""
    if as_json:
        print(json.dumps(finite(facts), ensure_ascii=False))
        return
    console = Console(highlight=False)
    console.print(_pairs((name, _text(value)) for name, value in facts.items()))
    _next(console, after)


def _pairs(pairs: Iterable[tuple[str, str]]) -> Table:
    """A table of names and values; a long value continues on the next line and is never cut."""
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in pairs:
        table.add_row(plain(name), plain(value))
    return table


def _next(console: Console, after: Sequence[str]) -> None:
    """Print the command to try next."""
    if after:
        console.print(f"next: {plain(shlex.join(after))}", style="dim", soft_wrap=True)


def print_rows(rows: Sequence[Mapping[str, Any]], as_json: bool, after: Sequence[str] = ()) -> None:
    """Print rows with the same keys as a table with a header, or as JSON; tab-separated if piped. Nothing is cut: if
    the table is too wide, its last column continues on the next line, or each row is printed as a block."""
    if as_json:
        print(json.dumps(finite(rows), ensure_ascii=False))
        return
    console = Console(highlight=False)
    lines = [list(rows[0]), *([_text(value) for value in row.values()] for row in rows)] if rows else []
    if console.is_terminal and lines:
        console.print(_table(lines, console.width))
    else:
        for line in lines:
            print("\t".join(printable(cell).replace("\n", " ") for cell in line))
    _next(console, after)


def _table(lines: Sequence[Sequence[str]], width: int) -> Table:
    """The header and the rows below it; if they do not fit this width, each row as a block of its own."""
    header, *rows = lines
    *widths, last = (max(map(cell_len, column)) for column in zip(*lines, strict=True))
    if sum(widths) + 2 * len(widths) + min(last, LEAST) > width:
        cells = (zip(header, row, strict=True) for row in rows)
        return _pairs(("-", ", ".join(f"{name}: {text}" for name, text in row if text)) for row in cells)
    headers = [Column(plain(name), no_wrap=True) for name in header[:-1]]
    table = Table(*headers, Column(plain(header[-1]), overflow="fold"), box=None, pad_edge=False)
    for row in rows:
        table.add_row(*map(plain, row))
    return table


def sparkline(values: Sequence[float | None], width: int = 16) -> str:
    """A curve as a line of block characters, taller for larger values; a space for a missing value."""
    points = [values[round(n * (len(values) - 1) / (width - 1))] for n in range(width)]
    finite_values = [point for point in points if point is not None]
    low, high = (min(finite_values), max(finite_values)) if finite_values else (0.0, 0.0)
    step = (high - low) / (len(BLOCKS) - 1) or 1.0
    return "".join(" " if point is None else BLOCKS[round((point - low) / step)] for point in points)


def plain(text: str) -> str:
    """Escape markup and remove control characters, so that the console prints the text literally."""
    return printable(text).replace("[", r"\[")


def printable(text: str) -> str:
    return "".join(c if c.isprintable() or c == "\n" else "?" for c in text)


def finite(value: Any) -> Any:
    """Replace NaN and infinity by null, since JSON does not have them."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {str(name): finite(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return value


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return "\n".join(f"{name} = {_text(item)}" for name, item in value.items() if item not in ("", (), []))
    if isinstance(value, list | tuple):
        parts = [_text(item).replace("\n", ", ") for item in value]
        return ("\n" if any(isinstance(item, Mapping) for item in value) else ", ").join(parts)
    return str(value)


def free(path: Path, force: bool, reads: Sequence[Path] = ()) -> None:
    """Refuse an output file that exists or cannot be written, before the work starts. Call it after all other checks,
    so that it hides no other mistake. `reads` are the command's input files, which are never replaced."""
    if any(path.exists() and read.exists() and path.samefile(read) for read in reads):
        raise ConflictError(f"{path} is an input of this command; choose another name for its output.")
    if path.is_dir():
        raise ConflictError(f"{path} is a folder; give the name of a file.")
    if path.exists() and not force:
        raise ConflictError(f"{path} is there already; choose another name or give --force.")
    if not path.parent.is_dir():
        raise NotFoundError(f"There is no folder {str(path.parent)!r} for {path.name}.")
    _check_writable(path)


def _check_writable(path: Path) -> None:
    """Raise InputError if a file cannot be written. Tries an empty file, since permissions alone do not decide."""
    target = path.resolve()
    if target.exists() and not target.is_file():  # a pipe or a device, which is written in place
        if not os.access(target, os.W_OK):
            raise _not_writable(path, PermissionError(errno.EACCES, os.strerror(errno.EACCES)))
        return
    trial = target.with_name(f".{target.stem}.try{target.suffix}")
    try:
        trial.touch()
    except OSError as error:
        raise _not_writable(path, error) from None
    finally:
        with suppress(OSError):
            trial.unlink()


def _not_writable(path: Path, error: OSError) -> InputError:
    reason = os.strerror(error.errno) if error.errno else str(error)  # other libraries have their own texts
    return InputError(f"{path} cannot be written: {reason}.")


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file atomically: to a temporary file in the same folder, which is then renamed. A link is followed; a
    pipe or device is written directly."""
    target = path.resolve()
    if target.exists() and not target.is_file():
        try:
            write(target)
        except BrokenPipeError:
            raise
        except OSError as error:
            raise _not_writable(path, error) from None
        return
    part = target.with_name(f".{target.stem}.part{target.suffix}")
    try:
        write(part)
        part.replace(target)
    except OSError as error:
        raise _not_writable(path, error) from None
    finally:
        part.unlink(missing_ok=True)


def tell(step: "SimplifyStep") -> None:
    """Print one line about a simplification's progress to standard error, shortened to WIDTH characters."""
    line = f"{step.edges:>4} edges, held-out loss {step.loss:.4g}: {printable(step.stage)}"
    print(line if len(line) <= WIDTH else line[: WIDTH - 1] + "…", file=sys.stderr)


def warn(text: str) -> None:
    """Print one line to standard error, without the control characters that a file's contents may have."""
    print(f"kanserve: {printable(' '.join(text.split()))}", file=sys.stderr)
