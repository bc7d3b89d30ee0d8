import subprocess
import sys

import pytest
import torch

from rmeeto import create_model
from rmeeto.cost import count
from rmeeto.data import Preparation, evaluation_transform, open_data
from rmeeto.errors import ConfigError, DataError, RunError, UnknownName
from rmeeto.evaluation import evaluate
from rmeeto.reduction import parse_reduction
from toys import COLOURS, SIZES, Recorder, make_folder, truncate

forks = pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")


@pytest.fixture
def folder(tmp_path):
    return make_folder(tmp_path / "toys", train=1, val=4)


@pytest.fixture
def model():
    torch.manual_seed(3)
    return create_model("vim_tiny", **SIZES, num_classes=3)


def by_hand(model, folder):
    source = open_data(folder, "val")
    transform = evaluation_transform(Preparation.of(model), glyphs=False)
    images = torch.stack([transform(source.read(i)) for i in range(len(source.labels))])
    with torch.no_grad():
        logits = model(images)
    labels = torch.tensor(source.labels)
    right = (logits.argmax(1) == labels).sum().item()
    return 100 * right / len(labels), torch.nn.functional.cross_entropy(logits, labels).item()


@pytest.mark.parametrize("batch_size", [1, 5, 12, 100])
def test_scores_do_not_depend_on_the_batches(model, folder, batch_size):
    top1_percent, loss = by_hand(model, folder)
    evaluation = evaluate(model, folder, batch_size=batch_size, workers=0)
    assert evaluation.top1_percent == pytest.approx(top1_percent)
    assert evaluation.loss == pytest.approx(loss, rel=1e-5)
    assert (evaluation.images, evaluation.skipped) == (12, ())
    assert evaluation.seconds > 0


@forks
def test_workers_do_not_change_the_score(model, folder):
    one, two = (evaluate(model, folder, batch_size=5, workers=workers) for workers in (0, 2))
    assert (one.top1_percent, one.loss) == (two.top1_percent, two.loss)


def test_a_reduced_model_is_evaluated_reduced(model, folder):
    whole = evaluate(model, folder, workers=0)
    model.reduction = parse_reduction("merge:r=4")
    assert evaluate(model, folder, workers=0).loss != whole.loss


def test_what_a_threshold_really_removes_is_counted(model, folder):
    assert evaluate(model, folder, workers=0).spent is None
    model.reduction = parse_reduction("similar-merge:r=4,threshold=0.9,blocks=all")
    spent = evaluate(model, folder, batch_size=5, workers=0).spent
    source, transform = open_data(folder, "val"), evaluation_transform(Preparation.of(model), glyphs=False)
    costs = []
    for i in range(12):
        with torch.no_grad():
            trace = model.trace(transform(source.read(i))[None])
        costs.append(count(model.config, model.reduction, seen=[tokens.length for tokens in trace.blocks]))
    left = [cost.schedule.tokens[-1] for cost in costs]
    assert len(set(left)) > 1
    assert spent.tokens == pytest.approx(sum(left) / 12)
    assert spent.gflops_exact == pytest.approx(sum(cost.total for cost in costs) / 12e9)
    assert spent.reduction_ratio == pytest.approx(sum(cost.schedule.ratio for cost in costs) / 12)
    assert spent.reduction_ratio < model.schedule.ratio


def test_top5_needs_six_classes(model, tmp_path):
    assert evaluate(model, make_folder(tmp_path / "three", train=1, val=1), workers=0).top5_percent is None
    colours = {f"c{i}": (i * 40, 90, 90) for i in range(6)}
    six = create_model("vim_tiny", **SIZES, num_classes=6)
    evaluation = evaluate(six, make_folder(tmp_path / "six", train=1, val=2, colours=colours), workers=0)
    assert evaluation.top1_percent <= evaluation.top5_percent <= 100


def test_the_models_mode_is_kept_and_nothing_is_recorded(model, folder):
    model.train()
    evaluate(model, folder, workers=0)
    assert model.training
    assert all(p.grad is None for p in model.parameters())


def test_an_unreadable_image_is_refused_and_named(model, folder):
    broken = truncate(folder / "val" / "green" / "2.png")
    with pytest.raises(DataError, match="allow missing") as error:
        evaluate(model, folder, workers=0)
    assert str(broken) in str(error.value)


