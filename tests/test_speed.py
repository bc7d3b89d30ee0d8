import sys
from dataclasses import replace

import pytest
import torch

import rmeeto
from rmeeto.config import ModelConfig
from rmeeto.errors import ConfigError, UnknownName
from rmeeto.models.inference.freezing import freeze
from rmeeto.models.vim.backbone import VisionMamba
from rmeeto.reduction import TokenMerge, parse_reduction
from rmeeto.runtime.doctor import machine
from rmeeto.speed import Spread, bench, verdict
from rmeeto.speed.run import under
from rmeeto.speed.timing import Stopwatch, take_turns
from toys import SIZES

CPU = torch.device("cpu")


class Clock:
    """Time that passes only when a test advances it."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


class Timed(VisionMamba):
    """A model whose passes take as long as ``seconds(tokens at the end)`` says, the reduction's steps included."""

    def __init__(self, clock, seconds, step_seconds=0.0):
        super().__init__(ModelConfig(num_classes=2, **SIZES))
        self.clock, self.seconds, self.step_seconds, self.passes = clock, seconds, step_seconds, []

    def forward(self, images):
        tokens = self.schedule.tokens[-1]
        self.passes.append(tokens)
        if self.reduction is not None:
            self.reduction.step(self, None, 1)
        self.clock.now += self.seconds(tokens)
        return images


class SlowMerge(TokenMerge):
    """A reduction whose step only takes time."""

    def step(self, tokens, features, r):
        tokens.clock.now += tokens.step_seconds
        return tokens


def measure(seconds, reductions, **options):
    clock = Clock()
    model = Timed(clock, seconds, options.pop("step_seconds", 0.0))
    defaults = {"batches": (4,), "warmup": 1, "rounds": 6, "memory": False, "clock": clock}
    return model, bench(model, reductions, **{**defaults, **options})


@pytest.mark.parametrize("is_frozen", [True, False])
def test_a_variant_is_frozen_if_the_model_is(is_frozen):
    model = rmeeto.create_model("vim_tiny", weights=None, **SIZES).eval()
    model = freeze(model) if is_frozen else model
    variant = under(TokenMerge(r=2), model)
    assert (variant.executor is not None) == is_frozen
    assert model.reduction is None
    assert all(one is other for one, other in zip(variant.layers, model.layers, strict=True))


def test_times_become_throughput_latency_and_speedup():
    _, report = measure(lambda tokens: tokens / 100, [SlowMerge(r=5)])
    whole, reduced = report.measurements
    assert (whole.reduction, reduced.reduction) == ("none", "merge:r=5")
    assert (whole.tokens, reduced.tokens) == (17, 12)
    assert whole.latency_ms.median == pytest.approx(170)
    assert whole.images_per_second.median == pytest.approx(4 / 0.17)
    assert whole.speedup == Spread(1, 1, 1)
    assert reduced.speedup.median == pytest.approx(17 / 12)
    assert reduced.flops_speedup == pytest.approx(whole.gflops_exact / reduced.gflops_exact)


def test_the_verdict_flips_at_the_planted_break_even():
    # a pass costs its tokens, and any reduction costs 4 tokens' worth of time: r = 4 breaks even
    _, report = measure(lambda tokens: tokens, [SlowMerge(r=r) for r in (2, 4, 7)], step_seconds=4)
    setting = report.settings()[0]
    _, losing, even, paying = (verdict(measured, setting) for measured in setting)
    promises = [measured.flops_speedup for measured in setting]
    assert losing == f"1.12× slower than the unreduced model; FLOPs promise {promises[1]:.2f}×; break-even at merge:r=7"
    assert even == (
        f"as fast as the unreduced model (1.00 to 1.00×); FLOPs promise {promises[2]:.2f}×; break-even at merge:r=7"
    )
    assert paying == f"1.21× faster than the unreduced model; FLOPs promise {promises[3]:.2f}×"
    assert verdict(setting[0], setting) is None


def test_where_nothing_pays_the_verdict_says_what_to_try():
    _, report = measure(lambda tokens: tokens, [SlowMerge(r=2)], step_seconds=9)
    whole, losing = report.settings()[0]
    assert "nothing measured here pays" in verdict(losing, (whole, losing))


