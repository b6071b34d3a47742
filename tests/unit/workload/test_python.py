"""Models that the user's own code makes."""

from __future__ import annotations

import random
import sys
from textwrap import dedent

import pytest
import torch

from tonnage.errors import BadOption, SubjectFailed, UnknownModel
from tonnage.scenario import Scenario
from tonnage.workload import resolve, run

SOURCE = """
import random
import torch
from torch import nn
from dataclasses import dataclass

random.random(); torch.rand(1)

@dataclass
class Settings:
    width: int = 6

class Net(nn.Module):
    def __init__(self, width=Settings().width):
        super().__init__()
        self.layer = nn.Linear(width, 4)
    def forward(self, x, *, bias=None):
        return self.layer(x) if bias is None else self.layer(x) + bias

instance = Net(9)
number = 3

class Space:
    @staticmethod
    def build():
        return Net(7)

def build(): return Net()
def with_tensor(): return Net(), torch.ones(5, 6)
def with_args(): return Net(), (torch.ones(5, 6),)
def with_kwargs(): return Net(), {"x": torch.ones(5, 6), "bias": torch.ones(4)}
def with_both(): return Net(), ((torch.ones(5, 6),), {"bias": torch.ones(4)})
def needs(width, depth): return Net(width)
def nothing(): pass
def a_tensor(): return torch.ones(3)
def a_list(): return [Net()]
def raises():
    raise LookupError("the flux is gone")  # my own line
def exits():
    raise SystemExit(3)
def neighbour():
    import tonnage_test_neighbour
    return Net(tonnage_test_neighbour.WIDTH)
"""


@pytest.fixture
def file(tmp_path):
    (tmp_path / "tonnage_test_neighbour.py").write_text("WIDTH = 8")
    path = tmp_path / "my nets.py"
    path.write_text(dedent(SOURCE))
    return path


def shapes(subject: str, **options) -> dict[str, tuple[int, ...]]:
    ran = run(resolve(subject), Scenario(batch=2, **options), device="cpu")
    return {spec.name: spec.shape for spec in ran.inputs}


@pytest.mark.parametrize(
    ("attribute", "expected"),
    [
        ("build", {"x": (2, 6)}),
        ("Net", {"x": (2, 6)}),
        ("instance", {"x": (2, 9)}),
        ("Space.build", {"x": (2, 7)}),
        ("neighbour", {"x": (2, 8)}),
        ("with_tensor", {"x": (5, 6)}),
        ("with_args", {"x": (5, 6)}),
        ("with_kwargs", {"x": (5, 6), "bias": (4,)}),
        ("with_both", {"x": (5, 6), "bias": (4,)}),
    ],
)
def test_what_a_file_may_hold(file, attribute, expected):
    path = list(sys.path)
    assert shapes(f"{file}:{attribute}") == expected
    assert sys.path == path


def test_a_module_on_the_path(file, monkeypatch):
    file.rename(file.parent / "tonnage_test_nets.py")
    monkeypatch.chdir(file.parent)
    assert shapes("tonnage_test_nets:build") == {"x": (2, 6)}
    del sys.modules["tonnage_test_nets"]


def test_the_generators_are_left_alone(file):
    before = torch.get_rng_state(), random.getstate()
    shapes(f"{file}:build")
    assert torch.equal(before[0], torch.get_rng_state())
    assert before[1] == random.getstate()


@pytest.mark.parametrize(
    ("attribute", "error", "said"),
    [
        ("biuld", UnknownModel, "has no 'biuld'"),
        ("needs", BadOption, "cannot be called without width, depth"),
        ("number", SubjectFailed, "is a value of type int"),
        ("nothing", SubjectFailed, "returned None, not a torch.nn.Module"),
        ("a_tensor", SubjectFailed, "returned a tensor, not a torch.nn.Module"),
        ("a_list", SubjectFailed, "returned a value of type list"),
        ("exits", SubjectFailed, "SystemExit: 3"),
    ],
)
def test_what_makes_no_model(file, attribute, error, said):
    with pytest.raises(error) as caught:
        resolve(f"{file}:{attribute}").build(Scenario())
    assert said in caught.value.message
    assert caught.value.hint


def test_near_names_are_told(file):
    with pytest.raises(UnknownModel) as caught:
        resolve(f"{file}:biuld")
    assert caught.value.hint == "did you mean build?"


def test_a_factory_that_raises_keeps_its_own_words(file):
    with pytest.raises(SubjectFailed) as caught:
        resolve(f"{file}:raises").build(Scenario())
    message = caught.value.message
    assert "LookupError: the flux is gone" in message
    assert f'File "{file}"' in message and "# my own line" in message
    assert isinstance(caught.value.__cause__, LookupError)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("import no_such_thing_at_all", "No module named 'no_such_thing_at_all'"),
        ("def broken(:", "SyntaxError"),
        ("1 / 0", "ZeroDivisionError"),
    ],
)
def test_a_file_that_cannot_be_imported(tmp_path, source, said):
    path = tmp_path / "broken.py"
    path.write_text(source)
    with pytest.raises(SubjectFailed, match="importing") as caught:
        resolve(f"{path}:build")
    assert said in caught.value.message
    assert not [name for name in sys.modules if "broken" in name and "tonnage_subject" in name]


@pytest.mark.parametrize("option", [{"seq": 4}, {"image_size": 4}])
def test_sizes_beside_a_factorys_own_inputs(file, option):
    with pytest.raises(BadOption, match="has no effect: the factory"):
        shapes(f"{file}:with_tensor", **option)
