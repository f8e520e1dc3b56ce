"""Runs a server as one process, or as several."""

from os import PathLike

from kanserve.serve import server
from kanserve.serve.processes import lifecycle
from kanserve.serve.scheduling import cpus, switch_interval
from kanserve.serve.settings import Settings


def run(
    repository: Settings | str | PathLike[str],
    host: str = "127.0.0.1",
    port: int = 8001,
    threads: int = Settings.threads,
    backend: str | None = None,
) -> int:
    """Serve until SIGTERM or SIGINT, then drain and return the exit code; SIGHUP looks for new versions.

    A second signal kills it. Once ready, it logs on standard error what is served and what cannot be.
    """
    settings = server.settings_of(repository, host, port, threads, backend)
    lifecycle.configure(settings)
    if (workers := settings.workers or cpus.available()) > 1:
        from kanserve.serve.processes import supervisor

        return supervisor.run(settings, workers)
    from kanserve.serve.processes import single

    with switch_interval.own_process():
        return single.run(settings)
