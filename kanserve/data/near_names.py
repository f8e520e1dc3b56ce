"""Names in sentences: suggestions for misspelt ones, and shortened lists."""

from collections.abc import Iterable, Sequence
from difflib import get_close_matches

SHOWN = 3


def near(name: str, names: Iterable[str]) -> str:
    """A question for an error's text, "Did you mean 'price'? ", with the names like this one; empty if none is.

    Case does not count, and neither do spaces around a name, as a header after commas often has.
    """
    plain = {known.strip().lower(): known for known in names}
    found = [plain[match] for match in get_close_matches(name.strip().lower(), plain, SHOWN)]
    return f"Did you mean {' or '.join(map(repr, found))}? " if found else ""


def first_names(names: Sequence[object], most: int, rest: str = " and {} more") -> str:
    """The first `most` names, then `rest` with the number of the others, if there are any."""
    shown = ", ".join(map(str, names[:most]))
    return shown + rest.format(len(names) - most) if len(names) > most else shown
