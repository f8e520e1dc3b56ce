"""What generated source says about a network: ASCII identifiers without conflicts, and its formulas as comments."""

import keyword
import re
import sys

from kanserve.formula import formulas
from kanserve.network.kan import Kan

_C = """auto break case char const continue default do double else enum extern float for goto if inline int long
register restrict return short signed sizeof static struct switch typedef union unsigned void volatile while asm
fortran alignas alignof bool constexpr false nullptr static_assert thread_local true typeof typeof_unqual"""
_CPP = """and and_eq bitand bitor catch char8_t char16_t char32_t class compl concept consteval constinit const_cast
co_await co_return co_yield decltype delete dynamic_cast explicit export friend module import mutable namespace new
noexcept not not_eq operator or or_eq override final private protected public reinterpret_cast requires
static_cast template this throw try typeid typename using virtual wchar_t xor xor_eq contract_assert"""
# Macros of compilers and standard headers.
_MACROS = "linux unix vax sun sparc mips i386 arm hpux near far huge interrupt min max nan null infinity eof"
# A library lib<id>.a would shadow the system's; build systems have targets of these names.
_LIBRARIES = "c m dl rt pthread util gcc gcov stdc atomic crypt resolv socket"
_TARGETS = """all all_build clean continuous depend edit_cache experimental help install list_install_components nightly
package package_source preinstall rebuild_cache run_tests test zero_check"""
# <id>.h would shadow the header of the same name.
_HEADERS = """assert complex ctype errno fenv float inttypes iso646 limits locale math memory setjmp signal stdalign
stdarg stdatomic stdbit stdbool stddef stdint stdio stdlib stdnoreturn string strings tgmath threads time uchar
unistd wchar wctype main std"""
# On Windows these names are devices, with any file extension.
_DEVICES = " ".join(["aux con nul prn", *(f"com{n} lpt{n}" for n in range(10))])
_C_RESERVED = frozenset(f"{_C} {_CPP} {_MACROS} {_LIBRARIES} {_TARGETS} {_HEADERS} {_DEVICES}".split())
# <id>.py would shadow the module of the same name, in NumPy's own imports too.
_PYTHON_RESERVED = frozenset(
    {*keyword.kwlist, *keyword.softkwlist, *sys.stdlib_module_names, "numpy", "np", *_DEVICES.split()}
)


def c_identifier(name: str) -> str:
    """A prefix for C and C++ identifiers and file names that resembles `name`."""
    return _identifier(name, _C_RESERVED)


def module_name(name: str) -> str:
    """A Python module name that resembles `name`."""
    return _identifier(name, _PYTHON_RESERVED)


def _identifier(name: str, reserved: frozenset[str]) -> str:
    # Only single underscores, and none at the ends: others are reserved in C++.
    words = [word for word in re.split(r"[^A-Za-z0-9]+", name) if word]
    text = "_".join(words)[:63].rstrip("_")
    if not text or text.lower() in reserved or text in reserved:
        text = f"{text}_model".lstrip("_")
    return f"model_{text}" if text[0].isdigit() else text


MOST_EDGES = 200  # more give an unreadable text
MOST_CHARACTERS = 4000  # so do more than two screens


def formula_lines(kan: Kan) -> list[str]:
    """One line per output, with numbers rounded to 6 digits; names are escaped as in a Python string."""
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
