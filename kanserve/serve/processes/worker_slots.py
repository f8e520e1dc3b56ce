"""The processes that serve, as their supervisor sees them, and how one begins."""

import os
import selectors
import signal
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from kanserve.serve.processes import ipc, worker
from kanserve.serve.processes.ipc import SupervisorEnd
from kanserve.serve.processes.restart_policy import Breaker
from kanserve.serve.state import Snapshot


@dataclass(eq=False)
class Worker:
    """A process."""

    pid: int
    ears: SupervisorEnd
    since: float | None = None  # when it was ready
    loading: tuple[str, int] | None = None
    counts: Snapshot | None = None
    summary: dict[str, Any] = field(default_factory=dict)
    http_address: str = ""
    silent: int = 0  # how often it was looked at since it last said something
    ending: bool = False  # it was told to, and says nothing while it drains


@dataclass(eq=False)
class WorkerSlot:
    """Where there is a worker, or will be one."""

    number: int
    worker: Worker | None = None
    breaker: Breaker = field(default_factory=Breaker)
    due: float | None = 0.0  # when the next worker starts; None while there is one


def fork(start: worker.Start, others: Iterable[Worker], selector: selectors.BaseSelector) -> Worker:
    """Begin a worker beside others: OSError where the system has no room for it."""
    ours, theirs = ipc.pair()
    # A signal that comes in between would be heard by this process's handlers in the other.
    signal.pthread_sigmask(signal.SIG_BLOCK, worker.SIGNALS)
    try:
        pid = os.fork()
        if pid == 0:
            signal.set_wakeup_fd(-1)
            selector.close()
            ours.close()
            for one in others:  # a channel ends when its last holder has ended
                one.ears.close()
            worker.run_child(start, theirs)
    except OSError:
        ours.close()
        raise
    finally:
        theirs.close()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, worker.SIGNALS)
    return Worker(pid, SupervisorEnd(ours))
