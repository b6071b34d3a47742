from __future__ import annotations

from math import prod

import msgspec
import pytest
import torch
from torch import nn

import tonnage
from tonnage.analyses.structure import Node, Structure, folded_name, number_ranges, read_structure, select
from tonnage.errors import BadOption
from tonnage.ledger import Category, Ledger
from tonnage.recording import Recording
from tonnage.scenario import Scenario
from tonnage.trace import Call, Mark, Module, Op, Parameter, TensorSpec, Trace
from tonnage.workload import resolve
from tonnage.workload.blueprint import members_of, modules_of
from tonnage.workload.catalogue import all_entries

ARCHITECTURES = list({entry.architecture: entry.name for entry in all_entries()}.values())
VISION = ["torchvision:vgg16", "torchvision:resnet50", "torchvision:vit_b_16", "timm:convnext_tiny"]


def module(path: str, kind: str, **facts: object) -> Module:
    return Module(path, kind, "somewhere", facts)


def weight(name: str, *shape: int, same: object = None, kind: str = "parameter", dtype: str = "float32") -> Parameter:
    return Parameter(name, shape, dtype, 4 * prod(shape), True, hash(same or name), kind)


def of_model(model: nn.Module) -> Structure:
    return read_structure(modules_of(model), list(members_of(model)))


def built(name: str) -> nn.Module:
    with torch.device("meta"):
        return resolve(name).build(Scenario())


def walk(node: Node):
    yield node
    for child in node.children:
        yield from walk(child)


def at(structure: Structure, path: str) -> Node:
    return next(node for node in walk(structure.root) if node.path == path)


def blocks(count: int, **facts_of_last: object) -> tuple[list[Module], list[Parameter]]:
    """`count` blocks of a Linear(4 -> 4, bias) in a list; the last block has further facts."""
    modules = [module("", "Net"), module("layers", "ModuleList")]
    parameters = []
    for n in range(count):
        facts = facts_of_last if n == count - 1 else {}
        modules.append(module(f"layers.{n}", "Block", layer_idx=n, **facts))
        modules.append(module(f"layers.{n}.lin", "Linear", in_features=4, out_features=4))
        parameters += [weight(f"layers.{n}.lin.weight", 4, 4), weight(f"layers.{n}.lin.bias", 4)]
    return modules, parameters


class TestTree:
    def test_one_module(self):
        structure = read_structure([module("", "Linear", in_features=3, out_features=2)], [weight("weight", 2, 3)])
        root = structure.root
        assert (root.path, root.name, root.description, root.children) == ("", "", "Linear(3 -> 2)", [])
        assert (root.own_parameters, root.parameters, root.share, structure.parameters) == (6, 6, 1.0, 6)
        assert (root.outputs, root.calls, root.macs, root.kept_bytes) == (None, None, None, None)

    def test_no_parameters_at_all(self):
        structure = of_model(nn.Sequential(nn.ReLU()))
        assert (structure.parameters, structure.root.share) == (0, 0.0)

    def test_own_with_children_trainable_buffers_and_dtypes(self):
        model = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
        model.scale = nn.Parameter(torch.ones(5, dtype=torch.bfloat16), requires_grad=False)
        root = of_model(model).root
        # 3*2 + 2, 2*2 and 5; running mean and variance of 2 and a counter
        assert (root.own_parameters, root.parameters, root.trainable_parameters, root.buffers) == (5, 17, 12, 5)
        assert root.dtypes == ["bfloat16", "float32"]
        assert [(t.name, t.shape, t.trainable) for t in root.tensors] == [("scale", (5,), False)]

    def test_a_tied_tensor_counts_where_it_is_met_first(self):
        modules = [module("", "Net"), module("shared", "Embedding"), module("lm_head", "Linear")]
        tied = [weight(name, 10, 4, same="table") for name in ("shared.weight", "lm_head.weight")]
        structure = read_structure(modules, tied)
        assert (structure.parameters, structure.tied_parameters) == (40, 40)
        assert [at(structure, path).parameters for path in ("shared", "lm_head")] == [40, 0]
        assert at(structure, "lm_head").tensors[0].tied_to == "shared.weight"
        assert at(structure, "shared").tensors[0].tied_to == ""

    def test_a_module_met_twice_is_shown_twice_and_counted_once(self):
        model = nn.Module()
        model.first = nn.Sequential(nn.Linear(3, 2))
        model.second = model.first
        structure = of_model(model)
        assert structure.parameters == 8
        second = at(structure, "second")
        assert (second.same_as, second.parameters, second.children) == ("first", 0, [])

    @pytest.mark.parametrize(
        "before, after",
        [
            ([Module("", "")], []),
            ([], [module("", "Dropout"), module("", "Other")]),
            ([Module("", ""), module("", "PartCalledAlone")], [module("", "CrossEntropyLoss")]),
        ],
        ids=["ROOT", "made while running", "a part before and a loss after"],
    )
    def test_of_several_models_the_largest_is_read(self, before, after):
        model = [module("", "Net"), module("a", "Linear")]
        structure = read_structure([*before, *model, *after], [weight("a.weight", 2, 2)])
        assert [node.type for node in walk(structure.root)] == ["Net", "Linear"]

    def test_what_is_in_a_module_that_nobody_listed_is_not_lost(self):
        modules = [module("", "Net"), module("a", "Linear")]
        structure = read_structure(modules, [weight("a.hidden.weight", 2, 3), weight("b.weight", 5)])
        assert structure.parameters == 11
        assert [t.name for t in at(structure, "a").tensors] == ["hidden.weight"]
        assert [t.name for t in structure.root.tensors] == ["b.weight"]


