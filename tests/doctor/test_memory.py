"""The memory of a step: estimated from a configuration, and measured on real steps of the miniature."""

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
import yaml

import rlcomm.utils.torchvision_ops  # noqa: F401

import torch  # isort: skip
from torch import nn
from transformers import AutoConfig

from rlcomm import steps
from rlcomm.data.media import Clip, MediaSettings
from rlcomm.data.sample import write_jsonl
from rlcomm.doctor import examine as doctor
from rlcomm.doctor import memory, peak
from rlcomm.doctor.memory import Layer, Stacks, Step
from rlcomm.omni.encode import encode, merge_media
from rlcomm.omni.policy import set_trainable
from tests.checkpoints import qwen3_processor, qwen3_tokenizer
from tests.conftest import make_clip, make_prompt, make_sample
from tests.real_shapes import omni_config

COMMON = dict(
    max_steps=2, bf16=False, use_cpu=True, report_to="none", disable_tqdm=True, learning_rate=1e-3,
    gradient_checkpointing=False, freeze_encoders=True, media_cache_dir=None,
)  # fmt: skip
SFT = dict(stage="sft", per_device_train_batch_size=2)
CHANGED = (
    "stage", "per_device_train_batch_size", "gradient_checkpointing", "gradient_accumulation_steps",
    "use_peft", "freeze_encoders", "scoring", "attn_implementation",
)  # fmt: skip
STEP_RR = dict(
    stage="step_rr", per_device_train_batch_size=8, num_generations=4, max_completion_length=24,
    rewards=["format"],
)  # fmt: skip


def slow(keys: dict):
    """A way to train whose parts the others of the quick suite have."""
    return pytest.param(keys, marks=pytest.mark.slow)


@pytest.fixture
def long_rows(clip_rows, tmp_path) -> Path:
    """The six clips with targets long enough that a step is more than its weights."""
    target = steps.build("I hear a drum and a flute.", "I see a harp.", "yes")
    rows = [
        dataclasses.replace(row, turns=(dataclasses.replace(row.turns[0], target=target),))
        for row in clip_rows
    ]
    write_jsonl(tmp_path / "rows.jsonl", rows)
    return tmp_path / "rows.jsonl"


@pytest.fixture
def nano_config(nano_folder):
    return AutoConfig.from_pretrained(nano_folder)


@pytest.fixture
def this_way_alone(monkeypatch, traced_once):
    """Leaves out what is not compared: other ways to train, and the largest batch."""

    def only(strategy: str) -> None:
        monkeypatch.setattr(memory, "STRATEGIES", (strategy,))
        monkeypatch.setattr(memory, "largest_batch", lambda *_: 0)

    return only


# -- against the truth ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "keys",
    [
        SFT,
        slow(SFT | dict(per_device_train_batch_size=6)),
        SFT | dict(per_device_train_batch_size=6, gradient_checkpointing=True),
        SFT | dict(per_device_train_batch_size=6, gradient_accumulation_steps=2),
        SFT | dict(per_device_train_batch_size=6, freeze_encoders=False),
        slow(SFT | dict(use_peft=True, lora_r=8)),
        slow(SFT | dict(use_peft=True, lora_r=8, per_device_train_batch_size=6)),
        SFT | dict(use_peft=True, lora_r=8, per_device_train_batch_size=6, gradient_checkpointing=True),
        STEP_RR,
        slow(STEP_RR | dict(gradient_checkpointing=True)),
        slow(STEP_RR | dict(per_device_train_batch_size=24)),
        STEP_RR | dict(per_device_train_batch_size=24, gradient_checkpointing=True),
        slow(STEP_RR | dict(per_device_train_batch_size=24, scoring="rows")),
        slow(STEP_RR | dict(per_device_train_batch_size=24, attn_implementation="eager")),
        slow(STEP_RR | dict(gradient_accumulation_steps=3, use_peft=True, lora_r=8,
                            rewards=["format", "arr"])),
    ],
    ids=lambda keys: " ".join(f"{k} {v}" for k, v in keys.items() if k in CHANGED),
)  # fmt: skip
def test_the_estimate_is_what_real_steps_take(keys, long_rows, nano_folder, tmp_path, this_way_alone):
    """The peak of torch's own allocator over two steps of the real stage; the weights are a third at most."""
    this_way_alone("LoRA" if "use_peft" in keys else "single")
    path = tmp_path / "recipe.yaml"
    values = {"model_name_or_path": str(nano_folder), "dataset": str(long_rows), **COMMON, **keys}
    path.write_text(yaml.safe_dump(values | {"output_dir": str(tmp_path / "run")}))
    found = doctor.examine(str(path), [], doctor.Options(rows=6, measure=True))
    assert found["problems"] == []
    measured = found["measured"]
    assert 0.85 < measured["ratio"] < 1.15, measured  # seen: 1.01 to 1.07
    assert found["model"]["whole"]["bytes"] < 0.34 * measured["peak"]
    assert not (tmp_path / "run").exists()


