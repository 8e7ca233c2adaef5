"""The measured rate of matrix products."""

import torch

from detour.cost.matmul import matmul_throughput


def test_the_rate_is_that_of_a_machine_and_draws_no_number_of_the_run():
    state = torch.get_rng_state()
    assert 1e8 < matmul_throughput("cpu", torch.float32, n=256, seconds=0.01) < 1e14
    assert matmul_throughput("cpu", torch.bfloat16, n=64, seconds=0.0) > 0
    assert torch.equal(torch.get_rng_state(), state)
