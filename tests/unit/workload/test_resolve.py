"""From what a user names to a workload, and what is said where that fails."""

from __future__ import annotations

import importlib.util
import json
import sys

import pytest
import torch
from torch import nn

from tonnage.errors import BadFile, BadOption, MissingLibrary, SubjectFailed, TonnageError, UnknownModel
from tonnage.scenario import Scenario
from tonnage.workload import libraries, resolve, run

BERT = {
    "model_type": "bert",
    "architectures": ["BertForMaskedLM"],
    "hidden_size": 32,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "vocab_size": 99,
}


def folder_with(tmp_path, config: object):
    (tmp_path / "config.json").write_text(config if isinstance(config, str) else json.dumps(config))
    return tmp_path


def parameters(subject, **scenario) -> int:
    """How many parameters the model that is built from `subject` has, each once."""
    seen = []
    run(resolve(subject), Scenario(**scenario), device="meta", host=lambda: torch.device("meta"), watch=seen.append)
    return sum(p.numel() for p in seen[0].parameters())


# ---- what can be named


def test_a_live_module():
    workload = resolve(nn.Linear(2, 3))
    assert (workload.name, workload.kind, workload.class_name) == ("Linear", "module", "Linear")
    assert workload.library == f"torch {torch.__version__}"


@pytest.mark.parametrize("how", ["folder", "file", "path object", "config object"])
def test_a_config(tmp_path, how):
    folder = folder_with(tmp_path, BERT)
    if how == "config object":
        subject = libraries.load("transformers").BertConfig.from_pretrained(folder)
    else:
        subject = {"folder": str(folder), "file": str(folder / "config.json"), "path object": folder}[how]
    workload = resolve(subject)
    assert (workload.kind, workload.class_name) == ("transformers", "BertForMaskedLM")
    assert workload.guesses == ()
    assert run(workload, Scenario(), device="cpu").inputs[0].shape == (1, 128)


def test_a_catalogue_name_needs_neither_network_nor_cache(monkeypatch):
    monkeypatch.setattr("tonnage.workload.configs._hub_file", lambda name: pytest.fail("the hub was asked"))
    workload = resolve("bert-base-uncased")
    assert (workload.class_name, workload.name) == ("BertModel", "bert-base-uncased")


# Published counts: torchvision's model pages (vgg16, vit_b_16) and timm's results table (25.6 M for resnet50).
@pytest.mark.parametrize(
    ("subject", "class_name", "count"),
    [
        ("torchvision:vgg16", "VGG", 138_357_544),
        ("torchvision:vit_b_16", "VisionTransformer", 86_567_656),
        ("timm:resnet50", "ResNet", 25_557_032),
        ("timm:resnet50.a1_in1k", "ResNet", 25_557_032),
    ],
)
def test_image_models(subject, class_name, count):
    assert resolve(subject).class_name == class_name
    assert parameters(subject) == count


@pytest.mark.parametrize(
    ("subject", "options", "shape"),
    [
        ("torchvision:resnet18", {}, (2, 3, 224, 224)),
        ("torchvision:inception_v3", {}, (2, 3, 299, 299)),
        ("torchvision:vit_b_32", {"image_size": 64}, (2, 3, 64, 64)),
        ("torchvision:resnet18", {"image_size": 64}, (2, 3, 64, 64)),
        ("torchvision:r3d_18", {}, (2, 3, 16, 112, 112)),
        ("timm:resnet18", {}, (2, 3, 224, 224)),
        ("timm:vit_tiny_patch16_384", {}, (2, 3, 384, 384)),
        ("timm:vit_tiny_patch16_224", {"image_size": 64}, (2, 3, 64, 64)),
    ],
)
@pytest.mark.filterwarnings("ignore:The default weight initialization of inception_v3:FutureWarning")
def test_images_of_the_models_own_size(subject, options, shape):
    scenario = Scenario(batch=2, **options)
    ran = run(resolve(subject), scenario, device="meta", host=lambda: torch.device("meta"))
    assert [spec.shape for spec in ran.inputs] == [shape]
    assert any("random pixels" in guess for guess in ran.guesses)


def test_training_an_image_model_is_cross_entropy():
    ran = run(resolve("torchvision:resnet18"), Scenario(batch=2, image_size=32, mode="training"), device="cpu")
    assert "labels: 2 random classes of 1000" in ran.guesses
    assert "loss: cross-entropy with random class labels" in ran.guesses


def test_no_weights_are_fetched(monkeypatch):
    monkeypatch.setattr("torch.hub.load_state_dict_from_url", lambda *a, **k: pytest.fail("weights were fetched"))
    monkeypatch.setattr("huggingface_hub.hf_hub_download", lambda *a, **k: pytest.fail("the hub was asked"))
    for subject in ("torchvision:fcn_resnet50", "timm:resnet18", "facebook/detr-resnet-50"):
        resolve(subject).build(Scenario())


