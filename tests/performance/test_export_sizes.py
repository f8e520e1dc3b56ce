"""What exports may cost: bytes exactly, and CPU time that grows no faster than the network."""

import resource

import pytest

import kanserve_exporters
from kanserve.network.export_options import ExportOptions, Precision
from kanserve.network.kan import Kan
from tests.support.c_builds import C, run
from tests.support.networks.sized_networks import all_symbolic, splines
from tests.support.row_agreement import TYPES
from tests.support.work_costs import ratio

KINDS = ("c_source", "numpy_source", "onnx_graph")


def exported(kind: str, kan: Kan, precision: Precision) -> dict[str, bytes]:
    return dict(kanserve_exporters.get(kind).export(kan, ExportOptions("net", precision)))


@pytest.mark.timing
@pytest.mark.parametrize("precision", [pytest.param("double", marks=pytest.mark.extended), "float"])
def test_a_law_of_600_edges_is_50_kilobytes_of_c_and_takes_as_much_more_as_it_is_larger(precision, tmp_path):
    """Than one of 200 edges: to write, and to compile."""
    large, small = all_symbolic(5, 20, 20, 5), all_symbolic(5, 10, 10, 5)
    assert large.edges == 3 * small.edges == 600
    exported("c_source", splines(1, 1), precision)  # what is imported or set up once
    writing = ratio(
        lambda: exported("c_source", large, precision), lambda: exported("c_source", small, precision), rounds=2
    )
    for name, kan in (("large", large), ("small", small)):
        files = exported("c_source", kan, precision)
        (tmp_path / name).mkdir()
        for path in ("net.h", "net.c"):
            (tmp_path / name / path).write_bytes(files[path])
    size = (tmp_path / "large/net.c").stat().st_size
    assert size <= 50 * 1024, size
    compiling = ratio(
        lambda: run(*C, "-O2", "-c", "net.c", at=tmp_path / "large"),
        lambda: run(*C, "-O2", "-c", "net.c", at=tmp_path / "small"),
        lambda: resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime,
        rounds=2,
    )
    assert max(writing, compiling) < 1.5 * 3, (writing, compiling)


@pytest.mark.timing
@pytest.mark.parametrize("precision", TYPES)
@pytest.mark.parametrize("kind", KINDS)
def test_splines_of_3_times_as_many_edges_take_no_more_than_so_much_longer_to_write(kind, precision):
    large, small = splines(98, 64, 10), splines(24, 64, 10)
    files = exported(kind, large, precision)
    slower = ratio(lambda: exported(kind, large, precision), lambda: exported(kind, small, precision), rounds=2)
    assert slower < 1.25 * large.edges / small.edges, slower
    # 9 numbers an edge; text takes three times the bytes of a number, and tables of local polynomials more numbers.
    least = 9 * large.edges * (8 if precision == "double" else 4)
    assert sum(map(len, files.values())) < {"onnx_graph": 1.5, "numpy_source": 8, "c_source": 8}[kind] * least
