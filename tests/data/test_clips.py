"""Clips as tensors: which frames, which augmentation, the same in every worker, and what replaces a broken one."""

import pickle
import random
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps

from rmeeto.data import (
    Augmentation,
    ClipSampling,
    Preparation,
    Views,
    evaluation_batches,
    evaluation_reading,
    evaluation_transform,
    open_data,
    training_batches,
    training_reading,
)
from rmeeto.data.clip_transforms import CropsOverFrames, clip_training_transform
from rmeeto.data.sampling import Dense, Sparse
from rmeeto.errors import ConfigError, DataError
from rmeeto.evaluation import evaluate, mean_over_views
from rmeeto.recipe import Recipe
from rmeeto.training.objective import Objective
from toy_clips import cut, make_clip_folder, number_of, numbered_clip, sound_only
from toys import make_folder, picture, toy_recipe

CLIP = Preparation(3, (16, 16), (0.5,) * 3, (0.5,) * 3, 0.875, "bicubic", frames=4)
WHOLE = Preparation(3, (48, 64), (0.0,) * 3, (1.0,) * 3, 1.0, "bicubic", frames=4)
forks = pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_clip_folder(tmp_path_factory.mktemp("clips"), train=4, val=3)


def batches(folder, first_step=0, **changes):
    recipe = toy_recipe(folder, "out", **{"batch_size": 4, "color_jitter": 0.4, "random_erasing": 0.5, **changes})
    source = open_data(folder, "train")
    plan = recipe.batch_plan(len(source.labels))
    chosen = {"augmentation": recipe.augmentation, "clips": recipe.views, "workers": recipe.workers}
    return list(training_batches(source, range(plan.images), CLIP, plan, first_step=first_step, **chosen))


def assert_same(ours, theirs):
    assert len(ours) == len(theirs)
    for a, b in zip(ours, theirs, strict=True):
        assert torch.equal(a.images, b.images)
        assert torch.equal(a.labels, b.labels)


def test_preparation_of_a_video_model():
    described = {
        "input_size": (3, 8, 32, 48),
        "mean": (0.5,),
        "std": (0.5,),
        "crop_pct": 1.0,
        "interpolation": "bicubic",
    }
    preparation = Preparation.of(SimpleNamespace(pretrained_cfg=described))
    assert (preparation.frames, preparation.size, preparation.channels) == (8, (32, 48), 3)


def test_training_clips_are_reproducible_and_of_the_models_shape(folder):
    first = batches(folder)
    assert first[0].images.shape == (4, 3, 4, 16, 16)
    assert first[0].views == 1
    assert_same(first, batches(folder))
    assert not torch.equal(first[0].images, batches(folder, seed=1)[0].images)
    assert not torch.equal(first[0].images, batches(folder, sampling="dense", frame_stride=2)[0].images)


@pytest.mark.parametrize("step", [1, 3])
def test_starting_in_the_middle_goes_on_as_if_never_stopped(folder, step):
    assert_same(batches(folder)[step:], batches(folder, first_step=step))


@forks
def test_workers_do_not_change_what_is_read(folder):
    assert_same(batches(folder), batches(folder, workers=2))


def test_the_choice_of_frames_is_another_in_every_epoch(tmp_path):
    numbered_clip(tmp_path / "train" / "a" / "1.mp4", count=40)
    read = training_reading(open_data(tmp_path, "train"), CLIP, Augmentation(), ClipSampling()).read
    seen = []
    for seed in (0, 0, 1):
        random.seed(seed)
        seen.append([number_of(frame) for frame in read(0)])
    assert seen[0] == seen[1] != seen[2]
    for numbers in seen:
        assert [number // 10 for number in numbers] == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("changes", "frames"), [({}, Sparse(4)), ({"sampling": "dense", "frame_stride": 3}, Dense(4, 3))]
)
def test_evaluation_sees_the_same_frames_every_time(tmp_path, changes, frames):
    numbered_clip(tmp_path / "val" / "a" / "1.mp4", count=40)
    source = open_data(tmp_path, "val")
    segments = evaluation_reading(source, CLIP, Views(segments=3, **changes)).read(0)
    assert [tuple(map(number_of, segment)) for segment in segments] == [frames.segment(40, n, 3) for n in range(3)]


