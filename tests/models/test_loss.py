import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from detour.models import loss as module
from detour.models.loss import linear_cross_entropy

M, C, V = 23, 16, 37
INPUTS = ("h", "weight", "bias")
# rows held at once: all in one; one; a divisor of none; more than there are; less than a row of logits
CHUNKS = pytest.mark.parametrize("elements", [M * V, V, 5 * V + 3, 100 * V, V - 1])


@pytest.fixture
def chunks_of(monkeypatch):
    return lambda elements: monkeypatch.setitem(module.CHUNK_ELEMENTS, "cpu", elements)


def inputs(*, rows=M, bias=True, requires_grad=INPUTS):
    generator = torch.Generator().manual_seed(0)
    made = {
        name: torch.randn(shape, generator=generator)
        for name, shape in zip(INPUTS, ((rows, C), (V, C), (V,)), strict=True)
    }
    if not bias:
        made["bias"] = None
    for name in requires_grad:
        if made[name] is not None:
            made[name].requires_grad_()
    return made, torch.randint(V, (rows,), generator=generator)


def dense(made, target_M):
    return F.cross_entropy(F.linear(made["h"], made["weight"], made["bias"]), target_M, reduction="sum")


def ours(made, target_M):
    return linear_cross_entropy(made["h"], made["weight"], made["bias"], target_M)


def gradients(made):
    return {name: x.grad for name, x in made.items() if x is not None}


@CHUNKS
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("upstream", [1.0, -0.37])
def test_value_and_gradients_equal_torch_s_dense_cross_entropy(chunks_of, elements, bias, upstream):
    chunks_of(elements)
    (a, target_M), (b, _) = inputs(bias=bias), inputs(bias=bias)
    result, expected = ours(a, target_M), dense(b, target_M)
    (upstream * result).backward()
    (upstream * expected).backward()
    torch.testing.assert_close(result, expected, rtol=1e-6, atol=1e-5)
    torch.testing.assert_close(gradients(a), gradients(b), rtol=1e-5, atol=1e-5)


