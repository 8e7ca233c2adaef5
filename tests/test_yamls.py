"""The runs that come with the library: all load, twins differ in their phases alone, the paper's figures are kept."""

from dataclasses import asdict
from pathlib import Path

import pytest
import yaml

from detour.config.load import load
from detour.config.schema import RunConfig
from detour.phases import Freeze

FOLDER = Path(__file__).parents[1] / "yamls"
FILES = sorted(path for path in FOLDER.rglob("*.yaml") if not {"experiments", "heads"} & {*path.parts})
PATH_OF = {path.stem: path for path in FILES}
ORDERS = ["order_mlm_clm_mlm", "order_clm_mlm_mlm", "order_clm_last", "order_alternating"]
SHARES = [0, 25, 50, 75, 100]
FREEZES = {"low_clm": ("detour", "0-7"), "mid_clm": ("detour", "8-14"), "low_decay": ("decay", "0-7")}
ARMS = [  # each differs from the first of its group in name and phases alone, and has as many tokens
    ["base_clm_detour", "base_mlm_twin", *ORDERS],
    ["base_clm_detour_50b", "base_mlm_twin_50b"],
    ["large_clm_detour", "large_mlm_twin"],
    ["fr_base_clm_detour", "fr_base_mlm_twin", *(f"fr_base_freeze_{name}" for name in FREEZES)],
    ["fr_large_clm_detour", "fr_large_mlm_twin"],
    ["camembertv2_clm_detour", "camembertv2_mlm_twin"],
    [f"biphasic_clm{share}" for share in SHARES],
]
PAIRS = [pytest.param(group[0], other, id=other) for group in ARMS for other in group[1:]]
# file -> init, size, tokens of the first phase, tokens of the decay: method.md, section 1
BUDGETS = {
    "base_clm_detour": ("answerdotai/ModernBERT-base", "modernbert-base", 10_000_000_000, 1_000_000_000),
    "base_clm_detour_50b": ("answerdotai/ModernBERT-base", "modernbert-base", 50_000_000_000, 5_000_000_000),
    "large_clm_detour": ("answerdotai/ModernBERT-large", "modernbert-large", 50_000_000_000, 5_000_000_000),
    "fr_base_clm_detour": ("almanach/moderncamembert-base", "moderncamembert-base", 10_000_000_000, 1_000_000_000),
    "camembertv2_clm_detour": ("almanach/camembertv2-base", "camembertv2-base", 10_000_000_000, 1_000_000_000),
    "fr_large_clm_detour": ("almanach/moderncamembert-large", "moderncamembert-large", 25_000_000_000, 2_500_000_000),
}


def run_of(name: str) -> RunConfig:
    return load(PATH_OF[name])


def total(run: RunConfig) -> int:
    return run.phase_schedule.total_tokens


def spent_on(run: RunConfig, objective: str) -> int:
    """Tokens under an objective before the decay."""
    return sum(p.tokens for p in run.phases if p.objective == objective and p.name != run.schedule.decay_phase)


def test_there_are_yamls_and_every_group_names_files_that_exist():
    assert len(FILES) > 20
    assert {name for group in ARMS for name in group} | set(BUDGETS) <= {path.stem for path in FILES}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_it_loads_and_is_named_after_its_file(path):
    assert load(path).name == path.stem


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_it_says_nothing_that_its_base_says_already(path):
    own = yaml.safe_load(path.read_text())
    if "extends" not in own:
        return
    base = yaml.safe_load((path.parent / own.pop("extends")).read_text())

    def repeated(part, under, where=""):
        for key, value in part.items():
            if isinstance(value, dict) and isinstance(under.get(key), dict):
                yield from repeated(value, under[key], f"{where}{key}.")
            elif key in under and under[key] == value:
                yield f"{where}{key}"

    own.pop("phases", None)  # always shown, for they are what a run is about
    assert list(repeated(own, base)) == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_its_learning_rate_peaks_and_ends_where_it_says(path):
    run = load(path)
    schedule, rate = run.phase_schedule, run.schedule
    assert run.schedule.decay_phase == run.phases[-1].name
    assert rate.lr_at(run.schedule.warmup_tokens, schedule) == run.schedule.peak_lr
    assert rate.lr_at(schedule.total_tokens, schedule) == pytest.approx(run.schedule.final_lr)


@pytest.mark.parametrize(("first", "other"), PAIRS)
def test_arms_of_a_comparison_differ_in_name_and_phases_alone(first, other):
    a, b = asdict(run_of(first)), asdict(run_of(other))
    assert a.pop("name") != b.pop("name")
    assert a.pop("phases") != b.pop("phases")
    assert a == b


@pytest.mark.parametrize(("first", "other"), PAIRS)
def test_arms_of_a_comparison_have_equal_budgets_and_a_decay_of_equal_length(first, other):
    a, b = run_of(first), run_of(other)
    assert total(a) == total(b)
    assert a.phases[-1].tokens == b.phases[-1].tokens


