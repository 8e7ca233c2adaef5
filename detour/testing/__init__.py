"""The contract of an objective as a test suite that needs no test framework, for this library and for third parties.

from detour.testing import check_objective

def test_my_objective_keeps_the_contract():
    check_objective(MyObjective(rate=0.2))
"""

from detour.testing.batches import ROWS, make_batch, make_vocab, tiny_encoder
from detour.testing.contract import check_objective

__all__ = ["ROWS", "check_objective", "make_batch", "make_vocab", "tiny_encoder"]