@pytest.mark.parametrize("auto_augment", [None, "rand-m9-mstd0.5-inc1"])
def test_every_frame_is_augmented_alike(auto_augment):
    augmentation = Augmentation(auto_augment=auto_augment, color_jitter=0.4, random_erasing=0.9)
    transform = clip_training_transform(CLIP, augmentation)
    for seed in range(5):
        random.seed(seed)
        same = transform((picture((200, 90, 40), 0, size=32),) * 4)
        assert same.shape == (1, 3, 4, 16, 16)
        assert all(torch.equal(same[:, :, 0], same[:, :, frame]) for frame in range(4))
    random.seed(0)
    assert not torch.equal(same, transform((picture((200, 90, 40), 0, size=32),) * 4))


def test_flipping_is_the_augmentations_choice():
    """A picture that is bright at the left: after flipping, at the right."""
    pixels = np.zeros((32, 32, 3), np.uint8)
    pixels[:, :16] = 255
    frame = Image.fromarray(pixels)

    def share_flipped(flip):
        augmentation = Augmentation(auto_augment=None, color_jitter=0, random_erasing=0, flip=flip)
        transform = clip_training_transform(CLIP, augmentation)
        random.seed(0)
        clips = [transform((frame, ImageOps.mirror(frame)))[0, 0] for _ in range(40)]
        decided = [clip for clip in clips if (clip[0, :, 0].mean() - clip[0, :, -1].mean()).abs() > 0.5]
        assert len(decided) > 20
        return np.mean([bool(clip[0, :, 0].mean() < clip[0, :, -1].mean()) for clip in decided])

    assert share_flipped(0.0) == 0
    assert share_flipped(1.0) == 1
    assert 0.2 < share_flipped(0.5) < 0.8


def test_one_crop_is_the_images_own():
    frame = picture((200, 90, 40), 0, size=40).resize((60, 40))
    clip = CropsOverFrames(CLIP, 1)(((frame, frame),))
    assert torch.equal(clip[0, :, 1], evaluation_transform(CLIP, glyphs=False)(frame))


@pytest.mark.parametrize("wide", [True, False])
def test_three_crops_lie_along_the_longer_side(wide):
    """Red, green and blue thirds: each crop sees one of them."""
    pixels = np.zeros((16, 48, 3), np.uint8)
    for third in range(3):
        pixels[:, third * 16 : third * 16 + 16, third] = 255
    frame = Image.fromarray(pixels if wide else pixels.transpose(1, 0, 2).copy())
    preparation = Preparation(3, (16, 16), (0.0,) * 3, (1.0,) * 3, 1.0, "nearest", frames=2)
    views = CropsOverFrames(preparation, 3)(((frame, frame),))
    assert views.shape == (3, 3, 2, 16, 16)
    for third in range(3):
        expected = torch.zeros(3, 2, 16, 16)
        expected[third] = 1
        torch.testing.assert_close(views[third], expected)


def test_readings_travel_to_worker_processes(folder):
    source = open_data(folder, "train")
    for reading in (
        training_reading(source, CLIP, Augmentation(), ClipSampling()),
        evaluation_reading(source, CLIP, Views(segments=2)),
    ):
        copy = pickle.loads(pickle.dumps(reading))
        assert copy.transform(copy.read(0)).shape[1:] == (3, 4, 16, 16)


def test_images_for_a_video_model_and_clips_for_an_image_model(folder, tmp_path):
    images, clips = open_data(make_folder(tmp_path / "images", train=1, val=1), "val"), open_data(folder, "val")
    still = Preparation(3, (16, 16), (0.5,) * 3, (0.5,) * 3, 0.9, "bicubic")
    with pytest.raises(DataError, match="3 images, a model of clips of 4 frames"):
        evaluation_reading(images, CLIP, Views())
    with pytest.raises(DataError, match="6 clips, a model of images"):
        training_reading(clips, still, Augmentation(), ClipSampling())
    with pytest.raises(ConfigError, match="only clips have several views"):
        evaluation_reading(images, still, Views(crops=3))


@pytest.fixture
def broken(tmp_path):
    root = make_clip_folder(tmp_path / "clips", train=4, val=3)
    for split in ("train", "val"):
        cut(root / split / "left" / "0.mp4")
        (root / split / "right" / "1.mp4").write_bytes(b"")
        sound_only(root / split / "right" / "2.mp4")
    return root


def test_broken_clips_are_replaced_and_named_in_training(broken):
    (batch,) = batches(broken, batch_size=8, epochs=1)
    assert len(batch.labels) == 8
    named = {name.partition(": ")[0].removeprefix(f"{broken}/train/") for name in batch.unreadable}
    assert named == {"left/0.mp4", "right/1.mp4", "right/2.mp4"}
    assert batch.labels.tolist().count(1) == 4  # right/3.mp4 stood in for both before it


