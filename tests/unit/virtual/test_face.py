"""What `device="cuda"` means inside the block, held against what CUDA documents and what the CPU computes."""

from __future__ import annotations

import copy
import pickle

import numpy
import pytest
import torch
from torch import nn
from torch.nn import functional

import tonnage
from tonnage.errors import CannotRecord

CARD = torch.device("cuda", 0)
TWO_DEVICES = r"Expected all tensors to be on the same device, but found at least two devices, cuda:0 and cpu!"


@pytest.fixture
def gpu():
    with tonnage.virtual_gpu("T4") as card:
        yield card


# Ways to the card -----------------------------------------------------------------------------------------------------

WAYS = {
    "device=": lambda: torch.ones(3, device="cuda"),
    "device=cuda:0": lambda: torch.ones(3, device="cuda:0"),
    "device=0": lambda: torch.ones(3, device=0),
    "device=torch.device": lambda: torch.ones(3, device=torch.device("cuda")),
    "cuda()": lambda: torch.ones(3).cuda(),
    "cuda(0)": lambda: torch.ones(3).cuda(0),
    "to(str)": lambda: torch.ones(3).to("cuda"),
    "to(device=)": lambda: torch.ones(3).to(device="cuda"),
    "to(int)": lambda: torch.ones(3).to(0),
    "to(tensor)": lambda: torch.ones(3).to(torch.zeros(1, device="cuda")),
    "to(str, dtype)": lambda: torch.ones(3, dtype=torch.float64).to("cuda", torch.float32),
    "to(all)": lambda: torch.ones(3).to(device="cuda", dtype=torch.float32, non_blocking=True, copy=True),
    "type(str)": lambda: torch.ones(3).type("torch.cuda.FloatTensor"),
    "type(class)": lambda: torch.ones(3).type(torch.cuda.FloatTensor),
    "type_as": lambda: torch.ones(3).type_as(torch.zeros(1, device="cuda")),
    "FloatTensor": lambda: torch.cuda.FloatTensor([1, 1, 1]),
    "tensor": lambda: torch.tensor([1.0, 1.0, 1.0], device="cuda"),
    "as_tensor": lambda: torch.as_tensor([1.0, 1.0, 1.0], device="cuda"),
    "as_tensor of numpy": lambda: torch.as_tensor(numpy.ones(3, "float32"), device="cuda"),
    "asarray": lambda: torch.asarray([1.0, 1.0, 1.0], device="cuda"),
    "from_numpy": lambda: torch.from_numpy(numpy.ones(3, "float32")).cuda(),
    "full": lambda: torch.full((3,), 1.0, device="cuda"),
    "linspace": lambda: torch.linspace(1, 1, 3, device="cuda"),
    "ones_like": lambda: torch.ones_like(torch.zeros(3, device="cuda")),
    "ones_like(device=)": lambda: torch.ones_like(torch.zeros(3), device="cuda"),
    "new_ones": lambda: torch.zeros(1, device="cuda").new_ones(3),
    "new_full": lambda: torch.zeros(1, device="cuda").new_full((3,), 1.0),
    "new_ones(device=)": lambda: torch.zeros(1).new_ones(3, device="cuda"),
    "new_tensor": lambda: torch.zeros(1, device="cuda").new_tensor([1, 1, 1]),
    "clone": lambda: torch.ones(3, device="cuda").clone(),
}


@pytest.mark.parametrize("way", WAYS)
def test_every_way_leads_to_the_card(gpu, way):
    before = gpu.memory_allocated()
    tensor = WAYS[way]()
    assert tensor.device == CARD
    assert (tensor.is_cuda, tensor.is_cpu, tensor.is_meta) == (True, False, False)
    assert tensor.get_device() == torch.get_device(tensor) == 0
    assert tensor.type() == "torch.cuda.FloatTensor"
    assert isinstance(tensor, torch.cuda.FloatTensor)
    assert tensor.tolist() == [1.0, 1.0, 1.0]
    assert gpu.memory_allocated() == before + 512  # the allocator's smallest block


