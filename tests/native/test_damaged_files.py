"""A file that is damaged, truncated or hostile gets an error that says so; tests/native/fuzz.cpp tries many more."""

import json
import struct

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.numpy import load_file

from cpp_kernels import needs_kernels
from rmeeto import native
from rmeeto.native.binding import load_bytes
from rmeeto.reduction import parse_reduction
from small_models import model_of

pytestmark = needs_kernels


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    torch.manual_seed(0)
    model = model_of(dim=8, depth=2, img_size=16, reduction=parse_reduction("merge:r=3,blocks=1:"))
    return native.save(model, tmp_path_factory.mktemp("native") / "tiny.rmeeto", class_names=list("abcdefg"))


def parts(data):
    """A file's header as plain values, and what stands behind it."""
    (length,) = struct.unpack("<Q", data[:8])
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def with_header(header, rest):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + rest


@pytest.fixture
def changed(path):
    """The file after a change of its description or of its header."""

    def change(edit_description=lambda description: None, edit_header=lambda header: None):
        header, rest = parts(path.read_bytes())
        description = json.loads(header["__metadata__"]["rmeeto"])
        edit_description(description)
        header["__metadata__"]["rmeeto"] = json.dumps(description)
        edit_header(header)
        return with_header(header, rest)

    return change


def refusal(data):
    with pytest.raises(native.NativeError) as caught:
        load_bytes(data)
    return str(caught.value)


def test_the_safetensors_package_reads_it(path):
    tensors = load_file(path)
    assert len(tensors) == 5 + 2 * 17
    assert tensors["blocks.1.backward.x_proj"].shape == (11, 16)
    with safe_open(path, "np") as file:
        assert json.loads(file.metadata()["rmeeto"])["sizes"]["dim"] == 8


def test_what_was_not_changed_loads(changed):
    with load_bytes(changed()) as model:
        assert model.depth == 2


def test_every_truncated_file_is_refused(path):
    data = path.read_bytes()
    header = 8 + struct.unpack("<Q", data[:8])[0]
    for length in [*range(0, header, 7), *range(header, len(data), 97)]:
        assert "file" in refusal(data[:length])
    assert "behind its end" in refusal(data + b"x")


@pytest.mark.parametrize("length", [0, 1, 2**20, 2**31, 2**40, 2**63, 2**64 - 1])
def test_another_length_of_the_header_is_refused(path, length):
    assert refusal(struct.pack("<Q", length) + path.read_bytes()[8:])


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"[]",
        b"{",
        b'{"a"}',
        b'{"a":}',
        b'{"a":{}}',
        b'{"a":1,}',
        b'{"a":{"dtype":"F32"',
        b"{" + b'"a":{' * 100_000,
        b'{"__metadata__":{"rmeeto":"\xff"}}',
        b'{"__metadata__":{"rmeeto":"\\ud800"}}',
        b'{"__metadata__":{"rmeeto":"\\u0000"}}',
        b'{"__metadata__":{"rmeeto":"\n"}}',
        b'{"__metadata__":{"rmeeto":"{}","rmeeto":"{}"}}',
        b'{"a":{"dtype":"F64","shape":[1],"data_offsets":[0,8]}}',
        b'{"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}}',
        b'{"a":{"dtype":"F32","shape":[1.5],"data_offsets":[0,4]}}',
        b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4,8]}}',
        b'{"a":{"dtype":"F32","shape":[1099511627776,1099511627776],"data_offsets":[0,4]}}',
        b'{"a":{"dtype":"F32","shape":[99999999999999999999],"data_offsets":[0,4]}}',
    ],
)
def test_impossible_headers_are_refused(text):
    assert refusal(with_header(text, b"\0" * 64))


def test_tensors_that_overlap_or_leave_gaps_are_refused(changed):
    def shift(header):
        tensor = header["head.bias"]
        tensor["data_offsets"] = [place + 4 for place in tensor["data_offsets"]]

    assert "does not lie where it should" in refusal(changed(edit_header=shift))


def test_missing_renamed_and_misshapen_tensors_are_refused(changed):
    def rename(header):
        header["head.offset"] = header.pop("head.bias")

    def reshape(header):
        header["head.bias"]["shape"] = [1, 7]

    assert 'no tensor "head.bias"' in refusal(changed(edit_header=rename))
    assert '"head.bias" is F32 (1, 7) where F32 (7) belongs' in refusal(changed(edit_header=reshape))
    assert "no metadata under the name rmeeto" in refusal(
        changed(edit_header=lambda header: header.pop("__metadata__"))
    )