class TestFolding:
    def test_equal_blocks_are_one_node(self):
        structure = read_structure(*blocks(3))
        block = at(structure, "layers.{0-2}")
        assert (block.name, block.repeats, block.times, block.parameters) == ("{0-2}", 3, 3, 20)
        inside = at(structure, "layers.{0-2}.lin")
        assert (inside.repeats, inside.times, inside.parameters, inside.share) == (1, 3, 20, 1.0)
        assert inside.paths() == ["layers.0.lin", "layers.1.lin", "layers.2.lin"]

    def test_two_levels(self):
        model = nn.ModuleList(nn.ModuleList(nn.Sequential(nn.Linear(2, 2)) for _ in range(8)) for _ in range(3))
        structure = of_model(model)
        node = at(structure, "{0-2}.{0-7}.0")
        assert (node.times, node.parameters, len(node.paths())) == (24, 6, 24)

    @pytest.mark.parametrize(
        "change",
        [
            lambda m, p: m.__setitem__(2, m[2]._replace(type="Other")),
            lambda m, p: m.__setitem__(2, m[2]._replace(origin="elsewhere")),
            lambda m, p: m.__setitem__(2, module("layers.0", "Block", dropout=0.5)),
            lambda m, p: m.append(module("layers.0.more", "Tanh")),
            lambda m, p: p.__setitem__(0, weight("layers.0.lin.weight", 4, 5)),
            lambda m, p: p.__setitem__(0, weight("layers.0.lin.weight", 4, 4, dtype="float16")),
            lambda m, p: p.__setitem__(0, p[0]._replace(trainable=False)),
            lambda m, p: p.__setitem__(0, p[0]._replace(kind="buffer")),
            lambda m, p: p.pop(1),
            lambda m, p: p.append(weight("layers.0.gain", 1)),
        ],
        ids=["type", "origin", "fact", "child", "shape", "dtype", "frozen", "buffer", "no bias", "raw parameter"],
    )
    def test_a_block_that_differs_in_anything_stays_apart(self, change):
        modules, parameters = blocks(3)
        change(modules, parameters)
        structure = read_structure(modules, parameters)
        assert [node.name for node in walk(structure.root) if node.path.count(".") == 1] == ["0", "{1-2}"]

    def test_where_a_block_stands_and_its_rate_of_stochastic_depth_do_not_matter(self):
        modules, parameters = blocks(3, drop_prob=0.1)
        modules = [m._replace(facts={"drop_prob": 0.0, **m.facts}) if m.type == "Block" else m for m in modules]
        assert at(read_structure(modules, parameters), "layers.{0-2}").repeats == 3

    def test_blocks_that_take_turns(self):
        modules, parameters = blocks(5)
        modules = [
            m._replace(facts={**m.facts, "attention": "full" if m.path[-1] in "024" else "sliding"})
            if m.type == "Block"
            else m
            for m in modules
        ]
        structure = read_structure(modules, parameters)
        full, sliding = at(structure, "layers.{0,2,4}"), at(structure, "layers.{1,3}")
        assert (full.repeats, sliding.repeats, full.like, sliding.like) == (3, 2, "", "0,2,4")
        (difference,) = sliding.differences
        assert (difference.kind, difference.where) == ("fact", "attention")
        assert (difference.mine, difference.theirs, difference.alone) == ("sliding", "full", True)

    def test_layers_in_a_row_fold_only_as_neighbours(self):
        model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2), nn.Linear(2, 2))
        assert [child.name for child in of_model(model).root.children] == ["{0-1}", "2", "{3-4}"]

    def test_numbered_roles_do_not_fold_but_numbered_blocks_do(self):
        model = nn.Module()
        model.norm1, model.norm2 = nn.LayerNorm(4), nn.LayerNorm(4)
        model.block1, model.block2 = nn.Sequential(nn.Linear(4, 4)), nn.Sequential(nn.Linear(4, 4))
        assert [child.name for child in of_model(model).root.children] == ["norm1", "norm2", "block{1-2}"]

    def test_blocks_tied_to_the_same_outside_and_each_within_itself_are_equal(self):
        modules, parameters = blocks(3)
        parameters = [weight("shared", 4, 4, same="shared"), *parameters]
        for n in range(3):
            modules.append(module(f"layers.{n}.out", "Linear"))
            modules.append(module(f"layers.{n}.twin", "Linear"))
            parameters.append(weight(f"layers.{n}.out.weight", 4, 4, same="shared"))
            parameters.append(weight(f"layers.{n}.twin.weight", 4, 4, same=f"layers.{n}.lin.weight"))
        assert at(read_structure(modules, parameters), "layers.{0-2}").parameters == 20

    def test_a_block_tied_to_the_one_before_is_not_equal_to_it(self):
        modules, parameters = blocks(3)
        parameters[2] = weight("layers.1.lin.weight", 4, 4, same="layers.0.lin.weight")
        parameters[4] = weight("layers.2.lin.weight", 4, 4, same="layers.0.lin.weight")
        structure = read_structure(modules, parameters)
        assert [at(structure, path).parameters for path in ("layers.0", "layers.{1-2}")] == [20, 4]

    @pytest.mark.parametrize(
        "numbers, ranges", [([0], "0"), ([0, 1, 2], "0-2"), ([0, 2, 3, 7], "0,2-3,7"), ([9, 10, 11], "9-11")]
    )
    def test_names_of_folds(self, numbers, ranges):
        assert number_ranges(numbers) == ranges
        assert folded_name(f"layer_{numbers[0]}", numbers) == f"layer_{{{ranges}}}"


