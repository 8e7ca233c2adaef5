"""The reasons behind the choices of a new project, and warnings about its text and start model, as sentences."""

from __future__ import annotations

from detour.init import budget as rules
from detour.init.budget import Budget
from detour.init.start import Start, is_cached
from detour.init.text import Text, Tokens
from detour.units import short


def reasons(
    tokens: Tokens, start: Start, budget: Budget, *, why_start: str, hours: float, corpus_tokens: float
) -> dict[str, str]:
    """The reasons behind numbers, as comments."""
    recipe = rules.RECIPE_TOKENS_PER_PARAMETER * start.architecture.parameters
    bound = {
        "recipe": f"the paper's {rules.RECIPE_TOKENS_PER_PARAMETER} tokens per parameter, {short(recipe)} (arXiv 2605.12438)",
        "corpus": f"{rules.MOST_EPOCHS} epochs of {short(corpus_tokens)} training tokens",
        "hours": f"what {hours:g} hours allow for the detour and its twin",
    }[budget.bound]
    return {
        "start": f"{why_start}. Alternatives: docs/families.md in the repository of detour.",
        "seq_len": _why_seq_len(tokens, start, budget.seq_len),
        "rows": f"Steps of at most the paper's {rules.RECIPE_STEP_TOKENS:,} tokens, and smaller until the first phase has about "
        f"{rules.WANTED_STEPS:,} of them (the decay then has a hundred); at least {rules.LEAST_ROWS} rows.",
        "budget": f"The budget is {bound}, the least of three: the paper's, the corpus's and the hours'. That is "
        f"{budget.tokens_per_parameter:.2g} tokens per parameter in the first phase.",
        "epochs": f"{budget.epochs:.2g} epochs; at most {rules.MOST_EPOCHS}, since further repetition is worth less than "
        "new text (arXiv 2305.16264).",
        "micro_batch": "Rows per forward pass of a device: the most that memory is estimated to hold; changes speed, not "
        "results. detour tune detour.yaml measures it.",
    }  # fmt: skip


def _why_seq_len(tokens: Tokens, start: Start, seq_len: int) -> str:
    """What decided the row length, and what becomes of longer documents."""
    split = f"{tokens.longer_than(seq_len):.1%} of the documents are longer and are split"
    if tokens.p95 <= seq_len:
        least = rules.SEQ_LENS[0]
        decided = f"The least power of two, from {least}, that holds 95% of the documents whole ({tokens.p95:,} tokens)"
    elif seq_len < rules.SEQ_LENS[-1]:
        decided = (
            f"The start model decides: it reads at most {start.architecture.longest_document:,} tokens, too few to hold 95% of "
            f"the documents whole ({tokens.p95:,} tokens)"
        )
    else:
        decided = f"The paper's, and the longest here; 95% of the documents have at most {tokens.p95:,} tokens"
    return f"{decided}; {split}. Attention never crosses documents, so longer rows do not lengthen short ones. The paper: 8192."


def text_warnings(text: Text, tokens: Tokens, start: Start, seq_len: int) -> list[str]:
    """What the row length and the sources cost, and whether the start model has to be downloaded; one sentence or two each."""
    lines = []
    if tokens.p95 > seq_len:
        lines.append(
            f"{tokens.longer_than(seq_len):.0%} of the documents are longer than a row of {seq_len:,} tokens and are split; no "
            "token attends to another part of its document."
            + (" A start model that reads longer documents would hold them." if seq_len < rules.SEQ_LENS[-1] else "")
        )
    lines += [
        f"The {source.kind} files hold several languages and are one source ({source.mixed}): there will be no held-out loss by "
        "language. For that, make a source per language in recipe.yaml, and name their folders in detour.yaml."
        for source in text.sources
        if source.mixed
    ]
    if not start.local and not is_cached(start.name):
        lines.append(
            f"{start.name} is not in this machine's Hugging Face cache: preparing and training download it. Without a network, "
            "download it elsewhere and name its folder with --model, or copy the cache here and set HF_HUB_OFFLINE=1."
        )
    return lines
