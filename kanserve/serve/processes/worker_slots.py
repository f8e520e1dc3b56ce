"""Worker processes as their supervisor sees them, and how one is forked."""

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
    """A worker process."""

    pid: int
    ears: SupervisorEnd
    since: float | None = None  # when it was ready
    loading: tuple[str, int] | None = None
    counts: Snapshot | None = None
    summary: dict[str, Any] = field(default_factory=dict)
    urls: dict[str, str] = field(default_factory=dict)
    transport: str = ""
    silent: int = 0  # the number of checks since its last message
    ending: bool = False  # it is draining, and sends nothing meanwhile


@dataclass(eq=False)
class WorkerSlot:
    """A slot that has a worker, or will have one."""

    number: int
    worker: Worker | None = None
    breaker: Breaker = field(default_factory=Breaker)
    due: float | None = 0.0  # when the next worker starts; None while there is one


def fork(start: worker.Start, others: Iterable[Worker], selector: selectors.BaseSelector) -> Worker:
    """Fork a worker; `others` are the running ones. OSError if the system has no resources for it."""
    ours, theirs = ipc.pair()
    # A signal right after the fork would run this process's handlers in the child.
    signal.pthread_sigmask(signal.SIG_BLOCK, worker.SIGNALS)
    try:
        pid = os.fork()
        if pid == 0:
            signal.set_wakeup_fd(-1)
            selector.close()
            ours.close()
            for sibling in others:  # a channel only ends once all its holders have closed it
                sibling.ears.close()
            worker.run_child(start, theirs)
    except OSError:
        ours.close()
        raise
    finally:
        theirs.close()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, worker.SIGNALS)
    return Worker(pid, SupervisorEnd(ours))