# ---- what is wrong with what was named


@pytest.mark.parametrize(
    ("subject", "error", "said", "hint"),
    [
        ("torchvision:vgg61", UnknownModel, "torchvision has no model 'vgg61'", "vgg16"),
        ("timm:resnet05", UnknownModel, "timm has no model 'resnet05'", "resnet50"),
        ("tochvision:vgg16", UnknownModel, "there is no Python module tochvision", "install"),
        ("there/is/no.py:build", UnknownModel, "there is no file there/is/no.py", "path"),
        ("no_such_package.models:build", UnknownModel, "there is no Python module no_such_package", "install"),
        ("json:no_such_function", UnknownModel, "json has no 'no_such_function'", "function"),
        ("./no/such/folder", UnknownModel, "there is no file or folder", "path"),
        ("no/such/config.json", UnknownModel, "there is no file or folder", "path"),
        ("model.py", BadOption, "names no function", "model.py:build"),
        ("what is this?", BadOption, "names no subject", "torchvision:NAME"),
        ("", BadOption, "names no subject", "torchvision:NAME"),
        (42, BadOption, "a int is no subject: 42", "torchvision:NAME"),
        (None, BadOption, "a NoneType is no subject", "torchvision:NAME"),
        (nn.Linear, BadOption, "a type is no subject", "call it"),
        (torch.ones(2), BadOption, "a Tensor is no subject", "torchvision:NAME"),
    ],
)
def test_subjects_that_are_none(subject, error, said, hint):
    with pytest.raises(error) as caught:
        resolve(subject)
    assert said in caught.value.message
    assert hint in caught.value.hint


@pytest.mark.parametrize("name", ["transformers", "torchvision", "timm"])
def test_a_library_that_is_not_installed(monkeypatch, name):
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda n, *a: None if n == name else found(n, *a))
    subject = {"transformers": "bert-base-uncased"}.get(name, f"{name}:resnet50")
    with pytest.raises(MissingLibrary, match=f"needs {name}") as caught:
        resolve(subject)
    assert caught.value.hint == f"pip install 'tonnage[{name}]'"


@pytest.mark.parametrize(
    ("config", "error", "said"),
    [
        ("{not json", BadFile, "is not JSON"),
        ("[1, 2]", BadFile, "holds no JSON object"),
        ({}, SubjectFailed, "has no model_type"),
        (BERT | {"model_type": "brt"}, SubjectFailed, "knows no model_type 'brt'"),
        (BERT | {"architectures": ["BertForMaskedML"]}, SubjectFailed, "has no class 'BertForMaskedML'"),
        (BERT | {"num_attention_heads": 3}, SubjectFailed, "not a multiple of the number of attention heads"),
        (BERT | {"hidden_size": "wide"}, SubjectFailed, "hidden_size"),
        (BERT | {"model_type": "x", "auto_map": {"AutoModel": "m.M"}}, SubjectFailed, "brings its own Python code"),
    ],
)
def test_configs_that_make_no_model(tmp_path, config, error, said):
    folder = folder_with(tmp_path, config)
    with pytest.raises(error) as caught:
        resolve(folder).build(Scenario())
    assert said in caught.value.message
    assert caught.value.hint


def test_a_folder_without_a_config(tmp_path):
    with pytest.raises(UnknownModel, match=r"has no config\.json"):
        resolve(tmp_path)


def test_what_a_config_leaves_out_is_told(tmp_path):
    workload = resolve(folder_with(tmp_path, {"model_type": "bert", "hidden_size": 32, "num_attention_heads": 2}))
    assert workload.class_name == "BertModel"
    assert any("names no architecture: BertModel taken" in guess for guess in workload.guesses)
    assert any("library's defaults: num_hidden_layers=12, vocab_size=30522" in guess for guess in workload.guesses)


def test_quantised_weights_are_told(tmp_path):
    workload = resolve(folder_with(tmp_path, BERT | {"quantization_config": {"quant_method": "gptq", "bits": 4}}))
    assert any("quantization_config of the config is not applied" in guess for guess in workload.guesses)


# ---- code that comes with a config

REMOTE_CONFIG = """
from transformers import PretrainedConfig
class TinyConfig(PretrainedConfig):
    model_type = "tonnage-tiny"
    width = 5
"""
REMOTE_MODEL = """
from pathlib import Path
import torch
from transformers import PreTrainedModel
from .configuration_tiny import TinyConfig
class TinyModel(PreTrainedModel):
    config_class = TinyConfig
    def __init__(self, config):
        super().__init__(config)
        self.layer = torch.nn.Linear(config.width, 7)
        self.post_init()
    def forward(self, x):
        return self.layer(x)
"""


