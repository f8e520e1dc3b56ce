"""Standard input, output and error where they are closed, or where nobody reads them."""

import errno
import os
import sys
from contextlib import suppress

NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)  # errors of writing, whose file is then not named


def open_closed() -> None:
    """Open /dev/null for closed standard streams: else another file would get their descriptor, and their output."""
    while (number := os.open(os.devnull, os.O_RDWR)) < 3:
        os.set_inheritable(number, True)
    os.close(number)
    for name, descriptor in (("stdout", 1), ("stderr", 2)):
        if getattr(sys, name) is None:  # it was closed when this process started
            setattr(sys, name, open(descriptor, "w", closefd=False))  # noqa: SIM115 - to the end of the process


def drop_output() -> None:
    """Send what standard output still holds to nowhere: else the interpreter fails to write it, at its exit."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    with suppress(OSError, ValueError):  # a stream without a descriptor
        os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
