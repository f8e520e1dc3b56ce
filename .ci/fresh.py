"""The README's commands as a newcomer has them: from a new clone of the last commit, as an ordinary user, with an empty
HOME, and nothing prepared.

    python3 .ci/fresh.py here run test           on this machine
    python3 .ci/fresh.py debian run test-fast    in a bare Debian with what the README asks for
    python3 .ci/fresh.py here test --busy 6      beside processes that compute all the time

It needs Python alone; a bare Debian wants root and mmdebstrap. Each command is a target of make; its output is shown if
it fails, and its time is printed.
"""

import argparse
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))  # as a script in .ci, which is not a package

from tests.support import processors  # noqa: E402
from tests.support.peers import debian_root  # noqa: E402

# What the README asks for, under Debian's names, and the certificates and git that a clone came by.
NEEDED = ("python3", "python3-venv", "gcc", "libc6-dev", "make", "git", "ca-certificates")
USER = "newcomer"
NOBODY = 65534  # the user and the group that every Linux has for those who own nothing
# Kept of the environment: where packages come from, and what the kernels of linear algebra are.
KEPT = re.compile(r"LANG|PIP_.*|SSL_CERT_.*|REQUESTS_CA_BUNDLE|https?_proxy|no_proxy|OPENBLAS_.*|CI", re.IGNORECASE)
FILES = 1024  # that an ordinary user's processes may open, unless they ask for more
MOST_MEGABYTES = 450  # of .venv after `make run`: a newcomer waits for each of them
# In a mount namespace of its own, so that nothing stays mounted: $1 is the root, and pairs of files or folders follow.
SET_UP = """
set -eu
root=$1; shift
for folder in proc dev sys; do mount --rbind "/$folder" "$root/$folder"; done
mount -t tmpfs tmpfs "$root/run"
while [ "$1" != -- ]; do
    if [ -d "$1" ]; then mkdir -p "$root$2"; else mkdir -p "$(dirname "$root$2")"; touch "$root$2"; fi
    mount --bind "$1" "$root$2"; shift 2
done
shift
exec chroot "$root" "$@"
"""


@dataclass(frozen=True)
class Place:
    """Where the clone is: its folder from outside, and what stands before a command to run it there as the newcomer."""

    clone: Path
    before: Sequence[str]
    environment: Mapping[str, str]


def main() -> None:
    """Run the targets in the place; ends with 1 if one fails."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("place", choices=("here", "debian"))
    options.add_argument("targets", nargs="+", help="targets of make, in their order")
    options.add_argument("--busy", type=int, default=0, metavar="N", help="processes that compute beside it")
    options.add_argument("--variable", action="append", default=[], metavar="NAME=VALUE", help="of make, such as UV=")
    chosen = options.parse_args()
    # As an ordinary user has it, whatever the machine of the CI allows.
    resource.setrlimit(resource.RLIMIT_NOFILE, (FILES, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    if chosen.place == "debian" and (os.geteuid() or not shutil.which("mmdebstrap")):
        sys.exit("A bare Debian wants root and mmdebstrap.")
    make_place = _here if chosen.place == "here" else _debian
    print(processors.description(), flush=True)
    with tempfile.TemporaryDirectory(prefix="kanserve-") as folder, _busy(chosen.busy):
        place = make_place(Path(folder))
        for target in chosen.targets:
            _make(place, target, chosen.variable)


def _make(place: Place, target: str, variables: Sequence[str]) -> None:
    command = [*place.before, "make", target, "QUIET=", *variables]
    begun = time.monotonic()
    done = subprocess.run(
        command,
        cwd=place.clone,
        env=place.environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    taken = f"make {target}: {time.monotonic() - begun:.0f} s"
    if done.returncode:
        sys.exit(f"{done.stdout[-30000:]}\n{taken}, and it failed.")
    ends = [line for line in done.stdout.splitlines() if re.match(r"=+ .*passed.*=+$|\d+ skipped|Coverage ", line)]
    print(taken, *ends, sep="\n", flush=True)
    if target == "run":
        _check_first_command(place, done.stdout)


def _check_first_command(place: Place, said: str) -> None:
    """The demo ran to its end, pip tried no version twice, and the environment is small."""
    if "GetFormula answers" not in said or "looking at multiple versions" in said:
        sys.exit(f"{said}\nThe demo did not end, or pip had to look for versions that fit.")
    used = sum(path.lstat().st_blocks for path in (place.clone / ".venv").rglob("*")) * 512 // 10**6
    print(f".venv has {used} MB", flush=True)
    if used > MOST_MEGABYTES:
        sys.exit(f"That is more than {MOST_MEGABYTES} MB.")


def _here(folder: Path) -> Place:
    home = folder / "home"
    home.mkdir()
    clone = _clone(folder / "kanserve")
    before: list[str] = []
    if os.geteuid() == 0:
        subprocess.run(["chown", "-R", f"{NOBODY}:{NOBODY}", str(folder)], check=True)
        before = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
    path = [part for part in os.environ["PATH"].split(os.pathsep) if not Path(part).is_relative_to(ROOT)]
    return Place(clone, before, _kept() | {"PATH": os.pathsep.join(path), "HOME": str(home)})


def _debian(folder: Path) -> Place:
    root = folder / "root"
    debian_root.make(root, NEEDED)
    subprocess.run(["chroot", str(root), "useradd", "--create-home", USER], check=True)
    home = root / "home" / USER
    clone = _clone(home / "kanserve")
    subprocess.run(["chroot", str(root), "chown", "-R", f"{USER}:{USER}", f"/home/{USER}"], check=True)
    if Path("/etc/resolv.conf").is_file():
        (root / "etc/resolv.conf").unlink(missing_ok=True)
        shutil.copy("/etc/resolv.conf", root / "etc/resolv.conf")
    pairs = [part for pair in debian_root.installer_files(folder).items() for part in pair]
    inside = ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--init-groups", "--inh-caps=-all"]
    inside += ["env", f"--chdir=/home/{USER}/kanserve"]
    before = ["unshare", "--mount", "sh", "-c", SET_UP, "sh", str(root), *pairs, "--", *inside]
    return Place(
        clone, before, _kept(without_pip=True) | {"PATH": "/usr/bin:/bin:/usr/sbin:/sbin", "HOME": f"/home/{USER}"}
    )


def _clone(folder: Path) -> Path:
    subprocess.run(["git", "clone", "--quiet", "--depth=1", ROOT.absolute().as_uri(), str(folder)], check=True)
    return folder


def _kept(*, without_pip: bool = False) -> dict[str, str]:
    return {
        name: value
        for name, value in os.environ.items()
        if KEPT.fullmatch(name) and not (without_pip and name.startswith(("PIP_", "SSL_", "REQUESTS_")))
    }


@contextmanager
def _busy(count: int) -> Iterator[None]:
    running = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(count)]
    try:
        yield
    finally:
        for process in running:
            process.kill()
            process.wait()


if __name__ == "__main__":
    main()
