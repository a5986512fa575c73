"""`rlcomm export`: what plain transformers and PEFT load back is the trained policy, the rest untouched."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from peft import PeftModel, get_peft_model
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from transformers import (
    PreTrainedModel,
    Qwen2_5OmniForConditionalGeneration,
    Qwen2_5OmniThinkerForConditionalGeneration,
    Qwen3OmniMoeForConditionalGeneration,
    Qwen3OmniMoeThinkerForConditionalGeneration,
)

from rlcomm.cli import main
from rlcomm.export.convert import export
from rlcomm.omni.encode import merge_media
from rlcomm.omni.policy import load_policy, lora_config
from rlcomm.orchestra import nano
from rlcomm.utils.errors import UserError
from tests.checkpoints import qwen3_omni, qwen3_processor, qwen3_tokenizer, qwen25_omni, save_full
from tests.conftest import make_prompt
from tests.stages.conftest import recipe, rows  # noqa: F401

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def bases(tokenizer, tmp_path_factory) -> dict[str, Path]:
    """Full checkpoints: of one file, with tied embeddings, of several files, under the class's names instead
    of the hub's, in bfloat16 with a vocoder in float32, and a Qwen3-Omni."""
    root = tmp_path_factory.mktemp("bases")
    model, processor = qwen25_omni(tokenizer), nano.omni_processor(tokenizer)
    save_full(model, processor, root / "whole")
    save_full(qwen25_omni(tokenizer, tied=True), processor, root / "tied")
    save_full(model, processor, root / "sharded", max_shard_size="1MB")
    save_full(model, processor, root / "class_names", max_shard_size="1MB", save_original_format=False)
    save_full(model, processor, root / "bf16", max_shard_size="1MB")
    for path in (root / "bf16").glob("*.safetensors"):
        weights = {k: v if k.startswith("token2wav") else v.bfloat16() for k, v in load_file(path).items()}
        save_file(weights, path, {"format": "pt"})
    renamed = qwen3_tokenizer(tokenizer)
    save_full(qwen3_omni(renamed), qwen3_processor(renamed), root / "qwen3", max_shard_size="1MB")
    return {path.name: path for path in root.iterdir()}


@pytest.fixture(scope="module")
def trained(bases, tmp_path_factory) -> Callable[[str, bool], Path]:
    """A run folder over a base, every weight of the decoder (or every adapter) moved; made once each."""
    root = tmp_path_factory.mktemp("runs")

    def run(base: str, lora: bool = False) -> Path:
        folder = root / f"{base}-{'lora' if lora else 'full'}"
        if folder.exists():
            return folder
        policy = load_policy(str(bases[base]))
        model = get_peft_model(policy.model, lora_config(r=4, alpha=8)) if lora else policy.model
        generator = torch.Generator().manual_seed(1)
        for name, parameter in model.named_parameters():
            if ("lora_" in name) if lora else ("language_model" in name or "lm_head" in name):
                parameter.data += torch.randn(parameter.shape, generator=generator) * 0.05
        model.save_pretrained(folder / "model")
        policy.processor.save_pretrained(folder / "model")
        (folder / "recipe.yaml").write_text("stage: sft\n")
        return folder

    return run


def logits(policy, model, **options) -> torch.Tensor:
    """Of every token of a prompt with sound and picture."""
    prompt = make_prompt(policy, 0)
    with torch.no_grad():
        return model(
            input_ids=prompt.ids[None], position_ids=prompt.positions[:, None], use_cache=False,
            **merge_media([prompt], CPU, model.dtype), **options,
        ).logits[0]  # fmt: skip


def tensors(folder: Path) -> dict[str, tuple[str, torch.Tensor]]:
    """Name -> shard and tensor."""
    found = {}
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, "pt") as weights:
            found |= {name: (path.name, weights.get_tensor(name)) for name in weights.keys()}  # noqa: SIM118
    return found


def same_bits(a: torch.Tensor, b: torch.Tensor) -> bool:
    return (
        a.dtype == b.dtype and a.shape == b.shape and bool((a.view(torch.uint8) == b.view(torch.uint8)).all())
    )


