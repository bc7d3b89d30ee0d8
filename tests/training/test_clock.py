from rmeeto.training import clock
from rmeeto.training.clock import RunClock


def test_a_clock_goes_on_from_earlier_attempts(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(clock.time, "perf_counter", lambda: now[0])
    running = RunClock(seconds_before=50)
    started = now[0]
    now[0] += 4
    running.step_taken(started)
    assert running.seconds() == 54
    assert running.since_save() == 4
    running.state_saved()
    assert running.since_save() == 0
    assert running.left(steps=20) == "0:01:20"