def test_half_precision_on_the_way(gpu):
    tensor = torch.ones(3).to("cuda", torch.float16)
    assert (tensor.device, tensor.dtype) == (CARD, torch.float16)
    like = torch.ones(3).to(torch.zeros(1, dtype=torch.float16, device="cuda"))
    assert (like.device, like.dtype) == (CARD, torch.float16)


def test_the_device_context_and_the_default_device(gpu):
    with torch.device("cuda"):
        inside = [torch.ones(1), torch.tensor([1]), nn.Linear(2, 2).weight, torch.arange(2)]
        assert torch.zeros(1, device="cpu").is_cpu
    torch.set_default_device("cuda")
    try:
        inside += [torch.rand(1), nn.Linear(2, 2).bias]
    finally:
        torch.set_default_device(None)
    assert all(tensor.device == CARD for tensor in inside)
    assert torch.ones(1).is_cpu


def test_a_default_device_set_before_the_block():
    torch.set_default_device("cuda")
    try:
        with tonnage.virtual_gpu("T4") as gpu:
            assert torch.ones(1).device == nn.Linear(2, 2).weight.device == CARD
            assert torch.get_default_device().type == "cuda"
            assert gpu.memory_allocated() == 0  # all of them are gone
    finally:
        torch.set_default_device(None)


def test_to_the_card_again_is_no_copy(gpu):
    tensor = torch.ones(3, device="cuda")
    assert tensor.to("cuda") is tensor.cuda() is tensor.to(tensor) is tensor
    assert tensor.to("cuda", copy=True) is not tensor


@pytest.mark.parametrize("there", ["cuda:1", torch.device("cuda", 7)])
def test_there_is_one_card(gpu, there):
    for call in (
        lambda: torch.ones(1, device=there),
        lambda: torch.ones(1).to(there),
        lambda: torch.cuda.device(there),
    ):
        with pytest.raises(RuntimeError, match="invalid device ordinal"), call() or torch.no_grad():
            pass


def test_a_random_tensor_leaves_the_hosts_generator_alone(gpu):
    before = torch.get_rng_state()
    torch.randn(3, device="cuda")
    torch.randn(3, device="cuda", generator=torch.Generator("cuda").manual_seed(1))
    functional.dropout(torch.ones(3, device="cuda"))
    torch.ones(3, device="cuda").bernoulli_()
    torch.multinomial(torch.ones(3, device="cuda"), 1)
    torch.cuda.manual_seed_all(2)
    assert torch.equal(before, torch.get_rng_state())


# Host, card and meta --------------------------------------------------------------------------------------------------


def test_cpu_tensors_stay_real_and_are_not_counted(gpu):
    tensor = torch.arange(1000.0)
    assert (tensor.device.type, tensor.is_cpu, tensor.is_cuda, tensor.sum().item()) == ("cpu", True, False, 499500.0)
    assert gpu.memory_allocated() == 0


def train_on_the_cpu():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 16), nn.Dropout(0.3), nn.BatchNorm1d(16), nn.GELU(), nn.Linear(16, 4))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    for _ in range(3):
        loss = functional.cross_entropy(model(torch.randn(6, 8)), torch.randint(0, 4, (6,)))
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
    return [*model.state_dict().values(), loss.detach(), torch.get_rng_state()]


def test_a_cpu_model_trains_to_the_same_bits():
    outside = train_on_the_cpu()
    with tonnage.virtual_gpu("T4") as gpu:
        inside = train_on_the_cpu()
        assert gpu.max_memory_allocated() == 0
        assert gpu.recording.assumptions == []
    assert all(torch.equal(a, b) for a, b in zip(outside, inside, strict=True))


def test_meta_tensors_stay_meta(gpu):
    before = torch.ones(3, device="meta")
    moved = torch.ones(3, device="cuda").to("meta")
    for tensor in (before, moved, before + 1, torch.empty_like(before), before.half()):
        assert (tensor.device.type, tensor.is_meta, tensor.is_cuda) == ("meta", True, False)
    for move in (before.cuda, before.cpu, lambda: before.to("cuda")):
        with pytest.raises(NotImplementedError, match="Cannot copy out of meta tensor; no data!"):
            move()


