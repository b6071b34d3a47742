"""Configs of transformers by their fields: which are sizes, and what is built of others."""

from __future__ import annotations

import pytest

from tonnage.workload import libraries, resolve
from tonnage.workload.variation import Impossible, vary

pytest.importorskip("transformers")


@pytest.fixture(scope="module")
def T():
    return libraries.load("transformers")


def count(model):
    return sum(p.numel() for p in model.parameters())


def llama(T, **changes):
    config = {
        "vocab_size": 50,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
    }
    return T.LlamaConfig(architectures=["LlamaForCausalLM"], **{**config, **changes})


def test_what_somebody_wrote_down_is_a_size(T):
    variation = vary(resolve(llama(T)))
    wanted = {
        "vocab_size": 50,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
    }
    assert wanted.items() <= variation.fields.items()
    assert not {"bos_token_id", "eos_token_id", "pad_token_id"} & variation.fields.keys()
    assert variation.settings["attention_bias"] is False


def test_what_follows_unless_it_is_given(T):
    assert dict(vary(resolve(llama(T))).following) == {"head_dim": 8}
    given = vary(resolve(llama(T, head_dim=16)))
    assert "head_dim" not in given.following and given.fields["head_dim"] == 16


def test_where_it_follows_to(T):
    variation = vary(resolve(llama(T)))
    assert variation.follow({"hidden_size": 64}) == {"head_dim": 16}
    assert variation.follow({"num_attention_heads": 2}) == {"head_dim": 16}
    assert variation.follow({"head_dim": 6}) == {"head_dim": 6}


def test_another_model(T):
    """2*V*H + H + L*(2*H*H + 2*H*g*d + 3*H*F + 2*H)."""
    model = vary(resolve(llama(T))).build({"num_hidden_layers": 1, "hidden_size": 64, "vocab_size": 7})
    assert count(model) == 2 * 7 * 64 + 64 + 2 * 64 * 64 + 2 * 64 * 2 * 16 + 3 * 64 * 48 + 2 * 64
    assert {p.device.type for p in model.parameters()} == {"meta"}


def test_the_config_that_was_given_stays_as_it_is(T):
    config = llama(T)
    before = config.to_dict()
    variation = vary(resolve(config))
    variation.build({"hidden_size": 64, "num_hidden_layers": 9})
    assert config.to_dict() == before
    assert count(variation.build({})) == count(vary(resolve(llama(T))).build({}))


def test_what_cannot_be_built(T):
    with pytest.raises(Impossible):
        vary(resolve(llama(T))).build({"num_attention_heads": 5})


def test_parts_and_lists_have_names_of_their_own(T):
    config = T.CLIPConfig(
        architectures=["CLIPModel"],
        text_config={"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4, "vocab_size": 20},
        vision_config={"hidden_size": 48, "num_hidden_layers": 1, "num_attention_heads": 4, "patch_size": 8},
    )
    variation = vary(resolve(config))
    assert variation.fields["text_config.hidden_size"] == 32
    assert variation.fields["vision_config.hidden_size"] == 48
    wider = variation.build({"text_config.hidden_size": 64})
    assert wider.config.text_config.hidden_size == 64 and wider.config.vision_config.hidden_size == 48
    convnext = T.ConvNextConfig(
        architectures=["ConvNextModel"], hidden_sizes=[8, 16, 24, 32], depths=[1, 1, 2, 1], num_stages=4
    )
    variation = vary(resolve(convnext))
    assert [variation.fields[f"depths[{place}]"] for place in range(4)] == [1, 1, 2, 1]
    deeper = variation.build({"depths[2]": 3, "hidden_sizes[3]": 40})
    assert list(deeper.config.depths) == [1, 1, 3, 1] and list(deeper.config.hidden_sizes) == [8, 16, 24, 40]


def test_a_list_of_kinds_is_as_long_as_there_are_layers(T):
    config = T.GPTNeoConfig(
        architectures=["GPTNeoModel"],
        num_layers=4,
        hidden_size=16,
        num_heads=2,
        attention_types=[[["global", "local"], 2]],
        vocab_size=20,
        max_position_embeddings=10,
    )
    model = vary(resolve(config)).build({"num_layers": 5})
    assert model.config.attention_layers == ["global", "local", "global", "local", "global"]


def test_a_number_of_labels_is_a_size_that_only_a_head_follows(T):
    config = T.BertConfig(
        architectures=["BertForSequenceClassification"], hidden_size=16, num_hidden_layers=1, num_attention_heads=2
    )
    variation = vary(resolve(config))
    three, five = (count(variation.build({"num_labels": n})) for n in (3, 5))
    assert five - three == 2 * (16 + 1)


def test_a_whole_number_that_is_written_as_a_fraction_is_a_size(T):
    config = T.ViTConfig(architectures=["ViTModel"], hidden_size=16, num_hidden_layers=1, num_attention_heads=2)
    assert "hidden_dropout_prob" not in vary(resolve(config)).fields
    swin = vary(resolve(T.SwinConfig(architectures=["SwinModel"], mlp_ratio=4.0)))
    assert swin.fields["mlp_ratio"] == 4


def test_building_neither_draws_nor_warns(T, recwarn):
    import torch

    torch.manual_seed(3)
    before = torch.get_rng_state()
    init = torch.nn.init.normal_
    vary(resolve(llama(T))).build({"vocab_size": 3})
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.nn.init.normal_ is init
    assert not recwarn.list
