"""Compile the kernels beside their sources: `python kanserve/native/build.py`, and the hook of the package's build.

It imports nothing of kanserve, as it runs before the package is installed. One build runs on every processor of its
kind; on x86-64 there are two more for newer processors, and `kanserve.native` loads the best one that the processor can
run. `here=True` (`--here` in the shell, and an editable install) compiles only that one, in a third of the time.

If the headers of nghttp2, OpenSSL and zlib are found (Debian's libnghttp2-dev, libssl-dev and zlib1g-dev), server/ is
built too: the server's native transport, which is the same for all processors. It serves the HTTP port too if those of
llhttp and yyjson are found (libllhttp-dev and libyyjson-dev). `missing()` says which of the five are not there.

If onnxruntime's C header is found too (Debian's libonnxruntime-dev, or the folder in the environment variable
KANSERVE_ONNXRUNTIME_HEADERS), the operators in onnxruntime/ are built in the same way.

Published wheels are built for a platform tag instead of for this machine: with the environment variable
KANSERVE_PLATFORM=manylinux_2_17_aarch64, ziglang compiles for that processor and against that version of glibc. The
libraries of server/ are then linked into it, from Debian's archives for that processor, which are read from / or from
the folder in the environment variable KANSERVE_SERVER_LIBRARIES. Debian 13 has no archive of yyjson: a copy of its
shared library is put beside ours.
"""

import ctypes
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

FOLDER = Path(__file__).parent
# NaN must be preserved, so no -ffinite-math-only; without the others, loops with comparisons are not vectorised.
LOOPS = ("-O3", "-ffp-contract=fast", "-fno-math-errno", "-fno-trapping-math", "-fno-signed-zeros")
FLAGS = ("-std=c11", "-fPIC", "-shared", "-pthread", "-fno-semantic-interposition", *LOOPS)
# onnxruntime unloads a library with the session that loaded it, while threads of another may still run its code.
OPERATOR_FLAGS = (
    "-fvisibility=hidden",
    *(("-Wl,-z,nodelete",) if sys.platform == "linux" or os.environ.get("KANSERVE_PLATFORM") else ()),
)
HEADER = "onnxruntime_c_api.h"
SERVER_FLAGS = ("-std=c11", "-O2", "-fPIC", "-shared", "-pthread", "-fno-semantic-interposition", "-Wl,--no-undefined")
SERVER_LIBRARIES = ("-lnghttp2", "-lz", "-lm")
TLS_LIBRARIES = ("-lssl", "-lcrypto")
HTTP1_LIBRARIES = ("-lllhttp", "-lyyjson")
# Debian's packages that server/ and server/http1 are compiled with, and a header of each.
SERVER_PACKAGES = {"libnghttp2-dev": "nghttp2/nghttp2.h", "libssl-dev": "openssl/ssl.h", "zlib1g-dev": "zlib.h"}
HTTP1_PACKAGES = {"libllhttp-dev": "llhttp.h", "libyyjson-dev": "yyjson.h"}
SERVER_HEADERS = tuple(SERVER_PACKAGES.values())
HTTP1_HEADERS = tuple(HTTP1_PACKAGES.values())
INCLUDES = ("/usr/local/include", "/usr/include")  # where compilers look, after the folders in CPATH
# server/ calls nghttp2_submit_response2 and nghttp2_session_mem_recv2, which are new in 1.62. Debian 12 has 1.52.
NGHTTP2 = (1, 62)
# Each of Debian's packages whose archives a wheel's server is linked with; zstd compresses certificates for OpenSSL.
CARRIED = {"nghttp2": "libnghttp2-dev", "openssl": "libssl-dev", "zlib": "zlib1g-dev", "zstd": "libzstd-dev"}
CARRIED_FOR_HTTP1 = {"llhttp": "libllhttp-dev", "yyjson": "libyyjson-dev"}
ARCHIVES = {  # what a wheel's server is linked with of each package
    "libnghttp2-dev": ("nghttp2",),
    "libssl-dev": ("ssl", "crypto"),
    "zlib1g-dev": ("z",),
    "libzstd-dev": ("zstd",),
    "libllhttp-dev": ("llhttp",),
    "libyyjson-dev": ("yyjson",),
}
# The name of yyjson's shared library, and that of the copy in a wheel. The two are equally long, since the name in the
# file is replaced where it stands. Under its old name, another library of the process would get our copy for its own.
YYJSON, YYJSON_COPY = b"libyyjson.so.0", b"libyyjson-k.so"
# Only our own symbols, so that a Python with another OpenSSL in it does not mix the two.
EXPORTS = "{ global: kanserve_*; local: *; };"
NOT_KERNELS = ("onnxruntime", "server", "edge", "http1", "wheel")  # folders
PLATFORM = re.compile(r"manylinux_\d+_\d+_(x86_64|aarch64)")
X86_BUILDS = {3: "x86-64-v3", 4: "x86-64-v4"}  # by the level of x86-64 that a processor must have


