"""Budget and schedule of a run by stated rules: a pure function of corpus, model and hours."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from detour.errors import DataError
from detour.units import short

RECIPE_TOKENS_PER_PARAMETER = 67  # 10B tokens of CLM for the 149.7M parameters of ModernBERT-base (arXiv 2605.12438)
MOST_EPOCHS = 4  # repeated text is worth nearly as much as new text up to here (arXiv 2305.16264)
DECAY_FRACTION = 0.1  # of the first phase; the best of 2.5 to 50% (arXiv 2605.12438)
WARMUP_FRACTION = 0.01  # 100M of 10B tokens (arXiv 2605.12438)
WARMUP_STEPS = 10  # at least: fewer are a staircase (`detour plan` warns)
RECIPE_STEP_TOKENS = 384 * 8192  # (arXiv 2605.12438)
WANTED_STEPS = 1000  # of the first phase: the decay then has a hundred
LEAST_STEPS = 10
LEAST_ROWS = 8  # per step
SEQ_LENS = (128, 256, 512, 1024, 2048, 4096, 8192)
WORTH_TOKENS_PER_PARAMETER = 1.0
SMALL_START = "jhu-clsp/ettin-encoder-17m"  # English (arXiv 2507.11412)

Bound = Literal["recipe", "corpus", "hours"]


@dataclass(frozen=True, kw_only=True)
class Budget:
    """Phases in whole steps.

    Attributes:
        seq_len: Tokens per row.
        rows: Rows per step.
        first_steps: Steps of the first phase, CLM or, in the twin, MLM.
        decay_steps: Steps of the decay.
        warmup_steps: Steps of the warm-up.
        bound: What the budget is limited by.
        epochs: How often the corpus is read in both phases together.
        tokens_per_parameter: Of the first phase.
    """

    seq_len: int
    rows: int
    first_steps: int
    decay_steps: int
    warmup_steps: int
    bound: Bound
    epochs: float
    tokens_per_parameter: float

    @property
    def step_tokens(self) -> int:
        """Tokens per step."""
        return self.rows * self.seq_len

    @property
    def first_tokens(self) -> int:
        """Tokens of the first phase."""
        return self.first_steps * self.step_tokens

    @property
    def decay_tokens(self) -> int:
        """Tokens of the decay."""
        return self.decay_steps * self.step_tokens

    @property
    def warmup_tokens(self) -> int:
        """Tokens of the warm-up."""
        return self.warmup_steps * self.step_tokens

    @property
    def tokens(self) -> int:
        """Tokens of the run."""
        return self.first_tokens + self.decay_tokens

    def interval(self, parts: int) -> int:
        """Tokens between events, about ``parts`` of which happen in the run; whole steps."""
        return max(1, (self.first_steps + self.decay_steps) // parts) * self.step_tokens


def choose_seq_len(p95: int, longest_document: int) -> int:
    """Row length: the least power of two that holds 95% of the documents whole, within what the model allows.

    Args:
        p95: Length that 95% of the documents do not exceed, in tokens.
        longest_document: Longest document of the model, in tokens.
    """
    allowed = [n for n in SEQ_LENS if n <= longest_document] or [longest_document]
    return next((n for n in allowed if n >= p95), allowed[-1])


def choose_budget(
    *, corpus_tokens: float, parameters: int, affordable_tokens: float, seq_len: int, devices: int
) -> Budget:
    """The budget of a detour; that of its twin is the same.

    The run's tokens are the least of: the paper's tokens per parameter, `MOST_EPOCHS` times the corpus, and what the hours
    allow. Steps are as large as the paper's, or smaller, until the first phase has `WANTED_STEPS` of them.

    Args:
        corpus_tokens: Tokens of the training text, each counted once.
        parameters: Of the model.
        affordable_tokens: Tokens of one run that the hours allow.
        seq_len: Tokens per row.
        devices: Processes; rows per step are a multiple of it.

    Raises:
        DataError: Not even `LEAST_STEPS` steps of the smallest size fit.
    """
    limits: dict[Bound, float] = {
        "recipe": RECIPE_TOKENS_PER_PARAMETER * parameters * (1 + DECAY_FRACTION),
        "corpus": MOST_EPOCHS * corpus_tokens,
        "hours": affordable_tokens,
    }
    bound = min(limits, key=lambda name: limits[name])
    first = limits[bound] / (1 + DECAY_FRACTION)
    rows = whole_rows(min(RECIPE_STEP_TOKENS, first / WANTED_STEPS) / seq_len, devices)
    first_steps = int(first / (rows * seq_len))
    if first_steps < LEAST_STEPS:
        reason = {
            "corpus": f"the text has {short(corpus_tokens)} tokens, to be read at most {MOST_EPOCHS} times",
            "hours": f"the hours allow {short(affordable_tokens)} tokens",
            "recipe": f"the model has {short(parameters)} parameters",
        }[bound]
        raise DataError(
            f"the budget is less than {LEAST_STEPS} steps of {rows} rows of {seq_len} tokens: {reason}; "
            + (
                "add text"
                if bound == "corpus"
                else f"raise --hours at least {LEAST_STEPS * rows * seq_len / first:.1f} times"
                if bound == "hours"
                else "take a larger model"
            )
        )
    decay_steps = max(1, round(DECAY_FRACTION * first_steps))
    tokens = (first_steps + decay_steps) * rows * seq_len
    return Budget(
        seq_len=seq_len, rows=rows, first_steps=first_steps, decay_steps=decay_steps,
        warmup_steps=warmup_steps(first_steps), bound=bound, epochs=tokens / corpus_tokens,
        tokens_per_parameter=first_steps * rows * seq_len / parameters,
    )  # fmt: skip


def warmup_steps(first_steps: int) -> int:
    """Steps of the warm-up: 1% of the first phase, at least `WARMUP_STEPS`, at most a tenth of the phase, never none."""
    return min(max(WARMUP_STEPS, round(WARMUP_FRACTION * first_steps)), max(1, first_steps // 10))


def whole_rows(limit: float, devices: int) -> int:
    """Rows per step: the largest of devices x 2^k and devices x 3 x 2^k that is at most the limit, and at least `LEAST_ROWS`."""
    sizes = sorted(devices * factor << k for factor in (1, 3) for k in range(20))
    least = next(size for size in sizes if size >= LEAST_ROWS)
    return max([size for size in sizes if size <= limit], default=least) if limit >= least else least


def warnings(budget: Budget, *, on_cpu: bool = False, language: str | None = None) -> list[str]:
    """What speaks against a detour of this size, one plain sentence each.

    Args:
        budget: The budget.
        on_cpu: Whether it is that of a large model on a CPU, where a smaller one is the better start.
        language: Main language of the text.
    """
    ratio = budget.tokens_per_parameter
    small = f"--model {SMALL_START}" if language == "en" else "--model with a small encoder of the text's language"
    lines = []
    if ratio < WORTH_TOKENS_PER_PARAMETER:
        lines.append(
            f"A detour is probably not worth paying for: {ratio:.2g} tokens per parameter, where the smallest published gain "
            f"rests on {RECIPE_TOKENS_PER_PARAMETER} (arXiv 2605.12438). At 0.6 tokens per parameter this project could not "
            "tell the two apart on labeled tasks, and its held-out MLM loss was 1 nat worse (docs/results/small.md in the "
            "repository of detour). Fine-tune the start model as it is, or train twin.yaml alone; `detour verdict` tries it on "
            "a small scale." + (f" On a CPU, try a small start ({small})." if on_cpu else "")
        )
    elif ratio < RECIPE_TOKENS_PER_PARAMETER / 2:
        lines.append(
            f"{ratio:.1f} tokens per parameter are fewer than in any published detour ({RECIPE_TOKENS_PER_PARAMETER}, "
            "arXiv 2605.12438): whether it gains is unknown. `detour verdict` tries it on a small scale first."
        )
    return lines
