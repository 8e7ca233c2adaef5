"""Sections of the shortest runs that train at all; keywords of the fixture ``tiny_run``."""

EACH_STEP = {"interval_tokens": 1, "keep": 1}
SHORT = {
    "phases": [{"name": "p", "objective": "mlm", "tokens": 700}],
    "schedule": {"decay_phase": None, "warmup_tokens": 0},
    "data": {"validation": []},
}
LONGER = {**SHORT, "phases": [{"name": "p", "objective": "mlm", "tokens": 1500}]}