def get_platform() -> str | None:
    """The platform tag in the environment variable KANSERVE_PLATFORM, or None for this machine. Raises ValueError for
    an unknown tag."""
    wanted = os.environ.get("KANSERVE_PLATFORM") or None
    if wanted and not PLATFORM.fullmatch(wanted):
        raise ValueError(f"KANSERVE_PLATFORM is a tag such as manylinux_2_17_x86_64 (or _aarch64), got {wanted!r}.")
    return wanted


def compiler() -> str | None:
    """The C compiler: the environment variable CC, else the first of cc, gcc and clang that is installed."""
    wanted = os.environ.get("CC")
    return wanted or next((found for name in ("cc", "gcc", "clang") if (found := shutil.which(name))), None)


def build(folder: Path = FOLDER, *, here: bool = False) -> tuple[Path, ...]:
    """Compile the C files of `folder`, without onnxruntime/ and server/, into one library per build, replaced
    atomically; with `here`, only the one for this processor. Raises OSError without a compiler, CalledProcessError with
    its message if it fails."""
    command, builds = _toolchain()
    made = _compile_all(command, {"processor": ()}, [folder / "processor.c"], folder, "libkanserve")
    builds = _for_this_processor(builds, folder) if here else builds
    sources = [path for path in folder.rglob("*.c") if path.parent.name not in NOT_KERNELS]
    return made + _compile_all(command, builds, sources, folder, "libkanserve")


def build_operators(folder: Path = FOLDER, *, here: bool = False) -> tuple[Path, ...]:
    """Like `build`, for the onnxruntime operators in `folder`/onnxruntime, after the kernels. Raises OSError also if
    onnxruntime's header is not found."""
    include = headers()
    if include is None:
        raise OSError(f"{HEADER} is missing: install libonnxruntime-dev.")
    command, builds = _toolchain()
    builds = _for_this_processor(builds, folder) if here else builds
    command = [*command, f"-I{include}", *OPERATOR_FLAGS]
    return _compile_all(command, builds, (folder / "onnxruntime").glob("*.c"), folder, "libkanserve-onnx")


def build_server(folder: Path = FOLDER) -> tuple[Path, ...]:
    """Compile the server's native transport in folder/server. Raises OSError if its libraries' headers are missing."""
    if not server_headers():
        raise OSError(
            f"The headers {', '.join(SERVER_HEADERS)} of nghttp2 (1.62 or newer), OpenSSL and zlib are missing."
        )
    sources = {path.name: path for path in (folder / "server").glob("*.c")}
    tls = [sources.pop("tls_context.c"), sources["byte_buffer.c"]]
    with tempfile.TemporaryDirectory() as temporary:
        tools = _server_tools(Path(temporary))
        command, libraries = [*tools.command, *SERVER_FLAGS], tools.libraries
        copies: list[Path] = []
        if http1_headers():
            sources |= {path.name: path for path in (folder / "server" / "http1").glob("*.c")}
            command, libraries = [*command, f"-I{folder / 'server'}"], (*tools.http1_libraries, *libraries)
            copies = [Path(name) for name in tools.http1_libraries if name.endswith(YYJSON_COPY.decode())]
        rpath = ("-Wl,-rpath,$ORIGIN",) if copies else ()
        made = _compile_all(command, {"server": rpath}, sources.values(), folder, "libkanserve", libraries)
        made += tuple(Path(shutil.copy(path, folder)) for path in copies)
        return made + _compile_all(command, {"server-tls": ()}, tls, folder, "libkanserve", tools.tls_libraries)


