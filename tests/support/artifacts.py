"""A small artifact to break, and manifests with right checksums that say what they should not."""

import hashlib
import json

from kanserve.artifact import assemble, format
from kanserve.network.evaluate import evaluate
from kanserve.network.training_range import finite_rows
from tests.support.networks.kans import one_edge


def small(kan=None, **options):
    """An artifact of a tiny network whose backend is a text."""
    kan = kan or one_edge()
    x = finite_rows(kan, 3)
    parts = {"numpy_source/model.py": b"print('hello')\n", "other/deep/er/file.txt": b""}
    return assemble(kan, parts, formulas=[{"text": "y"}], golden=(x, evaluate(kan, x)), **options)


def sealed(body):
    """A manifest's bytes with the right checksum, whatever they say: what an attacker writes."""
    return b'{\n "checksum": "%s",\n' % hashlib.sha256(body).hexdigest().encode() + body


def body():
    return format.dumps(small().manifest).split(b"\n", 2)[2]


def edited(change):
    value = json.loads(b"{" + body())
    change(value)
    return json.dumps(value, sort_keys=True, indent=1).removeprefix("{\n").encode() + b"\n"
