"""What the studio was opened with: a network or a table, the rows to judge it on, and where it is published."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from kanserve import repository
from kanserve.artifact import directory
from kanserve.artifact.naming_rules import MANIFEST, check_name
from kanserve.data.dataset import Dataset
from kanserve.errors import InputError, NotFoundError
from kanserve.network import serialization
from kanserve.network.kan import Kan
from kanserve.network.kan_methods import likeliest
from kanserve.network.training_range import sample
from kanserve.simplification.activations import answers

DRAWN_ROWS = 1000  # rows drawn from the training range in place of missing data
FEWEST_DRAWN_ROWS = 64
DRAWN_VALUES = 5_000_000  # edge values of a layer on these rows: fewer rows are drawn for a large network


@dataclass(frozen=True, eq=False)
class Opened:
    """A network, or a table to fit one to (`kan` is None then, and `data` the table).

    `data` are the rows of the session, `unseen` further rows that no fit sees. `drawn`: there were no data, so rows
    were drawn from the training range, and their answers are the network's own. `name` and `version` are those of the
    model in `repository`; version 0: not published. With neither network nor data the page asks for a table.
    """

    kan: Kan | None
    title: str
    data: Dataset | None = None
    unseen: Dataset | None = None
    drawn: bool = False
    repository: str = ""
    name: str = ""
    version: int = 0
    hidden: tuple[int, ...] = ()
    target: str = ""
    """The column of the table that is learned, if it is one."""
    table: Path | None = None
    """The file of the table, whose columns the page can choose again."""
    load: str = ""
    """Python that loads the network, for a script."""

    def with_rows(self) -> "Opened":
        """The same with rows where there were none."""
        if self.data is not None or self.kan is None:
            return self
        return replace(self, data=draw_rows(self.kan), drawn=True)


def open_network(place: str, name: str = "") -> Opened:
    """The network of a file, of a version's folder, or the newest version of a model of a repository.

    NotFoundError, or InputError where a repository has several models and `name` says none.
    """
    path = Path(place)
    if path.is_file():
        return Opened(serialization.load(path), path.stem, load=f"kanserve.load({str(path)!r})")
    if (path / MANIFEST).exists():
        artifact = directory.read(path)
        found = artifact.manifest.name
        known = path.parent.name == found and path.name.isdigit()
        root, number = (str(path.parent.parent), int(path.name)) if known else ("", 0)
        return Opened(artifact.kan(), found, repository=root, name=found, version=number, load=_load(path))
    if not repository.is_remote(place):
        if not path.is_dir():
            raise NotFoundError(f"No file or folder is at {place!r}; give a network, a repository or a table.")
        if any((version / MANIFEST).exists() for version in path.iterdir() if version.name.isdigit()):
            return open_network(str(path.parent), path.name)
    names = repository.names(place)
    if not names:
        raise NotFoundError(f"{place!r} holds no model; 'kanserve publish' puts one there.")
    if not name and len(names) > 1:
        raise InputError(f"{place} has {len(names)} models: {', '.join(names)}. Say which with --name.")
    chosen = check_name(name or names[0])
    version = repository.versions(place, chosen)[-1]
    kan = repository.read(place, chosen, version).kan()
    at = Path(place, chosen, str(version)) if not repository.is_remote(place) else place
    return Opened(kan, chosen, repository=place, name=chosen, version=version, load=_load(at))


def _load(folder: Path | str) -> str:
    return f"kanserve.load_model({str(folder)!r}).kan"


def open_table(data: Dataset, title: str, hidden: Sequence[int]) -> Opened:
    """A table to which a network is fitted first."""
    return Opened(None, title, data, hidden=tuple(hidden))


def choose_table(path: Path | None = None) -> Opened:
    """A page that begins with a table: this one, or one that is dropped on it."""
    return Opened(None, path.stem if path else "", table=path)


def draw_rows(kan: Kan) -> Dataset:
    """Rows from the training range, with the network's own answers. InputError if it is finite nowhere there."""
    largest = max(layer.subnodes * layer.inputs for layer in kan.layers)
    x = sample(kan, max(FEWEST_DRAWN_ROWS, min(DRAWN_ROWS, DRAWN_VALUES // largest)))
    given = answers(kan, x)
    fine = np.isfinite(given).all(axis=1)
    x, given = x[fine], given[fine]
    if not len(x):
        raise InputError("The network is finite nowhere in its training range, so there is nothing to show.")
    names = tuple(variable.name for variable in kan.inputs)
    if kan.classes:
        return Dataset(x, np.asarray(likeliest(kan.classes, given)), names, classes=kan.classes)
    return Dataset(x, given, names, tuple(variable.name for variable in kan.outputs))
