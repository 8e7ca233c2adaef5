"""What two runs share, against a comparison token by token; and the tree that follows from it."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from detour.config.load import from_mapping
from detour.errors import ConfigError
from detour.experiments.tree import grow, settings_that_differ, shared_tokens
from detour.phases import Freeze, Phase

STEP = 100


def phase(name, objective, tokens, rate=None, frozen=""):
    options = {} if rate is None else {"rate": rate}
    return Phase(name=name, objective=objective, tokens=tokens, options=options, freeze=Freeze(layers=frozen))


@pytest.fixture(scope="module")
def template():
    """A run, built once; the phases are replaced."""
    return from_mapping({
        "name": "run",
        "model": {"size": "tiny", "tokenizer": "t"},
        "data": {"train": [{"path": "rows"}], "seq_len": 10, "global_batch_size": 1, "micro_batch_size": 1},
        "phases": [{"name": "p", "objective": "mlm", "tokens": 100}],
        "schedule": {"peak_lr": 1e-3, "final_lr": 1e-4, "warmup_tokens": 0, "decay_phase": None},
        "checkpoint": {"interval_tokens": 1000},
        "evaluation": {"interval_tokens": 1000},
    })  # fmt: skip


def run_of(template, phases, decay=None, **changes):
    schedule = replace(template.schedule, decay_phase=decay, **changes)
    return replace(template, phases=phases, schedule=schedule)


CLM, CLM_LONG = phase("clm", "clm", 1000), phase("clm", "clm", 2000)
MLM, MLM_HALF = phase("mlm", "mlm", 1000, 0.3), phase("mlm", "mlm", 500, 0.3)
DECAY = phase("decay", "mlm", 200, 0.15)


@pytest.mark.parametrize(
    ("one", "other", "shared"),
    [
        ([MLM, DECAY], [CLM, DECAY], 0),
        ([CLM, DECAY], [CLM, phase("decay", "mlm", 400, 0.15)], 1000),
        ([CLM, DECAY], [CLM, phase("decay", "mlm", 200, 0.3)], 1000),
        ([CLM, DECAY], [phase("clm", "clm", 1000, frozen="0"), DECAY], 0),
        ([MLM, DECAY], [MLM_HALF, phase("clm", "clm", 500), DECAY], 500),
        ([CLM, DECAY], [CLM_LONG, DECAY], 1000),
        ([CLM, DECAY], [CLM, phase("decay", "mlm", 200, 0.15, frozen="0-1")], 1000),
    ],
)
def test_runs_share_up_to_where_they_differ(template, one, other, shared):
    runs = [run_of(template, phases, "decay") for phases in (one, other)]
    assert shared_tokens(*runs) == shared_tokens(*reversed(runs)) == shared


def test_what_changes_every_batch_leaves_nothing_to_share(template):
    run = run_of(template, [CLM, DECAY], "decay")
    others = [
        replace(run, seed=18),
        replace(run, data=replace(run.data, shuffle_seed=1)),
        replace(run, data=replace(run.data, micro_batch_size=2)),
        replace(run, model=replace(run.model, init="elsewhere")),
        replace(run, optimizer=replace(run.optimizer, eps=1e-8)),
        replace(run, evaluation=replace(run.evaluation, rows=7)),
        replace(run, system=replace(run.system, precision="bf16")),
        replace(run, schedule=replace(run.schedule, peak_lr=2e-3)),
    ]
    longer = replace(run, phases=[CLM, replace(DECAY, tokens=300)])
    assert shared_tokens(run, longer) == 1000
    assert [shared_tokens(other, longer) for other in others] == [0] * len(others)


def test_a_warmup_that_is_not_over_is_not_shared(template):
    runs = [run_of(template, [MLM_HALF, phase(n, o, 1500)], warmup_tokens=700) for n, o in (("c", "clm"), ("m", "mlm"))]
    assert shared_tokens(*runs) == 0
    assert shared_tokens(*(replace(run, schedule=replace(run.schedule, warmup_tokens=300)) for run in runs)) == 500


phases = st.lists(
    st.tuples(st.sampled_from(["clm", "mlm15", "mlm30", "frozen"]), st.integers(1, 4)), min_size=1, max_size=4
)


def built(template, drawn, decay):
    kinds = {
        "clm": ("clm", None, ""),
        "mlm15": ("mlm", 0.15, ""),
        "mlm30": ("mlm", 0.3, ""),
        "frozen": ("clm", None, "0"),
    }
    made = [phase(f"{i}-{kind}", kinds[kind][0], STEP * n, *kinds[kind][1:]) for i, (kind, n) in enumerate(drawn)]
    return run_of(template, made, made[-1].name if decay else None)


def by_the_token(one, other):
    """The first multiple of STEP at which the two runs train otherwise, or the shorter one's end."""
    total = min(one.phase_schedule.total_tokens, other.phase_schedule.total_tokens)
    for tokens in range(0, total, 10):
        a, b = one.phase_schedule.at(tokens), other.phase_schedule.at(tokens)
        same = replace(a.phase, tokens=0) == replace(b.phase, tokens=0) and a.start == b.start
        if not same or abs(one.lr_at(tokens) - other.lr_at(tokens)) > 1e-12:
            return tokens
    return total


