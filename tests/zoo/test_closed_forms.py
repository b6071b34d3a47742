"""Closed forms of parameter counts, at configurations drawn here, against models that the libraries themselves build.

Nothing of tonnage's own way to vary a subject is used for the truth: `sum(p.numel())` of what the library's class makes
of the changed config, and the formulas made by hand in test_catalogue_formulas.py.
"""

from __future__ import annotations

import copy
import importlib.util
import re
from collections.abc import Callable, Mapping
from fractions import Fraction
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch
from torch import nn

import tonnage
from tonnage.analyses.expressions import parse
from tonnage.analyses.forms import ParameterForm
from tonnage.errors import BadOption
from tonnage.workload import libraries
from tonnage.workload.catalogue import Entry, all_entries

ENTRIES = list({entry.architecture: entry for entry in reversed(all_entries())}.values())
POINTS = 5
"""Configurations at which each form has to be right."""
TRIES = 60
BLOCKS = re.compile(r"layer|depth|block|stages|groups$|group_num")
HEADS = re.compile(r"head|groups|expert")


@pytest.fixture(scope="module")
def transformers() -> Any:
    module = libraries.load("transformers")
    if int(module.__version__.split(".")[0]) < 5:
        pytest.skip("the catalogue is that of transformers 5")
    return module


@cache
def form_of(name: str) -> ParameterForm:
    form = tonnage.params(name).parameters.form
    assert form is not None
    return form


