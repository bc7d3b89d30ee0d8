"""Minutes on many GPUs: the paper's Table 3, steps and remainders, reading, and what cannot be."""

import heapq
from dataclasses import replace

import pytest

from rmeeto.config import ModelConfig
from rmeeto.errors import ConfigError, DataError
from rmeeto.models.description import describe
from rmeeto.reduction import parse_reduction
from rmeeto.speed import (
    Job,
    Machines,
    Reading,
    Throughput,
    calibrate,
    doublings,
    paper_minutes,
    placed,
    predict,
    scaled,
    why_not_table_3,
)
from rmeeto.speed.bottleneck import bottleneck_sentence
from rmeeto.speed.minutes import waiting_seconds
from rmeeto.speed.table3 import BATCHES, IMAGENET_IMAGES, MINUTES, REDUCTIONS

JOB = Job(images=1_281_167, parameters=26_000_000, batch=704, passes=2)
NODE = Machines(8)


def paper_job(model):
    batch, passes = BATCHES[model]
    parameters = describe(model).config.parameters
    return Job(images=IMAGENET_IMAGES, parameters=parameters, batch=batch, passes=passes)


@pytest.mark.parametrize("model", MINUTES)
@pytest.mark.parametrize("nodes", [2, 4])
def test_the_papers_8_gpus_predict_its_16_and_32_within_15_percent(model, nodes):
    job = paper_job(model)
    machines = Machines(8, nodes, between="infiniband")
    speed = calibrate(job, NODE, MINUTES[model][8])
    assert predict(job, machines, speed).total_minutes == pytest.approx(paper_minutes(model, machines), rel=0.15)


@pytest.mark.parametrize("model", MINUTES)
def test_the_six_figures_of_table_3_fit_a_network_of_one_and_a_quarter_gigabytes_within_5_percent(model):
    job, slow = paper_job(model), Machines(8, 4, network_bytes_per_second=1.25e9)
    speed = calibrate(job, NODE, MINUTES[model][8])
    found = {devices: predict(job, placed(devices, slow), speed).total_minutes for devices in MINUTES[model]}
    assert found == pytest.approx(MINUTES[model], rel=0.05)