def missing() -> list[str]:
    """The packages, by Debian's names, that this machine lacks to build the whole native transport. Only looks for
    files, so it is fast enough for a server's start."""
    folders = [Path(name) for name in os.environ.get("CPATH", "").split(":") if name]
    folders += [Path(name) for name in INCLUDES]
    found = {
        package: next((folder for folder in folders if (folder / header).is_file()), None)
        for package, header in (SERVER_PACKAGES | HTTP1_PACKAGES).items()
    }
    lacking = [package for package, folder in found.items() if folder is None]
    lacking += _too_old(found["libnghttp2-dev"])
    return lacking if compiler() else ["gcc", *lacking]


def missing_for_wheel(wanted: str) -> list[str]:
    """Like `missing`, for a wheel of a platform: the packages of that processor, with their archives."""
    machine, usr = _machine(wanted), _debian() / "usr"
    debian = {"x86_64": "amd64", "aarch64": "arm64"}[machine]

    def there(name: str) -> bool:
        path = usr / "lib" / f"{machine}-linux-gnu" / f"lib{name}.a"
        return path.is_file() or (name == "yyjson" and path.with_suffix(".so").is_file())

    lacking = [
        f"{package}:{debian}"
        for package, archives in ARCHIVES.items()
        if not ((usr / "share/doc" / package / "copyright").is_file() and all(there(name) for name in archives))
    ]
    return lacking if f"libnghttp2-dev:{debian}" in lacking else [*lacking, *_too_old(usr / "include", f":{debian}")]


def _too_old(folder: Path | None, processor: str = "") -> list[str]:
    """nghttp2 with the required version, if these headers are of an older one."""
    header = folder / "nghttp2" / "nghttp2ver.h" if folder else None
    version = re.search(r'NGHTTP2_VERSION "(\d+)\.(\d+)', header.read_text()) if header and header.is_file() else None
    if version is None or (int(version[1]), int(version[2])) >= NGHTTP2:
        return []
    return [f"libnghttp2-dev{processor} {NGHTTP2[0]}.{NGHTTP2[1]} or newer (not {version[1]}.{version[2]})"]


def server_headers() -> bool:
    """Whether the libraries that server/ needs can be compiled against and linked."""
    calls = "!nghttp2_submit_response2 || !nghttp2_session_mem_recv2 || !SSL_new || !zlibVersion()"
    return _has_carried(CARRIED) and _links(
        SERVER_HEADERS, calls, lambda tools: (*tools.libraries, *tools.tls_libraries)
    )


def http1_headers() -> bool:
    """Like `server_headers`, for the further libraries of server/http1."""
    calls = "!llhttp_execute || !yyjson_read_opts"
    return _has_carried(CARRIED_FOR_HTTP1) and _links(HTTP1_HEADERS, calls, lambda tools: tools.http1_libraries)


def _has_carried(packages: Mapping[str, str]) -> bool:
    """Whether the packages that a wheel bundles are there, if a wheel is being built."""
    return get_platform() is None or all(license.is_file() for license in _licenses(packages).values())


