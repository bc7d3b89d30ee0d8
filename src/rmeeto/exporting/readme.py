"""The README of an exported folder."""

from __future__ import annotations

from collections.abc import Sequence

from rmeeto import __version__
from rmeeto.data import Preparation
from rmeeto.exporting.parity import Parity, Row
from rmeeto.models.reducible import ReducibleModel

TEXT = """# {model}, {reduction}

Exported by rmeeto {version} to {format}. {takes}

## Run it

```
pip install {packages}
python run.py {file}
```

{runs}
It prepares the input as `preprocess.json` says, runs the model and names the classes by `labels.json`. Copy what you
need of it into your own program.

{input_text}
{map_text}
## Does it compute the same?

{verdict} The check compared it with the model in float64: which tokens are merged at every block, and the logits where
these plans are equal. `parity.json` has the details, and the versions of all packages.

{rows}

Frozen in rmeeto, the model takes {frozen:.1f} ms for one input on the machine of this check. Times are medians of up
to five runs with the runtimes' own settings.
"""


def readme(
    parity: Parity,
    model: ReducibleModel,
    format_name: str,
    *,
    batch: int | None,
    map_text: str,
    needs: Sequence[str],
    runs: str,
) -> str:
    """How to run a folder, what was checked, and how fast it was.

    needs: packages that ``run.py`` imports. runs: a sentence on what it runs. map_text: how to get the source map, with
    ``{tokens}`` for how many there are at first; empty if it was not asked for.
    """
    clips = Preparation.of(model).frames > 1
    shape = ", ".join(map(str, model.config.input_size))
    number = "any number of inputs" if batch is None else "1 input" if batch == 1 else f"{batch} inputs"
    return TEXT.format(
        model=parity.model,
        reduction=parity.reduction if parity.reduction != "none" else "not reduced",
        version=__version__,
        format=format_name,
        takes=f"It takes {number} at a time.",
        packages=" ".join(needs),
        runs=runs,
        file="CLIP_FOLDER" if clips else "PHOTO.jpg",
        input_text=f"Input `images`: float32 `({'images' if batch is None else batch}, {shape})`. "
        f"Output `logits`: float32 `(…, {model.num_classes})`.",
        map_text=map_text.format(tokens=model.schedule.start),
        verdict="It passed." if parity.passed else "**It did not pass. Do not use these files.**",
        rows="\n".join([HEADER, *map(line, parity.rows)]),
        frozen=parity.frozen_ms,
    )


HEADER = (
    "| runtime | precision | batch | MB | load s | ms per input | plans equal | worst logit |\n"
    "|---|---|---|---|---|---|---|---|"
)


def line(row: Row) -> str:
    """A row of the report in Markdown."""
    worst = "–" if row.worst_logit is None else f"{row.worst_logit:.1e}"
    figures = f"{row.megabytes:.1f} | {row.load_seconds:.2f} | {row.ms_per_input:.1f}"
    plans = f"{row.plans_equal} of {row.inputs}"
    note = "" if row.gated else " (not gated)"
    return f"| {row.runtime} | {row.precision}{note} | {row.batch} | {figures} | {plans} | {worst} |"