MIXED = {
    "add": lambda card, host: card + host,
    "add, host first": lambda card, host: host + card,
    "in place": lambda card, host: card.add_(host),
    "into the host": lambda card, host: host.add_(card),
    "matmul": lambda card, host: card @ host,
    "cat": lambda card, host: torch.cat([card, host]),
    "where": lambda card, host: torch.where(card > 0, host, card),
    "linear": lambda card, host: functional.linear(card, host),
    "embedding": lambda card, host: functional.embedding(host.long(), card),
    "gather": lambda card, host: card.gather(0, host.long()),
    "layer_norm": lambda card, host: functional.layer_norm(card, (3,), host[0]),
    "equal": lambda card, host: torch.equal(card, host),
    "sum into the host": lambda card, host: host.sum().add_(card.sum()),
}


@pytest.mark.parametrize("call", MIXED)
def test_host_and_card_do_not_mix(gpu, call):
    with pytest.raises(RuntimeError, match=TWO_DEVICES):
        MIXED[call](torch.zeros(3, 3, device="cuda"), torch.zeros(3, 3))


def test_a_cpu_scalar_meets_the_card(gpu):
    card, two = torch.ones(3, device="cuda"), torch.tensor(2.0)
    for mixed in (
        card + two,
        two * card + 1,
        torch.where(card > 0, two + 1, card),
        card.masked_fill(card > 0, two + 1),
    ):
        assert mixed.device == CARD
        assert set(mixed.tolist()) == {3.0}


def test_indices_may_be_on_the_host(gpu):
    card = torch.arange(4.0, device="cuda")
    assert card[torch.tensor([1, 2])].tolist() == [1.0, 2.0]
    assert card[torch.tensor([True, False, False, True])].tolist() == [0.0, 3.0]
    with pytest.raises(RuntimeError, match="indices should be either on cpu or on the same device"):
        torch.zeros(4)[torch.tensor([1], device="cuda")]


def test_copies_cross(gpu):
    card, host = torch.zeros(2, device="cuda"), torch.zeros(2)
    card.copy_(torch.tensor([1.0, 2.0]))
    host.copy_(card)
    assert host.tolist() == [1.0, 2.0]


# Modules --------------------------------------------------------------------------------------------------------------


def test_a_parameter_keeps_its_identity(gpu):
    """An optimizer made before `.cuda()` steps the same parameters (torch.optim's docs)."""
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))
    model[0].weight.tag = "mine"
    weight = model[0].weight
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    assert model.cuda() is model
    assert model[0].weight is weight
    assert weight.tag == "mine"
    assert isinstance(weight, nn.Parameter)
    assert {t.device for t in (*model.parameters(), *model.buffers())} == {CARD}
    model(torch.ones(2, 4, device="cuda")).sum().backward()
    optimizer.step()
    assert weight.grad.device == optimizer.state[weight]["momentum_buffer"].device == CARD


def test_tied_weights_stay_tied(gpu):
    model = nn.Linear(16, 16, bias=False)
    model.tied = model.weight
    model.cuda()
    assert model.tied is model.weight
    assert gpu.memory_allocated() == 16 * 16 * 4
    assert copy.deepcopy(model).tied.data_ptr() != model.tied.data_ptr()


def test_a_gradient_and_hooks_move_with_the_parameter(gpu):
    model, seen = nn.Linear(2, 2), []
    model.weight.register_hook(lambda grad: seen.append(("hook", grad.device.type)))
    model.weight.register_post_accumulate_grad_hook(lambda p: seen.append(("after", p.grad.device.type)))
    model(torch.ones(1, 2)).sum().backward()
    grad = model.weight.grad
    model.cuda()
    assert model.weight.grad is grad
    assert grad.device == CARD
    assert grad.tolist() == [[1.0, 1.0], [1.0, 1.0]]
    model(torch.ones(1, 2, device="cuda")).sum().backward()
    assert grad.tolist() == [[2.0, 2.0], [2.0, 2.0]]
    assert seen == [("hook", "cpu"), ("after", "cpu"), ("hook", "cuda"), ("after", "cuda")]
    model.cpu()
    assert (model.weight.device.type, model.weight.grad.device.type) == ("cpu", "cpu")