class TestDifferences:
    def test_t5(self):
        structure = of_model(built("t5-small"))
        for path in ("encoder.block.0", "decoder.block.0"):
            block = at(structure, path)
            (difference,) = block.differences
            assert (difference.kind, difference.name, difference.mine) == ("has", "relative_attention_bias", "32 x 8")
            assert (difference.parameters, difference.alone, block.like) == (256, True, "1-5")
        assert at(structure, "encoder.block.{1-5}").repeats == 5

    def test_modernbert(self):
        structure = of_model(built("answerdotai/ModernBERT-base"))
        said = [(d.kind, d.where, d.mine, d.theirs, d.alone) for d in at(structure, "layers.0").differences]
        assert said == [
            ("lacks", "attn_norm", "", "", True),
            ("fact", "attention_type", "full_attention", "sliding_attention", False),
            ("fact", "attn.sliding_window", "None", "65", False),
        ]
        assert at(structure, "layers.{3,6,9,12,15,18,21}").times == 7

    def test_resnet(self):
        block = at(of_model(built("torchvision:resnet50")), "layer2.0")
        said = [(d.kind, d.where, d.name, d.mine, d.theirs) for d in block.differences]
        assert said == [
            ("has", "downsample", "downsample", "", ""),
            ("size", "conv1.in_channels", "conv1.in_channels", "256", "512"),
            ("size", "conv2.stride", "conv2.stride", "2 x 2", "1 x 1"),
            ("fact", "stride", "stride", "2", "1"),
        ]
        assert block.differences[0].parameters == 256 * 512 + 2 * 512
        assert block.like == "1-3"

    def test_parts_of_one_block_are_not_compared(self):
        """GIVEN parts in a row of which two have the same type, THEN those are no series of blocks."""
        modules, parameters = blocks(3)
        modules[4] = module("layers.1", "Other")
        parameters[0] = weight("layers.0.lin.weight", 4, 5)
        structure = read_structure(modules, parameters)
        assert [n.differences for n in walk(structure.root)] == [[]] * 8

    def test_stages_that_have_little_in_common_are_not_compared(self):
        stages = of_model(built("torchvision:resnet50")).root.children
        assert [(n.name, n.differences) for n in stages if n.name.startswith("layer")] == [
            (f"layer{n}", []) for n in (1, 2, 3, 4)
        ]


