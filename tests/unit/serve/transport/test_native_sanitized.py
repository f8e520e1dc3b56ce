"""The tests of the native transport by libraries with sanitizers; and the inputs of the fuzzers."""

import re
import shutil
import subprocess

import pytest

from tests.support import programs
from tests.support.faults import fuzzers, server_sanitized
from tests.support.servers.loop_server import needs_native


@pytest.fixture(scope="module")
def libraries(tmp_path_factory):
    needs_native()
    programs.want("gcc")
    return server_sanitized.built(tmp_path_factory.mktemp("sanitized"))


@pytest.mark.extended
@pytest.mark.slow
@pytest.mark.exhaustive  # three minutes; `make sanitized` is part of CI
def test_the_tests_pass_with_sanitizers(libraries):
    done = server_sanitized.run(libraries)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-6000:]


@pytest.mark.extended
@pytest.mark.slow
def test_a_server_that_was_stopped_and_freed_has_given_all_back(libraries):
    assert server_sanitized.leaks(libraries) == []


@pytest.mark.extended
@pytest.mark.slow
def test_models_are_replaced_under_load_without_a_race_and_no_answer_is_of_two(tmp_path):
    needs_native()
    compiler = programs.want("gcc")
    empty = "int main(void) { return 0; }"
    # Its runtime does not start where memory is at more random addresses than it knows.
    fixed = ["setarch", "-R"] if shutil.which("setarch") else []
    trial = subprocess.run(
        [compiler, "-fsanitize=thread", "-x", "c", "-", "-o", tmp_path / "trial"],
        input=empty,
        text=True,
        capture_output=True,
    )
    if trial.returncode or subprocess.run([*fixed, tmp_path / "trial"], capture_output=True).returncode:
        pytest.skip("ThreadSanitizer does not run here")
    done = subprocess.run(
        [*fixed, fuzzers.racing(tmp_path, compiler), "2000"], capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stdout + done.stderr[-6000:]
    here, aside = map(int, re.findall(r"\d+", done.stdout))
    assert here > 0 and aside > 0


@pytest.mark.extended
@pytest.mark.slow
@pytest.mark.parametrize("name", fuzzers.FUZZERS)
def test_the_inputs_of_the_fuzzers_and_what_they_found_pass(tmp_path, name):
    needs_native()
    if fuzzers.lacks(name):
        pytest.skip(f"needs {fuzzers.lacks(name)}")
    program = fuzzers.compiled(tmp_path, name, programs.want("gcc"), libfuzzer=False)
    fuzzers.write_seeds(tmp_path, name)
    found = sorted((fuzzers.REGRESSIONS / name).glob("*")) if (fuzzers.REGRESSIONS / name).is_dir() else []
    inputs = [*tmp_path.glob("seed-*"), *found]
    done = subprocess.run([program, *inputs], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, f"{len(inputs)} inputs\n"), done.stderr[-6000:]
