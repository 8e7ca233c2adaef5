"""The model card, read back as a reader's program reads it: CommonMark with GitHub's tables, and the hub's own header."""

from __future__ import annotations

import pytest
from huggingface_hub import ModelCard
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from detour.cost.ledger import PhaseCost
from detour.export.card import model_card
from detour.markup import markdown

HOSTILE = [
    "a | b", "a\n---\nlicense: mit", "<script>alert(1)</script>", "**bold** _it_ `code` ~~gone~~", "[x](http://x.example)",
    "![x](y)", "# head", "\\| \\", "a\r\n| c | d |", "&lt; &amp;", "x\u2028y", "- item", "$$x$$", "https://x.example/a_b",
]  # fmt: skip


def card(
    *,
    name="run",
    phase="p",
    license="CC0",
    path="corpus.jsonl",
    init=None,
    value="1",
    option="x",
    decay=None,
    optimizer=None,
    rope=None,
    data=None,
    streams=None,
    sources=1,
):
    cost = PhaseCost(
        phase=phase, objective="mlm", tokens=5, supervised=1, flops=1e9, device_seconds=1.0, matmul_flops=4e9, steps=1,
        skipped=0,
    )  # fmt: skip
    config = {
        "name": name,
        "model": {"init": init, "size": "tiny", "architecture": {}},
        "phases": [
            {
                "name": phase,
                "objective": "mlm",
                "options": {"rate": option},
                "tokens": 10,
                "optimizer": optimizer,
                "rope": rope,
                "data": data,
                "streams": streams,
            }
        ],
        "schedule": {"peak_lr": 1e-3, "warmup_tokens": 0, "decay_phase": decay, "shape": "linear", "final_lr": 0.0},
        "optimizer": {"name": "adamw", "betas": [0.9, 0.98], "eps": 1e-6, "weight_decay": 0.1},
        "data": {"global_batch_size": 4, "seq_len": 64, "shuffle_seed": 1},
        "seed": 1,
    }
    source = {"path": path, "documents": 3, "license": license, "sha256": "0123456789abcdef" * 4}
    record = {"config": config, "environment": {"detour": "1", "machine": value}, "sources": [source] * sources}
    return model_card(name=name, tokens=5, record=record, costs=[cost])


def shown(text: str) -> tuple[list[str], list[str], list[list[str]]]:
    """Headings, list items and table rows of Markdown as a reader sees them. Asserts that no HTML is passed on."""
    tokens = MarkdownIt("gfm-like", {"linkify": False}).parse(text)
    assert not [token for token in tokens if token.type.startswith("html")]
    found: dict[str, list] = {"heading_open": [], "list_item_open": [], "tr_open": []}
    kind = ""
    for token in tokens:
        if token.type in found:
            kind = token.type
            if kind == "tr_open":
                found[kind].append([])
        if token.type == "inline" and kind:
            assert {child.type for child in token.children or []} <= {"text", "text_special"}, token.content
            content = "".join(child.content for child in token.children or [])
            (found[kind][-1] if kind == "tr_open" else found[kind]).append(content)
        if token.type in ("heading_close", "list_item_close", "tr_close"):
            kind = ""
    return found["heading_open"], found["list_item_open"], found["tr_open"]


@pytest.mark.parametrize("text", HOSTILE)
def test_what_others_wrote_is_shown_as_it_is(text):
    page = card(
        name=text, phase=text, license=text, path=f"folder/{text.replace('/', '')}", value=text, option=text, decay=text
    )
    line = " ".join(text.split())
    headings, items, rows = shown(ModelCard(page).text)
    assert headings == [line, "Phases and cost", "Data", "Environment"]
    assert f"machine: {line}" in items
    (phases_header, phase, data_header, data) = rows
    assert phase[:3] == [line, f"mlm (rate {line})", "10"]
    assert (len(phase), len(data)) == (len(phases_header), len(data_header))
    assert data == [" ".join(text.replace("/", "").split()), "3", line, "0123456789abcdef"]


def test_what_a_phase_changes_of_optimizer_and_positions_follows_the_settings_of_the_run():
    text = " ".join(card(optimizer={"betas": [0.8, 0.9], "weight_decay": 0.3}).split())
    assert "weight decay 0.1; in phase p betas (0.8, 0.9), weight_decay 0.3. Batch" in text
    assert "weight decay 0.1. Batch" in " ".join(card().split())
    scaling = {"rope_type": "yarn", "factor": 8.0, "original_max_position_embeddings": 1024}
    assert "scaling yarn (factor 8, original_max_position_embeddings 1,024) in phase p." in card(
        rope={"scaling": scaling}
    )
    text = " ".join(card(rope={"theta": 160_000.0}).split())
    assert "weight decay 0.1. Rotary positions: theta 160,000 in phase p. Batch" in text


def test_what_a_phase_reads_follows_the_batch_of_the_run_and_many_files_are_summed_up():
    streams = {"pairs": {"seq_len": 128, "global_batch_size": 16}}
    text = " ".join(card(data={"seq_len": 512}, streams=streams, sources=53).split())
    own = "4 sequences of 512 tokens and 16 sequences of 128 tokens of the stream pairs"
    assert f"Batch: 4 sequences of 64 tokens; in phase p {own}. Seed" in text
    assert text.count("| 0123456789abcdef |") == 50
    assert "| 3 more files | 9 | | | Document licenses" in text


@given(st.text(max_size=40))
def test_any_text_is_one_cell_and_is_shown_as_it_is(text):
    """Of the characters that Markdown itself replaces only NUL is left out."""
    text = text.replace("\x00", "")
    rows = shown(f"| {markdown('x' + text)} | b |\n|---|---|\n| {markdown('x' + text)} | d |\n")[2]
    line = " ".join(f"x{text}".split())
    assert rows == [[line, "b"], [line, "d"]]


@pytest.mark.parametrize(
    "init", ["a\nlicense: mit", "a: b", "/data/private/model", "../model", "[x]", "x" * 200, "${oc.env:M}/m"]
)
def test_a_start_that_is_no_name_of_the_hub_is_not_in_the_header(init):
    page = card(init=init)
    data = ModelCard(page).data.to_dict()
    assert data == {
        "library_name": "transformers",
        "pipeline_tag": "fill-mask",
        "tags": ["modernbert", "fill-mask", "causal-detour"],
    }
    assert "trained from a local folder" in page


def test_a_start_from_the_hub_is_the_base_model():
    page = ModelCard(card(init="answerdotai/ModernBERT-base"))
    assert page.data.base_model == "answerdotai/ModernBERT-base"
    assert "trained from answerdotai/ModernBERT-base for 5 tokens" in page.text.replace("\\", "")
    assert "no decay" in page.text
