"""The formulas of a network as lines of ASCII, for the documentation of exports."""

from weakref import WeakKeyDictionary

from kanserve.formula import formulas
from kanserve.network.kan import Kan

MOST_EDGES = 200  # more give an unreadable text
MOST_CHARACTERS = 4000  # so do more than two screens

# Cached, since all formats have the same lines, and computing them takes half the time of an export.
_known: WeakKeyDictionary[Kan, tuple[str, ...]] = WeakKeyDictionary()


def formula_lines(kan: Kan) -> list[str]:
    """One line per output, numbers rounded to 6 digits; names are escaped as in a Python string."""
    if kan not in _known:
        _known[kan] = tuple(_write(kan))
    return list(_known[kan])


def _write(kan: Kan) -> list[str]:
    if kan.edges > MOST_EDGES:
        return [f"(a formula of {kan.edges} edges: 'kanserve formula' prints it)"]
    try:
        found = formulas(kan, strict=False)
    except Exception as error:  # documentation must never make an export fail
        return [f"(not stated: {_ascii(str(error))})"]
    longest = max(len(law.text) for law in found)
    if longest > MOST_CHARACTERS:
        return [f"(a formula of {kan.edges} edges and {longest} characters: 'kanserve formula' prints it)"]
    lines = [f"{_ascii(law.name)} = {_ascii(law.text)}" for law in found]
    splines = (
        [] if all(law.closed_form for law in found) else ["(s_l_j_i is the spline from input i to sum j of layer l)"]
    )
    definitions = sorted({line for law in found for line in law.definitions})
    return [*lines, *map(_ascii, definitions), *splines]


def _ascii(text: str) -> str:
    return text.encode("unicode_escape").decode("ascii")
