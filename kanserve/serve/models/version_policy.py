"""Which versions of a model are served: all, the newest, or some."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from kanserve.artifact.naming_rules import check_version
from kanserve.errors import InputError

_NEWEST = re.compile(r"latest(?::([1-9][0-9]{0,8}))?")


@dataclass(frozen=True)
class Policy:
    """`newest`: this many of the newest versions that can be loaded; `numbers`: these versions; neither: all."""

    newest: int | None = None
    numbers: frozenset[int] | None = None

    def candidates(self, there: Iterable[int]) -> Iterator[int]:
        """The versions to try, the newest first; of those that load, the first `newest` are served."""
        yield from (v for v in sorted(there, reverse=True) if self.numbers is None or v in self.numbers)


def policy(text: str) -> Policy:
    """The policy for a text such as "all", "latest", "latest:2" or "1,3"; InputError for an invalid one."""
    if text == "all":
        return Policy()
    if found := _NEWEST.fullmatch(text):
        return Policy(newest=int(found[1] or 1))
    try:
        return Policy(numbers=frozenset(check_version(word.strip()) for word in text.split(",")))
    except InputError:
        raise InputError(f"Versions are all, latest, latest:N, or numbers as in 1,3; got {text!r:.80}.") from None
