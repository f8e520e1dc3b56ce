"""Two hundred names that would be code, comments, escapes, markup or paths if anybody printed them as they are."""

import keyword

import numpy as np

_WRITTEN = (
    *(
        "'",
        '"',
        "'''",
        '"""',
        "\\",
        "\\\\",
        '\\"',
        '"\\',
        "\\'",
        "\n",
        "\r",
        "\r\n",
        "\t",
        "\v",
        "\f",
        "\b",
        "\0",
        "\x7f",
    ),
    *("*/", "/*", "*/ /*", "//", "/**/", "*/ int main(void) { return 1; } /*", "??/", "??/\n", "??'", '??/"', "???/"),
    *('"); system("rm -rf /"); ("', 'x; system("rm")', "__import__('os').system('true')", "'; import os; '", "#error"),
    *("\n#error no", "\n#include <stdio.h>\n", "#define double float", "\n#undef NAN\n", '_Pragma("GCC error 1")'),
    *('"""\nraise SystemExit\n"""', "'''\nraise SystemExit\n'''", "\\\n", "\\N{BULLET}", "\\u0041", "\\x41", "\\101"),
    *("%s", "%n", "%d%d%d", "%%", "{}", "{0}", "{{", "}}", "{name}", "${x}", "$(ls)", "`ls`", "f'{1+1}'", "{x!r}"),
    *("$INFORMATION$", "$FORMULA$", "$AT$", "$NETWORKS$", "@", "@@", "@predict", "@N_IN", "@TABLE", "@PACKAGE_INIT@"),
    *("], DTYPE)", ") or True or (", "]]>", "<script>alert(1)</script>", "&amp;", "<!--", "-->", "```", "# title", "|"),
    *(
        "../../etc/passwd",
        "/dev/null",
        "C:\\con",
        "CON",
        "nul",
        ".",
        "..",
        "a/b",
        "-rf",
        "--help",
        "~",
        "*",
        "?",
        "[!a]",
    ),
    *("größe", "µm²", "日本語", "é", "e\u0301", "\u202eevil", "\u200b", "\u2028", "\u2029", "\ufeff", "\u00a0", "🙂"),
    *("x1", "v", "z", "y", "numpy", "np", "DTYPE", "predict", "_predict", "INPUTS", "main", "errno", "NAN", "INFINITY"),
    *("I", "E", "pi", "sin", "lambda", "None", "True", "__name__", "__init__", "__x", "_X", "0", "1e5", "-1", "0x10"),
    *(
        "a" * 10_000,
        '"' * 5_000,
        "*/" * 3_000,
        "\n" * 3_000,
        "(" * 2_000,
        " ",
        "  x  ",
        "-",
        "--",
        "ai.kanserve",
        "batch",
    ),
)
_C = (
    "int",
    "double",
    "static",
    "struct",
    "union",
    "goto",
    "inline",
    "restrict",
    "auto",
    "void",
    "sizeof",
    "class",
    "new",
    "this",
    "operator",
    "co_yield",
)
_PIECES = (*"\"'\\/*?#%{}$@;()", "\n", "??/", "*/", '"""', "\\n", "x", "int", "é", "\0", " ", "import os", "system(1)")


def names(count: int = 200) -> tuple[str, ...]:
    """`count` different names: those written by hand, reserved words, then random ones."""
    found = dict.fromkeys((*_WRITTEN, *_C, *keyword.kwlist[::3]))
    rng = np.random.default_rng(0)
    while len(found) < count:
        found["".join(_PIECES[n] for n in rng.integers(len(_PIECES), size=rng.integers(2, 12)))] = None
    return tuple(found)[:count]