NESTED = [
    (("version",), 2, "version 2: this library reads version 1"),
    (("precision",), "float16", 'the precision "float16"'),
    (("merge", "method"), "graph", 'the reduction method "graph"'),
    (("merge", "guard"), -1, "too small"),
    (("merge", "guard"), 2**63 - 1, "too large"),
    (("merge",), {"method": "neighbours", "guard": 1, "removed": [0, 7]}, "block 1: 6 of 16 patches can"),
    (("merge",), {"method": "neighbours", "guard": 1 << 20, "removed": [0, 1]}, "block 1: 0 of 16 patches can"),
    (("merge", "distance"), "l3", 'the distance "l3"'),
    (("merge", "removed"), [0], "more or fewer removed tokens"),
    (("merge", "removed"), [1, 0], "cannot be merged before block 0"),
    (("merge", "removed"), [0, 9], "cannot be merged before block 1: 8 of 16 patches can"),
    (("merge", "removed"), [0, -3], "too small"),
    (("merge", "nth"), 0, "too small"),
    (("sizes", "dim"), 0, "too small"),
    (("sizes", "dim"), 16, "embed.patches"),
    (("sizes", "inner"), 2**40, "too large"),
    (("sizes", "states"), 17, "too large"),
    (("sizes", "taps"), 1, "too small"),
    (("sizes", "depth"), 1, "more or fewer removed"),
    (("input", "height"), 65536, "more is cropped"),
    (("input", "height"), 65537, "too large"),
    (("input", "channels"), 1, "mean or std"),
    (("input", "frames"), 2, "embed.table"),
    (("patch", "height"), 17, "do not fit"),
    (("patch", "frames"), 2, "do not fit"),
    (("protected",), [], "no class token"),
    (("protected",), [8, 8], "at one place"),
    (("protected",), [17], "behind the last one"),
    (("prepare", "std"), [1, 0, 1], "above 0"),
    (("prepare", "mean"), [1e999, 0, 1], "no number where one belongs"),
    (("prepare", "resize", "height"), 3, "more is cropped"),
    (("class_names",), ["a"], "class names"),
    (("block_eps",), -1, "impossible eps"),
    (("block_eps",), "tiny", "no number"),
    (("scale",), {}, "no number"),
]


@pytest.mark.parametrize(("place", "value", "why"), NESTED)
def test_impossible_descriptions_are_refused(changed, place, value, why):
    def edit(description):
        for name in place[:-1]:
            description = description[name]
        description[place[-1]] = value

    assert why in refusal(changed(edit))


@pytest.mark.parametrize("name", ["version", "input", "patch", "sizes", "protected", "prepare"])
def test_incomplete_descriptions_are_refused(changed, name):
    assert refusal(changed(lambda description: description.pop(name)))


def test_what_is_not_known_is_passed_over(changed):
    def edit(description):
        description |= {"later": [{"a": [None, True, -1.5e3, "é"]}], "sizes": {**description["sizes"], "heads": 3}}

    load_bytes(changed(edit)).close()


def test_weights_that_are_no_numbers_do_no_harm(path):
    header, rest = parts(path.read_bytes())
    for pattern in (np.nan, np.inf, -np.inf, 3e38):
        weights = np.full(len(rest) // 4, pattern, np.float32).tobytes()
        with load_bytes(with_header(header, weights)) as model:
            logits, source_map = model.with_map(np.ones((2, *model.input_size), np.float32))
        assert logits.shape == (2, 7)
        assert ((source_map >= 0) & (source_map < model.tokens_left)).all()


def test_files_that_cannot_be_read_are_refused(tmp_path):
    for missing, why in ((tmp_path / "none.rmeeto", "No such file"), (tmp_path, "Is a directory")):
        with pytest.raises(native.NativeError, match=why):
            native.load(missing)


def test_numbers_are_read_as_python_reads_them(changed):
    for eps in (1e-5, 1e-06, 0.1, 0.30000000000000004, 5e-324, 2.2250738585072014e-308, 0.9999999999999999, 1 / 3):
        with load_bytes(changed(lambda description, eps=eps: description.update(block_eps=eps))) as model:
            assert model.description["block_eps"] == eps