def test_the_main_recipe_holds_every_hyperparameter_of_the_paper():
    run = run_of("base_clm_detour")
    detour, decay = run.phases
    assert (detour.objective, detour.tokens, detour.options) == ("clm", 10_000_000_000, {})
    assert (decay.objective, decay.tokens, decay.options) == ("mlm", 1_000_000_000, {"rate": 0.15})
    for phase in run.phases:
        assert (phase.optimizer_state, phase.lr_factor, phase.rewarm_tokens) == ("keep", 1.0, 0)
        assert (phase.freeze.layers, phase.freeze.embeddings) == ("", False)
    s = run.schedule
    assert (s.peak_lr, s.final_lr, s.warmup_tokens) == (2e-4, 2e-5, 100_000_000)
    assert (s.decay_phase, s.shape) == ("decay", "one_minus_sqrt")
    o = run.optimizer
    assert (o.name, tuple(o.betas), o.eps, o.weight_decay, o.clip_norm) == ("adamw", (0.9, 0.98), 1e-6, 1e-5, None)
    assert (run.data.global_batch_size, run.data.seq_len) == (384, 8192)
    assert (run.seed, run.data.shuffle, run.data.shuffle_seed) == (17, True, 42)
    assert run.system.precision == "bf16"


def test_the_learning_rate_halfway_through_the_decay_is_the_papers():
    run = run_of("base_clm_detour")
    expected = 2e-4 * (0.1 + 0.9 * (1 - 0.5**0.5))  # alpha + (1 - alpha)(1 - sqrt(x)) of the peak
    assert run.lr_at(10_500_000_000) == pytest.approx(expected)


@pytest.mark.parametrize("name", BUDGETS)
def test_a_detour_and_its_twin_have_the_papers_model_and_budget(name):
    init, size, tokens, decay = BUDGETS[name]
    run, twin = run_of(name), run_of(name.replace("clm_detour", "mlm_twin"))
    assert (run.model.init, run.model.size) == (init, size)
    assert [(p.objective, p.tokens, p.options) for p in run.phases] == [
        ("clm", tokens, {}),
        ("mlm", decay, {"rate": 0.15}),
    ]
    assert [(p.objective, p.tokens, p.options) for p in twin.phases] == [
        ("mlm", tokens, {"rate": 0.3}),
        ("mlm", decay, {"rate": 0.15}),
    ]


@pytest.mark.parametrize("name", FREEZES)
def test_a_freezing_ablation_differs_from_its_detour_in_the_frozen_layers_alone(name):
    phase, layers = FREEZES[name]
    detour, ablation = asdict(run_of("fr_base_clm_detour")), asdict(run_of(f"fr_base_freeze_{name}"))
    frozen = {p["name"]: p["freeze"].pop("layers") for p in ablation["phases"]}
    for p in detour["phases"]:
        p["freeze"].pop("layers")
    assert ablation["phases"] == detour["phases"]
    assert {key: value for key, value in frozen.items() if value} == {phase: layers}
    assert Freeze(layers=layers).layer_indices(22)


@pytest.mark.parametrize("name", ORDERS)
def test_the_order_controls_spend_equal_tokens_on_each_objective_before_the_decay(name):
    run = run_of(name)
    assert (spent_on(run, "clm"), spent_on(run, "mlm")) == (5_000_000_000, 5_000_000_000)


def test_the_order_controls_are_in_the_order_that_their_names_say():
    order = {name: [p.objective for p in run_of(name).phases] for name in ORDERS}
    assert order["order_mlm_clm_mlm"] == ["mlm", "clm", "mlm"]
    assert order["order_clm_mlm_mlm"] == ["clm", "mlm", "mlm"]
    assert order["order_clm_last"] == ["mlm", "clm", "clm"]
    assert order["order_alternating"] == ["clm", "mlm"] * 5 + ["mlm"]


@pytest.mark.parametrize("share", SHARES)
def test_a_biphasic_run_spends_its_share_of_40k_steps_on_clm(share):
    run = run_of(f"biphasic_clm{share}")
    step = run.data.global_batch_size * run.data.seq_len
    assert spent_on(run, "clm") == 40_000 * step * share // 100
    assert (total(run), run.schedule.warmup_tokens, run.phases[-1].tokens) == (42_000 * step, 2000 * step, 2000 * step)


def test_a_biphasic_run_holds_the_papers_hyperparameters():
    run = run_of("biphasic_clm50")
    s, o = run.schedule, run.optimizer
    assert (s.peak_lr, s.final_lr, s.shape) == (5e-4, 0.0, "linear")
    assert (tuple(o.betas), o.eps, o.clip_norm) == ((0.9, 0.95), 1e-5, 1.0)
    assert o.weight_decay / s.peak_lr == pytest.approx(0.1)  # what torch's AdamW is given
    assert (run.model.init, run.data.seq_len) == (None, 2048)


def test_the_decoder_becomes_an_encoder_by_ettins_schedule():
    run = run_of("decoder_to_encoder")
    s = run.schedule
    assert {p.objective for p in run.phases} == {"mlm"}
    assert {p.options["rate"] for p in run.phases} == {0.15}
    assert (total(run), run.phases[-1].tokens, s.warmup_tokens) == (50_000_000_000, 10_000_000_000, 3_000_000_000)
    assert (s.peak_lr, s.final_lr, s.shape) == (4e-4, pytest.approx(0.02 * 4e-4), "linear")


def test_the_smoke_run_needs_no_gpu_no_account_and_no_download():
    run = run_of("smoke")
    assert (run.system.device, run.system.precision, run.logging.wandb_project) == ("cpu", "fp32", None)
    assert run.model.init is None
    paths = [run.model.tokenizer, *(s.path for s in (*run.data.train, *run.data.validation))]
    assert all(path.startswith("work/demo/") for path in paths)
    assert [p.objective for p in run.phases] == ["mlm", "clm", "mlm"]
