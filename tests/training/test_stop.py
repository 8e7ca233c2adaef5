"""When a run ends early, and what signals do meanwhile. Real processes: tests/faults."""

from __future__ import annotations

import os
import signal
import threading

import pytest

from detour.training.stop import StopRequest


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(autouse=True)
def _handlers_come_back():
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def steps_taken(minutes: float, seconds: list[float]) -> float:
    """Seconds that have passed when time is called up, with steps of these lengths."""
    clock = Clock()
    stop = StopRequest(minutes, clock=clock)
    for step in seconds:
        if stop.wanted():
            assert stop.reason == "system.max_minutes is reached"
            break
        clock.now += step
    return clock.now - 1000


@pytest.mark.parametrize("longest", [1.0, 30.0, 100.0])
def test_one_more_of_the_longest_steps_and_a_save_as_long_still_fit(longest):
    ended = steps_taken(10, [longest, *[1.0] * 10_000])
    assert ended + 2 * longest >= 600 - 2
    assert ended <= 600 - 2 * longest + 1 + 1e-9


def test_a_write_beside_the_steps_still_fits():
    clock = Clock()
    stop = StopRequest(10, clock=clock)
    stop.saving_seconds = 90.0
    while not stop.wanted():
        clock.now += 1
    assert clock.now - 1000 == 600 - 90 - 2


def test_without_a_limit_time_is_never_up():
    stop = StopRequest(clock=Clock())
    stop.clock.now += 1e9  # type: ignore[attr-defined]
    assert not stop.wanted()


def test_a_limit_that_is_over_at_once_stops_after_the_first_step():
    assert StopRequest(0, clock=Clock()).wanted()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_a_wish_and_handlers_come_back(number):
    before = signal.getsignal(number)
    stop = StopRequest()
    with stop.listening():
        assert not stop.wanted()
        os.kill(os.getpid(), number)
        assert stop.wanted()
        assert stop.reason == number.name
    assert signal.getsignal(number) == before


def test_a_second_ctrl_c_interrupts_but_the_launcher_passing_it_on_does_not():
    with StopRequest().listening():
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGTERM):
            os.kill(os.getpid(), number)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_after_an_agreed_stop_signals_stay_harmless():
    stop = StopRequest()
    with stop.listening():
        stop.agreed = True
    os.kill(os.getpid(), signal.SIGTERM)


def test_outside_the_main_thread_nothing_is_listened_to():
    done = []

    def work() -> None:
        with StopRequest().listening():
            done.append(signal.getsignal(signal.SIGTERM))

    before = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done == [before]
