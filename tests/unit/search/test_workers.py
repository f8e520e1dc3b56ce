"""Steps of a search in worker processes: equal results for any number of them, and none left running."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from kanserve.errors import InputError
from kanserve.formula import register_function
from kanserve.network.functions import FUNCTIONS
from kanserve.search import Findings, find_formulas
from kanserve.search.fit.workers import Workers, ahead, worker_count
from kanserve.search.regression import budget
from kanserve.search.regression.budget import Budget, OutOfBudgetError
from tests.support.programs import needs_shared_memory

WAITING = "kanserve.search.fit.workers.AFTER_SECONDS"


@pytest.fixture(autouse=True)
def _workers_begin_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(WAITING, 0)


@pytest.fixture
def two_workers() -> Iterator[Workers]:
    with Workers(2) as workers:
        yield workers


class Process:
    """A step that gives the id of the process that runs it, after some fits."""

    def __init__(self, fits: int = 0) -> None:
        self.fits = fits

    def __call__(self) -> int:
        time.sleep(0.05)
        for _ in range(self.fits):
            budget.count_fit()
        return os.getpid()


def facts(found: Findings) -> list[tuple[object, ...]]:
    listed = [(law.formula.text, law.error, law.validation, law.complexity) for law in found.candidates]
    return [*listed, (found.ended, found.best.formula.text)]


def law_rows(name: str, noise: float) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(3)
    x = generator.uniform(0.5, 2, (120, 2))
    laws = {
        "ratio": x[:, 0] / (1 + x[:, 1]),
        "wave": x[:, 0] * np.sin(2 * x[:, 1]) + 1,
        "root": np.sqrt(x[:, 0] ** 2 + 1.3 * x[:, 1]),
        "nothing": np.sin(3 * x[:, 0] ** 2) / (1 + np.exp(x[:, 0] * x[:, 1])) + np.sqrt(x[:, 1] + x[:, 0] ** 3),
    }
    y = laws[name]
    return x, y + noise * y.std() * generator.normal(size=len(y))


@needs_shared_memory
@pytest.mark.slow
@pytest.mark.extended
@pytest.mark.parametrize("name, noise", [("ratio", 0.05), ("wave", 0.05), ("root", 0.05), ("nothing", 0.0)])
@pytest.mark.parametrize("max_fits", [60, pytest.param(250, marks=pytest.mark.extended)])
def test_two_workers_find_what_one_finds_bit_for_bit(name: str, noise: float, max_fits: int):
    rows = law_rows(name, noise)
    alone, shared = (find_formulas(rows, max_fits=max_fits, n_jobs=jobs, seed=1) for jobs in (1, 2))
    assert facts(shared) == facts(alone)


@needs_shared_memory
@pytest.mark.slow
@pytest.mark.extended
def test_threads_of_joblib_find_the_same_where_its_configuration_asks_for_them():
    import joblib

    rows = law_rows("ratio", 0.05)
    alone = find_formulas(rows, max_fits=60)
    with joblib.parallel_config(backend="threading", n_jobs=2):
        assert worker_count(None) == 2
        shared = find_formulas(rows, max_fits=60)
    assert facts(shared) == facts(alone)


@needs_shared_memory
def test_a_backend_without_single_results_leaves_the_search_in_one_process(caplog: pytest.LogCaptureFixture):
    import joblib

    data = law_rows("ratio", 0.0)
    alone = find_formulas(data, max_fits=60, seed=0)
    with joblib.parallel_config(backend="multiprocessing", n_jobs=2):
        found = find_formulas(data, max_fits=60, seed=0)
    assert facts(found) == facts(alone)
    assert caplog.text.count("the search runs in one process") == 1


@needs_shared_memory
def test_steps_run_here_and_in_workers_and_their_fits_count_where_they_are_taken(two_workers: Workers):
    spent = Budget()
    ran = []
    for count, taken in enumerate(two_workers.ahead([Process(fits) for fits in range(6)], spent)):
        ran.append(taken())
        assert spent.fits == sum(range(count + 1))
    assert os.getpid() in ran and len(set(ran)) > 1


@needs_shared_memory
def test_a_step_that_would_reach_a_limit_of_fits_is_run_where_it_is_taken(two_workers: Workers):
    spent = Budget(max_fits=4)
    ran = []
    with spent.enforce(), pytest.raises(OutOfBudgetError):
        for taken in two_workers.ahead([Process(2), Process(3), Process(1)], spent):
            ran.append(taken())
    assert len(ran) == 1 and spent.fits == 4


@pytest.mark.extended
@needs_shared_memory
def test_steps_that_are_passed_over_do_not_count(two_workers: Workers):
    spent = Budget()
    for place, taken in enumerate(two_workers.ahead([Process(5), Process(1), Process(7)], spent)):
        if place == 1:
            taken()
    assert spent.fits == 1


class Nested(Process):
    """A step with steps of its own: who runs it, and who runs these."""

    def __call__(self) -> tuple[int, list[int]]:  # type: ignore[override]
        return os.getpid(), [step() for step in ahead([Process() for _ in range(5)])]


@needs_shared_memory
def test_the_workers_turn_to_the_steps_of_the_step_that_the_search_runs_and_back(two_workers: Workers):
    steps: list[Callable[[], Any]] = [Process(), Nested(), Nested(), Process(), Process()]
    ran = [taken() for taken in two_workers.ahead(steps, Budget())]
    inner = [pids for pid, pids in (ran[1], ran[2]) if pid == os.getpid()]
    assert inner and any(len({*pids}) > 1 for pids in inner)
    assert all(isinstance(pid, int) for pid in (ran[0], *ran[3:]))


class Surroundings(Process):
    """A step that says where it runs and whether a user's function is there."""

    def __call__(self) -> tuple[int, bool]:  # type: ignore[override]
        return super().__call__(), "hump" in FUNCTIONS