def _links(headers: Sequence[str], calls: str, choose: "Callable[[_ServerTools], tuple[str, ...]]") -> bool:
    """Whether a program with these headers and calls compiles and links with the chosen libraries."""
    wanted = get_platform()
    if not sys.platform.startswith("linux") or (wanted is None and compiler() is None):
        return False
    source = "".join(f"#include <{header}>\n" for header in headers) + f"int main(void) {{ return {calls}; }}\n"
    with tempfile.TemporaryDirectory() as temporary:
        tools = _server_tools(Path(temporary))
        libraries = choose(tools)
        if not all(Path(name).is_file() for name in libraries if not name.startswith("-")):
            return False
        command = [
            *tools.command,
            "-x",
            "c",
            "-",
            "-o",
            str(Path(temporary, "a.out")),
            *(("-c",) if wanted else libraries),
        ]
        try:
            return subprocess.run(command, input=source, text=True, capture_output=True).returncode == 0
        except OSError:
            return False


def find_licenses() -> dict[str, Path]:
    """The licenses, by library, of what a wheel's server is linked with; a path need not exist."""
    return _licenses(CARRIED | (CARRIED_FOR_HTTP1 if http1_headers() else {}))


def _licenses(packages: Mapping[str, str]) -> dict[str, Path]:
    return {name: _debian() / "usr/share/doc" / package / "copyright" for name, package in packages.items()}


def headers() -> Path | None:
    """The folder of onnxruntime's C header: KANSERVE_ONNXRUNTIME_HEADERS, else the first usual one; else None."""
    wanted = os.environ.get("KANSERVE_ONNXRUNTIME_HEADERS")
    usual = (Path(root, "include", "onnxruntime") for root in (sys.prefix, "/usr/local", "/usr"))
    return next((path for path in ([Path(wanted)] if wanted else usual) if (path / HEADER).is_file()), None)


class _ServerTools(NamedTuple):
    """The compiler's command for server/, and the libraries for HTTP/2, TLS and HTTP/1.1."""

    command: list[str]
    libraries: tuple[str, ...]
    tls_libraries: tuple[str, ...]
    http1_libraries: tuple[str, ...]


def _server_tools(temporary: Path) -> _ServerTools:
    """The tools with the wanted platform's archives, using a temporary folder, or with this machine's libraries."""
    wanted = get_platform()
    if wanted is None:
        return _ServerTools((compiler() or "cc").split(), SERVER_LIBRARIES, TLS_LIBRARIES, HTTP1_LIBRARIES)
    system, usr = f"{_machine(wanted)}-linux-gnu", _debian() / "usr"
    # Links to what is needed of /usr/include, which as a whole would replace the headers of the older glibc.
    for number, path in enumerate(
        ("nghttp2", "openssl", "zlib.h", "zconf.h", f"{system}/openssl", f"{system}/zconf.h", *HTTP1_HEADERS)
    ):
        link = temporary / str(number) / Path(path).name
        link.parent.mkdir()
        link.symlink_to(usr / "include" / path)
    includes = [f"-I{path}" for path in sorted(temporary.iterdir())]
    exports = temporary / "exports"
    exports.write_text(EXPORTS)
    library = f"{usr}/lib/{system}/lib{{}}.a".format
    older = str(FOLDER / "server" / "wheel" / "older_glibc.c")
    return _ServerTools(
        [*_cross_compiler(wanted), *includes, f"-Wl,--version-script={exports}"],
        (older, library("nghttp2"), library("z"), "-ldl", "-lm"),
        (older, library("ssl"), library("crypto"), library("zstd"), library("z"), "-ldl"),
        (library("llhttp"), _yyjson(library("yyjson"), temporary)),
    )


def _yyjson(archive: str, temporary: Path) -> str:
    """Debian's archive of yyjson if it exists, else a copy of its shared library, renamed, in this folder."""
    shared = Path(archive).with_suffix(".so")
    if Path(archive).is_file() or not shared.is_file():
        return archive
    content = shared.read_bytes()
    if content.count(b"\0" + YYJSON + b"\0") != 1:
        raise OSError(f"{shared} has not the name {YYJSON.decode()} in it.")
    copy = temporary / YYJSON_COPY.decode()
    copy.write_bytes(content.replace(b"\0" + YYJSON + b"\0", b"\0" + YYJSON_COPY + b"\0"))
    return str(copy)


