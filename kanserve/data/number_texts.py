"""Parse numbers as people write them: "$175,349", "12 %", "1.234,5", "54 km", and marks for missing values."""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from kanserve.errors import DataError

_DATE = re.compile(
    r"\s*([0-9]{4}[-/.][0-9]{1,2}[-/.][0-9]{1,2}|[0-9]{1,2}[-/.][0-9]{1,2}[-/.][0-9]{4})"
    r"([T ]+[0-9]{1,2}:[0-9]{2}(:[0-9]{2}([.,][0-9]+)?)?\s*(Z|[+-][0-9]{2}:?[0-9]{2})?)?\s*"
)


def is_dates(texts: Collection[str]) -> bool:
    """Whether all texts are dates, with or without a time; False if there are none."""
    return bool(texts) and all(_DATE.fullmatch(text) for text in texts)


def date_refusal(name: object, what: str = "Column") -> DataError:
    """The error for a column of dates, with what to do about it."""
    return DataError(
        f"{what} {name!r} holds dates or times, which are no numbers. Leave it out by choosing the inputs (inputs=[..] "
        "or --input on the command line), or replace it by numbers, such as the year and the day of the year."
    )


Array = NDArray[np.float64]
Decimal = Literal[".", ","]
"""The decimal mark of numbers that are written as text."""

UNSAID = frozenset({"", "nan", "-nan"})
"""What every reader of tables takes as missing."""
MISSING = UNSAID | {"-", "--", "–", "—", "?", "na", "n/a", "#n/a", "#n/a n/a", "#na", "none", "null", "<na>"}
"""What files write among numbers where a value is missing, in lower case."""
CURRENCY = "[$€£¥₹₽₩₺₪₫₴₦]|EUR|USD|GBP|CHF|JPY"
_WORD = r"[^\W\d_][\w/²³·^.°]{0,11}"
UNIT = rf"°|[°µ]?{_WORD}(?: {_WORD}){{0,2}}"
"""A unit of up to three words after a number: km, m/s, °C, square metres. It must be the same in all rows, which the
letters of codes such as 12a and 7b are not."""
_SPACE = re.compile(r"\s")  # no-break and thin spaces too
_TEXT = re.compile(
    rf"(?P<bracket>\()?(?P<sign>[+\-−])?(?P<before>{CURRENCY})?\s*(?P<sign2>[+\-−])?"
    rf"(?P<digits>[0-9.,][0-9.,' ]*?(?:[eE][+-]?[0-9]+)?)\s*(?P<percent>%)?\s*"
    rf"(?P<after>{CURRENCY})?(?P<unit>{UNIT})?(?(bracket)\))"
)
_DIGITS = {
    decimal: re.compile(
        rf"(?P<whole>[0-9]+|[1-9][0-9]{{0,2}}(?P<thousands>[{group}' ])[0-9]{{3}}(?:(?P=thousands)[0-9]{{3}})*|)"
        rf"(?:{re.escape(decimal)}(?P<fraction>[0-9]*))?(?P<power>[eE][+-]?[0-9]+)?"
    )
    for decimal, group in ((".", ","), (",", "."))
}


class TableWarning(UserWarning):
    """Texts of a table were read as numbers or as missing values; the text says which, with an example.

    Examples
    --------
    Turn it into an error where every column should hold plain numbers:

    >>> import kanserve, pathlib, tempfile, warnings
    >>> from kanserve.data import TableWarning
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "rows.csv"
    >>> _ = path.write_text("size,price\\n1,$175\\n2,$1200\\n")
    >>> with warnings.catch_warnings():
    ...     warnings.simplefilter("error", TableWarning)
    ...     data = kanserve.read_table(path, "price")
    Traceback (most recent call last):
    kanserve.data.number_texts.TableWarning: column 'price': '$175' is read as 175
    """


@dataclass(frozen=True, eq=False)
class NumberTexts:
    """The numbers that a column of texts may represent, NaN if missing."""

    readings: Mapping[Decimal, Array]
    """By the decimal mark; both if every text allows both."""
    example: int
    """The row to show: the first that is not a plain number, if there is one where the readings differ; -1 of none."""
    plain: bool
    """Whether all are plain numbers with a decimal point, such as 1.234 or 1e-3."""
    marks: tuple[str, ...]
    """What stands for missing values, apart from empty fields and Python's nan."""

    @property
    def same(self) -> bool:
        """Whether both decimal marks are possible and give the same numbers, as for integers."""
        return self.certain is None and np.array_equal(self.readings["."], self.readings[","], equal_nan=True)

    @property
    def certain(self) -> Decimal | None:
        """The only decimal mark that fits; None if both do."""
        return next(iter(self.readings)) if len(self.readings) == 1 else None

    def chosen(self, decimal: Decimal | None, points: bool = True) -> Array | None:
        """The numbers with this decimal mark, or from the only reading; None if in doubt. Plain numbers are in doubt
        only if their points need not be decimal `points`."""
        if self.certain or self.same:
            return next(iter(self.readings.values()))
        if decimal is None and not (self.plain and points):
            return None
        return self.readings[decimal or "."]

    def describe(self, texts: Sequence[str | None], numbers: Array) -> str:
        """How the texts were read, with an example: "'12 %' is read as 0.12"; "" for plain numbers as in Python."""
        said, row = [], self.example
        if row < 0 and "." in self.readings and numbers is not self.readings["."] and not self.same:
            row = self._difference()
        if row >= 0:
            said.append(f"{texts[row]!r:.80} is read as {numbers[row]:.15g}")
        if self.marks:
            shown = ", ".join(map(repr, self.marks))
            said.append(f"{shown} {'is' if len(self.marks) == 1 else 'are'} read as missing")
        return ", ".join(said)

    def doubt(self, texts: Sequence[str | None]) -> str:
        """An example text with both numbers that it may represent."""
        row = self._difference()
        values = " or ".join(f"{numbers[row]:.15g}" for numbers in self.readings.values())
        return f"{texts[row]!r:.80} may be {values}"

    def _difference(self) -> int:
        point, comma = self.readings["."], self.readings[","]
        return int(np.flatnonzero((point != comma) & ~np.isnan(point))[0])


