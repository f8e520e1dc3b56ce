"""How many cores a process may use: of its affinity and of the control groups that it is in."""

import os
from pathlib import Path

import pytest

from kanserve.serve.scheduling import cpus


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
    ("groups", "files", "quota"),
    [
        ("0::/\n", {}, None),
        ("0::/\n", {"cpu_dot_max": "max 100000\n"}, None),
        ("0::/\n", {"cpu_dot_max": "150000 100000\n"}, 1.5),
        ("0::/pod/one\n", {"pod__one__cpu_dot_max": "max 100000\n", "pod__cpu_dot_max": "200000 100000\n"}, 2.0),
        ("0::/pod/one\n", {"pod__one__cpu_dot_max": "50000 100000\n", "pod__cpu_dot_max": "200000 100000\n"}, 0.5),
        ("0::/../of/the/host\n", {"cpu_dot_max": "300000 100000\n"}, 3.0),
        (
            "4:cpu,cpuacct:/pod\n",
            {"cpu__pod__cpu.cfs_quota_us": "400000", "cpu__pod__cpu.cfs_period_us": "100000"},
            4.0,
        ),
        ("4:cpu,cpuacct:/pod\n", {"cpu__pod__cpu.cfs_quota_us": "-1", "cpu__pod__cpu.cfs_period_us": "100000"}, None),
        ("4:cpu,cpuacct:/docker/4f\n", {"cpu__cpu.cfs_quota_us": "50000", "cpu__cpu.cfs_period_us": "100000"}, 0.5),
        ("9:cpuset:/pod\n", {"cpu__pod__cpu.cfs_quota_us": "1", "cpu__pod__cpu.cfs_period_us": "100000"}, None),
    ],
)
def test_the_least_of_the_limits_on_the_way_up_counts(tmp_path, groups, files, quota):
    assert cpus._quota(root(tmp_path, groups, **files)) == quota


def test_there_is_always_one_core_and_never_more_than_the_process_may_run_on(tmp_path, monkeypatch):
    for quota, count in (("10000 100000", 1), ("110000 100000", min(2, len(cpus.cores()))), ("max 100000", None)):
        folder = tmp_path / quota.split()[0]
        monkeypatch.setattr(cpus, "_ROOT", root(folder, "0::/\n", cpu_dot_max=quota))
        assert cpus.available() == (count or len(cpus.cores()))


def test_a_machine_without_control_groups_has_its_cores(tmp_path, monkeypatch):
    monkeypatch.setattr(cpus, "_ROOT", tmp_path)
    assert cpus.available() == len(cpus.cores()) >= 1


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