def others(folder: Path) -> dict[str, bytes]:
    """Every file but weights and the adapters that were merged."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.suffix != ".safetensors" and path.parent != folder / "adapter"
    }


def plain_full(folder: Path, model_class=Qwen2_5OmniForConditionalGeneration):
    """By transformers alone, with nothing left to chance."""
    # the full Qwen2.5-Omni's own from_pretrained breaks when asked for what it found
    _, found = PreTrainedModel.from_pretrained.__func__(model_class, folder, output_loading_info=True)
    assert not found["missing_keys"]
    assert not found["unexpected_keys"]
    return model_class.from_pretrained(folder).eval()


# -- full ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lora", [False, True], ids=["trained", "lora"])
@pytest.mark.parametrize("base", ["whole", "tied", "sharded", "class_names"])
def test_a_full_checkpoint_is_the_base_with_the_trained_thinker_in_it(bases, trained, tmp_path, base, lora):
    run, out = trained(base, lora), tmp_path / "out"
    said = export(str(run), "full", out, None if lora else str(bases[base]))  # an adapter knows its base
    policy = load_policy(str(run / "model"))
    expected = logits(policy, policy.model)
    model = plain_full(out)
    assert torch.allclose(logits(policy, model.thinker), expected, atol=1e-5 if lora else 0)
    before = load_policy(str(bases[base]))
    assert (logits(before, before.model) - expected).abs().max() > 1e-2

    was, now = tensors(bases[base]), tensors(out)
    assert {name: shard for name, (shard, _) in now.items()} == {
        name: shard for name, (shard, _) in was.items()
    }
    moved = {name for name in was if not same_bits(was[name][1], now[name][1])}
    assert moved
    assert all(name.startswith("thinker.") for name in moved)
    assert others(out) == others(bases[base])
    assert f"{len(moved)} of them unlike the base's" in said
    assert "Chelsie" in model.speaker_map
    assert [path.name for path in tmp_path.iterdir()] == ["out"]  # nothing beside


def test_never_more_than_a_shard_is_held_beside_the_thinker(bases, trained, tmp_path, monkeypatch):
    """And a shard of the talker alone is not read at all."""
    held = []

    def spy(tensors, path, metadata):
        held.append((Path(path).name, sum(tensor.nbytes for tensor in tensors.values())))
        save_file(tensors, path, metadata)

    monkeypatch.setattr("rlcomm.export.full.save_file", spy)
    export(str(trained("qwen3")), "full", tmp_path / "out", str(bases["qwen3"]))
    shards = {}
    for name, (shard, tensor) in tensors(bases["qwen3"]).items():
        shards.setdefault(shard, {})[name] = tensor
    assert len(shards) > 3
    assert dict(held) == {
        shard: sum(tensor.nbytes for tensor in own.values())
        for shard, own in shards.items()
        if any(name.startswith("thinker.") for name in own)
    }


@pytest.mark.parametrize("lora", [False, True], ids=["trained", "lora"])
def test_every_tensor_keeps_the_bases_dtype(bases, trained, tmp_path, lora):
    run = trained("bf16", lora)
    export(str(run), "full", tmp_path / "out", str(bases["bf16"]))
    was, now = tensors(bases["bf16"]), tensors(tmp_path / "out")
    assert {name: tensor.dtype for name, (_, tensor) in now.items()} == {
        name: tensor.dtype for name, (_, tensor) in was.items()
    }
    assert {tensor.dtype for _, tensor in now.values()} == {torch.bfloat16, torch.float32}
    name = "thinker.model.layers.0.self_attn.q_proj.weight"
    assert not torch.equal(now[name][1], was[name][1])
    if not lora:  # trained in float32, rounded once
        own = tensors(run / "model")
        assert torch.equal(now[name][1], own[name][1].bfloat16())


def test_a_dtype_asked_for_is_the_thinkers_alone_and_is_recorded(bases, trained, tmp_path):
    run, out = trained("sharded"), tmp_path / "out"
    export(str(run), "full", out, str(bases["sharded"]), dtype="bfloat16")
    was, now = tensors(bases["sharded"]), tensors(out)
    for name, (_, tensor) in now.items():
        if name.startswith("thinker."):
            assert tensor.dtype == torch.bfloat16
        else:
            assert same_bits(tensor, was[name][1])
    config = json.loads((out / "config.json").read_text())
    assert config["thinker_config"]["dtype"] == "bfloat16"
    index = json.loads((out / "model.safetensors.index.json").read_text())
    assert index["metadata"]["total_size"] == sum(t.numel() * t.element_size() for _, t in now.values())
    plain_full(out)


def test_a_full_qwen3_omni_gets_its_experts_back_one_by_one(bases, trained, tmp_path):
    """The class holds the experts of a layer in one tensor, the checkpoint in one each."""
    run, out = trained("qwen3"), tmp_path / "out"
    export(str(run), "full", out, str(bases["qwen3"]))
    policy = load_policy(str(run / "model"))
    model = plain_full(out, Qwen3OmniMoeForConditionalGeneration)
    assert torch.equal(logits(policy, model.thinker), logits(policy, policy.model))
    was, now = tensors(bases["qwen3"]), tensors(out)
    assert was.keys() == now.keys()
    moved = {name for name in was if not same_bits(was[name][1], now[name][1])}
    assert any(".experts.3.down_proj" in name for name in moved)
    assert all(name.startswith("thinker.") for name in moved)
    assert others(out) == others(bases["qwen3"])


def test_a_tensor_no_class_reads_stays_in_place(bases, trained, tmp_path):
    base = shutil.copytree(bases["whole"], tmp_path / "base")
    weights = load_file(base / "model.safetensors")
    weights["thinker.audio_tower.left_over.weight"] = torch.ones(3)
    save_file(weights, base / "model.safetensors", {"format": "pt"})
    export(str(trained("whole")), "full", tmp_path / "out", str(base))
    assert torch.equal(tensors(tmp_path / "out")["thinker.audio_tower.left_over.weight"][1], torch.ones(3))


def test_a_hub_cache_of_links_becomes_files_and_pickled_weights_stay_behind(bases, trained, tmp_path):
    base = tmp_path / "base"
    base.mkdir()
    for path in bases["sharded"].iterdir():
        (base / path.name).symlink_to(path)
    torch.save({"a": torch.ones(1)}, base / "pytorch_model.bin")
    export(str(trained("sharded")), "full", tmp_path / "out", str(base))
    assert not any(path.is_symlink() for path in (tmp_path / "out").iterdir())
    assert not (tmp_path / "out" / "pytorch_model.bin").exists()
    assert (tmp_path / "out" / "spk_dict.pt").read_bytes() == (base / "spk_dict.pt").read_bytes()


# -- thinker and adapter -------------------------------------------------------------------------------------


@pytest.mark.parametrize("lora", [False, True], ids=["trained", "lora"])
@pytest.mark.parametrize("base", ["sharded", "qwen3"])
def test_a_thinker_alone_is_the_policy(bases, trained, tmp_path, base, lora):
    run = trained(base, lora)
    export(str(run), "thinker", tmp_path / "out")
    policy = load_policy(str(run / "model"))
    cls = Qwen3OmniMoeThinkerForConditionalGeneration if base == "qwen3" else (
        Qwen2_5OmniThinkerForConditionalGeneration
    )  # fmt: skip
    model = plain_full(tmp_path / "out", cls)
    assert torch.allclose(logits(policy, model), logits(policy, policy.model), atol=1e-5 if lora else 0)
    again = load_policy(str(tmp_path / "out"))
    assert make_prompt(again, 0).ids.tolist() == make_prompt(policy, 0).ids.tolist()
    assert not list((tmp_path / "out").glob("adapter_*"))  # transformers would load them once more


def test_a_thinker_keeps_the_stored_dtype_or_takes_the_one_asked_for(trained, tmp_path):
    for dtype, expected in ((None, torch.bfloat16), ("float32", torch.float32)):
        export(str(trained("bf16", lora=True)), "thinker", tmp_path / str(dtype), dtype=dtype)
        stored = tensors(tmp_path / str(dtype))
        assert {tensor.dtype for _, tensor in stored.values()} == {expected}


@pytest.mark.parametrize("base", ["sharded", "qwen3"])
def test_adapters_are_what_plain_peft_loads(bases, trained, tmp_path, base):
    run = trained(base, lora=True)
    export(str(run), "adapter", tmp_path / "out")
    policy = load_policy(str(run / "model"))
    bare = type(policy.model.get_base_model()).from_pretrained(bases[base])
    before = logits(policy, bare.eval())
    model = PeftModel.from_pretrained(bare, tmp_path / "out").eval()
    assert torch.allclose(logits(policy, model), logits(policy, policy.model), atol=1e-6)
    assert (logits(policy, model) - before).abs().max() > 1e-2
    own = tensors(run / "model")
    assert all(same_bits(tensor, own[name][1]) for name, (_, tensor) in tensors(tmp_path / "out").items())


def test_adapters_can_be_given_the_new_place_of_their_base(bases, trained, tmp_path):
    base = shutil.copytree(bases["sharded"], tmp_path / "moved")
    export(str(trained("sharded", lora=True)), "adapter", tmp_path / "out", str(base), "bfloat16")
    settings = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    assert settings["base_model_name_or_path"] == str(base)
    assert {tensor.dtype for _, tensor in tensors(tmp_path / "out").values()} == {torch.bfloat16}
    load_policy(str(tmp_path / "out"))


# -- merging -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("to", ["full", "thinker"])
def test_merged_adapters_are_kept_beside_and_what_the_cast_loses_is_told(bases, trained, tmp_path, to):
    run = trained("bf16", lora=True)
    said = export(str(run), to, tmp_path / "out")
    lost = re.search(r"the cast to bfloat16 loses (\d+\.\d)% \(--dtype float32 keeps all of it\)", said)
    assert lost
    assert 0 < float(lost[1]) < 50
    exact = export(str(run), to, tmp_path / "exact", dtype="float32")
    assert "nothing of them lost" in exact
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        assert (tmp_path / "out" / "adapter" / name).read_bytes() == (run / "model" / name).read_bytes()
    again = load_policy(str(tmp_path / "out" / "adapter"))  # the policy as it was trained, over its base
    policy = load_policy(str(run / "model"))
    assert torch.equal(logits(policy, again.model), logits(policy, policy.model))
    own = {name: tensor for name, (_, tensor) in tensors(tmp_path / "out").items()}
    for name, (_, tensor) in tensors(tmp_path / "exact").items():
        if to == "thinker" or name.startswith("thinker."):
            assert torch.equal(own[name], tensor.to(own[name].dtype))  # rounded once


def test_a_dtype_other_than_the_bases_does_not_make_it_look_like_another_base(bases, trained, tmp_path):
    """Trap: a base read in the dtype that is written differs from itself."""
    said = export(str(trained("sharded", lora=True)), "full", tmp_path / "out", dtype="bfloat16")
    assert "the cast to bfloat16 loses" in said
    plain_full(tmp_path / "out")


def test_a_run_without_adapters_says_nothing_of_them(bases, trained, tmp_path):
    said = export(str(trained("sharded")), "thinker", tmp_path / "out")
    assert said.endswith("a thinker of 116 tensors in torch.float32")
    assert not (tmp_path / "out" / "adapter").exists()


# -- what the full class itself would save -------------------------------------------------------------------


def test_the_full_class_does_not_save_what_it_read(bases, tmp_path):
    """Why shards are rewritten here and not by the class's own `save_pretrained`: it gives thinker and talker
    the dtype that config.json names, and leaves out the voices and every tensor that it does not read."""
    base = shutil.copytree(bases["bf16"], tmp_path / "base")
    [first, *_] = sorted(base.glob("*.safetensors"))
    save_file({**load_file(first), "talker.left_over.weight": torch.ones(3)}, first, {"format": "pt"})
    model = Qwen2_5OmniForConditionalGeneration.from_pretrained(base, dtype="auto")
    model.save_pretrained(tmp_path / "saved", max_shard_size="1MB")
    was, now = tensors(base), tensors(tmp_path / "saved")
    unlike = {name for name in was if name in now and not same_bits(was[name][1], now[name][1])}
    assert {name.split(".")[0] for name in unlike} == {"thinker", "talker"}
    assert was.keys() - now.keys() == {"talker.left_over.weight"}
    assert "spk_dict.pt" in others(base).keys() - others(tmp_path / "saved").keys()


# -- refusals ------------------------------------------------------------------------------------------------


@pytest.fixture
def refused(tmp_path) -> Callable[..., str]:
    """The one sentence of an export that must fail, and leave nothing behind."""

    def run(model: Path | str, to: str, base: Path | str | None = None, **options) -> str:
        out = tmp_path / "refused" / "out"
        with pytest.raises(UserError) as told:
            export(str(model), to, out, None if base is None else str(base), **options)
        assert not out.parent.exists() or not list(out.parent.iterdir())
        message = str(told.value)
        assert "\n" not in message
        assert message.endswith(".")
        return message

    return run


def test_a_folder_that_exists_is_left_alone(bases, trained, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("mine")
    with pytest.raises(UserError, match="exists already"):
        export(str(trained("whole")), "full", tmp_path / "out", str(bases["whole"]))
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine"]


def test_adapters_of_a_run_that_has_none(trained, refused):
    assert "holds no adapters" in refused(trained("whole"), "adapter")


def test_a_full_checkpoint_needs_its_base(bases, trained, nano_folder, refused):
    run = trained("whole")
    assert "--base is not given" in refused(run, "full")
    assert "no full omni model" in refused(run, "full", nano_folder)
    assert "neither a folder nor a hub id" in refused(run, "full", "someone/never-uploaded")


def test_a_base_of_other_shapes(tokenizer, trained, tmp_path, refused):
    base = tmp_path / "other"
    save_full(qwen25_omni(tokenizer, intermediate_size=256), nano.omni_processor(tokenizer), base)
    assert "intermediate_size is 256, not 384" in refused(trained("whole"), "full", base)
    assert "do not fit" in refused(trained("whole", lora=True), "adapter", base)
    # shapes that its configuration does not tell
    good = save_full(qwen25_omni(tokenizer), nano.omni_processor(tokenizer), tmp_path / "good")
    weights = load_file(good / "model.safetensors")
    name = "thinker.audio_tower.conv1.bias"
    weights[name] = weights[name][:-1].clone()
    save_file(weights, good / "model.safetensors", {"format": "pt"})
    assert f"{name} has shape (63,) and not the (64,)" in refused(trained("whole"), "full", good)


def test_a_base_that_computes_something_else_at_the_same_shapes(bases, trained, tmp_path, refused):
    """Trap: the exported config.json is the base's, and by another rope the same weights say other things."""
    base = shutil.copytree(bases["whole"], tmp_path / "base")
    config = json.loads((base / "config.json").read_text())
    config["thinker_config"]["text_config"]["rope_parameters"]["rope_theta"] = 5000.0
    (base / "config.json").write_text(json.dumps(config))
    assert "rope_theta is 5000.0, not 10000.0" in refused(trained("whole"), "full", base)


