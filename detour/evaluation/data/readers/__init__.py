"""Readers of labeled examples, one module per file format. Every reader subclasses `base.Reader`."""

from detour.evaluation.data.readers.base import Reader, build, folder_of, problems_of_options, registry
from detour.evaluation.data.readers.bioc import BioC
from detour.evaluation.data.readers.brat import Brat
from detour.evaluation.data.readers.conll import Conll
from detour.evaluation.data.readers.fracco import Fracco
from detour.evaluation.data.readers.frasimed import Frasimed
from detour.evaluation.data.readers.hub import Hub
from detour.evaluation.data.readers.local import Local
from detour.evaluation.data.readers.meddialog import MedDialog
from detour.evaluation.data.readers.pubtator import PubTator

__all__ = [
    "BioC",
    "Brat",
    "Conll",
    "Fracco",
    "Frasimed",
    "Hub",
    "Local",
    "MedDialog",
    "PubTator",
    "Reader",
    "build",
    "folder_of",
    "problems_of_options",
    "registry",
]