class TestModels:
    """Every architecture of the catalogue, built on meta."""

    @pytest.mark.parametrize("name", [*ARCHITECTURES, *VISION])
    def test_nothing_is_lost_and_folds_are_exact(self, name):
        model = built(name)
        structure = of_model(model)
        nodes = list(walk(structure.root))
        total = sum(parameter.numel() for parameter in model.parameters())
        assert structure.parameters == structure.root.parameters == total
        assert sum(node.own_parameters * node.times for node in nodes) == total
        paths = [path for node in nodes for path in node.paths()]
        assert sorted(paths) == sorted(path for path, _ in model.named_modules())
        for node in nodes:
            first, *others = (model.get_submodule(path) for path in node.paths())
            assert node.times == len(others) + 1
            for other in others:
                assert type(other) is type(first)
                assert other.extra_repr() == first.extra_repr() or "drop" in node.type.lower()
                assert shapes(other) == shapes(first)

    def test_the_words_of_the_issue(self):
        bert = of_model(built("bert-base-uncased"))
        layer = at(bert, "encoder.layer.{0-11}")
        # 4 (H^2 + H) + 2 * 2H + 2 * 4H^2 + 5H with H = 768
        assert (layer.repeats, layer.type) == (12, "BertLayer")
        assert layer.parameters == 4 * (768**2 + 768) + 4 * 768 + 8 * 768**2 + 5 * 768
        assert layer.share == 12 * layer.parameters / 109_482_240

    def test_t5_ties_three_times(self):
        structure = of_model(built("t5-small"))
        tied = {f"{n.path}.{t.name}": t.tied_to for n in walk(structure.root) for t in n.tensors if t.tied_to}
        assert tied == dict.fromkeys(
            ("encoder.embed_tokens.weight", "decoder.embed_tokens.weight", "lm_head.weight"), "shared.weight"
        )
        assert structure.tied_parameters == 3 * 32128 * 512

    @pytest.mark.parametrize(
        "name, path, description",
        [
            ("bert-base-uncased", "encoder.layer.{0-11}.intermediate.dense", "Linear(768 -> 3072, bias)"),
            ("bert-base-uncased", "embeddings.word_embeddings", "Embedding(30522 x 768)"),
            ("bert-base-uncased", "embeddings.LayerNorm", "LayerNorm(768)"),
            ("bert-base-uncased", "embeddings.dropout", "Dropout(0.1)"),
            ("t5-small", "encoder.final_layer_norm", "T5LayerNorm(512)"),
            ("gpt2", "transformer.h.{0-11}.attn.c_attn", "Conv1D(768 -> 2304, bias)"),
            ("torchvision:resnet50", "conv1", "Conv2d(3 -> 64, 7 x 7, stride 2, padding 3)"),
            ("torchvision:resnet50", "maxpool", "MaxPool2d(3 x 3, stride 2, padding 1)"),
            ("torchvision:resnet50", "bn1", "BatchNorm2d(64)"),
            ("torchvision:vgg16", "avgpool", "AdaptiveAvgPool2d(to 7 x 7)"),
            ("torchvision:vit_b_16", "encoder.layers.encoder_layer_{0-11}.self_attention",
             "MultiheadAttention(768, 12 heads)"),
            ("openai/whisper-tiny", "model.encoder.conv2", "Conv1d(384 -> 384, kernel 3, stride 2, padding 1, bias)"),
            ("state-spaces/mamba-130m-hf", "backbone.layers.{0-23}.mixer.conv1d",
             "Conv1d(1536 -> 1536, kernel 4, padding 3, groups 1536, bias)"),
        ],
    )  # fmt: skip
    def test_what_modules_are_made_of(self, name, path, description):
        assert at(of_model(built(name)), path).description == description

    def test_recurrent_layers_say_their_size(self):
        root = of_model(nn.LSTM(10, 20, num_layers=2, bidirectional=True)).root
        assert root.description == "LSTM(10 -> 20, 2 layers, bidirectional)"


