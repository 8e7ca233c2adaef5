import pytest
import torch
from transformers import LlamaConfig, ModernBertConfig
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding
from transformers.models.modernbert.modeling_modernbert import ModernBertRotaryEmbedding, apply_rotary_pos_emb

from detour.models.architecture import Rotary
from detour.models.rope import rotary_table, rotate
from detour.models.rope_scaling import checked_scaling, scaling_in
from tests.stack import TRANSFORMERS_5

N, H = 40, 3
FAR = torch.cat([torch.arange(30), torch.tensor([500, 2047, 2048, 4095, 8000, 8189, 8190, 8191, 3, 0])])


def queries_and_keys(d):
    return torch.randn(N, 2, H, d, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("d", [2, 8, 64])
@pytest.mark.parametrize("theta", [10_000.0, 160_000.0])
def test_rotation_equals_hugging_face_s(d, theta):
    config = ModernBertConfig(hidden_size=d * H, num_attention_heads=H)
    if TRANSFORMERS_5:
        config.rope_parameters["full_attention"]["rope_theta"] = theta
    config.rope_theta = theta
    qk_NKHd = queries_and_keys(d)
    kind = {"layer_type": "full_attention"} if TRANSFORMERS_5 else {}
    cos, sin = ModernBertRotaryEmbedding(config)(qk_NKHd, FAR[None], **kind)
    q_1HNd, k_1HNd = (x.transpose(0, 1)[None] for x in qk_NKHd.unbind(1))
    expected = torch.stack([x[0].transpose(0, 1) for x in apply_rotary_pos_emb(q_1HNd, k_1HNd, cos, sin)], 1)

    table = rotary_table(FAR, Rotary(d, theta), torch.float32)
    torch.testing.assert_close(rotate(qk_NKHd, *table), expected, rtol=0, atol=1e-5)


LONGEST = 8192
YARN = {"rope_type": "yarn", "factor": 8.0, "original_max_position_embeddings": 1024}


@pytest.mark.parametrize("d", [8, 64])
@pytest.mark.parametrize("theta", [10_000.0, 160_000.0])
@pytest.mark.parametrize(
    "scaling",
    [
        {"rope_type": "linear", "factor": 4.0},
        {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
         "original_max_position_embeddings": 1024},
        YARN,
        YARN | {"beta_fast": 8.0, "beta_slow": 2.0},
        YARN | {"attention_factor": 0.7},
        YARN | {"mscale": 0.707, "mscale_all_dim": 1.0},
        YARN | {"mscale": 0.707},  # which is ignored alone
        YARN | {"mscale": 0.707, "mscale_all_dim": 1.0, "attention_factor": 1.5},
        YARN | {"factor": 0.5},
        YARN | {"beta_fast": 1.001},  # nothing between what is kept and what is slowed
        YARN | {"original_max_position_embeddings": 4},  # no frequency turns once within the original length
        {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": None},  # the model's longest
    ],
    ids=str,
)  # fmt: skip
@pytest.mark.filterwarnings("ignore")  # of values that transformers finds odd
def test_scaled_tables_equal_hugging_face_s(d, theta, scaling):
    given = {key: value for key, value in scaling.items() if value is not None}
    config = LlamaConfig(
        hidden_size=d * H, num_attention_heads=H, head_dim=d, rope_theta=theta, max_position_embeddings=LONGEST,
        rope_scaling=dict(given),
    )  # fmt: skip
    expected = [part[0, :, : d // 2] for part in LlamaRotaryEmbedding(config)(torch.zeros(1), FAR[None])]

    ours = checked_scaling(scaling_in(given, "rope_scaling", longest=LONGEST), "rope_scaling")
    table = [part[:, 0, 0] for part in rotary_table(FAR, Rotary.of(d, theta, ours), torch.float32)]
    torch.testing.assert_close(table, expected, rtol=0, atol=2e-3)  # angles of 8,191 rad, in fp32
    near = FAR < 64
    torch.testing.assert_close([t[near] for t in table], [e[near] for e in expected], rtol=0, atol=1e-5)


def test_scores_depend_on_the_distance_alone():
    q_d, k_d = queries_and_keys(16)[0, :, 0]

    def score(at_q, at_k):
        table = rotary_table(torch.tensor([at_q, at_k]), Rotary(16, 1e4), torch.float32)
        q, k = rotate(torch.stack([q_d, k_d])[:, None, None], *table).squeeze()
        return q @ k

    torch.testing.assert_close(score(9, 4), score(109, 104), rtol=0, atol=1e-4)
    assert abs(score(9, 4) - score(9, 5)) > 1e-2


def test_position_zero_is_not_turned_and_lengths_are_kept():
    qk_NKHd = queries_and_keys(8)
    turned = rotate(qk_NKHd, *rotary_table(FAR, Rotary(8, 1e4), torch.float32))
    assert torch.equal(turned[FAR == 0], qk_NKHd[FAR == 0])
    assert not torch.equal(turned[FAR == 1], qk_NKHd[FAR == 1])
    torch.testing.assert_close(turned.norm(dim=-1), qk_NKHd.norm(dim=-1))


def test_the_table_is_computed_in_fp32_and_then_cast():
    exact = rotary_table(FAR, Rotary(8, 1e4), torch.float32)
    rough = rotary_table(FAR, Rotary(8, 1e4), torch.bfloat16)
    assert all(torch.equal(b, a.bfloat16()) for a, b in zip(exact, rough, strict=True))
