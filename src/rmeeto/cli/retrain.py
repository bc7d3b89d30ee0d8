"""``rmeeto retrain``: a recipe, changed by options, becomes a re-trained model and a table."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rmeeto.cli import console, options
from rmeeto.cli.model import RANDOM, check_may_be_random
from rmeeto.cli.rows import rows_table
from rmeeto.errors import ConfigError

if TYPE_CHECKING:
    from rmeeto.evaluation.results import Results
    from rmeeto.recipe import Recipe

data_option = partial(typer.Option, rich_help_panel="Data")
training = partial(typer.Option, rich_help_panel="Training")
augmentation = partial(typer.Option, rich_help_panel="Augmentation")
clips = partial(typer.Option, rich_help_panel="Clips")
running = partial(typer.Option, rich_help_panel="Running")

NOT_IN_RECIPES = ("recipe", "resume", "as_json")
OF_MODEL = ("img_size", "registers", "frames")
RENAMED = {"reduce": "reduction", "batch": "batch_size"}


def number_or_none(text: str) -> float | str:
    """A number, or the word that switches something off."""
    return text if text == "none" else float(text)


def retrain(
    context: typer.Context,
    model: Annotated[
        str | None, typer.Argument(metavar="MODEL", help="What to re-train; may stand in the recipe instead.")
    ] = None,
    data: options.DataOption = None,
    reduce: options.ReduceOption = None,
    recipe: Annotated[
        str | None, typer.Option(metavar="FILE", help="A TOML file, or the name of a shipped recipe.")
    ] = None,
    weights: options.WeightsOption = None,
    output: Annotated[
        str | None, typer.Option("--output", "-o", metavar="DIR", help="Folder for weights, log, results.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where the run in --output stopped.")] = False,
    subset: Annotated[float | None, data_option(help="Share of the training images to use.")] = None,
    num_classes: Annotated[
        int | None, data_option("--num-classes", "--nb-classes", help="Classes of a new head.")
    ] = None,
    img_size: Annotated[int | None, data_option(help="Side of the images in pixels, if not the model's own.")] = None,
    registers: Annotated[
        int | None, training(help="Learned tokens among the patches that no reduction touches, if not the model's own.")
    ] = None,
    epochs: Annotated[int | None, training(help="Passes over the training images.")] = None,
    batch: Annotated[int | None, training("--batch", "-b", "--batch-size", help="Images per forward pass.")] = None,
    accumulate: Annotated[
        int | None, training("--accumulate", "--grad-accum-steps", help="Forward passes per optimiser step.")
    ] = None,
    lr: Annotated[float | None, training(help="First learning rate of the cosine.")] = None,
    min_lr: Annotated[float | None, training(help="Last learning rate of the cosine.")] = None,
    warmup_steps: Annotated[int | None, training(help="Steps of linear rise before it.")] = None,
    weight_decay: Annotated[float | None, training(help="AdamW's weight decay.")] = None,
    clip_grad: Annotated[
        Any, training(parser=number_or_none, metavar="NORM", help="Largest gradient norm, or none.")
    ] = None,
    ema_decay: Annotated[
        Any,
        training(
            "--ema-decay", "--model-ema-decay", parser=number_or_none, metavar="DECAY", help="Average the weights."
        ),
    ] = None,
    distill: Annotated[float | None, training(help="Weight of distillation from the unreduced model.")] = None,
    anneal: Annotated[float | None, training(help="Share of the steps over which the reduction grows.")] = None,
    seed: Annotated[int | None, training(help="Decides every random draw.")] = None,
    label_smoothing: Annotated[
        float | None, augmentation("--label-smoothing", "--smoothing", help="Share of the label given to all classes.")
    ] = None,
    mixup: Annotated[float | None, augmentation(help="Strength of mixing images; 0 for none.")] = None,
    cutmix: Annotated[float | None, augmentation(help="Strength of pasting images; 0 for none.")] = None,
    auto_augment: Annotated[
        str | None, augmentation("--auto-augment", "--aa", metavar="POLICY", help="As timm spells it, or none.")
    ] = None,
    color_jitter: Annotated[float | None, augmentation(help="Strength, where no policy is given.")] = None,
    random_erasing: Annotated[
        float | None, augmentation("--random-erasing", "--reprob", help="Probability of erasing a part.")
    ] = None,
    drop_path_rate: Annotated[
        float | None, augmentation("--drop-path-rate", "--drop-path", help="Probability of skipping the last block.")
    ] = None,
    flip: Annotated[float | None, augmentation(help="Probability of mirroring; 0 if left and right differ.")] = None,
    frames: Annotated[int | None, clips(help="Frames of a clip, if not the model's own.")] = None,
    sampling: Annotated[
        options.Sampling | None, clips(help="One frame from each of equal parts, or an even pace.")
    ] = None,
    frame_stride: Annotated[int | None, clips(help="Of dense sampling: every Nth frame.")] = None,
    segments: Annotated[int | None, clips(help="Choices of frames per clip in evaluations.")] = None,
    crops: Annotated[int | None, clips(help="Crops per frame in evaluations.")] = None,
    device: Annotated[str | None, running(metavar="NAME", help="auto or cpu.")] = None,
    precision: Annotated[str | None, running(metavar="NAME", help="float32, bfloat16 (autocast), or auto.")] = None,
    workers: Annotated[int | None, running("--workers", "-j", help="Processes that read images.")] = None,
    save_every_seconds: Annotated[float | None, running(help="Work an interruption may cost.")] = None,
    log_every_steps: Annotated[
        int | None, running("--log-every-steps", "--log-interval", help="Steps between log lines.")
    ] = None,
    impl: Annotated[options.Impl | None, running(help="Kernels; one named here never falls back.")] = None,
    as_json: options.JsonOption = False,
) -> None:
    """Re-train a reduced model: unreduced, reduced, and reduced + re-trained, side by side.

    An option overrides the recipe's value; without a recipe the paper's values are used.

    An interrupted run loses nothing: the same command with --resume goes on.
    """
    given = {name: value for name, value in context.params.items() if value is not None and name not in NOT_IN_RECIPES}
    chosen = recipe_from(recipe, given)

    from rmeeto.training import retrain as run

    results = run(chosen, resume=resume, progress=console.progress())
    if as_json:
        console.print_json(results.to_dict())
    else:
        print_results(results)


def recipe_from(source: str | None, given: dict[str, Any]) -> Recipe:
    """The recipe, changed by the options that were given, under their recipe names.

    Raises:
        ConfigError: neither an option nor the recipe names the model or the data, or values that do not fit.
    """
    from rmeeto.models.description import is_folder
    from rmeeto.recipe import PUBLISHED, Recipe, load_recipe

    changes = {RENAMED.get(name, name): value for name, value in given.items()}
    for name, fix in (("model", "name one first"), ("data", "--data DIR, a folder with train/ and val/")):
        if source is None and name not in changes:
            raise ConfigError("re-train", why=f"neither an option nor a recipe names the {name}", fix=fix)
    base = Recipe() if source is None else load_recipe(source)
    if changes.get("weights") == RANDOM:
        check_may_be_random(changes.get("model", base.model))
        changes["weights"] = None
    elif "model" in changes and "weights" not in changes:
        # MODEL alone means its published or saved weights, as in every command, not the weights of the recipe's model
        changes["weights"] = None if is_folder(changes["model"]) else PUBLISHED
    of_model = {name: changes.pop(name) for name in OF_MODEL if name in changes}
    if of_model:
        changes["model_options"] = {**dict(base.model_options), **of_model}
    return base.changed(**changes)


def print_results(results: Results) -> None:
    """Print the table and the folder of model, log and results."""
    minutes = results.seconds / 60
    title = f"{results.steps} steps, evaluated on {results.val_images}, {minutes:.1f} minutes on {results.device}"
    console.out().print(rows_table(results.rows, title), "")
    console.out().print(f"model, log and results are in [bold]{Path(results.output)}[/]")
