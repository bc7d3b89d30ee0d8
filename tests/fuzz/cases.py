"""Cases of bad input, each a function of a seed and a number. A case may succeed or end in one of our errors."""

import dataclasses
import json
import os
import shutil
import socket
import tempfile
import warnings
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from random import Random

import torch
from safetensors.torch import save_file
from typer.testing import CliRunner

import rmeeto
from fuzz import nasty
from rmeeto.cli import app
from rmeeto.cost import count, stack_of
from rmeeto.data import check_classes, fingerprint, open_data
from rmeeto.data.image_file import read_image_file
from rmeeto.data.samples import UNREADABLE
from rmeeto.errors import RmeetoError
from rmeeto.evaluation.prediction import find_files, read_class_names
from rmeeto.evaluation.results import load_results
from rmeeto.models.checkpoint import read_config
from rmeeto.models.description import describe
from rmeeto.models.vim.zoo import ZOO
from rmeeto.ops import causal_conv, selective_scan
from rmeeto.recipe import parse_recipe
from rmeeto.reduction import METHODS, parse_reduction
from rmeeto.training.runlog import read_log
from toys import COLOURS, SIZES, make_folder, picture, toy_recipe


class Base:
    """What all cases start from, made once: a model, pictures, weights, a finished run."""

    def __init__(self):
        self.place = Path(tempfile.mkdtemp(prefix="rmeeto-fuzz-"))
        self.pictures = make_folder(self.place / "pictures", train=3, val=2)
        self.network = rmeeto.create_model("vim_tiny", num_classes=3, **SIZES)
        metadata = {"classes": json.dumps(sorted(COLOURS))}
        self.model = rmeeto.save_model(self.network, self.place / "model", name="toy", metadata=metadata)
        self.state = self.network.state_dict()
        torch.save(self.state, self.place / "weights.pth")
        torch.save(self.state, self.place / "old.pth", _use_new_zipfile_serialization=False)
        save_file(self.state, self.place / "weights.safetensors")
        recipe = toy_recipe(self.pictures, self.place / "run", epochs=1, batch_size=4, reduction="merge:r=3")
        rmeeto.retrain(recipe)
        self.recipe = recipe.to_toml()
        self.images = self.place / "images"
        self.images.mkdir()
        for ending in ("jpg", "png", "gif", "webp", "bmp", "tiff", "ppm"):
            picture((200, 50, 40), 1).save(self.images / f"a.{ending}")


@cache
def base():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return Base()


def reduction_line(rng):
    name = rng.choice([*METHODS, "merge", "merge", "prune"])
    fields = [field.name for field in dataclasses.fields(METHODS[name])]
    amounts = {"r": "3", "ratio": "0.3", "gflops": "0.001", "fewer": "1.2"}
    chosen = dict([rng.choice([*amounts.items()])]) if rng.random() < 0.8 else {}
    for _ in range(rng.randint(0, 3)):
        field = rng.choice(fields)
        good = (
            "C",
            "X",
            "even",
            "odd",
            "all",
            "1::2",
            "6::6",
            "cosine",
            "mean",
            "1",
            "0.5",
            "2*3+1",
            "dropped",
            "true",
        )
        chosen[field] = rng.choice(good) if rng.random() < 0.6 else nasty.word(rng)
    line = f"{name}:{','.join(f'{field}={text}' for field, text in chosen.items())}"
    return nasty.mutated_text(rng, line) if rng.random() < 0.4 else line


def spec(rng, place):
    reduction = parse_reduction(reduction_line(rng))
    if reduction is None:
        return
    assert parse_reduction(str(reduction)) == reduction
    config = base().network.config if rng.random() < 0.5 else ZOO[rng.choice(list(ZOO))].config
    schedule = reduction.schedule(stack_of(config))
    assert min(schedule.tokens) >= 1
    count(config, reduction, convention=rng.choice(("paper", "exact")))


