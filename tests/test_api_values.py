"""Bad values for every parameter of the public names: one clear error, never a raw one."""

import math
from dataclasses import fields

import pytest
import torch
from torch import nn

import rmeeto
from rmeeto.errors import RmeetoError
from rmeeto.ops import causal_conv, selective_scan
from rmeeto.recipe import Recipe
from rmeeto.reduction import ReleasedMerge, TokenPrune, parse_reduction
from small_models import images_of, model_of

BAD_NUMBERS = ("a", "", "0.3", [], {}, math.nan, math.inf, 10**400, b"1", 1j, -1e300)
SIZES = {"img_size": 32, "patch_size": 8, "stride": 8, "dim": 16, "depth": 2, "num_classes": 5}
COUNTS = (
    "img_size patch_size stride in_chans frames tubelet num_classes registers dim depth state expand conv_width dt_rank"
)
NOT_COUNTS = ("a", "224", 2.5, True, [], {}, math.nan, 10**400, -1, (224,), (1, 2, 3), b"1")


def refused(call, *arguments, **options):
    with pytest.raises(RmeetoError) as error:
        call(*arguments, **options)
    assert type(error.value) is not RmeetoError
    assert error.value.why


@pytest.mark.parametrize("name", COUNTS.split())
@pytest.mark.parametrize("value", NOT_COUNTS, ids=repr)
def test_sizes_of_a_model(name, value):
    refused(rmeeto.create_model, "vim_tiny", **{**SIZES, name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("drop_path_rate", 2.0),
        ("drop_path_rate", 1.0),
        ("drop_path_rate", math.nan),
        ("drop_path_rate", "a"),
        ("drop_rate", "a"),
        ("drop_rate", 1.0),
        ("stride", 1000),
        ("stride", 9),
        ("mean", 0.5),
        ("mean", ()),
        ("mean", ("a",)),
        ("std", (0.0, 0.0, 0.0)),
        ("std", (0.5,)),
        ("crop_pct", 0),
        ("crop_pct", 3),
        ("interpolation", "nonsense"),
        ("interpolation", 3),
        ("cls_place", "last"),
        ("cls_place", []),
        ("halve", 1),
        ("impl", "nonsense"),
        ("impl", 3),
        ("reduction", 3),
        ("reduction", ""),
        ("reduction", "merge"),
        ("reduction", rmeeto.TokenMerge),
        ("reduction", rmeeto.TokenMerge(r=200)),
        ("dim", 10**6),
        ("weights", ""),
    ],
)
def test_other_options_of_a_model(name, value):
    refused(rmeeto.create_model, "vim_tiny", **{**SIZES, name: value})


def test_counts_may_be_numpy_s_and_torch_s():
    model = rmeeto.create_model("vim_tiny", **{**SIZES, "depth": torch.tensor(2)})
    assert model.config.depth == 2
    assert type(model.config.depth) is int


def test_a_reduction_may_be_assigned_as_its_line():
    model = model_of()
    model.reduction = "merge:r=3"
    assert model.reduction == rmeeto.TokenMerge(r=3)
    model.reduction = "none"
    assert model.reduction is None
    for value in (3, "nonsense", rmeeto.TokenMerge, b"merge:r=3", ["merge:r=3"]):
        refused(setattr, model, "reduction", value)
        refused(rmeeto.reduce, model, value)
    assert model.reduction is None


METHODS = [rmeeto.TokenMerge, TokenPrune, ReleasedMerge]


@pytest.mark.parametrize("kind", METHODS)
@pytest.mark.parametrize("value", BAD_NUMBERS, ids=lambda value: repr(value)[:20])
def test_fields_of_a_method(kind, value):
    for name in (field.name for field in fields(kind)):
        amount = {} if name in ("ratio", "gflops", "fewer") else {"r": 3}
        if name == "blocks" and isinstance(value, str):
            refused(setattr, model_of(), "reduction", kind(**{**amount, name: value}))  # what fits depends on the depth
        elif (name, value) not in [("r", []), ("stretch", -1e300)]:
            refused(kind, **{**amount, name: value})


@pytest.mark.parametrize(
    "line", ["merge:r=5*1000000000", "merge:r=5*-1", "merge:r=5*0", "merge:r=" + "1+" * 60_000 + "1"]
)
def test_lines_that_ask_for_endless_lists(line):
    refused(parse_reduction, line)