def _compile_all(
    command: Sequence[str],
    builds: Mapping[str, Sequence[str]],
    sources: Iterable[Path],
    folder: Path,
    stem: str,
    libraries: Sequence[str] = ("-lm",),
) -> tuple[Path, ...]:
    """Compile a library STEM-NAME.so in `folder` for each of the builds, with one thread per processor."""
    paths = sorted(sources)
    with tempfile.TemporaryDirectory(dir=folder) as temporary, ThreadPoolExecutor(os.cpu_count()) as pool:
        objects = {name: [Path(temporary) / f"{name}-{number}.o" for number in range(len(paths))] for name in builds}
        compiling = [
            pool.submit(_compile, [*command, *builds[name]], made, ("-c", str(path)))
            for name in builds
            for path, made in zip(paths, objects[name], strict=True)
        ]
        for future in compiling:
            future.result()
        for name, made in objects.items():
            library = Path(temporary) / f"{stem}-{name}.so"
            _compile([*command, *builds[name]], library, (*map(str, made), *libraries))
        for name in builds:
            (Path(temporary) / f"{stem}-{name}.so").replace(folder / f"{stem}-{name}.so")
    return tuple(folder / f"{stem}-{name}.so" for name in builds)


def _for_this_processor(builds: Mapping[str, Sequence[str]], folder: Path) -> Mapping[str, Sequence[str]]:
    """The build that this machine's processor would load."""
    level = ctypes.CDLL(str(folder / "libkanserve-processor.so")).kanserve_x86_level()
    best = X86_BUILDS.get(level, "generic")
    return {best: builds[best]}


def _toolchain() -> tuple[Sequence[str], Mapping[str, Sequence[str]]]:
    """The compiler's command, and the options of each build."""
    wanted = get_platform()
    if wanted is None:
        program = compiler()
        if program is None:
            raise OSError("No C compiler was found: install gcc or clang, or set CC.")
        command, machine = program.split(), platform.machine().lower()
    else:
        if find_spec("ziglang") is None:
            raise OSError(f"Compiling for {wanted} needs ziglang: pip install ziglang.")
        command, machine = _cross_compiler(wanted), _machine(wanted)
    command = [*command, *FLAGS]
    builds: dict[str, Sequence[str]] = {"generic": ()}
    if machine in ("x86_64", "amd64"):
        for name in X86_BUILDS.values():
            # ziglang writes x86-64-v3 as x86_64_v3.
            processor = name.replace("-", "_") if wanted else name
            builds[name] = (f"-march={processor}", "-mprefer-vector-width=512")
    return command, builds


def _debian() -> Path:
    """The folder that Debian's packages are unpacked in."""
    return Path(os.environ.get("KANSERVE_SERVER_LIBRARIES") or "/").absolute()


def _cross_compiler(wanted: str) -> list[str]:
    """The command of ziglang's compiler for a platform tag. Unlike gcc it adds debug information, which -s drops."""
    _, major, minor, machine = wanted.split("_", 3)
    return [sys.executable, "-m", "ziglang", "cc", "-target", f"{machine}-linux-gnu.{major}.{minor}", "-s"]


def _machine(wanted: str) -> str:
    """The processor of a platform tag."""
    return wanted.split("_", 3)[3]


def _compile(command: Sequence[str], path: Path, arguments: Sequence[str]) -> None:
    complete = [*command, "-o", str(path), *arguments]
    subprocess.run(complete, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True)


if __name__ == "__main__":
    try:
        here = "--here" in sys.argv[1:]
        made = [*build(here=here), *(build_operators(here=here) if headers() else ())]
        print(*made, *(build_server() if server_headers() else ()), sep="\n")
        wanted = get_platform()
        if lacking := missing_for_wheel(wanted) if wanted else missing():
            print(f"The whole native transport of the server needs {', '.join(lacking)}.")
    except (OSError, ValueError) as error:
        sys.exit(str(error))
    except subprocess.CalledProcessError as error:
        sys.exit(f"{' '.join(error.cmd)}\n{error.stderr}")