def number_texts(texts: Sequence[str | None]) -> NumberTexts | None:
    """The numbers in a column of texts; None if a text is not a number, or if all are empty. All texts must use one
    decimal mark, one thousands separator and one currency or unit, and either all or none a per cent sign."""
    readings: dict[Decimal, Array] = {".": np.full(len(texts), np.nan), ",": np.full(len(texts), np.nan)}
    thousands: dict[Decimal, set[str]] = {".": set(), ",": set()}
    units, marks, written = set[tuple[str, bool]](), dict[str, None](), list[int]()
    leading = False
    for row, text in enumerate(texts):
        plain = "" if text is None else _SPACE.sub(" ", text.strip()).replace("’", "'")
        if plain.lower() in MISSING:
            marks |= {} if plain.lower() in UNSAID else {plain: None}
            continue
        found = _parse_number(plain)
        if found is None:
            return None
        units.add((found.unit, found.percent))
        for decimal in tuple(readings):
            value = _value(found.digits, decimal, thousands[decimal])
            if value is None or len(thousands[decimal]) > 1:
                del readings[decimal]
            else:
                readings[decimal][row] = (-value if found.negative else value) / (100 if found.percent else 1)
        if not readings:
            return None
        leading = leading or found.leading
        written += [] if is_number(plain) else [row]
    named = {unit for unit, _ in units if unit}
    if not units or len(named) > 1 or len({percent for _, percent in units}) > 1:
        return None
    if leading and len(readings) == 2 and thousands["."] == {","}:
        # Money has no three decimals, and where its sign is before the number, the decimal mark is mostly a point.
        del readings[","]
    differ = [row for row in written if len(readings) == 2 and readings["."][row] != readings[","][row]]
    return NumberTexts(readings, (differ or written or [-1])[0], not written, tuple(marks))


@dataclass(frozen=True)
class _Written:
    """The parts of a written number; `leading` says whether a currency comes before the digits."""

    digits: str
    negative: bool
    percent: bool
    unit: str
    leading: bool


def _parse_number(text: str) -> _Written | None:
    """Parse a number into its parts; None if the text is not a number."""
    found = _TEXT.fullmatch(text)
    if found is None or (found["sign"] and found["sign2"]):
        return None
    if sum(found[part] is not None for part in ("before", "after", "unit")) > 1 or (found["percent"] and found["unit"]):
        return None
    negative = bool(found["bracket"]) or (found["sign"] or found["sign2"]) in ("-", "−")
    unit = found["before"] or found["after"] or found["unit"] or ""
    return _Written(found["digits"], negative, bool(found["percent"]), unit, bool(found["before"]))


def _value(digits: str, decimal: Decimal, thousands: set[str]) -> float | None:
    """The value of digits with this decimal mark, or None. The thousands separator found is added to `thousands`."""
    found = _DIGITS[decimal].fullmatch(digits)
    if found is None or not (found["whole"] or found["fraction"]):
        return None
    whole = found["whole"]
    if found["thousands"]:
        thousands.add(found["thousands"])
        whole = re.sub(r"[^0-9]", "", whole)
    return float(f"{whole or 0}.{found['fraction'] or 0}{found['power'] or ''}")


def is_number(text: str | None) -> bool:
    try:
        float(text or "")
    except ValueError:
        return False
    return True


def looks_numeric(text: str) -> bool:
    """Whether a text is a number in some notation, without a unit: "3 rooms" may be a category beside "studio"."""
    if is_number(text):
        return True
    found = _TEXT.fullmatch(_SPACE.sub(" ", text.strip()))
    return not (found and found["unit"]) and number_texts([text]) is not None


def mostly_numbers(texts: Collection[str]) -> bool:
    """Whether these distinct texts are numbers with typing mistakes rather than categories: one is a plain number, or
    over half are numbers in some notation."""
    return any(map(is_number, texts)) or 2 * sum(map(looks_numeric, texts)) > len(texts)