@given(one=phases, other=phases, decays=st.tuples(st.booleans(), st.booleans()))
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_shared_tokens_agree_with_a_comparison_token_by_token(template, one, other, decays):
    """What is shared is a cut at which a phase of either ends, and nothing differs before it; and it is the last such cut."""
    a, b = built(template, one, decays[0]), built(template, other, decays[1])
    same_until = by_the_token(a, b)
    cuts = {0, *a.phase_schedule.boundaries, *b.phase_schedule.boundaries}
    assert shared_tokens(a, b) == max(cut for cut in cuts if cut <= same_until)


def test_a_tree_trains_every_common_past_once(template):
    arms = {
        "twin": [MLM, DECAY],
        "order": [MLM_HALF, phase("clm", "clm", 500), DECAY],
        "detour": [CLM, DECAY],
        "long_decay": [CLM, phase("decay", "mlm", 400, 0.15)],
        "frozen_decay": [CLM, phase("decay", "mlm", 200, 0.15, frozen="0-1")],
    }
    nodes = grow({name: replace(run_of(template, phases, "decay"), name=name) for name, phases in arms.items()})
    found = [(node.arms, node.shared, node.tokens, node.parent) for node in nodes]
    mlm, clm = nodes[0].run.name, nodes[3].run.name
    assert found == [
        (("twin", "order"), 0, 500, None),
        (("twin",), 500, 700, mlm),
        (("order",), 500, 700, mlm),
        (("detour", "long_decay", "frozen_decay"), 0, 1000, None),
        (("detour",), 1000, 200, clm),
        (("long_decay",), 1000, 400, clm),
        (("frozen_decay",), 1000, 200, clm),
    ]
    assert sum(node.tokens for node in nodes) == 3700  # 6,200 if each arm trained alone
    assert [node.run.branch.tokens for node in nodes] == [None, 500, 500, None, 1000, 1000, 1000]
    assert nodes[0].run.schedule.decay_phase is None


def test_an_arm_that_is_the_past_of_another_is_its_trunk(template):
    nodes = grow({
        "long": replace(run_of(template, [CLM, phase("more", "mlm", 300)]), name="long"),
        "short": replace(run_of(template, [CLM]), name="short"),
    })  # fmt: skip
    assert [(node.run.name, node.parent, node.tokens) for node in nodes] == [
        ("short", None, 1000),
        ("long", "short", 300),
    ]


def test_a_trunk_keeps_its_name_when_another_arm_is_added(template):
    """So that a trunk that is trained already is found again."""
    arms = {name: replace(run_of(template, [CLM, decay], "decay"), name=name) for name, decay in
            {"a": DECAY, "b": replace(DECAY, tokens=300)}.items()}  # fmt: skip
    before = grow(arms)[0].run.name
    arms["c"] = replace(
        run_of(template, [phase("clm", "clm", 400), phase("mlm", "mlm", 600), DECAY], "decay"), name="c"
    )
    nodes = grow(arms)
    assert [node.tokens for node in nodes] == [400, 600, 200, 300, 800]
    assert nodes[1].run.name == before
    assert nodes[1].parent == nodes[0].run.name


def test_equal_arms_are_refused(template):
    with pytest.raises(ConfigError, match="a and b are the same run"):
        grow({name: replace(run_of(template, [CLM, DECAY], "decay"), name=name) for name in "ab"})


def test_a_recorded_configuration_with_other_settings_is_told(template):
    run = run_of(template, [CLM, DECAY], "decay")
    recorded = json.loads(json.dumps(asdict(run)))
    assert settings_that_differ(run, recorded) == []
    other = replace(run, seed=3, name="another", phases=[CLM], schedule=replace(run.schedule, decay_phase=None))
    assert settings_that_differ(other, recorded) == ["seed", "phases", "schedule"]
