import pytest
import torch

from detour.errors import ConfigError
from detour.models.encoder import Encoder
from detour.models.families import architecture, sizes
from detour.models.modernbert.architecture import FAMILY, ModernBertArchitecture

# millions of parameters, as published: ModernBERT (arXiv 2412.13663), Ettin (2507.11412), ModernCamemBERT (2504.08716)
PUBLISHED = {
    "ettin-17m": (16.5, 17.5),
    "ettin-32m": (31.5, 32.5),
    "ettin-68m": (67.5, 69),
    "modernbert-base": (149, 150),
    "modernbert-large": (394, 396.5),
    "moderncamembert-base": (135, 137),
    "moderncamembert-large": (376, 379),
}


@pytest.mark.parametrize("size", PUBLISHED)
def test_a_size_has_the_published_number_of_parameters(size):
    with torch.device("meta"):
        model = Encoder(sizes()[size])
    low, high = PUBLISHED[size]
    assert low <= sum(parameter.numel() for parameter in model.parameters()) / 1e6 <= high


def test_every_size_but_the_demo_s_is_held_against_its_publication():
    assert set(FAMILY.sizes) - {"tiny"} == set(PUBLISHED)


def test_overrides_replace_fields_of_a_named_size():
    changed = architecture(
        "tiny", {"vocab_size": 100, "norm_bias": True, "local_rope_theta": 5, "causal_left_window": 7}
    )
    assert (changed.vocab_size, changed.norm_bias, changed.local_rope_theta, changed.causal_left) == (100, True, 5, 7)
    assert changed.hidden_size == sizes()["tiny"].hidden_size
    assert architecture("tiny") == sizes()["tiny"]


@pytest.mark.parametrize(
    ("size", "overrides", "message"),
    [
        (
            "modernbert-bse",
            {},
            "model.size: no 'modernbert-bse'; did you mean 'modernbert-base'\\?; known: tiny-roberta, bert-base",
        ),
        ("tiny", {"hiden_size": 64}, "hiden_size: unknown key; did you mean 'hidden_size'\\?"),
        ("tiny", {"hidden_size": 64.0}, "model.architecture.hidden_size: 64.0, expected int"),
        ("tiny", {"norm_eps": "1e-5"}, "model.architecture.norm_eps: '1e-5', expected float"),
        ("tiny", {"causal_left_window": "all"}, "model.architecture.causal_left_window: 'all', expected int"),
        ("tiny", {"norm_bias": 1}, "model.architecture.norm_bias: 1, expected bool"),
        ("tiny", {"hidden_size": True}, "model.architecture.hidden_size: True, expected int"),
        ("tiny", {"norm_eps": True}, "model.architecture.norm_eps: True, expected float"),
        ("tiny", {"hidden_size": 127}, "hidden_size 127 over num_attention_heads 2 must be an even integer"),
        ("tiny", {"hidden_size": 126}, "must be an even integer"),
        ("tiny", {"causal_left_window": -1}, "causal_left_window -1 must be in \\[0, 128\\]"),
        ("tiny", {"causal_left_window": 129}, "causal_left_window 129 must be in \\[0, 128\\]"),
        ("tiny", {"vocab_size": 2**40}, "vocab_size is 1099511627776, expected 1 to 4,194,304"),
        ("tiny", {"num_hidden_layers": 10**8}, "num_hidden_layers is 100000000, expected 1 to 1,024"),
        ("tiny", {"hidden_size": 2**40}, "hidden_size is 1099511627776, expected 1 to"),
        ("tiny", {"local_attention": -2}, "local_attention is -2, expected 1 to"),
        ("tiny", {"embedding_dropout": 1.0}, "embedding_dropout is 1.0, expected a fraction in \\[0, 1\\)"),
        ("tiny", {"attention_dropout": -0.1}, "attention_dropout is -0.1, expected a fraction in"),
        ("tiny", {"mlp_dropout": float("nan")}, "mlp_dropout is nan, expected a fraction in"),
        ("tiny", {"initializer_range": -1.0}, "initializer_range is -1.0, expected a number above 0"),
        ("tiny", {"initializer_cutoff_factor": 0}, "initializer_cutoff_factor is 0.0, expected a number above 0"),
        ("tiny", {"norm_eps": float("inf")}, "norm_eps is inf, expected a number above 0"),
        ("tiny", {"global_rope_theta": 0.0}, "global_rope_theta is 0.0, expected a number above 0"),
    ],
)
def test_what_does_not_fit_is_refused(size, overrides, message):
    with pytest.raises(ConfigError, match=message):
        architecture(size, overrides)


def test_windows_follow_from_local_attention_unless_set():
    arch = architecture("tiny", {"local_attention": 100})
    assert (arch.side_window, arch.causal_left, arch.head_dim) == (50, 50, 64)
    assert architecture("tiny", {"local_attention": 100, "causal_left_window": 0}).causal_left == 0


@pytest.mark.parametrize(
    ("layers", "every", "expected"), [(4, 3, [0, 3]), (3, 3, [0]), (5, 1, [0, 1, 2, 3, 4]), (22, 3, [*range(0, 22, 3)])]
)
def test_the_first_and_every_nth_layer_are_global(layers, every, expected):
    arch = architecture("tiny", {"num_hidden_layers": layers, "global_attn_every_n_layers": every})
    assert [layer for layer in range(layers) if arch.is_global(layer)] == expected
    assert sum(rule.attention.window is None for rule in arch.layer_rules("causal")) == len(expected)


def test_an_architecture_cannot_be_changed_or_given_by_position():
    with pytest.raises(AttributeError):
        sizes()["tiny"].hidden_size = 3
    with pytest.raises(TypeError):
        ModernBertArchitecture(1, 2, 3, 4, 5)
