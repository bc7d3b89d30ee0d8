from random import Random

import pytest

from rmeeto.data.sampling import ClipSampling, Dense, Sparse, Views
from rmeeto.errors import ConfigError, UnknownName
from rmeeto.recipe import Recipe

LENGTHS = [1, 2, 7, 8, 9, 16, 63, 300]


def parts(length, frames):
    """Which frames each part of a clip covers, by asking every frame."""
    covered = [[] for _ in range(frames)]
    for place in range(length):
        for part in range(frames):
            if place < (part + 1) * length / frames and place + 1 > part * length / frames:
                covered[part].append(place)
    return covered


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("frames", [1, 2, 8])
def test_sparse_takes_one_frame_from_every_part(length, frames):
    covered = parts(length, frames)
    seen = [set() for _ in range(frames)]
    random = Random(0)
    for _ in range(2000 if length < 20 else 100):
        places = Sparse(frames).draw(length, random)
        for part, place in enumerate(places):
            assert place in covered[part]
            seen[part].add(place)
        assert list(places) == sorted(places)
    if length < 20:
        assert [sorted(found) for found in seen] == covered


@pytest.mark.parametrize("length", LENGTHS)
def test_sparse_evaluates_the_middle_of_every_part(length):
    middle = [min(int((part + 0.5) * length / 8), length - 1) for part in range(8)]
    assert list(Sparse(8).segment(length, 0, 1)) == middle


def test_segments_of_sparse_sampling_lie_between_the_parts_ends():
    views = [Sparse(4).segment(100, number, 4) for number in range(4)]
    assert views == [(5, 30, 55, 80), (10, 35, 60, 85), (15, 40, 65, 90), (20, 45, 70, 95)]


@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize(("frames", "stride"), [(1, 4), (8, 1), (8, 4)])
def test_dense_keeps_an_even_pace_and_repeats_the_end(length, frames, stride):
    random, firsts = Random(0), set()
    for _ in range(500):
        places = Dense(frames, stride).draw(length, random)
        firsts.add(places[0])
        naive, place = [], places[0]
        for _ in range(frames):
            naive.append(place)
            place = place + stride if place + stride < length else length - 1
        assert list(places) == naive
    span = (frames - 1) * stride + 1
    assert firsts <= set(range(max(length - span, 0) + 1))
    if length < 20:
        assert firsts == set(range(max(length - span, 0) + 1))


def test_segments_of_dense_sampling_reach_from_end_to_end():
    first, *_, last = (Dense(4, 2).segment(30, number, 3) for number in range(3))
    assert (first, last) == ((0, 2, 4, 6), (23, 25, 27, 29))
    assert Dense(4, 2).segment(30, 0, 1) == (11, 13, 15, 17)
    assert Dense(4, 2).segment(3, 0, 1) == (0, 2, 2, 2)


def test_the_generator_decides():
    draws = [Sparse(8).draw(300, Random(seed)) for seed in (1, 1, 2)]
    assert draws[0] == draws[1] != draws[2]


def test_names():
    assert ClipSampling("sparse").of(8) == Sparse(8)
    assert ClipSampling("dense", 4).of(8) == Dense(8, 4)


def test_views_are_checked():
    assert Recipe(sampling="dense", frame_stride=2, segments=4, crops=3).views == Views("dense", 2, 4, 3)
    assert Views(segments=4, crops=3).count == 12
    with pytest.raises(UnknownName, match="sparse"):
        Views(sampling="spars")
    for name in ("segments", "crops", "frame_stride"):
        with pytest.raises(ConfigError, match=name):
            Views(**{name: 0})
        with pytest.raises(ConfigError, match=name):
            Recipe(**{name: 0})
    for flip in (-0.1, 1.1):
        with pytest.raises(ConfigError, match="flip"):
            Recipe(flip=flip)
