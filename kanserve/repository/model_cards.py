"""Model cards: what a person wants to know of a published model, as Markdown with a picture beside it.

    <root>/<name>/card-<version>.md
    <root>/<name>/card-<version>.svg

A card lies beside the version, not in it: a version holds only files that its manifest lists, and people fill in what
a card leaves open. Nothing reads a card, and it can be made again from the artifact at any time. Names, units and notes
come from tables and are escaped: they show as they are and never become Markdown or HTML.
"""

import math
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from kanserve import formula
from kanserve.artifact import directory, format
from kanserve.artifact.format import Artifact
from kanserve.artifact.manifest import INTERVALS, Manifest
from kanserve.errors import FormatError, KanserveError
from kanserve.formula import Formula
from kanserve.formula.constants import uncertainty_report
from kanserve.network.kan import Kan, Variable
from kanserve.plot.network_picture import scene_of
from kanserve.plot.network_view import NetworkView
from kanserve.plot.svg import svg

INTENDED_USE = "intended use"  # a note of the provenance that fills this section
LIMITS = "limits"  # another
_NOTE_CHARACTERS = 1000  # of a note that is a paragraph of its own: all of the longest that a manifest may have
# What Markdown reads as a mark anywhere, at the start of a line, and in an address.
_SPECIAL = re.compile(r"[\\`*_\[\]#|<>&~$]|^[-+=](?=[-+= ]|$)|^\d{1,9}(?=[.)] )|:(?=//)|(?<=www)\.")
_CHARACTERS = 120  # of a name or note in a table
_FORMULA_CHARACTERS = 5000
_ROWS = 40  # of a table
_WIDTH = 760.0  # of the picture, in pixels


@dataclass(frozen=True)
class ModelCard:
    """A model card, as `kanserve.model_card` makes it.

    Parameters
    ----------
    text : str
        Markdown that shows the picture.
    picture : str
        An SVG; empty where the network is finite nowhere.
    stem : str
        The name of both files, without its end.

    Examples
    --------
    >>> import kanserve
    >>> kan = kanserve.from_formula("2*x + 1", ranges={"x": (0, 1)})
    >>> card = kanserve.model_card(kanserve.compile(kan, ["numpy_source"], name="line"))
    >>> card.text.splitlines()[0]
    '# line'
    """

    text: str
    picture: str
    stem: str = "card"

    def __str__(self) -> str:
        return self.text

    def _repr_markdown_(self) -> str:
        return self.text.replace(_show(self.stem), self.picture)

    def files(self) -> dict[str, bytes]:
        """The two files of the card.

        Returns
        -------
        dict of str to bytes
            By their names, the picture first; without one where the network is finite nowhere.

        Examples
        --------
        >>> import kanserve, tempfile
        >>> kan = kanserve.from_formula("2*x + 1", ranges={"x": (0, 1)})
        >>> card = kanserve.model_card(kanserve.compile(kan, ["numpy_source"], name="line"))
        >>> list(card.files())
        ['card.svg', 'card.md']
        """
        made = {f"{self.stem}.svg": self.picture.encode()} if self.picture else {}
        return {**made, f"{self.stem}.md": self.text.encode()}

    def save(self, folder: str | os.PathLike[str]) -> tuple[Path, ...]:
        """Write the files of the card, each whole or not at all.

        Parameters
        ----------
        folder : str or path
            Where; a card that is there is replaced.

        Returns
        -------
        tuple of Path
            The files written.

        Examples
        --------
        >>> import kanserve, tempfile
        >>> kan = kanserve.from_formula("2*x + 1", ranges={"x": (0, 1)})
        >>> card = kanserve.model_card(kanserve.compile(kan, ["numpy_source"], name="line"))
        >>> [path.name for path in card.save(tempfile.mkdtemp())]
        ['card.svg', 'card.md']
        """
        directory.put_files(Path(folder), self.files(), Path(folder))
        return tuple(Path(folder, name) for name in self.files())


def card_of(artifact: Artifact, name: str = "", version: int | None = None, *, signed: bool = False) -> ModelCard:
    """The card of an artifact as published under this name (by default its own) and version."""
    stem = "card" if version is None else f"card-{version}"
    picture = _picture(artifact.kan())
    signed = signed or artifact.signature is not None
    parts = _parts(artifact, name or artifact.manifest.name, version, _show(stem) if picture else "", signed)
    return ModelCard("\n\n".join(part for part in parts if part) + "\n", picture, stem)