@needs_shared_memory
def test_a_users_function_reaches_the_workers(two_workers: Workers):
    register_function("hump", "1/(1 + x^2)")
    ran = [taken() for taken in two_workers.ahead([Surroundings() for _ in range(4)], Budget())]
    assert len({process for process, _ in ran}) > 1
    assert all(there for _, there in ran)


@needs_shared_memory
def test_an_error_of_a_step_is_raised_where_it_is_taken(two_workers: Workers):
    with pytest.raises(ZeroDivisionError):
        for taken in two_workers.ahead([Process(), Divided()], Budget()):
            taken()


class Divided(Process):
    def __call__(self) -> int:
        return 1 // self.fits


class Killed(Process):
    """A step that ends the process that runs it, unless that is its own maker's."""

    def __init__(self) -> None:
        super().__init__()
        self.maker = os.getpid()

    def __call__(self) -> int:
        if os.getpid() != self.maker:
            os._exit(1)
        return self.maker


@needs_shared_memory
def test_a_killed_worker_costs_no_result(two_workers: Workers, caplog: pytest.LogCaptureFixture):
    ran = [taken() for taken in two_workers.ahead([Killed() for _ in range(4)], Budget())]
    assert ran == [os.getpid()] * 4
    assert "A worker failed" in caplog.text


class Sleeping(Killed):
    """A step that takes a minute in a worker, and writes a file as it begins."""

    def __init__(self, begun: Path) -> None:
        super().__init__()
        self.begun = begun

    def __call__(self) -> int:
        if os.getpid() == self.maker:
            time.sleep(0.05)
        else:
            self.begun.touch()
            time.sleep(60)
        return 0


@pytest.mark.extended
@needs_shared_memory
def test_steps_that_nobody_takes_are_stopped_at_the_end(tmp_path: Path):
    begun = tmp_path / "begun"
    with Workers(2, _began=-1.0) as two_workers:
        while not two_workers._ready():
            time.sleep(0.01)
        steps = two_workers.ahead([Process(), *(Sleeping(begun) for _ in range(1000))], Budget())
        next(steps)()
        while not begun.exists():
            time.sleep(0.01)
        children = psutil.Process().children(recursive=True)
        workers = [child for child in children if "resource_tracker" not in " ".join(child.cmdline())]
        assert len(workers) >= 2
    _, alive = psutil.wait_procs(workers, timeout=30)
    assert not alive


def test_no_workers_start_for_one_job_or_at_the_start_of_a_search(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(WAITING, 60)
    for workers in (Workers(1), Workers(2)):
        assert [taken() for taken in workers.ahead([Process(), Process()], Budget())] == [os.getpid()] * 2


@pytest.mark.parametrize("n_jobs", [0, 1.5, "2", True])
def test_n_jobs_is_a_whole_number_but_0(n_jobs: object):
    x = np.linspace(0, 1, 20)[:, None]
    with pytest.raises(InputError, match="n_jobs must be a whole number of 1 or more, or -1 for all cores"):
        find_formulas((x, x[:, 0]), n_jobs=n_jobs)  # type: ignore[arg-type]


INTERRUPTED = """
import signal
import numpy as np
from kanserve.search import find_formulas
from kanserve.search.fit import workers
x = np.random.default_rng(0).uniform(0.5, 2, (500, 3))
y = np.sin(3 * x[:, 0] ** 2) / (1 + np.exp(x[:, 0] * x[:, 1])) + np.sqrt(x[:, 2] + x[:, 0] ** 3)
def report(event):
    print("found", flush=True)
if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell ignores it for what it starts with &
    workers.AFTER_SECONDS = 0
    found = find_formulas((x, y), seconds=300, n_jobs=2, progress=report)
    print("ended", found.ended, flush=True)
"""


@needs_shared_memory
@pytest.mark.slow
@pytest.mark.extended
def test_ctrl_c_gives_the_formulas_so_far_and_leaves_no_process(tmp_path):
    (tmp_path / "search.py").write_text(INTERRUPTED)
    command = [sys.executable, str(tmp_path / "search.py")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, process_group=0) as run:
        assert run.stdout is not None and run.stderr is not None
        assert run.stdout.readline() == "found\n"
        children: list[psutil.Process] = []
        while len(children) < 3:  # two workers and joblib's tracker of resources
            children = psutil.Process(run.pid).children(recursive=True)
            time.sleep(0.05)
        os.killpg(run.pid, signal.SIGINT)  # as a terminal does
        said, errors = run.communicate(timeout=60)
    assert "ended interrupted" in said
    assert "Traceback" not in errors
    _, alive = psutil.wait_procs(children, timeout=20)
    assert not alive


def test_where_processes_cannot_share_memory_a_search_says_so_and_has_one_process(monkeypatch, caplog):
    for module in ("joblib.parallel", "joblib._parallel_backends"):  # as joblib is imported there
        monkeypatch.setattr(f"{module}.mp", None)
    rows = law_rows("ratio", 0.0)
    found = find_formulas(rows, max_fits=20, n_jobs=2)
    assert facts(found) == facts(find_formulas(rows, max_fits=20))
    assert caplog.text.count("Processes cannot share memory here") == 1
