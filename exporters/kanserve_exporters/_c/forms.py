"""The single-file forms of the C source, made from the finished P.h and P.c."""

from collections.abc import Mapping

from kanserve.network.export_options import CForm

# The source turns contraction off for clang until the end of the file; an including file gets it back here.
_END = """
#ifdef __clang__
#pragma STDC FP_CONTRACT DEFAULT
#endif
"""


def formed(files: Mapping[str, str], prefix: str, form: CForm) -> dict[str, str]:
    """The files of a form, by path. "files" leaves everything as it is; in the others one file has both P.h and P.c.

    "single_file" is P.c, to be compiled or included once. "header_only" is P.h, with the definitions behind
    `#ifdef P_IMPLEMENTATION`. P_test.c and README.md are kept; build files, which name the missing file, are not.
    """
    if form == "files":
        return dict(files)
    header, code, test = files[f"{prefix}.h"], files[f"{prefix}.c"], files[f"{prefix}_test.c"]
    include = f'#include "{prefix}.h"\n'
    begin, found, rest = code.partition(include)
    if not (found and include in test):
        raise AssertionError(f"{prefix}.c and {prefix}_test.c must include {prefix}.h")
    if form == "single_file":
        whole = {f"{prefix}.c": begin + header + rest + _END}
        test = test.replace(include, f'#include "{prefix}.c"\n', 1)
    else:
        guard = (
            f"\n#if defined {prefix}_IMPLEMENTATION && !defined {prefix}_IMPLEMENTED\n#define {prefix}_IMPLEMENTED\n"
        )
        whole = {f"{prefix}.h": header + guard + rest + _END + "\n#endif\n"}
        test = test.replace(include, f"#define {prefix}_IMPLEMENTATION\n{include}", 1)
    return {**whole, f"{prefix}_test.c": test, "README.md": files["README.md"]}
