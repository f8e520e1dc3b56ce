"""Artifacts: the files of a trained model. `format` defines them, `directory` reads and writes them."""

from kanserve.artifact.directory import read, write
from kanserve.artifact.format import Artifact, Entry, Manifest, Metrics, assemble

__all__ = ["Artifact", "Entry", "Manifest", "Metrics", "assemble", "read", "write"]
