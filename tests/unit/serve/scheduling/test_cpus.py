"""How many cores a process may use: of its affinity and of the control groups that it is in."""

import os
from pathlib import Path

import pytest

from kanserve.serve.scheduling import cpus

MANY = 64  # cores


def root(folder: Path, groups: str, **files: str) -> Path:
    """A file system with the control groups of a process."""
    (folder / "proc/self").mkdir(parents=True)
    (folder / "proc/self/cgroup").write_text(groups)
    for name, text in files.items():
        path = folder / "sys/fs/cgroup" / name.replace("__", "/").replace("_dot_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


@pytest.mark.parametrize(
    ("groups", "files", "count"),
    [
        ("0::/\n", {}, MANY),
        ("0::/\n", {"cpu_dot_max": "max 100000\n"}, MANY),
        ("0::/\n", {"cpu_dot_max": "410000 100000\n"}, 5),
        ("0::/pod/one\n", {"pod__one__cpu_dot_max": "max 100000\n", "pod__cpu_dot_max": "200000 100000\n"}, 2),
        ("0::/pod/one\n", {"pod__one__cpu_dot_max": "450000 100000\n", "pod__cpu_dot_max": "800000 100000\n"}, 5),
        ("0::/pod/one\n", {"pod__one__cpu_dot_max": "800000 100000\n", "pod__cpu_dot_max": "450000 100000\n"}, 5),
        ("0::/../of/the/host\n", {"cpu_dot_max": "300000 100000\n"}, 3),
        (
            "4:cpu,cpuacct:/pod\n",
            {"cpu__pod__cpu.cfs_quota_us": "400000", "cpu__pod__cpu.cfs_period_us": "100000"},
            4,
        ),
        ("4:cpu,cpuacct:/pod\n", {"cpu__pod__cpu.cfs_quota_us": "-1", "cpu__pod__cpu.cfs_period_us": "100000"}, MANY),
        ("4:cpu,cpuacct:/docker/4f\n", {"cpu__cpu.cfs_quota_us": "650000", "cpu__cpu.cfs_period_us": "100000"}, 7),
        ("9:cpuset:/pod\n", {"cpu__pod__cpu.cfs_quota_us": "1", "cpu__pod__cpu.cfs_period_us": "100000"}, MANY),
    ],
)
def test_the_least_of_the_limits_on_the_way_up_counts(tmp_path, groups, files, count, monkeypatch):
    monkeypatch.setattr(cpus, "cores", lambda: tuple(range(MANY)))  # so that the limits alone decide
    assert cpus.available(root(tmp_path, groups, **files)) == count


def test_there_is_always_one_core_and_never_more_than_the_process_may_run_on(tmp_path):
    for quota, count in (("10000 100000", 1), ("110000 100000", min(2, len(cpus.cores()))), ("max 100000", None)):
        folder = tmp_path / quota.split()[0]
        assert cpus.available(root(folder, "0::/\n", cpu_dot_max=quota)) == (count or len(cpus.cores()))


def test_a_machine_without_control_groups_has_its_cores(tmp_path):
    assert cpus.available(tmp_path) == len(cpus.cores()) >= 1


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system ties no process to a core")
def test_workers_are_tied_to_cores_of_their_own_and_share_them_when_there_are_too_few():
    allowed = cpus.cores()
    tied = []
    try:
        for worker in range(len(allowed) + 1):
            os.sched_setaffinity(0, allowed)
            cpus.pin(worker)
            tied.append(cpus.cores())
    finally:
        os.sched_setaffinity(0, allowed)
    assert tied == [(cpu,) for cpu in (*allowed, allowed[0])]
