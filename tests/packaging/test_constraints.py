"""constraints.txt: what every install of a checkout gets. `make check` asks uv whether it fits; these need no index."""

import importlib.util
import itertools
import re
import tomllib

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.support.paths import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
LINES = [line for line in (ROOT / "constraints.txt").read_text("utf-8").splitlines() if not line.startswith("#")]
LOCKED = [Requirement(line) for line in LINES]
EXTRAS = PROJECT["project"]["optional-dependencies"]


def wanted() -> list[Requirement]:
    """Every requirement of every extra and of the build, but kanserve's own extras."""
    every = [
        *PROJECT["project"]["dependencies"],
        *PROJECT["build-system"]["requires"],
        *itertools.chain(*EXTRAS.values()),
    ]
    return [text for text in map(Requirement, every) if text.name != "kanserve"]


def test_each_line_is_one_version_of_a_package_and_names_no_host():
    for line in LINES:
        assert re.fullmatch(r"[a-z0-9.-]+==[\w.]+( ; [\w.<>=!' ()]+)?", line), line


@pytest.mark.parametrize("python", ["3.11.0", "3.12.0", "3.13.0"])
def test_each_requirement_has_one_version_on_each_python_and_it_fits(python: str):
    environment = {"python_version": python.rpartition(".")[0], "python_full_version": python}
    for requirement in wanted():
        if requirement.name == "torch":  # whose build the machine chooses
            continue
        fits = [
            locked
            for locked in LOCKED
            if locked.name == canonicalize_name(requirement.name)
            and (locked.marker is None or locked.marker.evaluate(environment))
        ]
        assert len(fits) == 1, requirement
        (version,) = fits[0].specifier
        assert requirement.specifier.contains(version.version), (requirement, fits[0])


def test_torch_is_free_with_what_its_builds_for_gpus_need():
    assert not [name for name in LOCKED if re.match(r"torch$|triton$|nvidia-|cuda-", name.name)]


def needed(extra: str) -> set[str]:
    """The packages of an extra, with those of the extras that it names."""
    found: set[str] = set()
    for requirement in map(Requirement, EXTRAS[extra]):
        own = requirement.name != "kanserve"
        found |= {requirement.name} if own else set().union(*map(needed, requirement.extras))
    return found


def test_the_demo_installs_neither_torch_nor_what_only_tests_need():
    assert {"matplotlib", "onnxruntime", "sympy", "tritonclient"} <= needed("demo")
    assert not needed("demo") & {"torch", "scipy", "scikit-learn", "pyarrow", "pytest", "moto", "pandas"}


def test_torch_comes_by_its_own_extra_and_the_importers_only():
    users = {extra for extra in EXTRAS if "torch" in needed(extra)}
    assert users & {"all", "train", "studio", "demo", "serve", "notebook"} == set()
    assert {"torch", "import", "test"} <= users
    assert needed("train") | needed("serve") | needed("export") | needed("studio") | needed("sign") <= needed("all")


def test_what_changed_is_one_line_of_the_changelog():
    spec = importlib.util.spec_from_file_location("constraints", ROOT / ".ci" / "constraints.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    before = "a==1\nb==1 ; python_full_version < '3.12'\nb==2 ; python_full_version >= '3.12'\nc==1\n# free: torch==2\n"
    after = "a==1\nb==1 ; python_full_version < '3.12'\nb==3 ; python_full_version >= '3.12'\nd==1\n# free: torch==3\n"
    assert module.changes(before, after).partition(": ")[2] == "b 1/2 → 1/3, c 1 → gone, d new → 1.\n"
    assert module.changes(before, before) == ""
