"""Cross-compilation targets: this machine's own compiler, and ziglang for other machines."""

import platform
import sys
from dataclasses import dataclass
from importlib.machinery import EXTENSION_SUFFIXES

from kanserve.errors import NotFoundError
from kanserve.runtime import c_compilers

SHARED = ("-shared", "-fPIC")
STRIPPED = (*SHARED, "-s")  # ziglang adds debug information of its own


@dataclass(frozen=True)
class Target:
    """A compilation target: ziglang's name, the file name of its library, and linker options. A Linux library needs the
    machine's libm, and those of glibc and musl are incompatible."""

    triple: str
    library: str
    link: tuple[str, ...] = STRIPPED

    @property
    def processor(self) -> str:
        return self.triple.split("-", 1)[0]


# glibc 2.28 is from 2018; newer systems run it too.
TARGETS = {
    "x86_64-linux-gnu": Target("x86_64-linux-gnu.2.28", "linux-x86_64.so"),
    "x86_64-linux-musl": Target("x86_64-linux-musl", "linux-x86_64-musl.so"),
    "aarch64-linux-gnu": Target("aarch64-linux-gnu.2.28", "linux-aarch64.so"),
    "aarch64-linux-musl": Target("aarch64-linux-musl", "linux-aarch64-musl.so"),
    "arm-linux-gnueabihf": Target("arm-linux-gnueabihf.2.28", "linux-armv7l.so"),
    "arm-linux-musleabihf": Target("arm-linux-musleabihf", "linux-armv7l-musl.so"),
    "riscv64-linux-gnu": Target("riscv64-linux-gnu.2.28", "linux-riscv64.so"),
    "riscv64-linux-musl": Target("riscv64-linux-musl", "linux-riscv64-musl.so"),
    "x86_64-windows-gnu": Target("x86_64-windows-gnu", "win32-amd64.dll", ("-shared", "-s")),
}


def get(name: str) -> Target:
    """The target of this name. Raises NotFoundError with the known names."""
    if name not in TARGETS:
        raise NotFoundError(f"Unknown target {name!r:.80}; there are: {', '.join(TARGETS)}.")
    return TARGETS[name]


def library_name() -> str:
    """The file name of a library for this machine, such as `linux-x86_64.so`, or `linux-x86_64-musl.so` with musl."""
    kind = "-musl" if any("musl" in suffix for suffix in EXTENSION_SUFFIXES) else ""
    return f"{sys.platform}-{platform.machine().lower()}{kind}{'.dll' if sys.platform == 'win32' else '.so'}"


def command(target: Target) -> list[str]:
    """The command of ziglang's compiler for a target. Raises MissingDependencyError without ziglang."""
    return c_compilers.foreign(target.triple)
