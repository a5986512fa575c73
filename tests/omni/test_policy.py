"""Policies from full, thinker-only and adapter checkpoints: every tensor is theirs, or they are refused."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from peft import PeftModel, get_peft_model
from safetensors.torch import load_file, save_file

from rlcomm.omni.encode import merge_media
from rlcomm.omni.policy import load_policy, lora_config
from rlcomm.orchestra import nano
from rlcomm.utils.errors import UserError
from tests.checkpoints import qwen3_omni, qwen3_processor, qwen3_tokenizer, qwen25_omni, save_full
from tests.conftest import make_prompt

FAMILIES = ["qwen2_5_omni", "tied", "qwen3_omni_moe"]


@pytest.fixture(scope="module")
def models(tokenizer):
    """Family -> full model and processor, in memory."""
    renamed = qwen3_tokenizer(tokenizer)
    return {
        "qwen2_5_omni": (qwen25_omni(tokenizer).eval(), nano.omni_processor(tokenizer)),
        "tied": (qwen25_omni(tokenizer, tied=True).eval(), nano.omni_processor(tokenizer)),
        "qwen3_omni_moe": (qwen3_omni(renamed).eval(), qwen3_processor(renamed)),
    }


@pytest.fixture(scope="module", params=FAMILIES)
def family(request, models):
    return models[request.param]


@pytest.fixture(scope="module")
def folders(family, tmp_path_factory) -> dict[str, Path]:
    """Every way the thinker of `family` may lie on disk."""
    model, processor = family
    root = tmp_path_factory.mktemp("checkpoints")
    save_full(model, processor, root / "full")
    save_full(model, processor, root / "sharded", max_shard_size="1MB")
    assert len(list((root / "sharded").glob("model-*.safetensors"))) > 3
    save_full(model, processor, root / "class_names", save_original_format=False)
    model.thinker.save_pretrained(root / "thinker")
    processor.save_pretrained(root / "thinker")
    again = type(model.thinker).from_pretrained(root / "full")  # remembers the prefix of the full checkpoint
    again.save_pretrained(root / "prefixed")
    processor.save_pretrained(root / "prefixed")
    return {path.name: path for path in root.iterdir()}


def logits(policy, model, seed=0):
    """Of the last token behind a clip with sound and picture, in a plain forward."""
    prompt = make_prompt(policy, seed)
    with torch.no_grad():
        return model(
            input_ids=prompt.ids[None], position_ids=prompt.positions[:, None], use_cache=False,
            **merge_media([prompt], torch.device("cpu"), torch.float32),
        ).logits[0, -1]  # fmt: skip


@pytest.mark.parametrize("layout", ["full", "sharded", "class_names", "thinker", "prefixed"])
def test_every_tensor_of_the_thinker_is_the_checkpoints(family, folders, layout):
    """transformers saves under other names than the class's: one that finds no place stays random."""
    whole, _ = family
    policy = load_policy(str(folders[layout]))
    found, expected = policy.model.state_dict(), whole.thinker.state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert not hasattr(policy.config, "talker_config")
    assert torch.equal(logits(policy, policy.model), logits(policy, whole.thinker))


def test_adapters_over_a_full_checkpoint(folders, tmp_path):
    policy = load_policy(str(folders["sharded"]))
    bare = logits(policy, policy.model)
    model = get_peft_model(policy.model, lora_config(r=4, alpha=8))
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    expected = logits(policy, model.eval())
    assert (expected - bare).abs().max() > 1e-3
    model.save_pretrained(tmp_path / "adapter")
    back = load_policy(str(tmp_path / "adapter"))
    assert isinstance(back.model, PeftModel)
    assert torch.allclose(logits(back, back.model), expected, atol=1e-6)


# -- refusals ------------------------------------------------------------------------------------------------


