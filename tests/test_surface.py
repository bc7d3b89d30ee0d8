"""The public names of the package: few, and each former one still answers and says where it is now."""

import importlib
import subprocess
import sys

import pytest
import torch

import rmeeto
from rmeeto.reduction import Tokens


def test_the_public_names_are_few_and_resolve():
    assert len(rmeeto.__all__) <= 19
    for name, module in rmeeto._HOMES.items():
        assert getattr(rmeeto, name) is getattr(importlib.import_module(module), name)


@pytest.mark.parametrize("name", rmeeto._MOVED_NAMES)
def test_a_former_name_still_works_and_names_its_new_place(name):
    place = rmeeto._MOVED_NAMES[name]
    with pytest.warns(DeprecationWarning, match=rf"rmeeto\.{name} has moved: import it from {place}"):
        value = getattr(rmeeto, name)
    assert value is getattr(importlib.import_module(place), name)
    assert name not in rmeeto.__all__


def test_names_that_were_modules_are_functions_also_after_their_modules_were_imported():
    code = (
        "import rmeeto.speed, rmeeto.evaluation, rmeeto.predict, rmeeto.bench, rmeeto.tokens\n"
        "assert callable(rmeeto.predict) and callable(rmeeto.bench)\n"
        "from rmeeto.predict import find_files\n"
        "from rmeeto.bench import bench\n"
        "assert rmeeto.bench is bench and callable(rmeeto.predict)\n"
        "rmeeto.tokens.Tokens\n"
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'merge'"):
        _ = rmeeto.merge


@pytest.mark.parametrize(("former", "now"), [("present", "lengths"), ("there", "token_mask"), ("places", "origins")])
def test_former_names_of_tokens_warn_and_answer(former, now):
    tokens = Tokens(torch.zeros(1, 3, 2), None, torch.tensor([[1]]))
    with pytest.warns(DeprecationWarning, match=f"Tokens.{former} is called Tokens.{now}"):
        value = getattr(tokens, former)
    assert value == getattr(tokens, now)