def test_noise_is_not_called_a_result():
    _, report = measure(lambda tokens: tokens, [SlowMerge(r=5)])
    whole, reduced = report.measurements
    noisy = replace(reduced, speedup=Spread(1.3, 0.9, 1.7))
    assert "the rounds disagree (0.90 to 1.70×)" in verdict(noisy, (whole, noisy))


def test_variants_take_turns_there_and_back():
    clock = Clock()
    works = [lambda: calls.append("A"), lambda: calls.append("B"), lambda: calls.append("C")]
    calls, ticks = [], []
    times = take_turns(works, Stopwatch(CPU, clock), rounds=6, budget_seconds=9, tick=lambda: ticks.append(1))
    assert "".join(calls) == "ABCCBA" * 3
    assert [len(row) for row in times] == [6, 6, 6]
    assert len(ticks) == 18


def test_a_machine_that_slows_down_favours_nobody():
    clock = Clock()

    def work():
        clock.now += 1 + clock.now / 50  # every call is slower than the one before

    times = take_turns([work, work], Stopwatch(CPU, clock), rounds=40, budget_seconds=1e9, tick=lambda: None)
    assert Spread.of([a / b for a, b in zip(*times, strict=True)]).median == pytest.approx(1, abs=0.02)


def test_rounds_end_with_the_budget_but_not_before_the_fifth():
    assert measure(lambda tokens: 10, [SlowMerge(r=2)], rounds=50, budget_seconds=1)[1].rounds == 5
    assert measure(lambda tokens: 1, [SlowMerge(r=2)], rounds=50, budget_seconds=15)[1].rounds == 8


def test_the_share_of_the_reduction():
    _, report = measure(lambda tokens: 3, [SlowMerge(r=5)], step_seconds=1)
    assert [measured.reduction_share for measured in report.measurements] == [0, 0.25]


def test_a_whole_report_of_a_real_model():
    model = rmeeto.create_model("vim_tiny", reduction="merge:r=2", **SIZES)
    report = bench(
        model, [TokenMerge(r=5)], batches=(1, 3), precisions=("float32", "bfloat16"), warmup=1, rounds=5, memory=False
    )
    assert [(m[0].batch, m[0].precision) for m in report.settings()] == [
        (1, "float32"),
        (1, "bfloat16"),
        (3, "float32"),
        (3, "bfloat16"),
    ]
    assert all(len(setting) == 2 for setting in report.settings())
    assert all(0 < m.reduction_share < 1 for m in report.measurements if m.reduction != "none")
    assert str(model.reduction) == "merge:r=2"
    found = report.to_dict()
    assert found["machine"]["threads"] == machine().threads
    assert [("verdict" in row, row["verdict"] is None) for row in found["measurements"][:2]] == [
        (True, True),
        (True, False),
    ]


@pytest.mark.skipif(sys.platform != "linux", reason="reads Linux's account of a process")
def test_peak_memory_counts_the_model_and_its_batch():
    model = VisionMamba(ModelConfig(num_classes=2, img_size=64, patch_size=4, stride=4, dim=64, depth=1, state=4))
    report = bench(model, [], batches=(64,), warmup=0, rounds=5, budget_seconds=0)
    (whole,) = report.measurements
    # hidden values and residual of 257 tokens, 64 images, width 64: 4 MiB each; the mixer's inner values, 8 MiB each
    assert 16 < whole.peak_memory_mib < 400


def test_impossible_requests():
    model = rmeeto.create_model("vim_tiny", **SIZES)
    with pytest.raises(UnknownName, match="float16"):
        bench(model, [], precisions=("float16",))
    with pytest.raises(ConfigError):
        bench(model, [TokenMerge(r=500)])
    with pytest.raises(ConfigError, match="on the images"):
        bench(model, [parse_reduction("similar-merge:r=2")])
    with pytest.raises(ConfigError, match="nowhere"):
        bench(model, [], device="nowhere")


def test_a_spread_is_the_median_between_its_quartiles():
    assert Spread.of([3.0, 1.0, 2.0]) == Spread(2.0, 1.5, 2.5)
