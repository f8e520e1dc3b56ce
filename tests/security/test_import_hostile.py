"""What tries to be more than numbers, or is broken, is refused in one line, and nothing of it is run."""

import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from kanserve import importers
from kanserve.errors import CheckpointError
from kanserve.importers import pykan_yaml
from kanserve.network.evaluate import evaluate
from tests.support.faults import hostile_checkpoints
from tests.support.peers import library_checkpoints
from tests.support.servers import server_process

ALL = pytest.mark.parametrize("library", importers.LIBRARIES)


@pytest.mark.slow
@pytest.mark.extended
def test_each_hostile_file_is_read_or_refused_in_one_line(outcomes):
    assert len(outcomes) > 1000
    for outcome in outcomes:
        assert outcome["kind"] in ("network", "refused", "OSError", "NotFoundError"), outcome
        assert "\n" not in outcome["said"] and outcome["said"].isprintable(), outcome
        assert outcome["kind"] == "network" or 10 < len(outcome["said"]) < 400 or outcome["name"] == "a long name", (
            outcome
        )


@pytest.mark.extended
def test_nothing_of_a_file_is_run_written_or_imported(outcomes):
    assert not [outcome for outcome in outcomes if outcome["deeds"]]


@pytest.mark.extended
def test_only_what_is_whole_becomes_a_network(outcomes):
    """A changed byte may be a digit of a number; what is cut off, or is something else, is never taken."""
    for outcome in outcomes:
        if outcome["kind"] != "network" or "flipped" in outcome["name"]:
            continue
        # What is left is settings: an odd value where none is needed, or the last line missing.
        assert outcome["name"].startswith("settings: "), outcome


@pytest.mark.slow
@pytest.mark.extended
def test_the_hook_hears_what_a_payload_does(tmp_path):
    """The test of the test: the same pickle, loaded as it should not be, is heard and leaves its mark."""
    script = (
        "import io, pickle, sys\nfrom tests.support.faults import hostile_checkpoints as all\n"
        "deeds = all.Deeds()\ndata = pickle.dumps([all.payloads()['system'], all.payloads()['exec']])\n"
        "deeds.watching = True\npickle.loads(data)\ndeeds.watching = False\nprint(sorted(set(deeds.seen)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env=server_process.ENVIRONMENT,
        capture_output=True,
        text=True,
        check=True,
    )
    for deed in ("compile", "exec", "open was-run to write", "os.system", "pickle.find_class"):
        assert repr(deed) in done.stdout
    assert (tmp_path / hostile_checkpoints.MARK).exists()


@pytest.mark.slow
@pytest.mark.extended
def test_settings_are_as_safe_without_the_library_of_yaml(monkeypatch):
    import yaml

    monkeypatch.delattr(yaml, "CSafeLoader", raising=False)
    for name, data in hostile_checkpoints.settings_files():
        try:
            assert isinstance(pykan_yaml.parse(data, "model_config.yml"), dict), name
        except CheckpointError as error:
            assert "\n" not in str(error), name


REQUIRED = {
    "pykan": ("act_fun.0.coef", "act_fun.0.grid", "act_fun.0.mask", "act_fun.0.scale_base", "act_fun.0.scale_sp"),
    "efficient-kan": ("layers.0.base_weight", "layers.0.spline_weight", "layers.0.grid"),
    "fast-kan": ("layers.0.rbf.grid", "layers.0.spline_linear.weight", "layers.0.base_linear.bias"),
    "inkan": ("layers.0.weight", "layers.0.grid_starts"),
    "jaxkan": ("layers.0.c_basis", "layers.0.grid"),
    "polynomial-kan": ("layers.0.cheby_coeffs",),
    "fourier-kan": ("layers.0.fouriercoeffs",),
    "rational-kan": ("act1.weight_numerator", "act1.weight_denominator", "fc1.weight"),
}


@ALL
def test_a_missing_array_is_an_error(library):
    for name in REQUIRED[library]:
        arrays = library_checkpoints.ARRAYS[library]()
        del arrays[name]
        with pytest.raises(CheckpointError) as caught:
            importers.from_checkpoint(arrays, library)
        assert "\n" not in str(caught.value)


@ALL
@pytest.mark.parametrize("change", ["shorter", "longer", "flat", "scalar", "one axis more", "empty", "turned"])
def test_an_array_of_another_shape_is_an_error_or_another_network(library, change):
    for name in library_checkpoints.ARRAYS[library]():
        arrays = library_checkpoints.ARRAYS[library]()
        arrays[name] = _changed(arrays[name], change)
        try:
            kan = importers.from_checkpoint(arrays, library).kan
        except CheckpointError as error:
            assert "\n" not in str(error)
            continue
        # The same numbers in a shape that says the same, or fewer of them where that says another width.
        assert evaluate(kan, np.zeros((1, len(kan.inputs)))).shape == (1, len(kan.outputs)), name


def _changed(array: Any, change: str) -> Any:
    match change:
        case "shorter":
            return array[..., :-1]
        case "longer":
            return np.concatenate([array, array], axis=-1)
        case "flat":
            return array.ravel()
        case "scalar":
            return array.ravel()[0].reshape(())
        case "one axis more":
            return array[None]
        case "empty":
            return array[:0]
        case _:
            return array.T


@ALL
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_number_that_is_none_is_an_error_with_its_place(library, value):
    for name in REQUIRED[library]:
        arrays = library_checkpoints.ARRAYS[library]()
        arrays[name].reshape(-1)[-1] = value
        with pytest.raises(CheckpointError, match=r"(?i)layer 1|act_fun\.0\."):
            importers.from_checkpoint(arrays, library)


@ALL
@pytest.mark.parametrize("kind", [np.complex64, "M8[s]", "S3", np.longdouble, object])
def test_an_array_that_holds_no_real_numbers_is_an_error(library, kind):
    for name in REQUIRED[library]:
        arrays = library_checkpoints.ARRAYS[library]()
        arrays[name] = np.zeros(arrays[name].shape, kind)
        with pytest.raises(CheckpointError, match="real numbers"):
            importers.from_checkpoint(arrays)
