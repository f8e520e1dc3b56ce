"""Handle standard input, output and error that are closed, or that nobody reads."""

import errno
import os
import sys
from contextlib import suppress

NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)  # errors of writing, whose file is then not named


def open_closed() -> None:
    """Open /dev/null for closed standard streams: otherwise another file would get their descriptor and output."""
    while (number := os.open(os.devnull, os.O_RDWR)) < 3:
        os.set_inheritable(number, True)
    os.close(number)
    for name, descriptor in (("stdout", 1), ("stderr", 2)):
        if getattr(sys, name) is None:  # it was closed when this process started
            setattr(sys, name, open(descriptor, "w", closefd=False))  # noqa: SIM115 - to the end of the process


def drop_output() -> None:
    """Discard what standard output still holds; otherwise the interpreter fails to write it at exit."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    with suppress(OSError, ValueError):  # a stream without a descriptor
        os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