def test_a_base_that_adapters_were_not_trained_on(tokenizer, trained, tmp_path, refused):
    """Same shapes, other weights: what no adapter touches gives it away."""
    base = save_full(qwen25_omni(tokenizer, seed=6), nano.omni_processor(tokenizer), tmp_path / "other")
    assert "differs, though no adapter touches it" in refused(trained("whole", lora=True), "full", base)


def test_a_base_that_lacks_a_tensor_or_a_shard(bases, trained, tmp_path, refused):
    base = shutil.copytree(bases["whole"], tmp_path / "lacking")
    weights = load_file(base / "model.safetensors")
    del weights["thinker.visual.merger.mlp.0.weight"]
    save_file(weights, base / "model.safetensors", {"format": "pt"})
    assert "thinker.visual.merger.mlp.0.weight is missing" in refused(trained("whole"), "full", base)
    base = shutil.copytree(bases["sharded"], tmp_path / "short")
    sorted(base.glob("model-*"))[-1].unlink()
    assert "of its index" in refused(trained("whole"), "full", base)


def test_a_run_that_is_not_finished(trained, tmp_path, refused):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "recipe.yaml").write_text("stage: sft\n")
    assert "a run without model/" in refused(tmp_path / "run", "thinker")


# -- a real run ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lora", [False, True], ids=["trained", "lora"])
def test_a_stage_trained_on_a_full_checkpoint_goes_back_into_it(bases, recipe, tmp_path, lora):  # noqa: F811
    """Trap: trainers write to the configuration (use_cache, pad_token_id), which is no other model."""
    keys = dict(use_peft=True, lora_r=4) if lora else {}
    path = recipe("sft", model_name_or_path=str(bases["sharded"]), max_steps=1, learning_rate=0.05, **keys)
    assert main(["train", path]) == 0
    out = tmp_path / "out"
    export(str(tmp_path / "run"), "full", out, str(bases["sharded"]))
    policy = load_policy(str(tmp_path / "run" / "model"))
    assert torch.allclose(logits(policy, plain_full(out).thinker), logits(policy, policy.model), atol=1e-5)
    was = tensors(bases["sharded"])
    moved = [name for name, (_, tensor) in tensors(out).items() if not same_bits(tensor, was[name][1])]
    assert moved
    assert all(name.startswith(("thinker.model.", "thinker.lm_head.")) for name in moved)  # towers: frozen
    export(str(tmp_path / "run" / "checkpoint-1"), "thinker", tmp_path / "thinker")
    again = load_policy(str(tmp_path / "thinker"))
    assert torch.allclose(logits(again, again.model), logits(policy, policy.model), atol=1e-5)


# -- the command ---------------------------------------------------------------------------------------------


def test_the_command_prints_one_line_and_refuses_in_one(bases, trained, tmp_path, capsys):
    command = ["export", str(trained("whole")), "--to", "full", "--base", str(bases["whole"])]
    assert main([*command, "--out", str(tmp_path / "out")]) == 0
    said = capsys.readouterr().out
    assert said.startswith(f"{tmp_path / 'out'}: a full checkpoint; ")
    assert said.count("\n") == 1
    assert main([*command, "--out", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err.startswith("rlcomm: --out is")