def test_more_gpus_take_fewer_and_larger_steps_and_leave_over_what_fills_none():
    found = [predict(JOB, each, 300) for each in doublings(Machines(8, 4))]
    assert [one.images_per_step for one in found] == [1408 * one.machines.devices for one in found]
    assert [one.steps for one in found] == [3 * (1_281_167 // one.images_per_step) for one in found]
    assert [one.left_over for one in found] == [1_281_167 % one.images_per_step for one in found]


def test_every_step_is_computed_and_then_summed():
    found = predict(replace(JOB, eval_images=0, start_seconds=0), Machines(8, 4), 300)
    assert found.training_minutes == pytest.approx(found.steps * 1408 / 300 / 60)
    assert found.communication_minutes == pytest.approx(found.steps * found.sum_seconds / 60)
    assert found.total_minutes == pytest.approx(found.steps * (1408 / 300 + found.sum_seconds) / 60)


def test_with_images_per_step_that_do_not_grow_the_steps_stay_and_the_sums_weigh_more():
    job = replace(JOB, batch=128, passes=1, images_per_step=1024)
    found = [predict(job, each, 300) for each in doublings(Machines(8, 4, between="ethernet-1"))]
    assert {one.steps for one in found} == {3 * (1_281_167 // 1024)}
    assert found[-1].bottleneck == "communication"
    assert found[0].communication_minutes == 0
    assert found[-1].total_minutes > found[3].total_minutes  # four nodes are slower than one


def test_evaluations_are_shared_and_start_up_is_not():
    one, many = predict(JOB, Machines(1), 300), predict(JOB, Machines(8), 300)
    assert one.evaluation_minutes == pytest.approx(5 * 50_000 / 900 / 60)
    assert many.evaluation_minutes == pytest.approx(one.evaluation_minutes / 8)
    assert many.start_minutes == one.start_minutes == 0.5


@pytest.mark.parametrize("reading", [None, Reading(images_per_second=100, cores=64)])
@pytest.mark.parametrize("speed", [3.0, 250.0])
def test_calibration_undoes_the_prediction(reading, speed):
    minutes = predict(JOB, NODE, speed, reading).total_minutes
    assert calibrate(JOB, NODE, minutes, reading) == pytest.approx(speed)


def test_minutes_that_no_gpu_could_reach_are_refused():
    reading = Reading(images_per_second=50, cores=8)  # 3.8 million images take two hours
    with pytest.raises(ConfigError, match="no GPU is fast enough"):
        calibrate(JOB, NODE, 25.2, reading)
    with pytest.raises(ConfigError, match="no GPU is fast enough"):
        calibrate(JOB, NODE, 0.4)
    with pytest.raises(ConfigError, match="would be faster"):
        calibrate(JOB, NODE, 1e300)


def played_through(batches, workers, read_seconds, work_seconds):
    """Workers that read a batch each, handed out in order, and a GPU that works on one after another."""
    free = [0.0] * workers
    now = 0.0
    for _ in range(batches):
        arrives = heapq.heappop(free) + read_seconds
        heapq.heappush(free, arrives)
        now = max(now, arrives) + work_seconds
    return now


@pytest.mark.parametrize("read_seconds", [0.2, 2.0, 4.0, 9.0])
@pytest.mark.parametrize("workers", [1, 4, 7])
def test_a_gpu_waits_as_long_as_one_whose_workers_are_played_through(read_seconds, workers):
    batches, batch, work_seconds = 60, 64, 1.0
    reading = Reading(images_per_second=batch / read_seconds, cores=workers, workers=workers)
    waiting = waiting_seconds(batches * work_seconds, batches * batch, batch, reading, gpus=1)
    expected = played_through(batches, workers, read_seconds, work_seconds)
    assert batches * work_seconds + waiting == pytest.approx(expected, abs=read_seconds + work_seconds)


def test_workers_beyond_the_cores_read_no_faster():
    plenty = Reading(images_per_second=100, cores=16, workers=10)
    assert plenty.speed_for(gpus=8) == 200
    assert plenty.batch_seconds(100, gpus=8) == pytest.approx(5)  # five workers share a core
    assert Reading(images_per_second=100, cores=16, workers=1).speed_for(gpus=8) == 100
    assert Reading(images_per_second=100, cores=16).workers_per_gpu(gpus=8) == 2


def test_slow_reading_is_named_with_the_cores_that_would_do():
    reading = Reading(images_per_second=100, cores=16)
    found = predict(replace(JOB, eval_images=0, start_seconds=0), NODE, 300, reading)
    assert found.bottleneck == "reading images"
    assert found.total_minutes == pytest.approx(found.steps * 1408 / 200 / 60)
    sentence = bottleneck_sentence(found, JOB, reading)
    assert "the 16 cores of a node read 1,600 images/s, and its 8 GPUs could train on 2,4" in sentence
    assert "24 cores" in sentence
    enough = predict(JOB, NODE, 300, replace(reading, cores=24))
    assert enough.bottleneck == "compute"


def test_each_bottleneck_has_its_sentence():
    def sentence(job, machines, speed, reading=None):
        return bottleneck_sentence(predict(job, machines, speed, reading), job, reading)

    alone = "Compute is the bottleneck: it takes 100 % of the time, starting up 0.2 %."
    assert sentence(JOB, Machines(1), 300) == alone
    fast = sentence(JOB, Machines(8, 2, between="ethernet-1"), 1e5)
    assert "summing 104 MB of gradients over ethernet-1 takes" in fast
    assert "Starting up is the bottleneck: 3600 s" in sentence(replace(JOB, start_seconds=3600), NODE, 3000)
    tiny = replace(JOB, images=1408 * 8, start_seconds=600)
    assert "Starting up" in sentence(tiny, NODE, 3000, Reading(images_per_second=100, cores=16))
    few = Reading(images_per_second=100, cores=64, workers=2)
    assert "the 16 workers of a node read 1,600" in sentence(JOB, NODE, 300, few)
    short = replace(JOB, images=11_264, start_seconds=0)
    assert "one worker reads a whole batch" in sentence(short, NODE, 1e3, Reading(images_per_second=50, cores=1024))


def test_the_curve_doubles_gpus_then_nodes_and_ends_with_all():
    def counts(*machines):
        return [(each.gpus, each.nodes) for each in doublings(Machines(*machines))]

    assert counts(1) == [(1, 1)]
    assert counts(8, 4) == [(1, 1), (2, 1), (4, 1), (8, 1), (8, 2), (8, 4)]
    assert counts(6, 3) == [(1, 1), (2, 1), (4, 1), (6, 1), (6, 2), (6, 3)]


def test_nodes_that_are_filled_in_part_are_refused():
    assert placed(4, Machines(8, 4)) == Machines(4)
    assert placed(16, Machines(8)) == Machines(8, 2)
    with pytest.raises(ConfigError, match="for instance 8 GPUs"):
        placed(12, Machines(8))
    with pytest.raises(ConfigError, match="GPUs"):
        placed(0, Machines(8))


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"images": 0}, "images"),
        ({"epochs": -1}, "epochs"),
        ({"eval_images": -1}, "eval_images"),
        ({"start_seconds": float("nan")}, "start_seconds"),
        ({"images_per_step": 1000}, "for instance 704 images"),
        ({"images_per_step": 0}, "whole forward passes"),
    ],
)
def test_impossible_jobs_are_refused(changes, word):
    with pytest.raises(ConfigError, match=word):
        replace(JOB, **changes)


