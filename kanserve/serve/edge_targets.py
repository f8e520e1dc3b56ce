"""The processors that edge servers can be exported for: the compiler, its options, and where its libraries are."""

from dataclasses import dataclass

from kanserve.errors import InputError


@dataclass(frozen=True)
class EdgeTarget:
    """What the README and the CMake files of an edge server say about a processor."""

    name: str
    compiler: str = "cc"
    options: str = ""
    debian: str = ""  # the name of the architecture in Debian, if its libraries are not those of this machine

    @property
    def machine(self) -> str:
        return self.name.split("-", 1)[0]

    def packages(self, *names: str) -> str:
        """Debian packages for this processor, as arguments of `apt-get install`."""
        return " ".join(f"{name}:{self.debian}" if self.debian else name for name in names)

    @property
    def preparation(self) -> str:
        """What to install before building, for the README."""
        libraries = self.packages("libnghttp2-dev", "zlib1g-dev")
        if not self.debian:
            return "Debian's packages `gcc`, `libnghttp2-dev` and `zlib1g-dev`, then one line:"
        return f"""\
On Debian, the compiler and the libraries of {self.name}:

    dpkg --add-architecture {self.debian} && apt-get update
    apt-get install gcc-{self.name} {libraries}

or, without another architecture, the two libraries in a folder of their own, which `-I FOLDER/include -L FOLDER/lib`
names to the compiler and `-DCMAKE_PREFIX_PATH=FOLDER` to CMake. Then one line:"""

    @property
    def trial(self) -> str:
        """How to run the binary on this machine, for the README."""
        return (
            f"    qemu-{self.machine} ./@name@ --check        # the same on another processor\n" if self.debian else ""
        )

    @property
    def cmake(self) -> str:
        """The options of `cmake -B build`."""
        return " -DCMAKE_TOOLCHAIN_FILE=toolchain.cmake" if self.debian else ""

    @property
    def toolchain(self) -> str:
        """The CMake toolchain file, if the processor differs from this machine's."""
        return _TOOLCHAIN.format(name=self.name, machine=self.machine, compiler=self.compiler)


_TOOLCHAIN = """\
# For {name} on Debian; another compiler: CC in the environment. Libraries elsewhere: -DCMAKE_PREFIX_PATH=FOLDER.
set(CMAKE_SYSTEM_NAME Linux)
set(CMAKE_SYSTEM_PROCESSOR {machine})
if(DEFINED ENV{{CC}})
  set(CMAKE_C_COMPILER $ENV{{CC}})
else()
  set(CMAKE_C_COMPILER {compiler})
endif()
set(CMAKE_LIBRARY_ARCHITECTURE {name})
set(ENV{{PKG_CONFIG_LIBDIR}} /usr/lib/{name}/pkgconfig:/usr/share/pkgconfig)
"""

HERE = EdgeTarget("")
TARGETS = {
    target.name: target
    for target in (
        EdgeTarget("aarch64-linux-gnu", "aarch64-linux-gnu-gcc", debian="arm64"),
        EdgeTarget("riscv64-linux-gnu", "riscv64-linux-gnu-gcc", debian="riscv64"),
        *(EdgeTarget(f"x86-64-v{level}", options=f" -march=x86-64-v{level}") for level in (2, 3, 4)),
    )
}


def edge_target(name: str | None) -> EdgeTarget:
    """The target with this name or processor, such as "aarch64"; None means any machine's own compiler. Raises
    InputError with the known names."""
    if name is None:
        return HERE
    found = TARGETS.get(name) or TARGETS.get(f"{name}-linux-gnu")
    if found is None:
        raise InputError(f"Unknown target {name!r:.80} of an edge server; there are: {', '.join(TARGETS)}.")
    return found
