"""Merging adapters: the sum is taken in float32, rounded once, and what the rounding cost is known."""

import copy

import pytest
import torch
from peft import get_peft_model

from rlcomm.omni.merge import merge_adapters
from rlcomm.omni.policy import load_policy, lora_config

NAME = "model.language_model.layers.0.self_attn.q_proj"


@pytest.fixture
def adapted(nano_folder):
    """Makes the miniature with adapters whose update is as small beside the weights as after a real run."""

    def make(dtype: str, update: float = 1e-3):
        model = get_peft_model(load_policy(str(nano_folder), dtype).model, lora_config(r=4, alpha=8))
        generator = torch.Generator().manual_seed(0)
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.data += torch.randn(parameter.shape, generator=generator) * update
        return model

    return make


def parts(model):
    """The weight of one layer, and its update in float32."""
    layer = model.get_base_model().get_submodule(NAME)
    update = layer.scaling["default"] * (
        layer.lora_B["default"].weight.float() @ layer.lora_A["default"].weight.float()
    )
    return layer.base_layer.weight.detach().clone(), update.detach()


def test_the_sum_is_rounded_once(adapted):
    model = adapted("bfloat16")
    weight, update = parts(model)
    merged = merge_adapters(model)
    kept = merged.model.get_submodule(NAME).weight
    assert kept.dtype == torch.bfloat16
    assert torch.equal(kept, (weight.float() + update).bfloat16())
    assert f"{NAME}.weight" in merged.changed
    assert {p.dtype for p in merged.model.parameters()} == {torch.bfloat16}  # biases too
    assert not any("lora" in name for name, _ in merged.model.named_parameters())


def test_what_the_cast_loses_is_said_as_it_is(adapted):
    model = adapted("bfloat16")
    before = {name: p.detach().float().clone() for name, p in model.get_base_model().named_parameters()}
    exact = merge_adapters(copy.deepcopy(model), torch.float32)
    cast = merge_adapters(model)
    assert exact.lost == 0.0
    missed = whole = 0.0
    for name in exact.changed:
        own = before[name.replace(".weight", ".base_layer.weight")]
        update = exact.model.get_parameter(name) - own
        missed += float(((cast.model.get_parameter(name).float() - own) - update).square().sum())
        whole += float(update.square().sum())
    assert cast.lost == pytest.approx((missed / whole) ** 0.5, rel=1e-4)
    assert 0.04 < cast.lost < 1.0  # the shares that were found with merging in bfloat16


def test_asked_for_in_float32_nothing_is_lost(adapted):
    """As the merged model of PEFT would be in float32 from the start."""
    model = adapted("bfloat16")
    weight, update = parts(model)
    kept = merge_adapters(model, torch.float32).model.get_submodule(NAME).weight
    assert kept.dtype == torch.float32
    assert torch.equal(kept, weight.float() + update)
    whole = adapted("float32")
    by_peft = copy.deepcopy(whole).merge_and_unload(safe_merge=True).state_dict()
    ours = merge_adapters(whole).model.state_dict()
    assert ours.keys() == by_peft.keys()
    assert all(torch.equal(ours[name], by_peft[name]) for name in ours)


def test_adapters_in_half_precision_are_multiplied_in_float32(adapted):
    model = adapted("bfloat16")
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            parameter.data = parameter.data.bfloat16()
    weight, update = parts(model)
    kept = merge_adapters(model, torch.float32).model.get_submodule(NAME).weight
    assert torch.equal(kept, weight.float() + update)


def test_adapters_that_are_no_numbers_are_refused(adapted):
    model = adapted("float32")
    model.get_base_model().get_submodule(NAME).lora_B["default"].weight.data[0, 0] = torch.nan
    with pytest.raises(ValueError, match="NaNs detected"):
        merge_adapters(model)
