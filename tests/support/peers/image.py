"""The container image, made without a registry and without Docker, and run as Kubernetes runs a pod. Wants root.

buildah builds deploy/Dockerfile as it is, on a base that mmdebstrap makes from the machine's own apt sources. What the
environment says of pip and of certificates holds while it is built and is not in the image.
"""

import json
import os
import platform
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.paths import ROOT
from tests.support.peers import debian_root
from tests.support.programs import runs
from tests.support.servers.server_process import said, workers

PROGRAMS = ("buildah", "mmdebstrap", "unshare", "nsenter")
_BASE = ("python3", "python3-venv", "python3-pip", "ca-certificates")
_DEVICES = ("null", "zero", "full", "random", "urandom")
# In a mount namespace of its own: $1 is the root, $2 how often a pair of folders follows, and the rest the command.
_SET_UP = f"""
set -eu
root=$1 pairs=$2; shift 2
mount --bind "$root" "$root"
while [ "$pairs" -gt 0 ]; do
    mount --bind "$1" "$root$2"; mount -o remount,bind,ro "$root$2"; shift 2; pairs=$((pairs - 1))
done
mount -t proc proc "$root/proc"
mount -t tmpfs -o size=64m,mode=1777 tmpfs "$root/tmp"
mount -t tmpfs -o mode=755 tmpfs "$root/dev"
for device in {" ".join(_DEVICES)}; do touch "$root/dev/$device"; mount --bind "/dev/$device" "$root/dev/$device"; done
mount -o remount,bind,ro "$root"
exec chroot "$root" /usr/bin/setpriv "$@"
"""


@dataclass(frozen=True)
class Image:
    """An image whose root file system is at `root`."""

    root: Path
    environment: Mapping[str, str]
    user: str  # "UID:GID"
    entrypoint: Sequence[str]

    def megabytes(self) -> float:
        """The size of all files."""
        return sum(path.lstat().st_size for path in self.root.rglob("*") if not path.is_symlink()) / 1e6


def missing() -> str:
    """What of an image's build and run is missing here, or nothing."""
    if os.geteuid() or subprocess.run(["unshare", "--mount", "--net", "--pid", "--fork", "true"]).returncode:
        return "root that may mount"
    system = platform.freedesktop_os_release()
    if system["ID"] != "debian" or int(system.get("VERSION_ID", "99")) < 13:
        return "Debian 13"
    return next((program for program in PROGRAMS if not runs(program)), "")


@contextmanager
def built(folder: Path) -> Iterator[Image]:
    """The image, whose layers are in this folder, until the end of the context."""
    builder = _Builder(folder)
    try:
        builder.make_base()
        yield builder.make_image()
    finally:
        for command in (["umount", "--all"], ["rm", "--all"], ["rmi", "--all", "--force"]):
            builder.run(*command, check=False)
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def pod(image: Image, arguments: Sequence[str], mounts: Mapping[str, Path]) -> Iterator["Pod"]:
    """The image's command with these arguments, as the image's user, in a pod's isolation, once it serves.

    No capabilities and no way to new ones; a read-only root with a /tmp in memory and these folders, read-only too;
    processes, mounts and the network are its own.
    """
    for place in mounts:
        (image.root / place.lstrip("/")).mkdir(parents=True, exist_ok=True)  # the kubelet does this
    user, group = image.user.split(":")
    drop = ["--reuid", user, "--regid", group, "--clear-groups", "--no-new-privs"]
    drop += [f"--{kind}=-all" for kind in ("bounding-set", "inh-caps", "ambient-caps")]
    variables = [f"{name}={value}" for name, value in image.environment.items()]
    paths = [word for place, path in mounts.items() for word in (str(path), place)]
    script = ["sh", "-c", _SET_UP, "sh", str(image.root), str(len(mounts)), *paths]
    command = [*drop, "env", "-i", *variables, *image.entrypoint, *arguments]
    alone = ["unshare", "--mount", "--net", "--pid", "--fork"]
    begun = time.monotonic()
    running = subprocess.Popen([*alone, *script, *command], stderr=subprocess.PIPE, text=True)
    try:
        said(running, "serving")
        yield Pod(running, time.monotonic() - begun)
    finally:
        if running.poll() is None:
            for first in workers(running.pid):
                os.kill(first, signal.SIGKILL)
        running.communicate()


