import re
import subprocess
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from kanserve.network.export_options import ExportOptions, Precision
from kanserve_exporters import c_source as exporter
from tests.support.networks.kans import ZOO
from tests.support.paths import DOCS
from tests.support.programs import needs

pytestmark = pytest.mark.extended

DOCS = DOCS / "c.md"
# Even and uneven grids, splines that run out, functions, both, classes, products, affines.
NETWORKS: tuple[tuple[str, Precision], ...] = (
    ("uneven_knots", "float"),
    ("outside_zero", "double"),
    ("every_function", "float"),
    ("mixed", "double"),
    ("classifier", "float"),
    ("multiplication", "double"),
    ("raw_features", "float"),
)

needs_cppcheck = needs("cppcheck")


def explained() -> set[str]:
    """The rules that the table in docs/c.md lists."""
    return set(re.findall(r"^\| (\d+\.\d+) \| \S.*\|$", DOCS.read_text(), re.MULTILINE))


@pytest.mark.slow
@needs_cppcheck
@pytest.mark.parametrize(("name", "precision"), NETWORKS)
def test_every_rule_of_misra_that_the_plain_form_breaks_is_explained(tmp_path, name, precision):
    rules_of(tmp_path, exporter.export(ZOO[name](), ExportOptions("net", precision, hessian=True)))


@pytest.mark.slow
@needs_cppcheck
@pytest.mark.parametrize("name", ["categories", "classifier"])
def test_every_rule_of_misra_that_c_in_integers_breaks_is_explained(tmp_path, name):
    kan = ZOO[name]()
    kan = replace(kan, inputs=tuple(one if one.categories else replace(one, low=-1, high=1) for one in kan.inputs))
    rules_of(tmp_path, exporter.export(kan, ExportOptions("net", "int16")))


def rules_of(folder: Path, files: Mapping[str, bytes]) -> None:
    """Fails for a rule that the source of `net` breaks and the table in docs/c.md does not list."""
    for path, data in files.items():
        (folder / path).parent.mkdir(exist_ok=True)
        (folder / path).write_bytes(data)
    form = ("-Unet_FAST", "-Unet_VECTOR_MATH", "-U__clang__", "-U__FAST_MATH__")
    quiet = ("--quiet", "--suppress=missingIncludeSystem", "--suppress=normalCheckLevelMaxBranches")
    command = ("cppcheck", "--addon=misra", "--std=c99", "--enable=style", *quiet, *form, "--template={id}:{line}")
    done = subprocess.run([*command, "net.c"], cwd=folder, capture_output=True, text=True, check=False)
    found = set(done.stderr.split())
    rules = {rule.split(":")[0].removeprefix("misra-c2012-") for rule in found if rule.startswith("misra-")}
    assert rules, done.stdout + done.stderr
    assert not rules - explained(), rules - explained()
    assert not {rule for rule in found if not rule.startswith("misra-")}