def listed(rng, place):
    clips = place / "videos"
    clips.mkdir()
    for name in ("a.mp4", "b c.mp4", "d,e.mp4"):
        (clips / name).write_bytes(b"")
    lines = [
        f"{rng.choice(('a.mp4', 'b c.mp4', 'd,e.mp4', 'no.mp4'))}{rng.choice(' ,')}{rng.randrange(4)}" for _ in "abcd"
    ]
    for name in ("train", "val"):
        text = "\n".join(lines)
        text = nasty.mutated_text(rng, text) if rng.random() < 0.8 else text
        content = text.encode(rng.choice(("utf-8", "utf-8", "utf-16", "utf-8-sig")), "surrogatepass")
        content = nasty.mutated_bytes(rng, content) if rng.random() < 0.2 else content
        (place / f"{name}{rng.choice(('.csv', '.txt', '.tsv'))}").write_bytes(content)
    if rng.random() < 0.5:
        table = "index\tname\n0\tx\n1\ty z\n2\tw\n"
        table = nasty.mutated_text(rng, table).encode("utf-8", "surrogatepass")
        (place / f"classes{rng.choice(('.tsv', '.csv', '.txt'))}").write_bytes(table)
    source = open_data(place, rng.choice(("train", "val")))
    assert max(source.labels) < len(source.classes)
    check_classes(source, len(source.classes))


def damaged_config(rng, place):
    content = read_config(base().model)
    for _ in range(rng.randint(1, 3)):
        content = nasty.mutated_tree(rng, content)
    text = json.dumps(content, default=str)
    text = nasty.mutated_text(rng, text) if rng.random() < 0.2 else text
    folder = place / "model"
    folder.mkdir()
    (folder / "config.json").write_bytes(text.encode("utf-8", "surrogatepass"))
    if rng.random() < 0.3:
        os.link(base().model / "model.safetensors", folder / "model.safetensors")
        rmeeto.create_model(str(folder))
        return
    described = describe(str(folder))
    count(described.config, None, convention="exact")


def recipe(rng, place):
    text = base().recipe
    lines = text.splitlines()
    number = rng.randrange(len(lines))
    name = lines[number].partition("=")[0]
    if rng.random() < 0.5:
        lines[number] = (
            f"{name}= {rng.choice((json.dumps(nasty.word(rng)), nasty.word(rng), '{ depth = 3 }', '[1, 2]'))}"
        )
    text = "\n".join(lines)
    text = nasty.mutated_text(rng, text) if rng.random() < 0.5 else text
    if rng.random() < 0.3:
        file = place / "recipe.toml"
        file.write_bytes(text.encode("utf-8", "surrogatepass"))
        read = rmeeto.load_recipe(file)
    else:
        read = parse_recipe(text)
    assert parse_recipe(read.to_toml()) == read
    if rng.random() < 0.3:
        read.changed(**{rng.choice([*type(read).__dataclass_fields__]): nasty.value(rng)})


def weights(rng, place):
    if rng.random() < 0.5:
        source = base().place / rng.choice(("weights.pth", "old.pth", "weights.safetensors", "model/model.safetensors"))
        file = place / source.name
        file.write_bytes(nasty.mutated_bytes(rng, source.read_bytes()))
    else:
        state = dict(base().state)
        for _ in range(rng.randint(1, 3)):
            name = rng.choice([*state, "reg_token", "temporal_pos_embedding", "distill_head.weight"])
            shape = tuple(rng.choice((0, 1, 2, 3, 16, 17, 64)) for _ in range(rng.randint(0, 5)))
            dtype = rng.choice((torch.float32, torch.float16, torch.int64, torch.complex64, torch.bool))
            state[name] = rng.choice((torch.zeros(shape, dtype=dtype), torch.zeros(()).expand(shape), nasty.value(rng)))
            if rng.random() < 0.3:
                del state[name]
        file = place / "weights.pth"
        torch.save(state if rng.random() < 0.5 else {rng.choice(("model", "ema", "x")): state}, file)
    sizes = {**SIZES, "num_classes": rng.choice((None, 3, 5))}
    frames = {"frames": 2} if rng.random() < 0.2 else {}
    rmeeto.create_model(rng.choice(("vim_tiny", "videomamba_tiny")), weights=file, **sizes, **frames)


