"""The names of variables in text, LaTeX and code. Names are untrusted data and never become code."""

import json
import keyword
import re
from collections.abc import Collection, Iterable

from kanserve.formula.expressions.tree import SPLINE_NAME
from kanserve.network.functions import FUNCTIONS
from kanserve.network.spellings import SPECIAL, SPELLINGS

LONGEST = 60  # characters of a name that are shown; C99 distinguishes the first 63

_GREEK = {
    *("alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa", "lambda", "mu"),
    *("nu", "xi", "pi", "rho", "sigma", "tau", "upsilon", "phi", "chi", "psi", "omega"),
    *("Gamma", "Delta", "Theta", "Lambda", "Xi", "Pi", "Sigma", "Upsilon", "Phi", "Psi", "Omega"),
}
_LATEX = {
    "\\": r"\textbackslash{}",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    **{character: "\\" + character for character in "{}$&#_%"},
}
_SPELLED = [*FUNCTIONS, *(text for language in ("c expression", "sympy") for text in SPELLINGS[language].values())]
_CALLED = {word for text in _SPELLED for word in re.findall(r"[A-Za-z_]\w*", text)} - {"x", "pow"} | {"besselj"}
# A gamma without a bracket after it is a variable: names of special functions are allowed as variables.
_TEXT_RESERVED = (_CALLED - {*SPECIAL}) | {"I", "E", "e", "pi", "oo", "inf", "nan", "zoo"}
# Keywords of C and C++, and names that standard headers may define as macros.
_C_RESERVED = """
    auto break case char const continue default do double else enum extern float for goto if inline int long register
    restrict return short signed sizeof static struct switch typedef union unsigned void volatile while
    asm bool catch class const_cast delete dynamic_cast explicit export false friend mutable namespace new operator
    private protected public reinterpret_cast static_cast template this throw true try typeid typename using virtual
    wchar_t and_eq bitand bitor compl not_eq or_eq xor xor_eq alignas alignof char8_t char16_t char32_t concept
    consteval constexpr constinit co_await co_return co_yield decltype noexcept nullptr requires static_assert
    thread_local I complex imaginary errno assert NULL EOF NAN INFINITY HUGE_VAL stdin stdout stderr linux unix
    near far min max main pow int8_t int16_t int32_t int64_t size_t offsetof va_list
"""
_CODE_RESERVED = _CALLED | {*keyword.kwlist, *keyword.softkwlist, "np", *_C_RESERVED.split()}


def reserve(word: str) -> None:
    """Forbid variable names that equal the name of a function added to the table."""
    _TEXT_RESERVED.add(word)
    _CODE_RESERVED.add(word)


def identifiers(names: Iterable[str], also: Collection[str] = ()) -> tuple[str, ...]:
    """A unique ASCII identifier for each name, valid in Python and C99. Valid names are kept; of others, letters,
    digits and underscores are. `also` are further reserved words in lower case; with these, no two identifiers differ
    only in case."""
    fold = str.lower if also else str
    kept: list[str] = []
    for position, name in enumerate(names, start=1):
        # No leading underscore, which C reserves.
        word = re.sub(r"[^A-Za-z0-9]+", "_", name)[:LONGEST].strip("_") if name != "_" else ""
        if _is_plain(name):
            word = name
        if not word or word[0].isdigit():
            word = f"x{position}" if not word else f"x_{word}"
        if word in _CODE_RESERVED or fold(word) in also or SPLINE_NAME.fullmatch(word):
            word += "_"
        base, count = word, 1
        while fold(word) in map(fold, kept):
            count += 1
            word = f"{base}_{count}"
        kept.append(word)
    return tuple(kept)


def text_name(name: str) -> str:
    """The name itself if it is a single word, else quoted and escaped."""
    word = re.fullmatch(r"[^\W\d]\w*", name)
    if word and len(name) <= LONGEST and name not in _TEXT_RESERVED and not SPLINE_NAME.fullmatch(name):
        return name
    # Printable characters stay; line breaks and bidirectional control characters are escaped.
    return json.dumps(_show(name), ensure_ascii=not name.isprintable())


def latex_name(name: str) -> str:
    """LaTeX for a name: a letter, Greek letter or word, with trailing digits as index; all else as escaped text."""
    parts = re.fullmatch(r"([A-Za-z]+)_?([0-9]*)", name)
    if parts is None or len(name) > LONGEST:
        return latex_text(name)
    letters, index = parts.groups()
    word = letters if len(letters) == 1 else "\\" + letters if letters in _GREEK else rf"\mathrm{{{letters}}}"
    return f"{word}_{{{index}}}" if index else word


def latex_text(text: str) -> str:
    """Escape any text for LaTeX, and cut it if it is long."""
    shown = (character if character.isprintable() else " " for character in _show(text))
    return r"\text{" + "".join(_LATEX.get(character, character) for character in shown) + "}"


def _is_plain(name: str) -> bool:
    return len(name) <= LONGEST and re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name) is not None


def _show(name: str) -> str:
    return name if len(name) <= LONGEST else name[: LONGEST - 1] + "…"