@pytest.mark.parametrize(
    "line", [None, 3, b"merge:r=3", "", "merge", "released:nth=1", "merge:r=" + "9" * 5000, "@", "@/dev/zero", "@a\0b"]
)
def test_lines_that_are_none(line):
    refused(parse_reduction, line)


@pytest.mark.parametrize("name", Recipe.__dataclass_fields__)
def test_fields_of_a_recipe(name):
    text = isinstance(getattr(Recipe(), name), str | None) and name not in (
        "clip_grad",
        "ema_decay",
        "num_classes",
    )
    for value in (["x"], b"x", 1j, object(), *(("a\0b", "\udcff", 3) if text else ("a", 10**400, math.nan, math.inf))):
        refused(Recipe, **{name: value})


@pytest.mark.parametrize("options", [3, [1, 2], "ab", {1: 2}, {"a b": 1}, {"depth": {}}, {"depth": [{}]}, {"": 1}])
def test_model_options_of_a_recipe(options):
    refused(Recipe, model_options=options)


def operands(length=4, e=3, n=2):
    shapes = {"u": (2, length, e), "delta": (2, length, e), "A": (e, n), "B": (2, length, n), "C": (2, length, n)}
    shapes |= {"skip": (e,), "gate": (2, length, e), "delta_bias": (e,)}
    return {name: torch.rand(shape) for name, shape in shapes.items()}


CHANGES = {
    "sparse": lambda t: t.to_sparse(),
    "fp8": lambda t: t.to(torch.float8_e4m3fn),
    "int": lambda t: t.int(),
    "bool": lambda t: t.bool(),
    "complex": lambda t: t.to(torch.complex64),
    "numpy": lambda t: t.numpy(),
    "list": lambda t: t.tolist(),
    "number": lambda t: 3,
    "more axes": lambda t: t[None],
    "no axes": lambda t: t.sum(),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("name", operands())
def test_operands_of_the_scan(name, change):
    given = operands()
    given[name] = CHANGES[change](given[name])
    refused(selective_scan, **given)


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("name", ["x", "weight", "bias"])
def test_operands_of_the_convolution(name, change):
    given = {"x": torch.rand(2, 4, 3), "weight": torch.rand(3, 1, 2), "bias": torch.rand(3)}
    given[name] = CHANGES[change](given[name])
    refused(causal_conv, **given)


def test_operands_that_are_needed():
    for name in ("u", "delta", "A", "B", "C"):
        refused(selective_scan, **{**operands(), name: None})
    refused(causal_conv, None, torch.rand(3, 1, 2))
    refused(causal_conv, torch.rand(2, 4, 3), None)
    for impl in (None, 3, "nonsense", []):
        refused(selective_scan, **operands(), impl=impl)
        refused(causal_conv, torch.rand(2, 4, 3), torch.rand(3, 1, 2), impl=impl)


IMAGES = {
    "double": lambda x: x.double(),
    "half": lambda x: x.half(),
    "bytes": lambda x: x.byte(),
    "bool": lambda x: x.bool(),
    "complex": lambda x: x.to(torch.complex64),
    "sparse": lambda x: x.to_sparse(),
    "numpy": lambda x: x.numpy(),
    "None": lambda x: None,
    "meta": lambda x: x.to("meta"),
    "grey": lambda x: x[:, :1],
    "small": lambda x: x[..., :8],
    "one": lambda x: x[0],
}


@pytest.mark.parametrize("change", IMAGES)
@pytest.mark.parametrize("mode", ["training", "evaluation", "frozen"])
@pytest.mark.parametrize("name", ["vim_tiny", "videomamba_tiny"])
def test_images(change, mode, name):
    model = model_of(name, reduction="merge:r=3")
    images = IMAGES[change](images_of(model))
    if mode == "training":
        refused(model.train(), images)
        return
    with torch.inference_mode():
        refused(rmeeto.freeze(model) if mode == "frozen" else model, images)


def test_counting_what_is_no_model_of_ours():
    for value in (nn.Linear(2, 2), None, "vim_tiny", 3):
        refused(rmeeto.flops, value)
    refused(rmeeto.flops, model_of(), convention="nonsense")
    refused(rmeeto.flops, model_of(), convention=None)
