"""Names that were perhaps meant."""

from collections.abc import Iterable
from difflib import get_close_matches

SHOWN = 3


def near(name: str, names: Iterable[str]) -> str:
    """A question for an error's text, "Did you mean 'price'? ", with the names like this one; empty if none is.

    Case does not count, and neither do spaces around a name, as a header after commas often has.
    """
    plain = {known.strip().lower(): known for known in names}
    found = [plain[match] for match in get_close_matches(name.strip().lower(), plain, SHOWN)]
    return f"Did you mean {' or '.join(map(repr, found))}? " if found else ""