@pytest.fixture
def full(models, tmp_path) -> Path:
    """A full Qwen2.5-Omni of one file, to be spoilt."""
    return save_full(*models["qwen2_5_omni"], tmp_path / "full")


def refused(folder: Path) -> str:
    with pytest.raises(UserError) as told:
        load_policy(str(folder))
    message = str(told.value)
    assert str(folder) in message
    assert "\n" not in message
    assert message.endswith(".")
    return message


def rewrite(path: Path, change) -> None:
    weights = load_file(path)
    change(weights)
    save_file(weights, path, {"format": "pt"})


def test_a_tensor_that_is_not_there_is_refused_by_name(full):
    """Trap: transformers only warns, and fills it with random numbers."""

    def lose(weights):
        (key,) = (
            key
            for key in weights
            if key.startswith("thinker.") and key.endswith("layers.1.mlp.up_proj.weight")
        )
        del weights[key]

    rewrite(full / "model.safetensors", lose)
    message = refused(full)
    assert "lack 1 of the thinker's tensors" in message
    assert "model.language_model.layers.1.mlp.up_proj.weight" in message


def test_a_talker_that_is_not_there_does_not_matter(full):
    def lose(weights):
        for key in [key for key in weights if not key.startswith("thinker.")]:
            del weights[key]

    rewrite(full / "model.safetensors", lose)
    load_policy(str(full))


def test_a_configuration_of_another_model_is_refused(full):
    config = json.loads((full / "config.json").read_text())
    thinker = config["thinker_config"]
    for part, key, words in (
        (thinker["text_config"], "num_hidden_layers", "must be equal to the number of `layer_types`"),
        (thinker["vision_config"], "depth", "model.visual.blocks.2."),
        (thinker["text_config"], "intermediate_size", "other shapes than its config.json"),
    ):
        part[key] += 1
        (full / "config.json").write_text(json.dumps(config))
        assert words in refused(full)
        part[key] -= 1


@pytest.mark.parametrize("how", ["lost", "cut", "pickled"])
def test_weights_that_cannot_be_read_are_refused(full, how):
    weights = full / "model.safetensors"
    if how == "cut":
        weights.write_bytes(weights.read_bytes()[:1000])
    elif how == "pickled":
        torch.save(load_file(weights), full / "pytorch_model.bin")
    if how != "cut":
        weights.unlink()
    assert "weights cannot be read" in refused(full)


def test_a_lost_shard_is_refused(models, tmp_path):
    folder = save_full(*models["qwen2_5_omni"], tmp_path / "sharded", max_shard_size="1MB")
    next(iter(sorted(folder.glob("model-*.safetensors")))).unlink()
    assert "every shard" in refused(folder)


def test_a_model_without_its_processor_is_refused(full):
    for path in full.iterdir():
        if path.name not in ("config.json", "model.safetensors"):
            path.unlink()
    assert "no processor" in refused(full)


def test_a_model_of_another_family_is_refused(full):
    config = json.loads((full / "config.json").read_text())
    (full / "config.json").write_text(json.dumps({**config["talker_config"], "model_type": "qwen2"}))
    assert "a 'qwen2' model" in refused(full)


@pytest.mark.parametrize("how", ["half", "other"])
def test_adapters_that_do_not_fit_are_refused(full, tokenizer, tmp_path, how):
    """Trap: PEFT only warns of adapters it does not find, and leaves those layers untrained."""
    policy = load_policy(str(full))
    folder = tmp_path / "adapter"
    get_peft_model(policy.model, lora_config(r=4, alpha=8)).save_pretrained(folder)
    load_policy(str(folder))
    if how == "half":
        rewrite(folder / "adapter_model.safetensors", lambda weights: weights.pop(sorted(weights)[0]))
    else:
        shutil.rmtree(full)
        save_full(qwen25_omni(tokenizer, intermediate_size=256), nano.omni_processor(tokenizer), full)
    message = refused(folder)
    assert "does not fit its base" in message
    assert str(full) in message