def image(rng, place):
    source = rng.choice(sorted(base().images.iterdir()))
    (place / source.name).write_bytes(nasty.mutated_bytes(rng, source.read_bytes()))
    read_image_file(place / source.name)


def folder(rng, place):
    root = place / "data"
    shutil.copytree(base().pictures, root)
    for _ in range(rng.randint(1, 4)):
        folders = sorted(path for path in root.rglob("*") if path.is_dir() and not path.is_symlink())
        there = rng.choice([root, *folders])
        name = rng.choice(("x", "x.png", ".x", "red", "val", "x\udcff.png", "x\n.jpg", "café", "cafe\u0301", "Red"))
        if not folders or os.path.lexists(there / name):
            continue
        way = rng.randrange(6)
        if way == 0:
            (there / name).symlink_to(
                rng.choice((root, there, "..", ".", "nowhere", name, rng.choice(folders), "/dev/zero"))
            )
        elif way == 1:
            os.mkfifo(there / name)
        elif way == 2:
            (there / name).mkdir()
        elif way == 3:
            (there / name).write_bytes(b"")
        elif way == 4:
            shutil.rmtree(rng.choice(folders))
        else:
            here = os.getcwd()
            os.chdir(there)  # the path of a socket must be short
            with socket.socket(socket.AF_UNIX) as one:
                one.bind(name)
            os.chdir(here)
    opened = [open_data(root, split) for split in ("train", "val")]
    fingerprint(*opened)
    for source in opened:
        assert len({os.path.realpath(path) for path in source.paths}) == len(source.paths)
        for index in range(len(source.labels)):
            try:
                source.read(index)
            except UNREADABLE:
                continue
    find_files([str(root), str(root / "**" / "*.png")])


def run_folder(rng, place):
    output = place / "run"
    shutil.copytree(base().place / "run", output)
    for _ in range(rng.randint(1, 2)):
        file = rng.choice(sorted(path for path in output.rglob("*") if path.is_file()) or [output / "recipe.toml"])
        way = rng.randrange(4)
        if way == 0:
            file.unlink(missing_ok=True)
        elif way == 1 and file.suffix == ".json":
            original = json.loads((base().place / "run" / file.relative_to(output)).read_text())
            file.write_text(json.dumps(nasty.mutated_tree(rng, original), default=str))
        elif way == 2:
            file.unlink(missing_ok=True)
            file.mkdir()
        elif file.exists():
            file.write_bytes(nasty.mutated_bytes(rng, file.read_bytes()))
    for read in (load_results, lambda path: read_log(path / "log.jsonl"), lambda path: rmeeto.create_model(str(path))):
        try:
            read(output)
        except RmeetoError:
            continue
    if rng.random() < 0.1:
        text = base().recipe.replace(str(base().place / "run"), str(output))
        rmeeto.retrain(parse_recipe(text), resume=True)


def names(rng, place):
    path = place / rng.choice(("labels.txt", "labels.json"))
    text = rng.choice(("a\nb\nc\n", '["a", "b"]'))
    path.write_bytes(nasty.mutated_bytes(rng, text.encode()))
    read_class_names(path)


def model_options(rng, place):
    fields = [*type(base().network.config).__dataclass_fields__, "nonsense"]
    options = {rng.choice(fields): nasty.value(rng) for _ in range(rng.randint(1, 2))}
    reduction = rng.choice((None, "merge:r=3", nasty.value(rng)))
    name = "vim_tiny" if rng.random() < 0.9 else nasty.value(rng)
    rmeeto.create_model(name, reduction=reduction, **{**SIZES, "num_classes": 3, **options})