def shapes(model: nn.Module) -> list[tuple[str, tuple[int, ...]]]:
    tensors = (*model.named_parameters(), *model.named_buffers())
    return [(name, tuple(tensor.shape)) for name, tensor in tensors]


class TestRuns:
    def test_shapes_and_calls_of_inference(self):
        model = nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 2))
        recording = tonnage.weigh(model, inputs=((torch.zeros(7, 3),), {})).recording
        trace = recording.trace
        structure = read_structure(trace.modules, trace.parameters, recording=recording)
        found = [(n.path, n.outputs[0].shape, n.outputs[0].dtype, n.calls) for n in walk(structure.root)]
        assert found == [
            ("", (7, 2), "float32", 1),
            ("0", (7, 5), "float32", 1),
            ("1", (7, 5), "float32", 1),
            ("2", (7, 2), "float32", 1),
        ]
        assert structure.root.kept_bytes is None
        assert structure.kept_outside_bytes is None

    def test_activations_kept_in_training(self):
        """GIVEN Linear, ReLU, Linear on 4 rows, THEN only what ReLU gave is kept: the second Linear's weight needs it.

        ReLU's own backward reads that same tensor, the first Linear's reads the input, which is no activation.
        """
        model = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 8))
        recording = tonnage.weigh(model, inputs=((torch.zeros(4, 16),), {}), mode="training").recording
        trace = recording.trace
        structure = read_structure(trace.modules, trace.parameters, recording=recording)
        assert {n.path: n.kept_bytes for n in walk(structure.root)} == {"": 512, "0": 0, "1": 4 * 32 * 4, "2": 0}

    def test_kept_is_the_sum_over_the_ledger(self):
        recording = tonnage.weigh("t5-small", seq=16, mode="training").recording
        structure = read_structure(recording.trace.modules, recording.trace.parameters, recording=recording)
        ledger = recording.ledger
        mark = dict(ledger.mark_positions())["step 2: forward done"]
        kept = sum(ledger.sizes[n] for n in ledger.live(mark) if ledger.categories[n] == Category.ACTIVATION)
        assert structure.root.kept_bytes + structure.kept_outside_bytes == kept

    def test_a_module_called_again_and_with_another_shape(self):
        class Twice(nn.Module):
            def __init__(self):
                super().__init__()
                self.lin = nn.Linear(3, 3)
                self.act = nn.ReLU()

            def forward(self, x):
                return self.act(self.lin(self.lin(x)))[:1] + self.act(x[:1])

        recording = tonnage.weigh(Twice(), inputs=((torch.zeros(2, 3),), {})).recording
        structure = read_structure(recording.trace.modules, recording.trace.parameters, recording=recording)
        lin, act = at(structure, "lin"), at(structure, "act")
        assert (lin.calls, lin.outputs[0].shape, lin.outputs_differ) == (2, (2, 3), False)
        assert (act.calls, act.outputs[0].shape, act.outputs_differ) == (2, (2, 3), True)

    def test_a_module_that_is_not_called(self):
        model = nn.Module()
        model.used, model.idle = nn.Linear(2, 2), nn.Linear(2, 2)
        model.forward = lambda x: model.used(x)
        recording = tonnage.weigh(model, inputs=((torch.zeros(1, 2),), {})).recording
        structure = read_structure(recording.trace.modules, recording.trace.parameters, recording=recording)
        assert (at(structure, "idle").calls, at(structure, "idle").outputs) == (0, None)

    def test_only_the_forward_of_the_last_step_counts(self, handmade, handmade_recording):
        modules = [Module("", ""), module("", "Net"), module("a", "Linear")]
        spec = [(TensorSpec((n,), "float32"),) for n in range(5)]
        ops = [Op("aten.mm.default", 2, 1, spec[n], spec[n]) for n in range(5)]
        calls = [Call(2, n, n + 1, spec[n]) for n in range(5)]  # 0 and 1 before; 2, 3 in the forward; 4 in backward
        marks = [Mark("step 1: optimizer done", 2), Mark("step 2: forward done", 4), Mark("step 2: backward done", 5)]
        ledger = Ledger()
        for name in ("step 1: optimizer done", "step 2: forward done"):
            ledger.mark(name)
        environment = handmade_recording(handmade()).environment
        recording = Recording(ledger, Trace(ops, modules, [], calls, marks), environment)
        node = at(read_structure(modules, [], recording=recording), "a")
        assert (node.calls, node.outputs[0].shape, node.outputs_differ) == (2, (2,), True)

    def test_leaves_of_different_shapes_do_not_fold(self):
        model = nn.Sequential(nn.MaxPool2d(2), nn.MaxPool2d(2))
        recording = tonnage.weigh(model, inputs=((torch.zeros(1, 1, 8, 8),), {})).recording
        structure = read_structure(recording.trace.modules, recording.trace.parameters, recording=recording)
        assert [n.name for n in structure.root.children] == ["0", "1"]
        assert [n.name for n in of_model(model).root.children] == ["{0-1}"]

    def test_macs_are_summed_over_children_and_repeats(self):
        modules, parameters = blocks(3)
        macs = {"layers.0.lin": 16, "layers.1.lin": 16, "layers.2.lin": 16, "": 5}
        structure = read_structure(modules, parameters, macs=macs, macs_missing={"layers.1"})
        found = {n.path: (n.macs, n.macs_at_least) for n in walk(structure.root)}
        assert found == {
            "": (53, True),
            "layers": (48, True),
            "layers.{0-2}": (48, True),
            "layers.{0-2}.lin": (48, False),
        }


class TestSelect:
    def test_by_path_keeps_the_way_and_what_is_below(self):
        structure = select(read_structure(*blocks(3)), "layers.1")
        assert [n.path for n in walk(structure.root)] == ["", "layers", "layers.{0-2}", "layers.{0-2}.lin"]

    def test_by_type(self):
        structure = select(of_model(built("bert-base-uncased")), "*Pooler")
        assert [n.path for n in walk(structure.root)] == ["", "pooler", "pooler.dense", "pooler.activation"]
        assert structure.parameters == 109_482_240

    def test_nothing_found(self):
        with pytest.raises(BadOption, match="no module has a path or type like 'Conv2d'"):
            select(of_model(built("bert-base-uncased")), "Conv2d")


def test_json_and_back():
    structure = of_model(built("t5-small"))
    assert msgspec.json.decode(msgspec.json.encode(structure), type=Structure) == structure