@pytest.mark.parametrize("cast", ["half", "bfloat16", "double"])
def test_modules_are_cast_on_the_card(gpu, cast):
    model = getattr(nn.Linear(4, 4).cuda(), cast)()
    assert model.weight.device == CARD
    assert model.weight.dtype == {"half": torch.float16, "bfloat16": torch.bfloat16, "double": torch.float64}[cast]


def test_to_empty_from_meta(gpu):
    """How large models are built: on meta, then given memory."""
    model = nn.Linear(128, 128, device="meta").to_empty(device="cuda")
    assert model.weight.device == CARD
    assert gpu.memory_allocated() == 128 * 128 * 4 + 128 * 4
    assert nn.Linear(2, 2, device="meta").to_empty(device="cpu").weight.is_cpu


def test_a_module_goes_to_the_host_and_to_meta(gpu):
    model = nn.Linear(4, 4)
    weight = model.weight.detach().clone()
    assert torch.equal(model.cuda().cpu().weight, weight)  # small: the values are known
    assert gpu.memory_allocated() == 0
    assert model.cuda().to("meta").weight.is_meta
    assert gpu.memory_allocated() == 0


def test_channels_last(gpu):
    weight = nn.Conv2d(4, 8, 3).to("cuda", memory_format=torch.channels_last).weight
    assert weight.stride() == (36, 1, 12, 4)


def test_state_dicts_cross(gpu):
    card, host = nn.Linear(4, 4).cuda(), nn.Linear(4, 4)
    card.load_state_dict(host.state_dict())
    assert card.weight.device == CARD
    assert torch.equal(card.weight.cpu(), host.weight)
    host.load_state_dict(nn.Linear(4, 4).cuda().state_dict())
    assert host.weight.is_cpu
    optimizer = torch.optim.AdamW(card.parameters())
    card(torch.ones(1, 4, device="cuda")).sum().backward()
    optimizer.step()
    other = torch.optim.AdamW(card.parameters())
    other.load_state_dict(optimizer.state_dict())
    assert other.state[card.weight]["exp_avg"].device == CARD
    assert other.state[card.weight]["step"].is_cpu  # as on CUDA when not capturable


def test_deepcopy_takes_memory(gpu):
    model = nn.Linear(64, 64, bias=False).cuda()
    twin = copy.deepcopy(model)
    assert twin.weight.device == CARD
    assert gpu.memory_allocated() == 2 * 64 * 64 * 4


def test_set_data(gpu):
    model = nn.Linear(4, 4)
    model.weight.data = model.weight.data.cuda()
    assert model.weight.device == CARD
    model.weight.data = model.weight.data.half()
    assert (model.weight.dtype, model.weight.requires_grad) == (torch.float16, True)


def test_data_parallel_of_one_card(gpu):
    assert nn.DataParallel(nn.Linear(4, 4).cuda())(torch.ones(2, 4)).device == CARD


def test_transformer_layers_run_in_eval_mode(gpu):
    layer = nn.TransformerEncoderLayer(8, 2, batch_first=True).cuda().eval()
    encoder = nn.TransformerEncoder(layer, 2).cuda().eval()
    mask = torch.zeros(3, 5, dtype=torch.bool, device="cuda")
    assert encoder(torch.ones(3, 5, 8, device="cuda"), src_key_padding_mask=mask).device == CARD


# Backward -------------------------------------------------------------------------------------------------------------

BACKWARD = {
    "loss.backward": lambda loss, x: loss.backward(),
    "autograd.backward": lambda loss, x: torch.autograd.backward([loss]),
    "autograd.grad": lambda loss, x: torch.autograd.grad(loss, x),
}