@pytest.mark.parametrize("workers", [0, pytest.param(1, marks=forks)])
def test_allowed_to_miss_it_says_what_the_score_is_about(model, folder, workers):
    broken = truncate(folder / "val" / "green" / "2.png")
    watcher = Recorder()
    evaluation = evaluate(model, folder, batch_size=4, workers=workers, allow_missing=True, progress=watcher)
    assert evaluation.images == 11
    assert [name.split(": ")[0] for name in evaluation.skipped] == [str(broken)]
    assert "accuracy is about the other 11" in watcher.messages[-1]
    broken.unlink()
    intact = evaluate(model, folder, workers=0)
    assert intact.top1_percent == pytest.approx(evaluation.top1_percent)
    assert intact.loss == pytest.approx(evaluation.loss)


def test_nothing_readable_is_an_error_even_when_allowed(model, folder):
    for path in (folder / "val").glob("*/*.png"):
        truncate(path)
    with pytest.raises(DataError):
        evaluate(model, folder, workers=0, allow_missing=True)


def test_class_mismatch(folder):
    with pytest.raises(DataError, match=r"3 classes .*, a head for 7 classes"):
        evaluate(create_model("vim_tiny", **SIZES, num_classes=7), folder, workers=0)


def test_broken_weights_are_named_not_scored(model, folder):
    with torch.no_grad():
        model.layers[2].mixer.x_proj_b.weight[0] = torch.inf
    with pytest.raises(RunError, match=r"output of layers\.2\.mixer\.x_proj_b"):
        evaluate(model, folder, workers=0)


def test_a_scan_that_overflows_is_found_between_the_modules(model, folder):
    with torch.no_grad():
        model.layers[1].mixer.D.fill_(3e38)
        model.layers[1].mixer.conv1d.bias.fill_(100)
    with pytest.raises(RunError, match=r"input of layers\.1\.mixer\.out_proj"):
        evaluate(model, folder, workers=0)


def test_bfloat16_is_near_float32(model, folder):
    exact = evaluate(model, folder, workers=0)
    half = evaluate(model, folder, workers=0, precision="bfloat16")
    assert half.loss == pytest.approx(exact.loss, rel=0.02)
    assert half.loss != exact.loss


def test_an_error_of_ours_does_not_keep_the_process_from_ending(folder):
    """Workers ignore signals, so an unhandled error must still tell them to end, or the exit waits for ever."""
    code = (
        "import sys, rmeeto; from rmeeto.evaluation import evaluate\n"
        f"model = rmeeto.create_model('vim_tiny', num_classes=3, **{SIZES})\n"
        "model.head = None\n"
        "evaluate(model, sys.argv[1], workers=1, batch_size=2)\n"
    )
    command = [sys.executable, "-W", "ignore", "-c", code, str(folder)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == 1
    assert "TypeError" in ended.stderr


def test_unknown_device_and_precision(model, folder):
    with pytest.raises(ConfigError, match="tpu9"):
        evaluate(model, folder, device="tpu9")
    with pytest.raises(UnknownName, match="bfloat16"):
        evaluate(model, folder, precision="bf16")


def test_progress_counts_every_image(model, folder):
    truncate(folder / "val" / "green" / "2.png")
    watcher = Recorder()
    evaluate(model, folder, batch_size=5, workers=0, allow_missing=True, progress=watcher)
    assert watcher.tasks == [("evaluating", 12)]
    assert watcher.advanced == [12]


def test_colours_are_told_apart_by_a_model_that_looks_at_them(folder):
    """The chain from file to label: a linear reader of mean colour must be right on every image."""

    class MeanColour(torch.nn.Module):
        num_classes = 3

        def __init__(self, model):
            super().__init__()
            self.pretrained_cfg = {**model.pretrained_cfg, "mean": (0,) * 3, "std": (1,) * 3}

        def forward(self, images):
            colours = torch.tensor(list(COLOURS.values())) / 255
            return -torch.cdist(images.mean((2, 3)), colours)

    reader = MeanColour(create_model("vim_tiny", **SIZES, num_classes=3))
    assert evaluate(reader, folder, workers=0).top1_percent == 100


def test_evaluating_is_one_of_the_public_names():
    import rmeeto

    assert rmeeto.evaluate is evaluate
    assert "evaluate" in rmeeto.__all__
