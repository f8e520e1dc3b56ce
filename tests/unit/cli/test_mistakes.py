"""What a user may get wrong: each mistake is one clear line, exit code 2, and nothing half written."""

import shutil

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tests.support.servers import keys

TOO_LONG = "n" * 243 + ".safetensors"  # a name of 255 bytes, which leaves no room for that of the unfinished file

BAD = {
    "fit a missing file": (("fit", "none.csv", "-t", "z"), "does not exist"),
    "fit an empty file": (("fit", "empty.csv", "-t", "z"), "empty"),
    "fit a header only": (("fit", "header.csv", "-t", "z"), "no rows"),
    "fit text among numbers": (("fit", "text.csv", "-t", "z"), "'x' must be numbers; row 2 is 'abc'"),
    "fit infinity": (("fit", "infinite.csv", "-t", "z"), "'x' is inf in row 1"),
    "fit a missing answer": (("fit", "nan.csv", "-t", "x"), "'x' is nan in row 1"),
    "fit a wrong target": (("fit", "good.csv", "-t", "w"), "no column 'w'. Its columns: x, y, z"),
    "fit no target": (("fit", "good.csv"), "--target"),
    "fit one row": (("fit", "one.csv", "-t", "z"), "row"),
    "fit a folder": (("fit", "models", "-t", "z"), "folder"),
    "fit a wrong shape": (("fit", "good.csv", "-t", "z", "--hidden", "5,x"), "--hidden"),
    "fit over a file": (("fit", "good.csv", "-t", "z", "-o", "law.safetensors"), "there already"),
    "fit into no folder": (("fit", "good.csv", "-t", "z", "-o", "no/kan.safetensors"), "no folder"),
    "fit into what cannot be written": (("fit", "good.csv", "-t", "z", "-o", TOO_LONG), "cannot be written"),
    "fit a wrong target over a file": (("fit", "good.csv", "-t", "w", "-o", "law.safetensors"), "no column 'w'"),
    "fit a missing file over a file": (("fit", "none.csv", "-t", "z", "-o", "law.safetensors"), "does not exist"),
    "fit a wrong shape over a file": (
        ("fit", "good.csv", "-t", "z", "--hidden", "5,x", "-o", "law.safetensors"),
        "--hidden",
    ),
    "fit over its own table": (("fit", "good.csv", "-t", "z", "-f", "-o", "good.csv"), "an input of this command"),
    "fit columns of one name": (("fit", "twice.csv", "-t", "z"), "2 columns called 'x'"),
    "fit an unknown optimizer": (("fit", "good.csv", "-t", "z", "--optimizer", "sgd"), "'auto', 'lm'"),
    "simplify a missing file": (("simplify", "none", "good.csv"), "does not exist"),
    "simplify with other columns": (("simplify", "law.safetensors", "other.csv"), "no column 'y'"),
    "simplify a classifier without its classes": (("simplify", "classifier.safetensors", "good.csv"), "--target"),
    "simplify a truncated network": (("simplify", "cut.safetensors", "good.csv"), "not a kanserve network"),
    "simplify other columns over a file": (
        ("simplify", "law.safetensors", "other.csv", "-o", "good.csv"),
        "no column 'y'",
    ),
    "open a studio on inputs of a network": (("studio", "law.safetensors", "-i", "x"), "--input is for a table"),
    "open a studio on classes of a network": (("studio", "law.safetensors", "--classify"), "--classify is for a table"),
    "open a studio on a column that is not there": (("studio", "good.csv", "-t", "z", "-i", "w"), "no column 'w'"),
    "plot a missing file over a file": (("plot", "none", "-o", "good.svg"), "does not exist"),
    "plot a missing file": (("plot", "none"), "does not exist"),
    "plot to an unknown ending": (("plot", "law.safetensors", "-o", "n.txt"), ".png"),
    "plot a table": (("plot", "good.csv"), "not a kanserve network"),
    "export a truncated network": (("export", "cut.safetensors", "-o", "out"), "not a kanserve network"),
    "export an unknown format": (("export", "law.safetensors", "-o", "out", "--formats", "cobol"), "c_source"),
    "export a name that climbs": (("export", "law.safetensors", "-o", "out", "--name", "../x"), "name"),
    "publish a name that climbs": (("publish", "law.safetensors", "models", "--name", "../x"), "name"),
    "publish with a wrong table": (
        ("publish", "law.safetensors", "models", "--name", "a", "--data", "other.csv"),
        "'y'",
    ),
    "serve a missing repository": (("serve", "none"), "none"),
    "serve with an unknown backend": (("serve", "models", "--backend", "fortran"), "c_source"),
    "predict with nothing": (("predict", "nothing", "good.csv"), "host:port/name"),
    "predict with a near name": (("predict", "models/lew", "good.csv"), "Did you mean 'law'?"),
    "predict with the files in another order": (
        ("predict", "good.csv", "law.safetensors"),
        "good.csv: This is not a kanserve network but text, such as a table: give the .safetensors file",
    ),
    "predict a network": (("predict", "law.safetensors", "law.safetensors"), "is a network or another file of arrays"),
    "serve a network": (("serve", "law.safetensors"), "'law.safetensors' is a file, and a repository is a folder"),
    "import a table": (("import", "good.csv"), "good.csv is text, such as a table, and no checkpoint"),
    "fit a near target": (("fit", "good.csv", "-t", "Z"), "no column 'Z'. Did you mean 'z'?"),
    "fit numbers in doubt": (("fit", "doubt.csv", "-t", "z"), "'x' is in doubt: '1.234' may be 1.234 or 1234"),
    "predict other columns": (("predict", "law.safetensors", "other.csv"), "no column 'y'"),
    "predict from a flipped artifact": (("predict", "flipped", "good.csv"), "checksum"),
    "predict from a truncated artifact": (("predict", "truncated", "good.csv"), "bytes"),
    "predict from no server": (("predict", "127.0.0.1:1/law", "good.csv"), "127.0.0.1:1"),
    "predict other columns over a file": (
        ("predict", "law.safetensors", "other.csv", "-o", "good.csv"),
        "no column 'y'",
    ),
    "formula of a wrong target over a file": (
        ("formula", "good.csv", "-t", "w", "-o", "law.safetensors"),
        "no column 'w'",
    ),
    "formula of a truncated network": (("formula", "cut.safetensors"), "not a kanserve network"),
    "formula in an unknown style": (("formula", "law.safetensors", "--as", "word"), "latex"),
    "inspect a missing file": (("inspect", "none"), "does not exist"),
    "simplify with the files in another order": (
        ("simplify", "good.csv", "law.safetensors"),
        "good.csv: This is not a",
    ),
    "score with the files in another order": (("score", "good.csv", "law.safetensors"), "good.csv: This is not a"),
    "fit a table of control characters": (("fit", "controls.csv", "-t", "z"), "Expected 3 columns, got 1: ?[31mred"),
    "fit a table whose header is not UTF-8": (("fit", "header_latin.csv", "-t", "z"), "header_latin.csv is not UTF-8"),
    "fit a table whose text is not UTF-8": (
        ("fit", "latin.csv", "-t", "z"),
        "'x' must be numbers, got text that is not",
    ),
    "predict a file whose header is not UTF-8": (
        ("score", "header_latin.csv", "--model", "models/law"),
        "should be UTF-8 has the byte 0xf6",
    ),
    "fit an option without its value": (("fit", "good.csv", "--target"), "See 'kanserve fit --help'"),
    "a command of a session without a value": (
        ("session", "suggest", "s", "e", "--top"),
        "'kanserve session suggest -",
    ),
    "formula with too few processes": (("formula", "good.csv", "-t", "z", "--n-jobs", "-7"), "--n-jobs"),
    "import a missing file": (("import", "none"), "The file 'none' does not exist"),
    "publish into a file": (("publish", "law.safetensors", "good.csv", "--name", "a"), "good.csv is there already and"),
    "sign the folder of a model": (("sign", "models/law", "--key", "key.pem"), "Give one, as models/houses/1"),
    "predict from a port that is none": (
        ("predict", "localhost:99999/law", "good.csv"),
        "from 1 to 65535; got '99999'",
    ),
    "predict from a port that is text": (("predict", "localhost:abc/law", "good.csv"), "from 1 to 65535; got 'abc'"),
    "predict from a socket file that is none": (("predict", "unix:/none/law", "good.csv"), "unix:/run/kanserve.sock"),
    "predict from a URL of https": (("predict", "https://localhost:1/law", "good.csv"), "--tls or --tls-ca"),
    "predict to a full device": (
        ("predict", "law.safetensors", "good.csv", "-f", "-o", "/dev/full"),
        "/dev/full cannot be written: No space left",
    ),
    "inspect a folder that is no version": (("inspect", "models"), "models/houses/1"),
    "predict with a folder that is no model": (("predict", "models", "good.csv"), "models/houses/1"),
    "demo into a file": (("demo", "--folder", "good.csv"), "is a file"),
    "demo into a folder with other things": (("demo", "--folder", "models"), "not empty"),
    "an unknown command": (("fly",), "fly"),
    "a negative seed": (("fit", "good.csv", "-t", "z", "--seed", "-1"), "--seed"),
    "an unknown option": (("fit", "good.csv", "--fly"), "--fly"),
    "the formats by one format's name": (("export", "law.safetensors", "--format", "c_source"), "--formats"),
}


