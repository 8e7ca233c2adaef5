"""Where documents come from. One file a kind; all share the signature of `base.Source.read`."""

from data_prep.sources.base import Source, Unit, build, register
from data_prep.sources.brat import Brat
from data_prep.sources.cord19 import Cord19
from data_prep.sources.csv import Csv
from data_prep.sources.huggingface import HuggingFace
from data_prep.sources.jats import Jats
from data_prep.sources.jsonl import Jsonl
from data_prep.sources.parquet import Parquet
from data_prep.sources.pubmed import PubMed
from data_prep.sources.pubtator import PubTator
from data_prep.sources.text import Text

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