def test_fewer_images_than_a_step_are_refused():
    with pytest.raises(DataError, match="8 GPUs × 2 × 704 = 11,264 images per step"):
        predict(replace(JOB, images=11_263), NODE, 300)
    assert predict(replace(JOB, images=11_264), NODE, 300).steps == 3


@pytest.mark.parametrize("speed", [0, -3, float("nan"), float("inf")])
def test_impossible_speeds_are_refused(speed):
    with pytest.raises(ConfigError, match="images per second"):
        predict(JOB, NODE, speed)
    with pytest.raises(ConfigError, match="images read per second"):
        Reading(images_per_second=speed, cores=1)


def test_table_3_stands_beside_its_own_setting_only():
    job = paper_job("vim_small")
    assert why_not_table_3("vim_small", "merge:r=11", job) is None
    assert "none, not merge:r=11" in why_not_table_3("vim_small", "none", job)
    assert "10 epochs, not 3" in why_not_table_3("vim_small", "merge:r=11", replace(job, epochs=10))
    assert "1,408 images per step, not 704 × 2 per GPU" in why_not_table_3(
        "vim_small", "merge:r=11", replace(job, images_per_step=1408)
    )
    assert why_not_table_3("deit_small", "none", job) == "the paper has no deit_small there"
    assert paper_minutes("vim_small", Machines(4, 2)) is None
    assert paper_minutes("vim_small", Machines(8, 3)) is None
    assert {model: REDUCTIONS[model] for model in MINUTES} == REDUCTIONS


def test_a_speed_is_scaled_by_the_flops_and_says_so():
    config, merge = ModelConfig(), parse_reduction("merge:r=11")
    whole = Throughput(100, "measured", "measured somewhere")
    reduced = scaled(whole, config, measured=None, wanted=merge)
    assert reduced.images_per_second > 120
    assert reduced.origin == "estimated"
    assert "measured with none and scaled by the FLOPs" in reduced.source
    back = scaled(reduced, config, measured=merge, wanted=None)
    assert back.images_per_second == pytest.approx(100)
    assert scaled(whole, config, measured=merge, wanted=merge) is whole


def test_a_speed_is_not_scaled_to_flops_that_depend_on_the_images():
    varying = parse_reduction("similar-merge:r=5,threshold=0.9")
    with pytest.raises(ConfigError, match="depend on the images"):
        scaled(Throughput(1, "given", "as given"), ModelConfig(), measured=None, wanted=varying)