def _show(stem: str) -> str:
    return f"![The network: each edge with its curve]({stem}.svg)"


def _picture(kan: Kan) -> str:
    """The network as SVG; "" if it is finite nowhere."""
    try:
        return svg(scene_of(NetworkView(kan), width=_WIDTH)) + "\n"
    except KanserveError:
        return ""


def _parts(artifact: Artifact, name: str, version: int | None, picture: str, signed: bool) -> Iterator[str]:
    manifest, kan = artifact.manifest, artifact.kan()
    yield f"# {_plain(name)}" + (f", version {version}" if version is not None else "")
    yield _summary(artifact, kan)
    yield "## Formula"
    yield from _formulas(artifact)
    yield picture
    yield "## Inputs and outputs"
    yield _variables(manifest)
    yield (
        "Outside the training range the network extrapolates, and the server flags such rows. A row in which an input "
        "is missing that may not be (NaN) gets no answer."
    )
    yield "## Metrics"
    yield from _metrics(manifest)
    yield "## Intended use"
    yield _note(
        manifest, INTENDED_USE, "*To fill in: what the model is for, who may rely on it, and what it is not for.*"
    )
    yield "## Limits"
    yield _note(manifest, LIMITS, "*To fill in: where the data are thin, and what was never measured.*")
    yield "## Provenance"
    yield from _provenance(artifact, signed)
    yield "## Use"
    where = f'"models", "{name}"' + (f", {version}" if version is not None else "")
    yield (
        f"```python\nimport kanserve\n\nmodel = kanserve.load_model({where})\n"
        f"model.predict(x)  # x: {_columns(kan)}\n```"
    )


def _summary(artifact: Artifact, kan: Kan) -> str:
    if kan.symbolic:
        kind = "every edge is a named function, so that the formula is the network"
    else:
        splines = sum(int(layer.spline_mask.sum()) for layer in kan.layers)
        kind = f"{splines} {'edge is a spline' if splines == 1 else 'edges are splines'}"
    task = f"It chooses one of {len(kan.classes)} classes. " if kan.classes else ""
    shape = "-".join(map(str, kan.shape))
    return (
        f"A Kolmogorov-Arnold network of shape {shape} with {kan.edges} {'edge' if kan.edges == 1 else 'edges'}: "
        f"{kind}. {task}It computes in {artifact.manifest.precision} precision, and is here as: "
        f"{', '.join(artifact.backends) or 'the network alone'}."
    )


def _formulas(artifact: Artifact) -> Iterator[str]:
    try:
        written = [law for law in formula.from_json(artifact.formulas) if law.text]
    except FormatError:  # of another maker
        written = list(formula.formulas(artifact.kan(), limit=_FORMULA_CHARACTERS, strict=False))
    if not written:
        yield "The formula of this network is too long to be read; `kanserve formula` writes it."
    for law in written:
        yield _indent(_cut(f"{law.name} = {law.text}", _FORMULA_CHARACTERS))
        lines = [f"- where {_plain(line)}" for line in law.definitions]
        lines += [f"- finite where {_plain(line)}" for line in law.domain]
        yield "\n".join(lines[:_ROWS])
    if not all(law.closed_form for law in written):
        yield "`s_l_j_i(u)` is the spline on the edge from input i to sum j of layer l."
    yield from _constants(written, artifact)


def _constants(written: Sequence[Formula], artifact: Artifact) -> Iterator[str]:
    """The standard errors of the constants, if the rows determined them."""
    found = [uncertainty_report.from_json(report) for report in artifact.evidence]
    rows = [
        (_plain(law.name), _plain(constant.text), _figure(constant.standard_error, "not determined"))
        for law, evidence in zip(written, found, strict=False)
        for constant in evidence.constants
        if constant.standard_error
    ]
    if rows:
        yield _table(("output", "constant", "standard error"), rows)


