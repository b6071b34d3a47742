"""Optional libraries, above all a torchvision whose binary does not fit the torch that is installed."""

from __future__ import annotations

import doctest
import subprocess
import sys

import pytest

from tonnage.errors import MissingLibrary, SubjectFailed
from tonnage.workload import libraries, names, tensors

# A torchvision as its pages describe it: the import fails unless both operators are known, and `built` says whether
# its own binary has declared them.
FAKE = """
import torch
if {built}:
    library = torch.library.Library("torchvision", "DEF")
    library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
for operator in ("nms", "qnms"):
    if not torch._C._jit_get_schemas_for_operator("torchvision::" + operator):
        raise RuntimeError("operator torchvision::" + operator + " does not exist")
"""
USE = """
from tonnage.workload import libraries
torchvision = libraries.load("torchvision")
print(libraries._declarations.cache_info().currsize)
"""


@pytest.mark.parametrize(("built", "declarations"), [(True, 0), (False, 1)])
def test_operators_are_declared_only_where_torchvision_cannot_import(tmp_path, built, declarations):
    package = tmp_path / "torchvision"
    package.mkdir()
    (package / "__init__.py").write_text(FAKE.format(built=built))
    command = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n{USE}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == str(declarations), done.stderr


def test_nothing_is_declared_without_torchvision():
    source = "import torch, tonnage.workload; print(torch._C._jit_get_schemas_for_operator('torchvision::nms'))"
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_no_library_is_imported_before_it_is_named():
    source = (
        "import sys, tonnage.workload; print([n for n in ('transformers', 'torchvision', 'timm') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_library_that_does_not_import_says_why(tmp_path, monkeypatch):
    (tmp_path / "tonnage_test_broken.py").write_text("raise OSError('undefined symbol')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(SubjectFailed, match="importing tonnage_test_broken failed") as caught:
        libraries.load("tonnage_test_broken")
    assert "OSError: undefined symbol" in caught.value.message


def test_a_library_that_nobody_has():
    with pytest.raises(MissingLibrary, match="needs no_such_library, which is not installed"):
        libraries.load("no_such_library")


@pytest.mark.parametrize(
    ("vocabulary", "avoid", "run"),
    [
        (10, [], (0, 10)),
        (10, [0], (1, 10)),
        (10, [9], (0, 9)),
        (10, [2, 5], (6, 10)),
        (2, [0, 1], (0, 2)),
        (5, [99, -1], (0, 5)),
    ],
)
def test_ids_keep_clear_of_tokens_with_a_meaning(vocabulary, avoid, run):
    assert tensors.longest_run(vocabulary, avoid) == run
    ids = tensors.random_ids((50,), vocabulary, avoid=avoid)
    assert run[0] <= ids.min() and ids.max() < run[1]


def test_near_names():
    assert names.did_you_mean("VGG61", ["vgg16", "resnet50"], otherwise="none") == "did you mean vgg16?"
    assert names.did_you_mean("zzz", ["vgg16"], otherwise="none") == "none"


def test_examples():
    assert doctest.testmod(tensors).failed == 0
