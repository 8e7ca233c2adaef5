"""Where labeled examples come from. One file a form; all share the signature of `base.Source.read`."""

from detour.evaluation.data.readers.base import Source, build, registry
from detour.evaluation.data.readers.bioc import BioC
from detour.evaluation.data.readers.brat import Brat
from detour.evaluation.data.readers.conll import Conll
from detour.evaluation.data.readers.hub import Hub
from detour.evaluation.data.readers.local import Local

__all__ = ["BioC", "Brat", "Conll", "Hub", "Local", "Source", "build", "registry"]