def test_checkpointing_saves_what_is_estimated(long_rows, nano_folder, tmp_path, this_way_alone):
    """The difference of two peaks is what the layers keep, and nothing else."""
    this_way_alone("single")
    peaks = []
    for on in (False, True):
        path = tmp_path / "recipe.yaml"
        values = {"model_name_or_path": str(nano_folder), "dataset": str(long_rows), **COMMON, **SFT}
        values |= {"per_device_train_batch_size": 6, "gradient_checkpointing": on, "output_dir": "unused"}
        path.write_text(yaml.safe_dump(values))
        peaks.append(doctor.examine(str(path), [], doctor.Options(rows=6, measure=True))["measured"])
    measured = peaks[0]["peak"] - peaks[1]["peak"]
    assert peaks[0]["estimate"] - peaks[1]["estimate"] == pytest.approx(measured, rel=0.25)


def test_the_allocators_peak_is_the_sum_of_what_is_alive():
    def work() -> None:
        first = torch.empty(250_000)
        second = torch.empty(500_000)
        del first
        third = torch.empty(125_000)
        del second, third

    before = torch.empty(1_000_000)
    assert peak.allocated(work) == 4 * 750_000
    assert peak.allocated(lambda: before.resize_(0)) == 0
    assert peak.allocated(work) == 4 * 750_000  # a second time: nothing is carried over


# -- the parts -----------------------------------------------------------------------------------------------


def test_only_what_is_alive_counts_and_views_do_not():
    with memory.Alive() as alive:
        first = torch.empty(100)
        kept = first[10:]
        second = first * 2
        assert alive.now == 800
        del first, second
        assert alive.now == 400  # a view keeps its storage
        del kept
    assert (alive.now, alive.peak) == (0, 800)


def test_a_layer_keeps_what_its_backward_needs():
    with torch.device("meta"):
        layer = nn.Sequential(nn.Linear(8, 32), nn.SiLU(), nn.Linear(32, 8))
    trained = memory.trace(layer, (2, 5, 8), torch.float32, False, True)
    assert trained.hidden == 2 * 5 * 8 * 4
    assert trained.kept == 2 * (2 * 5 * 32 * 4)  # SiLU's input and output; the input is its maker's
    layer.requires_grad_(False)
    frozen = memory.trace(layer, (2, 5, 8), torch.float32, False, True)
    assert frozen.kept == 2 * 5 * 32 * 4  # a frozen linear layer needs no input
    assert frozen.kept + frozen.work < trained.kept + trained.work
    assert memory.trace(layer, (2, 5, 8), torch.float32, False, False).kept == 0


@pytest.mark.parametrize("attn", ["sdpa", "eager"])
def test_many_lines_cost_what_they_cost(attn, nano_config):
    """Lines beyond three are not traced: their cost is drawn out from two and three."""
    stacks = Stacks(memory.meta_model(nano_config, "float32", attn, True), False)
    assert stacks.decoder(7, 50) == stacks._decode(7, 50, True)
    assert stacks.tower("visual", 24, 7, True)[1] == stacks._watch("visual", 24, 7, True)


@pytest.mark.parametrize(
    ("frames", "height", "width", "seconds"), [(2, 56, 84, 1.0), (6, 61, 47, 3.0), (4, 20, 300, 2.5)]
)
@pytest.mark.parametrize("senses", ["both", "video", "audio"])
def test_the_arithmetic_of_a_prompt_is_the_processors(frames, height, width, seconds, senses, policy):
    full = make_clip(0, seconds)
    assert full.frames is not None
    assert full.audio is not None
    pictures = full.frames.repeat(3, 0)[:frames].repeat(6, 1).repeat(4, 2)[:, :height, :width]
    clip = Clip(None if senses == "audio" else pictures, 2.0, None if senses == "video" else full.audio)
    sample = make_sample()
    sample = sample if senses == "both" else sample.without("video" if senses == "audio" else "audio")
    prompt = encode(policy, sample, clip)
    settings = MediaSettings(fps=frames / seconds, height=height, width=width)
    picture = (None, None) if senses == "audio" else (640, 360)
    sizes = memory.prompt_sizes(policy.config, settings, seconds, *picture, senses != "video", 0, 0)
    tokens = policy.config.video_token_id, policy.config.audio_token_id
    counted = tuple(int((prompt.ids == token).sum()) for token in tokens)
    assert (sizes.video_tokens, sizes.audio_tokens) == counted
    assert sizes.patches == len(prompt.media.get("pixel_values_videos", []))
    mask = prompt.media.get("feature_attention_mask")
    assert sizes.mel_frames == (0 if mask is None else int(mask.sum()))


def test_the_sound_of_qwen3_omni_is_counted_by_its_own_processor(tokenizer):
    """Trap: 13 tokens a second, where Qwen2.5-Omni has 25."""
    processor = qwen3_processor(qwen3_tokenizer(tokenizer))
    for seconds in (0.5, 1.0, 2.37, 6.0):
        samples = round(16_000 * seconds)
        prompt = processor(text=["<|audio_pad|>"], audio=[np.zeros(samples, np.float32)], return_tensors="pt")
        counted = int(
            (prompt["input_ids"] == processor.tokenizer.convert_tokens_to_ids("<|audio_pad|>")).sum()
        )
        assert memory.audio_tokens("qwen3_omni_moe_thinker", math.ceil(samples / memory.HOP)) == counted
    assert memory.audio_tokens("qwen3_omni_moe_thinker", 6000) == 60 * 13
    assert memory.audio_tokens("qwen2_5_omni_thinker", 6000) == 60 * 25


