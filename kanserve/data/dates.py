"""Dates among the inputs, which no network takes."""

import re
from collections.abc import Collection

from kanserve.errors import DataError

_DATE = re.compile(
    r"\s*([0-9]{4}[-/.][0-9]{1,2}[-/.][0-9]{1,2}|[0-9]{1,2}[-/.][0-9]{1,2}[-/.][0-9]{4})"
    r"([T ]+[0-9]{1,2}:[0-9]{2}(:[0-9]{2}([.,][0-9]+)?)?\s*(Z|[+-][0-9]{2}:?[0-9]{2})?)?\s*"
)


def is_dates(texts: Collection[str]) -> bool:
    """Whether there are texts, and all are dates, with a time or without."""
    return bool(texts) and all(_DATE.fullmatch(text) for text in texts)


def date_refusal(name: object, what: str = "Column") -> DataError:
    """The error of a column of dates, with the ways out."""
    return DataError(
        f"{what} {name!r} holds dates or times, which are no numbers. Leave it out by choosing the inputs (inputs=[..] "
        "or --input on the command line), or replace it by numbers, such as the year and the day of the year."
    )