@dataclass(frozen=True)
class Pod:
    """A running pod with one container; `process` is what started it, outside."""

    process: "subprocess.Popen[str]"
    seconds_to_ready: float

    @property
    def server(self) -> int:
        """The id, outside, of the pod's first process."""
        (first,) = workers(self.process.pid)
        return first

    def status(self, name: str) -> str:
        """A line of the first process's /proc/PID/status."""
        text = Path(f"/proc/{self.server}/status").read_text()
        (line,) = re.findall(rf"(?m)^{name}:\s*(.*)$", text)
        return str(line)

    def writable(self) -> set[str]:
        """Where it may write, apart from what the kernel has in /proc and /dev."""
        lines = Path(f"/proc/{self.server}/mountinfo").read_text().splitlines()
        mounts = {line.split()[4]: line.split()[5].split(",") for line in lines}
        return {path for path, options in mounts.items() if "rw" in options and not path.startswith(("/proc", "/dev"))}

    def end(self) -> None:
        """SIGTERM, unless it has ended."""
        if self.process.poll() is None:
            for first in workers(self.process.pid):
                os.kill(first, signal.SIGTERM)

    def inside(self, module: str, *arguments: str) -> "subprocess.Popen[str]":
        """A module of ours that runs in the pod's network, as a neighbour that shares nothing else."""
        network = f"--net=/proc/{self.server}/ns/net"
        command = ["nsenter", network, sys.executable, "-m", module, *arguments]
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT)


class _Builder:
    """buildah with a store of its own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        # buildah would raise limits, which root may not do everywhere.
        kinds = {"nofile": resource.RLIMIT_NOFILE, "nproc": resource.RLIMIT_NPROC}
        limits = [
            f"{name}={limit}:{limit}" for name, kind in kinds.items() if (limit := resource.getrlimit(kind)[1]) > 0
        ]
        self._settings = folder / "containers.conf"
        self._settings.write_text(f"[containers]\ndefault_ulimits = {json.dumps(limits)}\n")
        self._driver = "overlay"
        try:
            self.run("info")
        except RuntimeError:  # not over another overlay, as where CI is a container itself
            self._driver = "vfs"

    def run(self, *arguments: str, check: bool = True) -> str:
        """What a command of buildah prints."""
        store = ["--root", str(self._folder / "store"), "--runroot", str(self._folder / "run")]
        store += ["--storage-driver", self._driver]
        environment = os.environ | {"CONTAINERS_CONF": str(self._settings)}
        return debian_root.output(["buildah", *store, *arguments], environment, check)

    def make_base(self) -> None:
        container = self.run("from", "scratch")
        debian_root.make(self.run("mount", container), _BASE)
        self.run("commit", "--rm", container, "localhost/base")

    def make_image(self) -> Image:
        options = ["--isolation", "chroot", "--network", "host", "--build-arg", "BASE=localhost/base"]
        for here, there in debian_root.installer_files(self._folder).items():
            options += ["--volume", f"{here}:{there}:ro"]
        source = _clone(self._folder / "source")
        self.run("build", *options, "--file", f"{source}/deploy/Dockerfile", "--tag", "kanserve", str(source))
        config = json.loads(self.run("inspect", "--type", "image", "kanserve"))["OCIv1"]["config"]
        environment = dict(line.split("=", 1) for line in config["Env"])
        root = Path(self.run("mount", self.run("from", "kanserve")))
        return Image(root, environment, config["User"], config["Entrypoint"])


def _clone(folder: Path) -> Path:
    """What a clone of the working tree would have, without what is built in it."""
    listed: Any = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    for name in filter(None, listed.stdout.decode().split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    return folder
