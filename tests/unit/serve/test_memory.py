"""What the memory of a serving process is kept small by."""

import os
import platform
import sys
from pathlib import Path

import numpy as np
import pytest

from kanserve.serve.settings import Settings
from tests.support.servers import server_load, server_process, serving

HEAP = 64 * 2**20  # bytes of addresses that glibc sets aside for an arena


@pytest.mark.slow
@pytest.mark.extended
@pytest.mark.skipif("MALLOC_ARENA_MAX" in os.environ, reason="whoever sets that knows better")
@pytest.mark.skipif(
    sys.platform != "linux" or platform.libc_ver()[0] != "glibc", reason="only glibc has arenas, seen in /proc only"
)
def test_threads_share_what_memory_was_let_go():
    with server_process.served(Settings(str(serving.folder()), port=0, threads=16)) as (running, address):
        answered = server_load.send(address, server_load.request("iris", np.zeros((1, 2))), 0.5, 0, 32)
        assert answered["OK"]
        assert _arenas(running.pid) <= 1  # beside the first, which lies elsewhere


def _arenas(process: int) -> int:
    """Spans of memory that begin and end as an arena's do, and of which only a part is in use."""
    count, begun, end = 0, 0, 0
    for line in Path(f"/proc/{process}/maps").read_text().splitlines():
        addresses, access, *_, inode = line.split()[:5]
        low, high = (int(word, 16) for word in addresses.split("-"))
        if inode != "0":
            continue
        if access == "rw-p":
            begun, end = low, high
        elif access == "---p" and low == end and begun % HEAP == 0 and high - begun == HEAP:
            count += 1
    return count