def test_broken_clips_are_named_and_left_out_in_evaluation(broken):
    source = open_data(broken, "val")
    (batch,) = evaluation_batches(source, CLIP, batch_size=100, workers=0, views=Views(segments=2, crops=3))
    assert batch.labels.tolist() == [0, 0, 1]
    assert batch.images.shape == (18, 3, 4, 16, 16)
    assert batch.views == 6
    assert [name.partition(": ")[2][:8] for name in batch.unreadable] == ["not a wh", "the file", "no pictu"]


class Reader(torch.nn.Module):
    """Tells clips apart by the weighted brightness of their frames; a stand-in for a video model."""

    num_classes = 2

    def __init__(self, preparation=WHOLE):
        super().__init__()
        self.seen = []
        self.weight = torch.nn.Parameter(torch.randn(2, preparation.frames))
        self.pretrained_cfg = {
            "input_size": (3, preparation.frames, *preparation.size),
            "mean": preparation.mean,
            "std": preparation.std,
            "crop_pct": preparation.crop_pct,
            "interpolation": preparation.interpolation,
        }

    def forward(self, clips):
        self.seen.append(len(clips))
        return clips.std((1, 3, 4)) @ self.weight.T * 20


@pytest.mark.parametrize(
    "views", [Views(), Views(segments=2), Views(segments=2, crops=3), Views("dense", 2, 4, 1)], ids=str
)
@pytest.mark.parametrize("batch_size", [1, 7, 100])
def test_scores_are_the_mean_over_views(folder, views, batch_size):
    source, model = open_data(folder, "val"), Reader()
    reading = evaluation_reading(source, WHOLE, views)
    with torch.no_grad():
        mean = torch.stack([model(reading.transform(reading.read(n))).softmax(-1).mean(0) for n in range(6)])
    labels = torch.tensor(source.labels)
    model.seen.clear()
    evaluation = evaluate(model, folder, batch_size=batch_size, workers=0, views=views)
    assert evaluation.top1_percent == pytest.approx(100 * (mean.argmax(1) == labels).float().mean().item())
    assert evaluation.loss == pytest.approx(torch.nn.functional.nll_loss(mean.log(), labels).item(), rel=1e-4)
    assert evaluation.images == 6
    assert sum(model.seen) == 6 * views.count
    assert max(model.seen) <= max(batch_size, views.count)


def test_one_views_logits_are_left_alone():
    logits = torch.randn(4, 3)
    assert mean_over_views(logits, 1) is logits
    two = mean_over_views(logits, 2)
    torch.testing.assert_close(two.exp(), logits.softmax(-1).reshape(2, 2, 3).mean(1))


def test_strict_evaluation_refuses_broken_clips(broken):
    with pytest.raises(DataError, match="not a whole video") as error:
        evaluate(Reader(), broken, workers=0)
    assert "left/0.mp4" in str(error.value)
    evaluation = evaluate(Reader(), broken, workers=0, allow_missing=True)
    assert (evaluation.images, len(evaluation.skipped)) == (3, 3)


def test_a_pasted_box_reaches_through_all_frames():
    """Clips of zeros and ones after cutmix: in every frame the same box, as large as the labels say."""
    recipe = Recipe(mixup=0, cutmix=1.0, label_smoothing=0)
    clips = torch.stack([torch.zeros(3, 4, 16, 16), torch.ones(3, 4, 16, 16)])
    seen = []

    def model(images):
        seen.append(images)
        return torch.tensor([[0.0, -30.0]] * 2)

    objective = Objective(recipe, num_classes=2, teacher=None)
    cut = 0
    for seed in range(10):
        np.random.seed(seed)
        loss = objective(model, clips, torch.tensor([0, 1]))
        mixed = seen[-1]
        assert mixed.shape == clips.shape
        assert (mixed == mixed[:, :1, :1]).all()
        share = mixed[0, 0, 0].mean()
        assert loss.item() == pytest.approx(15, rel=1e-5)  # the shares of both labels add up
        columns, rows = mixed[0, 0, 0].amax(0), mixed[0, 0, 0].amax(1)
        assert share == pytest.approx((columns.sum() * rows.sum() / 256).item())
        cut += 0 < share < 1
    assert cut > 5
    assert clips.unique().tolist() == [0, 1]
