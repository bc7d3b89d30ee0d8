"""A run against a rival whose engines, and the clock, are the test's own."""

import pytest

from rmeeto.errors import ConfigError, RunError, UnknownName
from rmeeto.experiments.scale import load_scale
from rmeeto.reduction import parse_reduction
from rmeeto.speed import bench_against, entries
from rmeeto.speed.engines import PyTorch
from rmeeto.speed.rival import SHORT_NAMES, find_rival
from rmeeto.speed.timing import FEWEST_ROUNDS

MODEL, RIVAL = "vim_digits", "test_vit"
MERGE = parse_reduction("merge:ratio=0.3")


class Clock:
    """Seconds that pass only when a test says so, and the order of passes."""

    def __init__(self):
        self.now, self.passes = 0.0, []

    def __call__(self):
        return self.now

    def spend(self, who, seconds):
        self.passes.append(who)
        self.now += seconds


class Missing(PyTorch):
    name, packages = "Missing", ("a_package_that_is_nowhere",)


def engine_of(clock, seconds, name="Fake", wrong=0.0, failure=None):
    """An engine that is right, or off by a share of the largest logit, and takes ``seconds(size)``."""

    class Fake(PyTorch):
        def __call__(self):
            if failure is not None:
                raise failure
            clock.spend(name, seconds(self.images.shape[-1]))
            logits = super().__call__()
            return logits + wrong * logits.abs().max()

    Fake.name = name
    return Fake


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()

    def forward(variant, images, precision):
        share = 1.0 if variant.reduction is None else 0.7
        clock.spend(str(variant.reduction), share * len(images) * images.shape[-1])

    monkeypatch.setattr(entries, "_forward", forward)
    return clock


def measure(clock, *engines, **options):
    defaults = {"sizes": (64, 32), "rounds": FEWEST_ROUNDS, "budget_seconds": 0.0, "clock": clock}
    return bench_against(MODEL, [MERGE], RIVAL, engines=engines, **{**defaults, **options})


def test_times_and_ratios_are_those_of_the_clock(clock):
    # merged 0.7 · 32 and 0.7 · 64 s against 20 and 50: ahead at 64 px, where the other engine is the faster one
    fast, slow = engine_of(clock, {32: 20, 64: 60}.get), engine_of(clock, lambda size: 50, name="Slow")
    report = measure(clock, fast, slow, Missing)
    assert report.sizes == [32, 64]
    whole, merged, fake, slow, missing = report.at((1, "float32"), 32)
    assert [one.variant for one in (whole, merged, fake, slow)] == ["none", str(MERGE), "Fake", "Slow"]
    assert whole.milliseconds == pytest.approx((32_000,) * FEWEST_ROUNDS)
    assert report.speedup(merged).median == pytest.approx(20 / (0.7 * 32))
    assert report.speedup(slow).median == pytest.approx(20 / 50)
    assert merged.tokens < whole.tokens
    assert missing.absent.startswith("needs a_package_that_is_nowhere: pip install")
    assert missing.milliseconds == ()
    assert [report.crossover(curve) for curve in report.ours((1, "float32"))] == [None, 64]
    assert report.to_dict()["verdicts"][1]["faster_from_px"] == 64


def test_ratios_are_per_image_at_every_batch(clock):
    report = measure(clock, engine_of(clock, lambda size: 64), sizes=(32,), batches=(1, 2))
    one, two = (report.at((batch, "float32"), 32)[0] for batch in (1, 2))
    assert one.ms_per_image == two.ms_per_image == pytest.approx(32_000)
    assert report.speedup(two).median == pytest.approx(1)


def test_variants_take_turns_and_the_second_of_two_passes_is_timed(clock):
    measure(clock, engine_of(clock, lambda size: 1), sizes=(32,))
    there, back = ["None", str(MERGE), "Fake"], ["Fake", str(MERGE), "None"]
    first_round = clock.passes.index("None", 2)  # after the check of the engine and one pass of each
    turns = clock.passes[first_round:]
    assert turns == [who for row in [there, back, there, back, there] for who in row for _ in range(2)]


def test_an_engine_that_computes_something_else_is_refused_by_name(clock):
    with pytest.raises(RunError, match=f"measure {RIVAL} in Fake") as raised:
        measure(clock, engine_of(clock, lambda size: 1, wrong=0.01))
    assert "at 32 px" in raised.value.__notes__[0]
    measure(clock, engine_of(clock, lambda size: 1, wrong=0.01), sizes=(32,), precisions=("bfloat16",))


def test_an_engine_that_fails_is_named_with_the_size(clock):
    with pytest.raises(RunError, match=f"run {RIVAL} in Fake") as raised:
        measure(clock, engine_of(clock, None, failure=MemoryError("std::bad_alloc")))
    assert "bad_alloc" in str(raised.value)
    assert "--sizes" in raised.value.fix
    assert "at 32 px" in raised.value.__notes__[0]


@pytest.mark.parametrize("stop", [KeyboardInterrupt, SystemExit])
def test_ctrl_c_stays_what_it_is(clock, stop):
    with pytest.raises(stop):
        measure(clock, engine_of(clock, None, failure=stop()))


@pytest.mark.parametrize(
    ("model", "rival", "sizes", "error", "words"),
    [
        ("vim_tiny", "deit_smal", (224,), UnknownName, "deit_small"),
        ("vim_tiny", "vim_small", (224,), ConfigError, "Vision Transformers"),
        ("vim_tiny", "deit_small", (224, 230), ConfigError, "224 or 240 px"),
        ("vim_tiny", "deit_small", (8,), ConfigError, "16 or 32 px"),
        ("vim_digits", "deit_small", (17,), ConfigError, "vim_digits at 17 px"),
        ("videomamba_tiny_video", "deit_small", (224,), ConfigError, "clips"),
        ("vim_tiny", "vit_small_patch14_dinov2", (224, 240), ConfigError, "238 or 252 px"),
    ],
)
def test_what_cannot_be_measured_is_refused_before_anything_is_built(model, rival, sizes, error, words):
    with pytest.raises(error) as raised:
        bench_against(model, [], rival, sizes=sizes)
    assert words in str(raised.value)


def test_a_reduction_whose_work_depends_on_images_is_refused():
    with pytest.raises(ConfigError, match="on noise"):
        bench_against("vim_tiny", [parse_reduction("similar-merge:r=5,threshold=0.9")], "deit_tiny")


def test_short_names_are_those_of_the_full_scale():
    models = load_scale("full").models
    assert {name: models[name].model for name in SHORT_NAMES} == SHORT_NAMES
    assert find_rival("deit_small").name == "deit_small_patch16_224"
