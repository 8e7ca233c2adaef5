"""Where documents come from. One file a kind; all share the signature of `base.Source.read`."""

from detour.corpus.readers.base import Source, Unit, build, register
from detour.corpus.readers.brat import Brat
from detour.corpus.readers.cord19 import Cord19
from detour.corpus.readers.csv import Csv
from detour.corpus.readers.huggingface import HuggingFace
from detour.corpus.readers.jats import Jats
from detour.corpus.readers.jsonl import Jsonl
from detour.corpus.readers.parquet import Parquet
from detour.corpus.readers.pubmed import PubMed
from detour.corpus.readers.pubtator import PubTator
from detour.corpus.readers.text import Text

__all__ = [
    "Brat",
    "Cord19",
    "Csv",
    "HuggingFace",
    "Jats",
    "Jsonl",
    "Parquet",
    "PubMed",
    "PubTator",
    "Source",
    "Text",
    "Unit",
    "build",
    "register",
]
