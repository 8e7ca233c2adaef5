"""Readers of corpora, one file per format. All implement `base.Reader.read`."""

from detour.corpus.readers.base import InputFile, Reader, build, register
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
    "InputFile",
    "Jats",
    "Jsonl",
    "Parquet",
    "PubMed",
    "PubTator",
    "Reader",
    "Text",
    "build",
    "register",
]
