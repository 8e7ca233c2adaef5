from __future__ import annotations

import os
import re
from collections import Counter
from dataclasses import fields
from pathlib import Path

import pytest

from detour.corpus import readers, steps
from detour.corpus.config import load
from detour.corpus.steps import StepReport
from detour.corpus.text import Document
from detour.data.loader import StreamSpec, build_loader

FOLDER = Path(__file__).parents[2] / "data_prep"
SHARES = {
    "french_70_20_6_4": {"literature": 0.70, "coding_qa": 0.20, "emea": 0.06, "e3c": 0.04},
    "english_50b_60_20_20": {"biomed_enriched": 0.60, "instructions": 0.20, "mimic_iii": 0.20},
    "english_10b_80_20": {"biomed_enriched": 0.80, "mediflow": 0.20},
}
INSTRUCTIONS = ("reasonmed", "mediflow", "meds_ins", "ultramedical", "ehr_ins")


@pytest.fixture(autouse=True)
def _corpora(monkeypatch, tmp_path):
    monkeypatch.setenv("DETOUR_CORPORA", os.environ.get("DETOUR_CORPORA", str(tmp_path)))


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_data_yaml_is_a_valid_preparation(path):
    config = load(path)
    assert len(config.sources) > 1


def group_of(recipe: str, source: str) -> str:
    return "instructions" if recipe == "english_50b_60_20_20" and source in INSTRUCTIONS else source


@pytest.mark.parametrize("recipe", SHARES)
def test_a_stream_of_the_mixture_has_the_papers_proportions(recipe, write_rows_of):
    """Over an epoch and over its first quarter, whatever the sizes of the sources."""
    sources = load(FOLDER / f"{recipe}.yaml").sources
    sizes = [37 * (i + 1) ** 2 for i in range(len(sources))]
    streams, groups = [], []
    for source, rows in zip(sources, sizes, strict=True):
        streams.append(StreamSpec(path=str(write_rows_of(source.name, rows)), proportion=source.proportion))
        groups += [group_of(recipe, source.name)] * rows
    loader = build_loader(
        streams=streams,
        device_batch_size=4,
        shuffle=True,
        shuffle_seed=42,
        canonical_nodes=1,
        workers=0,
        drop_last=False,
    )
    seen = [groups[i] for batch in loader for i in batch["sample_id"].tolist()]
    assert len(seen) >= sum(sizes) - 4
    for part, tolerance in ((seen, 0.01), (seen[: len(seen) // 4], 0.08)):
        counts = Counter(part)
        assert {name: counts[name] / len(part) for name in counts} == pytest.approx(SHARES[recipe], abs=tolerance)


@pytest.mark.parametrize(("metadata", "copies"), [
    ({"document_type": "Clinical case", "domain": "clinical"}, 100),
    ({"document_type": "Clinical case", "domain": "biomedical"}, 100),
    ({"document_type": "Other", "domain": "clinical"}, 10),
    ({"document_type": "Study", "domain": "biomedical"}, 1),
])  # fmt: skip
def test_clinical_cases_count_a_hundred_times_and_other_clinical_text_ten(metadata, copies):
    documents = iter([Document("x", "a", None, Path("x"), metadata=metadata)])
    for step in load(FOLDER / "english_10b_80_20.yaml").steps:
        if step.kind == "upsample":
            documents = steps.build(step.kind, step.options).apply(documents, StepReport())
    assert [document.repeats for document in documents] == [copies]


@pytest.mark.parametrize(("score", "kept"), [(2.9, 0), (3, 1), (4.5, 1), (None, 0)])
def test_the_50b_mixture_keeps_text_with_a_score_of_three_and_more(score, kept):
    (step,) = [step for step in load(FOLDER / "english_50b_60_20_20.yaml").steps if step.kind == "score"]
    document = Document("x", "a", None, Path("x"), metadata={"educational_score": score})
    assert len(list(steps.build(step.kind, step.options).apply([document], StepReport()))) == kept


def test_the_documentations_example_is_a_valid_preparation(tmp_path):
    page = (FOLDER.parent / "docs" / "data_prepare.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```yml\n(.*?)```", page, re.DOTALL)
    for block in blocks:
        (tmp_path / "example.yaml").write_text(block, encoding="utf-8")
        load(tmp_path / "example.yaml")
    assert blocks


def test_the_documentation_names_every_source_step_and_option():
    page = (FOLDER.parent / "docs" / "data_prepare.md").read_text(encoding="utf-8")
    for kinds in (readers.base.kinds, steps.base.kinds):
        for kind in kinds.registry.names():
            assert f"| `{kind}` |" in page
            for field in fields(kinds.registry.get(kind)):
                assert f"`{field.name}`" in page, f"{kind}: {field.name}"
