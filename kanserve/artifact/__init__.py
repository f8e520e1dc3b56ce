"""The artifact: the files of one trained model. `format` says what they are, `directory` puts them on disk."""

from kanserve.artifact.directory import read, write
from kanserve.artifact.format import Artifact, Entry, Manifest, Metrics, assemble

__all__ = ["Artifact", "Entry", "Manifest", "Metrics", "assemble", "read", "write"]
