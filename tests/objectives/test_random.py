import torch

from detour.objectives import RowRandom


def draw(seed=3, step=1, samples=(4, 5, 10**12), n=1000):
    rng = RowRandom(seed=seed, step=step, sample_id_B=torch.tensor(samples))
    return rng.uniform(n), rng.integers(7, n)


def test_the_same_key_gives_the_same_numbers_in_any_batch():
    (u_BT, i_BT), (u_1T, i_1T) = draw(), draw(samples=(10**12,))
    assert torch.equal(u_BT[2:], u_1T)
    assert torch.equal(i_BT[2:], i_1T)


def test_seed_epoch_and_sample_each_give_another_stream():
    base, _ = draw(samples=(4,))
    streams = [base, draw(seed=4, samples=(4,))[0], draw(step=2, samples=(4,))[0], draw(samples=(5,))[0]]
    correlation = torch.corrcoef(torch.cat(streams)).fill_diagonal_(0).abs()
    assert correlation.max() < 0.15  # 5 sigma of 1000 independent draws


def test_seed_and_sample_do_not_trade_places():
    assert not torch.equal(draw(seed=4, step=1, samples=(5,))[0], draw(seed=5, step=1, samples=(4,))[0])
    assert not torch.equal(draw(seed=4, step=1, samples=(5,))[0], draw(seed=1, step=4, samples=(5,))[0])


def test_draws_have_the_promised_type_and_range():
    u_BT, i_BT = draw(n=20_000)
    assert u_BT.dtype == torch.float32
    assert u_BT.shape == (3, 20_000)
    assert u_BT.min() >= 0
    assert u_BT.max() < 1
    assert abs(u_BT.mean() - 0.5) < 0.01
    assert i_BT.dtype == torch.int64
    assert set(i_BT.unique().tolist()) == set(range(7))


def test_successive_calls_draw_successive_numbers():
    rng = RowRandom(seed=3, step=1, sample_id_B=torch.tensor([4]))
    first, second = rng.uniform(500), rng.uniform(500)
    assert not torch.equal(first, second)
    assert torch.equal(torch.cat([first, second], 1), draw(samples=(4,))[0])