@pytest.mark.slow
@pytest.mark.extended
@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_clear_line_exit_code_2_and_nothing_half_written(case, folder, kanserve):
    _bad_files(folder)
    before = sorted(str(path) for path in folder.rglob("*"))
    words, message = BAD[case]
    code, out, err = kanserve(*words)
    assert (code, out) == (2, "")
    assert message in err and "Traceback" not in err
    assert err.count("\n") == 1 and err.startswith("kanserve: ")
    assert sorted(str(path) for path in folder.rglob("*")) == before


def _bad_files(folder):
    (folder / "empty.csv").write_text("")
    (folder / "header.csv").write_text("x,y,z\n")
    (folder / "text.csv").write_text("x,y,z\n1,2,3\nabc,2,3\n")
    (folder / "infinite.csv").write_text("x,y,z\ninf,2,3\n1,2,3\n")
    (folder / "nan.csv").write_text("x,y,z\nnan,2,3\n1,2,3\n")
    (folder / "twice.csv").write_text("x,x,z\n1,2,3\n")
    (folder / "controls.csv").write_text("x,y,z\n\x1b[31mred\n")
    (folder / "header_latin.csv").write_text("größe,y,z\n1,2,3\n", "latin-1")
    (folder / "doubt.csv").write_text("x;y;z\n1.234;2;3\n2.345;3;4\n")
    (folder / "latin.csv").write_text("x,y,z\ngroß,2,3\n", "latin-1")
    (folder / "key.pem").write_bytes(keys.pem(Ed25519PrivateKey.generate()))
    (folder / "one.csv").write_text("x,y,z\n1,2,3\n")
    (folder / "other.csv").write_text("x,q\n1,2\n")
    (folder / "good.svg").write_text("<svg/>")
    (folder / "cut.safetensors").write_bytes((folder / "law.safetensors").read_bytes()[:-9])
    for name in ("flipped", "truncated"):
        shutil.copytree(folder / "models/law/1", folder / name)
        path = folder / name / "numpy_source/law.py"
        data = bytearray(path.read_bytes())
        data[40] ^= 1
        path.write_bytes(data if name == "flipped" else data[:-1])
