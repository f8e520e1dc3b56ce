"""Build the C source of an artifact as a shared library, for this machine or another."""

import platform
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from kanserve.errors import ExportError, FormatError, InputError
from kanserve.runtime import _c_levels as levels
from kanserve.runtime import _c_targets as targets
from kanserve.runtime import c_compilers

COMMON = ("-std=c99", "-O3", "-fPIC")
PORTABLE = ("-ffp-contract=off",)
# Nothing reads errno or the floating-point flags after a call, so they need not be set as C requires.
FAST = ("-ffp-contract=fast", "-fno-math-errno", "-fno-trapping-math")
ADVICE = "Set CC to a compiler that works, or leave c_source out: --formats onnx_graph,numpy_source"


@dataclass(frozen=True)
class _Job:
    """A build: the sources, the compiler, the folder and the library's file name."""

    prefix: str
    header: str
    source: str
    command: list[str]
    link: tuple[str, ...]
    folder: str
    library: str
    foreign: bool
    macros: tuple[str, ...]  # of the fast form

    def run(self, *commands: list[str]) -> str | None:
        """Run the compiler with each list of arguments, in parallel. Returns its message if one fails, else None."""
        return c_compilers.run(
            [[*self.command, *arguments] for arguments in commands],
            self.folder,
            environment=c_compilers.foreign_environment() if self.foreign else None,
            longest=c_compilers.LONGEST_FOREIGN if self.foreign else None,
        )

    def write(self, name: str, text: str) -> str:
        Path(self.folder, name).write_text(text, encoding="ascii")
        return name


def build(
    files: Mapping[str, bytes],
    compiler: str | None = None,
    *,
    target: str | None = None,
    vector_math: bool = False,
) -> Mapping[str, bytes]:
    """The shared library for this machine, or for a target of `TARGETS`, by its file name. It contains the fast form,
    on x86-64 for each instruction-set level with dispatch at run time; the plain source if the compiler cannot build
    that. `vector_math` allows libmvec's vector functions (four units in the last place), for which the source must be
    exported. The compiler is the given one, else $CC, cc, gcc or clang (NotFoundError without any), for targets
    ziglang's (MissingDependencyError), which caches each target's C library at first use. Raises ExportError if
    compiling fails or takes over two minutes, after which the plain source is tried."""
    prefix = prefix_of(files)
    if target is not None and compiler is not None:
        raise InputError("A target is compiled by ziglang: give either a compiler or a target.")
    machine = None if target is None else targets.get(target)
    command = c_compilers.own(compiler) if machine is None else targets.command(machine)
    with c_compilers.workplace() as folder:
        header, source = (files[prefix + ending].decode("ascii") for ending in (".h", ".c"))
        job = _Job(
            prefix,
            header,
            source,
            command,
            targets.SHARED if machine is None else machine.link,
            folder,
            targets.library_name() if machine is None else machine.library,
            machine is not None,
            (f"-D{prefix}_FAST", *((f"-D{prefix}_VECTOR_MATH",) if vector_math else ())),
        )
        job.write(f"{prefix}.h", header)
        words = _build(job, platform.machine() if machine is None else machine.processor)
        if words is None:
            return {job.library: Path(folder, job.library).read_bytes()}
    if machine is not None:
        raise ExportError(f"ziglang cannot build {prefix}.c: {words}")
    raise ExportError(f"{command[0]} cannot build {prefix}.c: {words.rstrip('.')}. {ADVICE}.")


def _build(job: _Job, processor: str) -> str | None:
    """Build the library in the best way that works. Returns the compiler's last message if none does, else None. After
    a timeout only the plain source, which compiles fastest, is tried."""
    words, slow = "", False
    for way, macros in _ways(processor, job.macros):
        if slow and way is not _plain:
            continue
        try:
            words = way(replace(job, macros=macros)) or ""
        except c_compilers.StoppedError:
            if way is _plain:
                raise
            slow = True
            continue
        if not words and Path(job.folder, job.library).is_file():
            return None
        words = words or "it reports no error, but writes nothing"
    return words


def _ways(processor: str, macros: tuple[str, ...]) -> Iterator[tuple[Callable[[_Job], str | None], tuple[str, ...]]]:
    """The ways to build for a processor, each with its macros, best first."""
    way = _levels if processor.lower() in ("x86_64", "amd64") else _fast
    yield way, macros
    if len(macros) > 1:
        yield way, macros[:1]  # without vector functions
    if way is _levels:
        yield _fast, macros[:1]
    yield _plain, ()


def _levels(job: _Job) -> str | None:
    """Compile all levels and the dispatcher in parallel, and link them."""
    prefix = job.prefix
    fast = [*COMMON, *FAST, *job.macros, "-fvisibility=hidden"]
    objects = [["-c", job.write("dispatcher.c", levels.dispatcher(job.header, prefix)), *COMMON, "-o", "dispatcher.o"]]
    for level in levels.LEVELS:
        shared = levels.defining if level is levels.LEVELS[-1] else levels.declaring
        file = job.write(f"{level.suffix}.c", shared(job.source, prefix))
        # ziglang's name for x86-64-v3 is x86_64_v3.
        options = [re.sub(r"-(?=64|v\d)", "_", option) if job.foreign else option for option in level.options]
        names = levels.rename(job.header, prefix, level)
        objects.append(["-c", file, *fast, *options, *names, "-o", f"{level.suffix}.o"])
    words = job.run(*objects)
    return words or job.run([*job.link, *(command[-1] for command in objects), "-o", job.library, "-lm"])


def _fast(job: _Job) -> str | None:
    return _whole(job, *FAST, *job.macros)


def _plain(job: _Job) -> str | None:
    return _whole(job, *PORTABLE)


def _whole(job: _Job, *options: str) -> str | None:
    file = job.write(f"{job.prefix}.c", job.source)
    return job.run([*COMMON, *options, *job.link, file, "-o", job.library, "-lm"])


def prefix_of(files: Mapping[str, bytes]) -> str:
    """The prefix of the source's identifiers, from the name of its header."""
    headers = [path.removesuffix(".h") for path in files if path.endswith(".h")]
    if len(headers) != 1 or not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", headers[0]) or f"{headers[0]}.c" not in files:
        raise FormatError(f"A C artifact has P.h and P.c with P an identifier, got {', '.join(sorted(files))[:200]}.")
    return headers[0]