def methods(rng, place):
    kind = METHODS[rng.choice([*METHODS])]
    fields = [field.name for field in dataclasses.fields(kind)]
    needed = "r" in (field.name for field in dataclasses.fields(kind) if field.default is dataclasses.MISSING)
    amount = {"r": rng.choice((3, [1, 2], nasty.value(rng)))} if needed or rng.random() < 0.7 else {}
    options = {rng.choice(fields): nasty.value(rng) for _ in range(rng.randint(0, 2))}
    reduction = kind(**{**amount, **options})
    hash(reduction)
    base().network.reduction = reduction
    base().network.reduction = None


def tensors(rng, place):
    length, e, n = rng.choice((0, 1, 4)), rng.choice((1, 3)), rng.choice((1, 2))
    shapes = {"u": (2, length, e), "delta": (2, length, e), "A": (e, n), "B": (2, length, n), "C": (2, length, n)}
    shapes |= {"skip": (e,), "gate": (2, length, e), "delta_bias": (e,)} if rng.random() < 0.5 else {}
    given = {name: torch.rand(shape) for name, shape in shapes.items()}
    if rng.random() < 0.3:
        given = {"x": torch.rand(2, length, e), "weight": torch.rand(e, 1, 2), "bias": torch.rand(e)}
    for _ in range(rng.randint(0, 2)):
        name = rng.choice([*given])
        given[name] = changed_tensor(rng, given[name])
    impl = rng.choice(("auto", "auto", "reference", "cpp", "triton", nasty.value(rng)))
    call = causal_conv if "x" in given else selective_scan
    call(*given.values(), impl=impl) if "x" in given else call(
        *(given[name] for name in ("u", "delta", "A", "B", "C")),
        **{name: given[name] for name in ("skip", "gate", "delta_bias") if name in given},
        impl=impl,
    )


def changed_tensor(rng, tensor):
    plain = isinstance(tensor, torch.Tensor) and tensor.layout is torch.strided and not tensor.is_meta
    if not plain or tensor.dtype != torch.float32:
        return nasty.value(rng)  # it was changed before
    ways = (
        lambda: tensor.double(),
        lambda: tensor.half(),
        lambda: tensor.bfloat16(),
        lambda: tensor.to(torch.float8_e4m3fn),
        lambda: tensor.int(),
        lambda: tensor.bool(),
        lambda: tensor.to(torch.complex64),
        lambda: tensor.to_sparse(),
        lambda: tensor.to("meta"),
        lambda: tensor.numpy(),
        lambda: tensor[:1],
        lambda: tensor[..., :0],
        lambda: tensor[None],
        lambda: tensor.tolist(),
        lambda: None,
        lambda: tensor * float("nan"),
        lambda: tensor.expand(2, *tensor.shape)[0],
        lambda: tensor.transpose(0, -1),
    )
    return rng.choice(ways)()


def images(rng, place):
    tensor = torch.rand(1, 3, 16, 16)
    ways = (
        lambda: changed_tensor(rng, tensor),
        lambda: (tensor * 255).byte(),
        lambda: tensor[:, :1],
        lambda: tensor[..., :8],
        lambda: torch.rand(rng.choice((0, 1, 2)), rng.choice((1, 3, 4)), rng.choice((0, 8, 16)), 16),
        lambda: nasty.value(rng),
    )
    network = base().network
    network.reduction = rng.choice((None, rmeeto.TokenMerge(r=2)))
    with torch.inference_mode():
        (rmeeto.freeze if rng.random() < 0.5 else rmeeto.thaw)(network)(rng.choice(ways)())


RETRAIN_OPTIONS = [
    "--reduce",
    "--recipe",
    "--weights",
    "--subset",
    "--num-classes",
    "--img-size",
    "--registers",
    "--accumulate",
    "--lr",
    "--min-lr",
    "--warmup-steps",
    "--clip-grad",
    "--ema-decay",
    "--distill",
    "--anneal",
    "--seed",
    "--label-smoothing",
    "--mixup",
    "--aa",
    "--flip",
    "--drop-path",
    "--frames",
    "--segments",
    "--device",
    "--precision",
    "--save-every-seconds",
    "--log-every-steps",
    "--impl",
]


