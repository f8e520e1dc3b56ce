"""The sources of one library for all x86-64 processors, with run-time dispatch. The source is compiled for each
level of the instruction set, with suffixed public functions; a dispatcher with the public names checks the processor
when the library is loaded. Large tables are compiled once, with the highest level, because wide vectors read beyond
their end."""

import re
from dataclasses import dataclass

LARGE = 16_384  # characters of a shared table; smaller ones stay in each level, so the compiler can use their values


@dataclass(frozen=True)
class Level:
    """One level of x86-64: the suffix of its functions, and its options."""

    suffix: str
    options: tuple[str, ...]


LEVELS = (
    Level("v1", ("-march=x86-64",)),
    Level("v3", ("-march=x86-64-v3",)),
    Level("v4", ("-march=x86-64-v4", "-mprefer-vector-width=512")),
)

# The CPUID bits that define the levels in the psABI: registers ecx of leaf 1, ebx of leaf 7, ecx of leaf 0x80000001,
# and the registers that the operating system saves. Not __builtin_cpu_supports: ziglang's always returns 0.
_DISPATCHER = """\
#include "P.h"

#include <cpuid.h>

DECLARATIONS
static int level = 1;

__attribute__((constructor)) static void choose(void)
{
    const unsigned v3_1 = 0x38D83201u, v3_7 = 0x128u, v4_7 = 0xD0030000u;
    unsigned a, b, c, d, one, seven, saved, high;
    if (__get_cpuid_max(0, 0) < 7 || __get_cpuid_max(0x80000000u, 0) < 0x80000001u) return;
    __cpuid(1, a, b, one, d);
    if ((one & v3_1) != v3_1) return;
    __asm__ volatile("xgetbv" : "=a"(saved), "=d"(high) : "c"(0));
    __cpuid_count(7, 0, a, seven, c, d);
    __cpuid(0x80000001u, a, b, c, d);
    if ((saved & 0x06u) != 0x06u || (seven & v3_7) != v3_7 || !(c & 0x20u)) return;
    level = (saved & 0xE6u) == 0xE6u && (seven & v4_7) == v4_7 ? 4 : 3;
}
"""

# A function of the header: its type, its name without the prefix, its parameters.
_PROTOTYPE = r"^((?:const )?\w+ \*?)P_(\w+)\(([^()]*)\);"
_TABLE = r"^static (P_TABLE const \w+ P_\w+\[[^\]]+\]) = \{[^{}]{%d,}\};"


def public(header: str, prefix: str) -> list[tuple[str, str, str]]:
    """The functions that a header declares: return type, name without the prefix, and parameters."""
    return re.findall(_add_prefix(_PROTOTYPE, prefix), header, re.MULTILINE)


def dispatcher(header: str, prefix: str) -> str:
    """The source of the public functions, each of which calls the function of the best level."""
    functions = public(header, prefix)
    declarations = "".join(
        f"{kind}{prefix}_{name}_{level.suffix}({parameters});\n"
        for kind, name, parameters in functions
        for level in LEVELS
    )
    text = _DISPATCHER.replace("P.h", f"{prefix}.h").replace("DECLARATIONS\n", declarations)
    for kind, name, parameters in functions:
        given = ", ".join(_name(word) for word in parameters.split(",") if word.strip() != "void")
        best = "".join(
            f"    if (level >= {level.suffix[1:]}) return {prefix}_{name}_{level.suffix}({given});\n"
            for level in reversed(LEVELS[1:])
        )
        last = f"    return {prefix}_{name}_{LEVELS[0].suffix}({given});\n"
        text += f"\n{kind}{prefix}_{name}({parameters})\n{{\n{best}{last}}}\n"
    return text


def rename(header: str, prefix: str, level: Level) -> list[str]:
    """The compiler options that rename the public functions of a level."""
    return [f"-D{prefix}_{name}={prefix}_{name}_{level.suffix}" for _, name, _ in public(header, prefix)]


def defining(source: str, prefix: str) -> str:
    """The source with its large tables exported."""
    return re.sub(
        _add_prefix(_TABLE % LARGE, prefix),
        lambda found: str(found[0]).removeprefix("static "),
        source,
        flags=re.MULTILINE,
    )


def declaring(source: str, prefix: str) -> str:
    """The C source with its large tables declared `extern`, not defined. `prefix` begins the tables' names."""
    return re.sub(_add_prefix(_TABLE % LARGE, prefix), r"extern \1;", source, flags=re.MULTILINE)


def _add_prefix(pattern: str, prefix: str) -> str:
    return pattern.replace("P_", f"{prefix}_")


def _name(parameter: str) -> str:
    """The name in a parameter such as "const P_real x[P_N_IN]"."""
    return str(re.findall(r"\w+", parameter.split("[")[0])[-1])
