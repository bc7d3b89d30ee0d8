"""Times of sums over many GPUs, against a ring that is played through."""

from dataclasses import replace

import pytest

from rmeeto.errors import ConfigError, UnknownName
from rmeeto.speed import BETWEEN, INSIDE, Machines, all_reduce_seconds
from rmeeto.speed.links import CALL, ring_seconds


def played_through(size, members, bytes_per_second, hop_seconds):
    """Every member hands one part of a sum at a time to the next, until all have all parts: seconds."""
    holds = [[{member} for _ in range(members)] for member in range(members)]
    seconds, everyone = 0.0, set(range(members))
    step = 0
    while any(chunk != everyone for chunks in holds for chunk in chunks):
        sent = [(member, (member - step) % members) for member in range(members)]
        parts = {member: set(holds[member][chunk]) for member, chunk in sent}
        for member, chunk in sent:
            holds[(member + 1) % members][chunk] |= parts[member]
        seconds += size / members / bytes_per_second + hop_seconds
        step += 1
    return seconds


@pytest.mark.parametrize("members", [1, 2, 3, 8])
def test_a_ring_takes_as_long_as_one_that_is_played_through(members):
    assert ring_seconds(1e6, members, 2e9, 3e-6) == pytest.approx(played_through(1e6, members, 2e9, 3e-6))


def test_one_gpu_has_nothing_to_sum():
    assert all_reduce_seconds(1e9, Machines(1)) == 0


def test_a_large_sum_in_a_node_sends_nearly_twice_its_bytes():
    seconds = all_reduce_seconds(1e12, Machines(8))
    assert seconds == pytest.approx(2 * 7 / 8 * 1e12 / INSIDE["nvlink"].bytes_per_second, rel=1e-3)


def test_a_sum_over_nodes_of_one_gpu_uses_the_network_only():
    seconds = all_reduce_seconds(1e9, Machines(1, 4, between="ethernet-10"))
    assert seconds == pytest.approx(CALL + ring_seconds(1e9, 4, 1.25e9, BETWEEN["ethernet-10"].hop_seconds))


def test_more_adapters_and_a_measured_bandwidth_shorten_what_is_sent_between_nodes():
    slow = Machines(8, 4, between="ethernet-10")
    inside = all_reduce_seconds(1e9, Machines(8))

    def between(machines):
        return all_reduce_seconds(1e9, machines) - inside

    assert between(replace(slow, adapters=4)) == pytest.approx(between(slow) / 4, rel=1e-3)
    assert between(replace(slow, network_bytes_per_second=12.5e9)) == pytest.approx(between(slow) / 10, rel=2e-3)


def test_a_slower_link_is_slower():
    by_bandwidth = sorted(BETWEEN.values(), key=lambda link: (link.bytes_per_second, -link.hop_seconds))
    times = [all_reduce_seconds(1e8, Machines(8, 2, between=link.name)) for link in by_bandwidth]
    assert times == sorted(times, reverse=True)


@pytest.mark.parametrize(
    ("options", "error", "word"),
    [
        ({"gpus": 0}, ConfigError, "gpus"),
        ({"gpus": 8, "nodes": -1}, ConfigError, "nodes"),
        ({"gpus": 8, "adapters": 0}, ConfigError, "adapters"),
        ({"gpus": 8, "between": "infinband"}, UnknownName, "infiniband"),
        ({"gpus": 8, "inside": "infiniband"}, UnknownName, "nvlink"),
        ({"gpus": 8, "network_bytes_per_second": 0.0}, ConfigError, "above 0"),
    ],
)
def test_impossible_machines_are_refused(options, error, word):
    with pytest.raises(error, match=word):
        Machines(**options)


def test_machines_name_themselves():
    assert [str(Machines(1)), str(Machines(8)), str(Machines(8, 4))] == ["1 GPU", "8 GPUs", "4 × 8 GPUs"]