def command_line(rng, place):
    verb = rng.choice(("models", "flops", "show", "predict", "eval", "retrain", "tune", "data", "nonsense"))
    model = rng.choice((str(base().model), str(base().model), "vim_tiny", "vim_digits", nasty.word(rng)))
    data = rng.choice((str(base().pictures), str(base().pictures), "digits", nasty.word(rng)))
    words = {
        "models": [rng.choice(("*", "vim*", nasty.word(rng)))],
        "flops": [model],
        "show": [
            model,
            str(base().pictures / "val" / "red"),
            "--output",
            str(place / rng.choice(("a.png", "a", "b/c.svg"))),
        ],
        "predict": [model, rng.choice((str(base().pictures / "val"), nasty.word(rng)))],
        "eval": [model, "--data", data, "-j", "0"],
        "retrain": [model, "--data", data, "-j", "0", "--epochs", "1", "-b", "4", "--output", str(place / "run")],
        "tune": [
            model,
            "--data",
            data,
            "-j",
            "0",
            "--images",
            "4",
            "--evaluations",
            "3",
            "--output",
            str(place / "t.json"),
        ],
        "data": ["check", data, "-j", "0"],
        "nonsense": [nasty.word(rng)],
    }[verb]
    options = {
        "flops": ("--reduce", "--blocks", "--terms"),
        "show": ("--reduce", "--blocks", "--output", "--impl", "--weights"),
        "predict": ("--reduce", "--weights", "--top", "--labels", "-b", "--impl"),
        "eval": ("--reduce", "--weights", "-b", "--device", "--precision", "--segments", "--crops", "--sampling"),
        "tune": ("--gflops", "--fewer", "--ratio", "--reduce", "--seed", "--precision", "-b"),
        "data": ("--timeout-seconds",),
        "retrain": RETRAIN_OPTIONS,
    }.get(verb, ("--json",))
    for _ in range(rng.choice((0, 1, 1, 2, 3))):
        option = rng.choice(options)
        words.append(option)
        if option == "--reduce" and rng.random() < 0.7:
            words.append(reduction_line(rng))
        elif rng.random() < 0.9:
            words.append(nasty.word(rng))
    if rng.random() < 0.3:
        words.append("--json")
    if verb in ("eval", "retrain", "tune") and ("digits" in words or model in ("vim_tiny", "vim_digits")):
        words = [verb, "--help"] if rng.random() < 0.5 else words[:1]  # seconds of work that other cases do faster
    words = [word.replace("\0", "0") for word in words]
    result = CliRunner().invoke(app, [verb, *words])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code in (0, 1, 2), result.exit_code


KINDS = {  # and how often each comes, in a thousand
    spec: 260,
    listed: 150,
    damaged_config: 120,
    recipe: 140,
    weights: 50,
    image: 70,
    folder: 25,
    run_folder: 15,
    names: 20,
    model_options: 50,
    methods: 40,
    tensors: 35,
    images: 15,
    command_line: 10,
}


def kind_of(seed, number):
    """The kind of a case, and the random numbers that it is made of."""
    rng = Random(f"{seed}:{number}")
    return rng.choices([*KINDS], [*KINDS.values()])[0], rng


@contextmanager
def temporary_folder():
    place = Path(tempfile.mkdtemp(dir=base().place))
    here = os.getcwd()
    os.chdir(place)  # what a case writes to a relative path goes with it
    try:
        yield place
    finally:
        os.chdir(here)
        shutil.rmtree(place, ignore_errors=True)


def run_case(seed, number):
    """Run one case, and return how it ended: ``fine`` or the name of our error."""
    kind, rng = kind_of(seed, number)
    allowed = (RmeetoError, *UNREADABLE) if kind is image else (RmeetoError,)
    with temporary_folder() as place, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            kind(rng, place)
        except allowed as error:
            str(error).encode("utf-8", "backslashreplace")
            return type(error).__name__
    return "fine"