@CHUNKS
def test_weighted_positions_equal_torchs_dense_cross_entropy(chunks_of, elements):
    chunks_of(elements)
    (a, target_M), (b, _) = inputs(), inputs()
    weight_M = torch.rand(M, generator=torch.Generator().manual_seed(5)) * 3
    weight_M[4] = 0
    result = linear_cross_entropy(a["h"], a["weight"], a["bias"], target_M, weight_M)
    expected = (F.cross_entropy(F.linear(b["h"], b["weight"], b["bias"]), target_M, reduction="none") * weight_M).sum()
    result.backward()
    expected.backward()
    torch.testing.assert_close(result, expected, rtol=1e-6, atol=1e-5)
    torch.testing.assert_close(gradients(a), gradients(b), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("wanted", [("h",), ("weight",), ("bias",), ("h", "bias"), ("weight", "bias")], ids="+".join)
def test_frozen_inputs_get_no_gradient_and_the_others_the_right_one(chunks_of, wanted):
    chunks_of(5 * V)
    (a, target_M), (b, _) = inputs(requires_grad=wanted), inputs(requires_grad=wanted)
    ours(a, target_M).backward()
    dense(b, target_M).backward()
    assert {name for name, gradient in gradients(a).items() if gradient is not None} == set(wanted)
    torch.testing.assert_close(gradients(a), gradients(b), rtol=1e-5, atol=1e-5)


def test_without_gradients_only_the_value_is_computed(chunks_of):
    chunks_of(5 * V)
    made, target_M = inputs()
    with torch.no_grad(), Largest() as seen:
        result = ours(made, target_M)
    torch.testing.assert_close(result, dense(made, target_M).detach(), rtol=1e-6, atol=1e-5)
    assert not result.requires_grad
    assert not seen.products & {(V, C), (5, C)}  # the products that would make gradients


def test_no_rows_give_zero_and_zero_gradients():
    made, target_M = inputs(rows=0)
    result = ours(made, target_M)
    result.backward()
    assert result == 0
    assert all((gradient == 0).all() for gradient in gradients(made).values())
    assert made["h"].grad.shape == (0, C)


def test_repeated_targets_and_logits_in_the_hundreds_are_right():
    (a, _), (b, _) = inputs(), inputs()
    target_M = torch.full((M,), 3)
    with torch.no_grad():
        a["h"] *= 100
        b["h"] *= 100
    result, expected = ours(a, target_M), dense(b, target_M)
    result.backward()
    expected.backward()
    torch.testing.assert_close(result, expected, rtol=1e-6, atol=0)
    torch.testing.assert_close(gradients(a), gradients(b), rtol=2e-4, atol=1e-2)


@CHUNKS
def test_under_bf16_autocast_value_and_gradients_are_near_those_in_fp32(chunks_of, elements):
    chunks_of(elements)
    (a, target_M), (b, _) = inputs(), inputs()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        result = ours(a, target_M)
    result.backward()
    expected = dense(b, target_M)
    expected.backward()
    assert result.dtype == torch.float32
    assert result != expected
    torch.testing.assert_close(result, expected, rtol=1e-2, atol=0)
    for name, gradient in gradients(a).items():
        assert gradient.dtype == torch.float32
        torch.testing.assert_close(gradient, b[name].grad, rtol=0, atol=0.02 * b[name].grad.abs().max().item())


def test_bf16_hidden_states_with_fp32_weights_get_gradients_of_their_own_type():
    made, target_M = inputs()
    h_MC = made["h"].detach().bfloat16().requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        linear_cross_entropy(h_MC, made["weight"], made["bias"], target_M).backward()
    assert h_MC.grad.dtype == torch.bfloat16
    assert made["weight"].grad.dtype == torch.float32


def test_logits_are_cast_to_fp32_before_the_softmax():
    """bf16 keeps 8 bits: summed in it, the normalizer of a flat distribution over 4096 ids would be far off."""
    h_MC, weight_VC = torch.ones(1, 1), torch.full((4096, 1), 1.0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        result = linear_cross_entropy(h_MC, weight_VC, None, torch.tensor([0]))
    torch.testing.assert_close(result, torch.tensor(4096.0).log(), rtol=1e-6, atol=0)


def test_a_second_backward_fails_rather_than_scaling_twice():
    made, target_M = inputs()
    result = ours(made, target_M)
    result.backward(retain_graph=True)
    with pytest.raises((RuntimeError, ValueError)):
        result.backward()


class Largest(TorchDispatchMode):
    """Records the largest tensor that any operation returned, and the shapes of matrix products."""

    def __init__(self):
        super().__init__()
        self.elements, self.products = 0, set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, (tuple, list)) else (out,):
            if isinstance(tensor, torch.Tensor):
                self.elements = max(self.elements, tensor.numel())
                if "mm" in function.__name__:
                    self.products.add(tuple(tensor.shape))
        return out


def largest(loss, *, rows=400):
    made, target_M = inputs(rows=rows)
    with Largest() as seen:
        loss(made, target_M).backward()
    return seen.elements


def test_nothing_of_the_size_of_all_logits_is_ever_made(chunks_of):
    chunks_of(10 * V)
    rows = 400
    assert largest(dense, rows=rows) == rows * V  # the recorder sees it where it is
    assert largest(ours, rows=rows) == rows * C  # the hidden states' gradient; a chunk of logits is smaller


def test_a_chunk_holds_no_more_logits_than_allowed(chunks_of):
    for rows_held in (1, 7, 200):
        chunks_of(rows_held * V + V // 2)
        made, target_M = inputs(rows=400)
        with Largest() as seen:
            ours(made, target_M).backward()
        assert {shape for shape in seen.products if shape[1] == V} <= {(rows_held, V), (400 % rows_held, V)}
