"""Where labelled examples come from. One file a form; all share the signature of `base.Source.read`."""

from detour.evaluation.sources.base import Source, build, folder_of, registry
from detour.evaluation.sources.bioc import BioC
from detour.evaluation.sources.brat import Brat
from detour.evaluation.sources.conll import Conll
from detour.evaluation.sources.hub import Hub
from detour.evaluation.sources.local import Local
from detour.evaluation.sources.pubtator import PubTator

__all__ = ["BioC", "Brat", "Conll", "Hub", "Local", "PubTator", "Source", "build", "folder_of", "registry"]