@pytest.mark.parametrize(
    ("size", "total", "trained", "adapters"), [("3b", 4.7e9, 3.4e9, 59.9e6), ("7b", 8.9e9, 7.6e9, 80.7e6)]
)
def test_the_real_models_have_the_sizes_that_the_readmes_say(size, total, trained, adapters):
    config = omni_config(size)
    found = memory.weigh(memory.meta_model(config, "bfloat16", "sdpa", True).parameters())
    assert found[0] == pytest.approx(total, rel=0.01)
    assert found[2] == pytest.approx(trained, rel=0.01)
    assert found[1] == 2 * found[0]
    lora = memory.weigh(memory.meta_model(config, "bfloat16", "sdpa", True, (32, 64, 0.0)).parameters())
    assert lora[2] == pytest.approx(adapters, rel=0.001)
    assert lora[3] == 4 * lora[2]  # PEFT keeps adapters in float32


def test_zero_divides_what_it_says_it_divides(nano_config):
    model = memory.meta_model(nano_config, "bfloat16", "sdpa", True)
    stacks = Stacks(model, True)
    prompt = memory.prompt_sizes(model.config, MediaSettings(), 1.0, 84, 56, True, 40, 16)
    _, size, trained, _ = memory.weigh(model.parameters())
    found = {
        (name, ranks): memory.estimate(model, stacks, prompt, Step(4, autocast=True, ranks=ranks), name)
        for name in memory.STRATEGIES
        for ranks in (2, 8)
    }
    for ranks in (2, 8):
        assert found["ZeRO-2", ranks]["optimizer"] == 12 * trained // ranks
        assert found["ZeRO-2", ranks]["weights"] == size
        assert found["ZeRO-3", ranks]["weights"] == size // ranks + size  # gathered: fewer than 1e9
    assert found["single", 2] == found["single", 8]
    assert found["ZeRO-2", 8]["peak"] < found["ZeRO-2", 2]["peak"]


def test_the_largest_batch_fits_and_the_next_does_not():
    for unit in (1, 6):
        for room in (0, 99, 100, 1234):
            found = memory.largest_batch(lambda batch: 40 + 7 * batch, room, unit)
            assert found % unit == 0
            assert found == 0 or 40 + 7 * found <= room
            assert 40 + 7 * (found + unit) > room


def test_layers_grow_with_their_tokens(nano_config):
    stacks = Stacks(memory.meta_model(nano_config, "float32", "sdpa", True), False)
    short, long = stacks.decoder(1, 50), stacks.decoder(1, 100)
    assert isinstance(long, Layer)
    assert long.kept == 2 * short.kept
    assert (
        stacks.tower("visual", 24, 1, False)[1].kept == 0
    )  # frozen, and nothing in front of it asks for a gradient


def test_a_generation_has_a_line_for_each_prompt_of_a_part():
    """Groups stay together in the split: a part is whole groups, one cut group, or begins in the middle."""
    prompt = memory.Prompt(100, 0, 0, 0, 0, completion=10)
    whole = Step(8, group=4, scoring="grouped", sampled=8, sampled_group=4)
    assert memory.lines_of(prompt, whole) == (2, 99 + 4 * 10)
    assert memory.lines_of(prompt, dataclasses.replace(whole, scoring="rows")) == (8, 110)
    assert memory.lines_of(prompt, dataclasses.replace(whole, batch=2, sampled=16)) == (1, 99 + 2 * 10)
    assert memory.lines_of(prompt, dataclasses.replace(whole, batch=7, sampled=28)) == (3, 99 + 4 * 10)


def test_a_row_of_groups_is_drawn_out_from_two_and_three(nano_config):
    stacks = Stacks(memory.meta_model(nano_config, "float32", "sdpa", True), False)
    assert stacks.groups(6, 40, 10, 4) == stacks._group(6, 40, 10, 4)
    assert stacks.groups(6, 40, 10, 4).hidden == stacks.decoder(6, 80).hidden


@pytest.mark.parametrize("on", [False, True])
def test_checkpointing_sends_gradients_through_frozen_towers(on, policy):
    """Why `Stacks.towers` counts what frozen towers keep; where transformers mends it, that must go."""
    set_trainable(policy.model, freeze_encoders=True)
    policy.model.train()
    if on:
        policy.model.activation_checkpointing_enable()
    media = merge_media([make_prompt(policy, 0)], torch.device("cpu"), torch.float32)
    model = policy.model.model
    heard = model.get_audio_features(media["input_features"], media["feature_attention_mask"])
    seen = model.get_video_features(media["pixel_values_videos"], media["video_grid_thw"])
    assert heard.last_hidden_state.requires_grad is on
    assert seen.last_hidden_state.requires_grad is on