def _variables(manifest: Manifest) -> str:
    def line(kind: str, variable: Variable) -> tuple[str, ...]:
        allowed = ", ".join(variable.categories) if variable.categories else ""
        span = allowed or f"{_figure(variable.low)} to {_figure(variable.high)}"
        missing = "" if kind == "output" else "no" if variable.fill_value is None else "yes"
        return kind, _plain(variable.name), _plain(variable.unit), _plain(span), missing

    rows = [line("input", variable) for variable in manifest.inputs] + [
        line("output", variable) for variable in manifest.outputs
    ]
    return _table(("", "name", "unit", "training range", "may be missing"), rows)


def _metrics(manifest: Manifest) -> Iterator[str]:
    if (found := manifest.metrics) is None:
        yield "Not measured: compile or publish the model with data that it has not seen (`data=`, `--data`)."
        return
    yield f"Measured on the {found.rows} rows with which it was compiled."
    rows = [
        (_plain(variable.name), *map(_figure, values))
        for variable, *values in zip(manifest.outputs, found.r2, found.rmse, found.max_error, strict=True)
    ]
    yield _table(("output", "R²", "RMSE", "largest error"), rows)
    if found.accuracy is not None:
        yield f"Accuracy: {found.accuracy:.4f}."
    if INTERVALS in manifest.provenance:
        yield f"Prediction intervals: {_plain(manifest.provenance[INTERVALS], _NOTE_CHARACTERS)}."
    if manifest.intervals:
        scaled = any(interval.scales for interval in manifest.intervals)
        where = ". Half widths depend on the answer; these are their means" if scaled else ""
        yield f"A new value is within the answer ± half width with at least this probability{where}:"
        widths = [
            (f"{interval.percent} %", _plain(output.name), _figure(width))
            for interval in manifest.intervals
            for output, width in zip(manifest.outputs, interval.half_widths, strict=True)
        ]
        yield _table(("probability", "output", "half width"), widths)


def _provenance(artifact: Artifact, signed: bool) -> Iterator[str]:
    shown_above = (INTENDED_USE, LIMITS, INTERVALS)
    notes = {key: text for key, text in artifact.manifest.provenance.items() if key not in shown_above}
    rows = [(_plain(key), _plain(text)) for key, text in sorted(notes.items())]
    yield _table(
        ("", ""), [*rows, ("compiled as", _plain(artifact.manifest.name)), ("signed", "yes" if signed else "no")]
    )
    checksum = format.dumps(artifact.manifest).split(b'"', 4)[3].decode()
    yield f"SHA-256 of its manifest, which has that of every file:\n\n{_indent(checksum)}"
    files = sorted(artifact.manifest.files.items())
    yield _table(("file", "bytes"), [(_plain(path), f"{entry.size:,}") for path, entry in files])


def _note(manifest: Manifest, key: str, otherwise: str) -> str:
    text = manifest.provenance.get(key, "")
    return "\n\n".join(_plain(line, len(line)) for line in text.splitlines() if line.strip()) or otherwise


def _columns(kan: Kan) -> str:
    names = [re.sub(r"[^\w .-]", "?", variable.name) for variable in kan.inputs]
    return _cut(f"{len(names)} {'column' if len(names) == 1 else 'columns'}, {', '.join(names)}", _CHARACTERS)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines: Iterable[Sequence[str]] = (head, ["---"] * len(head), *rows[:_ROWS])
    rest = f"\n\nand {len(rows) - _ROWS} more" if len(rows) > _ROWS else ""
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + rest


def _indent(text: str) -> str:
    """Format text as a one-line indented Markdown code block, which no character in the text can close."""
    return "    " + " ".join(text.split())


def _plain(text: str, longest: int = _CHARACTERS) -> str:
    """Untrusted text on one line, with every character escaped that Markdown or HTML would interpret."""
    line = _cut(" ".join(text.split()), longest)
    return _SPECIAL.sub(_escape, line)


def _escape(found: re.Match[str]) -> str:
    if found[0].isdigit():  # of a list
        return found[0] + "\\"
    return {"<": "&lt;", "&": "&amp;"}.get(found[0], "\\" + found[0])


def _cut(text: str, longest: int) -> str:
    return text if len(text) <= longest else text[: longest - 1] + "…"


def _figure(value: float | None, otherwise: str = "unknown") -> str:
    return otherwise if value is None or not math.isfinite(value) else f"{value:.5g}"