@pytest.fixture
def remote(tmp_path, monkeypatch):
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(sys, "path", list(sys.path))
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "configuration_tiny.py").write_text(REMOTE_CONFIG)
    (folder / "modeling_tiny.py").write_text(REMOTE_MODEL)
    auto_map = {"AutoConfig": "configuration_tiny.TinyConfig", "AutoModel": "modeling_tiny.TinyModel"}
    config = {"model_type": "tonnage-tiny", "architectures": ["TinyModel"], "auto_map": auto_map}
    return folder_with(folder, config)


def test_code_that_comes_along_is_not_run_unasked(remote):
    (remote / "modeling_tiny.py").write_text("raise SystemExit('was run')")
    (remote / "configuration_tiny.py").write_text("raise SystemExit('was run')")
    with pytest.raises(SubjectFailed, match="is not run unasked") as caught:
        resolve(remote)
    assert "trust_remote_code" in caught.value.hint


def test_code_that_comes_along_is_run_when_asked(remote):
    workload = resolve(remote, trust_remote_code=True)
    assert workload.class_name == "TinyModel"
    ran = run(workload, Scenario(), inputs=((torch.ones(2, 5),), {}), device="cpu")
    assert ran.inputs[0].shape == (2, 5)


# ---- the hub


@pytest.fixture
def hub(monkeypatch):
    """Answers for the hub: an exception to raise or a path to give."""
    library = libraries.load("huggingface_hub")
    answers: dict[str, object] = {"cache": None}

    def ask(url, timeout):
        assert url.endswith("/config.json")
        if isinstance(answers["hub"], Exception):
            raise answers["hub"]

    def download(name, file, **options):
        assert file == "config.json"
        if isinstance(answers["hub"], Exception):
            raise answers["hub"]
        return answers["hub"]

    monkeypatch.setattr(library, "try_to_load_from_cache", lambda name, file: answers["cache"])
    monkeypatch.setattr(library, "get_hf_file_metadata", ask)
    monkeypatch.setattr(library, "hf_hub_download", download)
    return answers


def test_nobody_answers(hub):
    hub["hub"] = Exception("whatever the HTTP client of this version raises")
    with pytest.raises(UnknownModel, match="the hub cannot be reached"):
        resolve("someone/unheard-of")


def failure(name: str) -> Exception:
    errors = libraries.load("huggingface_hub").errors
    cls = getattr(errors, name)
    error = cls.__new__(cls)
    Exception.__init__(error, name)
    return error


@pytest.mark.parametrize(
    ("raised", "said"),
    [
        ("RepositoryNotFoundError", "the hub has no model 'bert-base-uncasd'"),
        ("GatedRepoError", "is gated"),
        ("EntryNotFoundError", "has no config.json on the hub"),
        ("LocalEntryNotFoundError", "the hub cannot be reached"),
        ("OfflineModeIsEnabled", "the hub cannot be reached"),
    ],
)
def test_what_the_hub_answers(hub, raised, said):
    hub["hub"] = failure(raised)
    with pytest.raises(UnknownModel) as caught:
        resolve("bert-base-uncasd")
    assert said in caught.value.message
    assert "bert-base-uncased" in caught.value.hint or raised == "GatedRepoError"


def test_no_connection_is_offline(hub):
    hub["hub"] = ConnectionError("no route")
    with pytest.raises(UnknownModel, match="cannot be reached") as caught:
        resolve("somebody/something-of-their-own-91")
    assert "config.json" in caught.value.hint


def test_only_the_config_is_fetched(hub, tmp_path):
    hub["hub"] = str(folder_with(tmp_path, BERT) / "config.json")
    workload = resolve("somebody/something")
    assert (workload.name, workload.class_name) == ("somebody/something", "BertForMaskedLM")


def test_the_cache_comes_before_the_hub(hub, tmp_path):
    hub["cache"] = str(folder_with(tmp_path, BERT) / "config.json")
    hub["hub"] = AssertionError("the hub was asked")
    assert resolve("somebody/something").class_name == "BertForMaskedLM"


def test_the_name_of_an_image_model_is_pointed_to_its_library(hub):
    hub["hub"] = failure("RepositoryNotFoundError")
    with pytest.raises(UnknownModel) as caught:
        resolve("convnext_tiny")
    assert "torchvision:convnext_tiny" in caught.value.hint


def test_every_failure_is_one_of_ours(hub):
    hub["hub"] = failure("HfHubHTTPError")
    with pytest.raises(TonnageError):
        resolve("somebody/something")