@pytest.mark.parametrize("backward", BACKWARD)
def test_hooks_and_functions_see_the_card(gpu, backward):
    seen = []

    class Double(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x * 2

        @staticmethod
        def backward(ctx, grad):
            seen.extend([grad.device, ctx.saved_tensors[0].device, torch.ones(1, device="cuda").device])
            return grad * 2

    x = torch.ones(3, device="cuda", requires_grad=True)
    y = Double.apply(x)
    y.register_hook(lambda grad: seen.append(grad.device))
    BACKWARD[backward](y.sum(), x)
    assert seen == [CARD] * 4


@pytest.mark.parametrize("reentrant", [True, False])
@pytest.mark.parametrize("backward", BACKWARD)
def test_a_checkpoint_recomputes_on_the_card(gpu, reentrant, backward):
    if reentrant and backward == "autograd.grad":
        pytest.skip("PyTorch refuses it")
    layer, seen = nn.Linear(4, 4).cuda(), []

    def part(x):
        seen.append(x.device)
        return functional.dropout(layer(x) + torch.zeros(2, 4, device=x.device), 0.5)

    x = torch.ones(2, 4, device="cuda", requires_grad=True)
    loss = torch.utils.checkpoint.checkpoint(part, x, use_reentrant=reentrant).sum()
    BACKWARD[backward](loss, x)
    assert seen == [CARD, CARD]


def test_save_on_cpu_brings_tensors_back_to_the_card(gpu):
    x = torch.ones(256, device="cuda", requires_grad=True)
    with torch.autograd.graph.save_on_cpu():
        y = (x * 3).exp()
        loss = y.sum()
    del y
    assert gpu.memory_allocated() == 1024 + 512  # x and the loss; the exponential is on the host
    loss.backward()
    assert x.grad.device == CARD


def test_gradients_that_meet_are_one_tensor(gpu):
    """x*x sends two gradients to x: one is added into the other, and what remains is x, the product and x.grad."""
    x = torch.ones(1024, device="cuda", requires_grad=True)
    (x * x).sum().backward()
    assert x.grad.device == CARD
    assert gpu.memory_allocated() == 2 * 4096


def test_a_gradient_crosses_to_the_host(gpu):
    x = torch.ones(3, requires_grad=True)
    (x.cuda() * 2).sum().backward()
    assert x.grad.tolist() == [2.0, 2.0, 2.0]
    assert x.grad.is_cpu


# Files ----------------------------------------------------------------------------------------------------------------


def test_saving_is_refused_before_the_file_is_touched(gpu, tmp_path):
    path = tmp_path / "weights.pt"
    path.write_text("precious")
    with pytest.raises(CannotRecord, match="carries no data"):
        torch.save(nn.Linear(2, 2).cuda().state_dict(), path)
    assert path.read_text() == "precious"
    with pytest.raises(CannotRecord, match="carries no data"):
        pickle.dumps(torch.ones(1, device="cuda"))


@pytest.mark.parametrize("where", ["cuda", torch.device("cuda:0"), {"cpu": "cuda:0"}])
def test_loading_to_the_card(gpu, tmp_path, where):
    path = tmp_path / "weights.pt"
    model = nn.Linear(2, 2)
    torch.save({"model": model.state_dict(), "steps": [1]}, path)
    assert torch.load(path)["model"]["weight"].is_cpu
    loaded = torch.load(path, map_location=where)
    assert loaded["model"]["weight"].device == CARD
    assert torch.equal(loaded["model"]["weight"].cpu(), model.weight)
    assert loaded["steps"] == [1]


# The data-free host ---------------------------------------------------------------------------------------------------


def test_large_tensors_of_the_host_carry_no_data(gpu):
    with gpu.host():
        model = nn.Linear(100_000, 100_000)  # 40 GB, were it real
        weight = model.weight
        assert (weight.device.type, weight.is_cpu, weight.is_meta) == ("cpu", True, False)
        assert [rate.item() for rate in torch.linspace(0, 0.5, 3)] == [0.0, 0.25, 0.5]
        nn.init.trunc_normal_(torch.empty(300, 300))
        assert (torch.ones(300, 300) + torch.ones(300)).is_cpu  # large and small meet
        assert torch.quantile(torch.ones(300, 300), 0.5).is_cpu
    assert gpu.max_memory_allocated() == 0


def test_a_model_of_the_data_free_host_goes_to_the_card(gpu):
    with gpu.host():
        model = nn.Linear(256, 256, bias=False)
    with pytest.raises(RuntimeError, match=TWO_DEVICES):
        model(torch.ones(1, 256, device="cuda"))
    weight = model.weight
    assert model.cuda().weight is weight
    assert gpu.memory_allocated() == 256 * 256 * 4
