"""Names in sentences: suggestions for misspelt ones, and shortened lists."""

from collections.abc import Iterable, Sequence
from difflib import get_close_matches

SHOWN = 3


def near(name: str, names: Iterable[str]) -> str:
    """A question for an error, "Did you mean 'price'? ", with the most similar name; "" if there is none. Case and
    surrounding spaces are ignored."""
    plain = {known.strip().lower(): known for known in names}
    found = [plain[match] for match in get_close_matches(name.strip().lower(), plain, SHOWN)]
    return f"Did you mean {' or '.join(map(repr, found))}? " if found else ""


def first_names(names: Sequence[object], most: int, rest: str = " and {} more") -> str:
    """The first `most` names, then `rest` with the number of the others, if there are any."""
    shown = ", ".join(map(str, names[:most]))
    return shown + rest.format(len(names) - most) if len(names) > most else shown