@cache
def formulas() -> Mapping[str, Callable[[Any], int]]:
    """Those made by hand."""
    path = Path(__file__).with_name("test_catalogue_formulas.py")
    spec = importlib.util.spec_from_file_location("catalogue_formulas", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.FORMULAS


# Configurations -------------------------------------------------------------------------------------------------------


def draw(random: Random, form: ParameterForm, fields: list[str]) -> dict[str, int]:
    """Other values for about half of `fields`, and for what has to move with them; few blocks, to be built quickly."""
    changes = {field: random.randint(1, 3) for field in fields if BLOCKS.search(field)}
    for field in fields:
        if field not in changes and random.random() < 0.5:
            changes[field] = _value(random, field, form.sizes[field])
    for follower, leader in form.moves.items():
        if leader in changes:
            changes[follower] = form.sizes[follower] * changes[leader] // form.sizes[leader]
    return changes


def _value(random: Random, field: str, own: int) -> int:
    """Any number where nothing has to divide anything, else a simple part or a multiple of the model's own."""
    if re.search(r"vocab|position|label|num_mel|num_queries|classes", field):
        return random.randint(max(own // 2, 1), 2 * own)
    choices = ("1/2", "2", "3") if HEADS.search(field) else ("1/4", "1/2", "3/4", "5/4", "3/2", "2", "3")
    return max(int(own * Fraction(random.choice(choices))), 1)


def varied(form: ParameterForm) -> list[str]:
    """The fields that the formula varies and that a config may give."""
    return [s.field for s in form.symbols if s.field not in form.held]


def changed(config: Mapping[str, Any], full: Mapping[str, Any], changes: Mapping[str, int]) -> dict[str, Any]:
    """The config with these changes; a list that it leaves to its class is taken from `full`."""
    data = copy.deepcopy(dict(config))
    for field, value in changes.items():
        *parts, last = field.split(".")
        part, whole = data, full
        for name in parts:
            part, whole = part.setdefault(name, {}), whole[name]
        name, _, index = last.rstrip("]").partition("[")
        if index:
            part[name] = list(part.get(name, whole[name]))
            part[name][int(index)] = value
        else:
            part[name] = value
    if "attention_types" in data:
        data["attention_types"] = [[["global"], data.get("num_layers", 24)]]
    return data


def full_config(transformers: Any, entry: Entry) -> Any:
    kind = transformers.models.auto.configuration_auto.CONFIG_MAPPING[entry.config["model_type"]]
    return kind.from_dict(copy.deepcopy(dict(entry.config)))


def built(transformers: Any, entry: Entry, data: Mapping[str, Any]) -> int | None:
    """The unique elements of what the library builds from `data`; None where it refuses."""
    try:
        config = type(full_config(transformers, entry)).from_dict(copy.deepcopy(dict(data)))
        with torch.device("meta"):
            model = getattr(transformers, entry.architecture)._from_config(config)
    except Exception:  # each class checks itself in its own way
        return None
    count = sum(p.numel() for p in model.parameters())
    if entry.config["model_type"] in ("t5", "mt5") and entry.config.get("tie_word_embeddings") is False:
        count += (
            config.vocab_size * config.d_model
        )  # published with two tables; transformers 5 ties them until it loads
    return count


def holds(form: ParameterForm, changes: Mapping[str, int]) -> int | None:
    """The form's count; None where it says itself that it does not hold."""
    try:
        return form.evaluate(**changes)
    except BadOption:
        return None


def as_text(form: ParameterForm, changes: Mapping[str, int]) -> int:
    """The printed formula, read again; definitions too."""
    letters = {s.symbol: changes.get(s.field, s.value) for s in form.symbols}
    for s in form.symbols:
        if s.definition and s.field not in changes:
            letters[s.symbol] = int(parse(s.definition, letters).evaluate(letters))
    found = parse(form.formula, letters).evaluate(letters)
    assert found.denominator == 1
    return int(found)


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.architecture)
def test_the_form_of_an_architecture_is_the_count_of_its_models(transformers: Any, entry: Entry) -> None:
    form = form_of(entry.name)
    assert form.proved and len(form.proofs) >= POINTS
    assert form.total == as_text(form, {}) == form.evaluate() == entry.parameters
    full = full_config(transformers, entry).to_dict()
    random, seen, refused = Random(entry.architecture), [], []
    for _ in range(TRIES):
        changes = draw(random, form, varied(form))
        found = holds(form, changes)
        if found is None:
            refused.append(changes)
            continue
        counted = built(transformers, entry, changed(entry.config, full, changes))
        if counted is None:
            continue
        assert found == as_text(form, changes) == counted, changes
        seen.append(changes)
        if len(seen) == POINTS:
            break
    assert len(seen) == POINTS, f"{len(seen)} built, {len(refused)} refused"


class Reads(dict):
    """A config that remembers which of its numbers are read."""

    def __init__(self, data: Mapping[str, Any], prefix: str = "", seen: set[str] | None = None) -> None:
        self.prefix, self.seen = prefix, set() if seen is None else seen
        super().__init__({k: Reads(v, f"{k}.", self.seen) if isinstance(v, Mapping) else v for k, v in data.items()})

    def __getitem__(self, name: str) -> Any:
        self.seen.add(f"{self.prefix}{name}")
        return super().__getitem__(name)

    def get(self, name: str, default: Any = None) -> Any:
        self.seen.add(f"{self.prefix}{name}")
        return super().get(name, default)


@pytest.mark.parametrize(
    "entry", [e for e in ENTRIES if e.config["model_type"] in formulas()], ids=lambda entry: entry.architecture
)
def test_the_form_of_an_architecture_is_the_formula_made_by_hand(transformers: Any, entry: Entry) -> None:
    by_hand, form = formulas()[entry.config["model_type"]], form_of(entry.name)
    config = Reads(entry.config)
    by_hand(config)
    fields = [field for field in varied(form) if field.partition("[")[0] in config.seen]
    full = full_config(transformers, entry).to_dict()
    random, agreed = Random(entry.name), 0
    for _ in range(TRIES):
        changes = draw(random, form, fields)
        found = holds(form, changes)
        if found is not None:
            assert found == by_hand(changed(entry.config, full, changes)), changes
            agreed += 1
    assert agreed >= 2 * POINTS


# Models of other libraries --------------------------------------------------------------------------------------------


def vit_b_16(image_size=224, patch_size=16, num_layers=12, hidden_dim=768, mlp_dim=3072, num_classes=1000):
    vit = libraries.load("torchvision").models.VisionTransformer
    return vit(image_size, patch_size, num_layers, 12, hidden_dim, mlp_dim, num_classes=num_classes)


def resnet50(num_classes=1000, groups=1, width_per_group=64, **layers):
    resnet = libraries.load("torchvision").models.resnet
    depths = [layers.get(f"layers[{place}]", own) for place, own in enumerate((3, 4, 6, 3))]
    return resnet.ResNet(resnet.Bottleneck, depths, num_classes, groups=groups, width_per_group=width_per_group)


def timm_vit(patch_size=16, in_chans=3, num_classes=1000, embed_dim=768, depth=12, mlp_ratio=4, **image):
    sides = tuple(image.get(f"img_size[{place}]", 224) for place in (0, 1))
    return libraries.load("timm").models.vision_transformer.VisionTransformer(
        sides, patch_size, in_chans, num_classes, "token", embed_dim, depth, 12, mlp_ratio
    )


def encoder_layer(d_model=512, dim_feedforward=2048):
    return nn.TransformerEncoderLayer(d_model, 8, dim_feedforward)


def attention(embed_dim=512):
    return nn.MultiheadAttention(embed_dim, 8)


def lstm(input_size=64, hidden_size=128, num_layers=2):
    return nn.LSTM(input_size, hidden_size, num_layers, bidirectional=True)


def gru(input_size=24, hidden_size=16):
    return nn.GRU(input_size, hidden_size, bias=False)


def convolution(in_channels=12, out_channels=18, groups=3, **kernel):
    sides = tuple(kernel.get(f"kernel_size[{place}]", own) for place, own in enumerate((3, 5)))
    return nn.Conv2d(in_channels, out_channels, sides, groups=groups)


OTHERS: dict[str, tuple[Callable[..., nn.Module], Any, dict[str, tuple[int, ...]]]] = {
    "torchvision:vit_b_16": (
        vit_b_16,
        None,
        {
            "image_size": (64, 96),
            "patch_size": (8, 32),
            "num_layers": (1, 3, 14),
            "hidden_dim": (96, 144),
            "mlp_dim": (5, 100),
            "num_classes": (1, 10),
        },
    ),
    "torchvision:resnet50": (
        resnet50,
        None,
        {
            **{f"layers[{place}]": (1, 2, 5) for place in range(4)},
            "num_classes": (1, 10),
            "groups": (2, 4),
            "width_per_group": (32, 128),
        },
    ),
    "timm:vit_base_patch16_224": (
        timm_vit,
        None,
        {
            "img_size[0]": (64, 96),
            "img_size[1]": (32, 160),
            "patch_size": (8, 32),
            "in_chans": (1, 5),
            "num_classes": (1, 10),
            "embed_dim": (96, 144),
            "depth": (1, 3, 14),
            "mlp_ratio": (1, 3),
        },
    ),
    "TransformerEncoderLayer": (
        encoder_layer,
        encoder_layer,
        {"d_model": (8, 64, 1000), "dim_feedforward": (1, 7, 512)},
    ),
    "MultiheadAttention": (attention, attention, {"embed_dim": (8, 16, 64, 200, 1024)}),
    "LSTM": (lstm, lstm, {"input_size": (1, 7, 128), "hidden_size": (1, 5, 64), "num_layers": (1, 3, 9)}),
    "GRU": (gru, gru, {"input_size": (1, 16, 100), "hidden_size": (1, 24, 33)}),
    "Conv2d": (
        convolution,
        convolution,
        {
            "in_channels": (6, 24),
            "out_channels": (6, 90),
            "groups": (1, 2, 6),
            "kernel_size[0]": (1, 7),
            "kernel_size[1]": (2, 3),
        },
    ),
}


@pytest.mark.parametrize("name", OTHERS)
def test_the_form_of_a_module_is_the_count_of_what_its_class_makes(name: str) -> None:
    if ":" in name and importlib.util.find_spec(name.partition(":")[0]) is None:
        pytest.skip(f"{name.partition(':')[0]} is not installed")
    make, subject, choices = OTHERS[name]
    form = tonnage.params(name if subject is None else subject()).parameters.form
    assert form is not None and form.proved and len(form.proofs) >= POINTS
    assert {s.field for s in form.symbols} == set(choices)
    random = Random(name)
    for _ in range(2 * POINTS):
        changes = {field: random.choice(values) for field, values in choices.items() if random.random() < 0.6}
        with torch.device("meta"):
            counted = sum(p.numel() for p in make(**changes).parameters())
        assert form.evaluate(**changes) == as_text(form, changes) == counted, changes


FACTORY = """
from torch import nn

def blocks(width, depth, bias):
    return [nn.Sequential(nn.Linear(width, width + 2, bias), nn.Linear(width + 2, width, bias)) for _ in range(depth)]

def net(width=32, depth=3, classes=10, bias=True, name="net"):
    first, last = nn.Linear(784, width, bias), nn.Linear(width, classes, bias)
    return nn.Sequential(first, nn.Sequential(*blocks(width, depth, bias)), last)

def flat(width=32, depth=3, classes=10):
    return nn.Sequential(nn.Linear(784, width), *blocks(width, depth, True), nn.Linear(width, classes))
"""


def test_the_form_of_a_factory_is_that_of_its_keywords(tmp_path: Path) -> None:
    """784 in, depth times to width + 2 and back, and classes out, each with a bias."""
    (tmp_path / "nets.py").write_text(FACTORY)
    count = tonnage.params(f"{tmp_path / 'nets.py'}:net").parameters
    form = count.form
    assert form is not None and form.proved
    assert {s.field for s in form.symbols} == {"width", "depth", "classes"}
    for w, d, c in [(32, 3, 10), (1, 1, 1), (64, 7, 3), (5, 12, 1000), (48, 2, 2)]:
        there_and_back = w * (w + 2) + (w + 2) + (w + 2) * w + w
        by_hand = 784 * w + w + d * there_and_back + w * c + c
        assert count.evaluate(width=w, depth=d, classes=c) == by_hand
    assert "bias" in form.settings and "name" not in form.settings


def test_a_number_of_layers_that_moves_the_names_of_what_follows_is_held(tmp_path: Path) -> None:
    """The last of a flat nn.Sequential has another name and another shape for every depth."""
    (tmp_path / "nets.py").write_text(FACTORY)
    form = tonnage.params(f"{tmp_path / 'nets.py'}:flat").parameters.form
    assert form is not None and form.proved
    assert set(form.held) == {"depth"}
    assert form.evaluate(width=5, classes=2, depth=3) == 784 * 5 + 5 + 3 * (5 * 7 + 7 + 7 * 5 + 5) + 5 * 2 + 2
    with pytest.raises(BadOption, match="depth=3 alone"):
        form.evaluate(depth=4)


def test_a_module_of_the_users_has_the_arithmetic_of_its_parts() -> None:
    """Nothing says what a live module was made from."""
    net = nn.Sequential(nn.Conv2d(3, 8, 5), nn.BatchNorm2d(8), nn.Flatten(), nn.Linear(8, 10))
    count = tonnage.params(net).parameters
    form = count.form
    assert form is not None and not form.proved
    assert (form.formula, form.symbols, form.proofs) == ("", [], [])
    assert form.reason
    assert [(c.path, c.arithmetic, c.worked, c.total) for c in form.components] == [
        ("0", "(k*k*C_in + 1)*C_out", "(5*5*3 + 1)*8", 608),
        ("1", "2*C", "2*8", 16),
        ("3", "(in + 1)*out", "(8 + 1)*10", 90),
    ]
    assert form.evaluate() == count.total == 608 + 16 + 90
    with pytest.raises(BadOption):
        form.evaluate(width=3)
