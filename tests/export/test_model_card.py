"""The card of a model: valid metadata, the way it came, and a program that runs as it stands."""

# ruff: noqa: F811 (fixtures of the stages' tests, by name)

import json
import re
from pathlib import Path

import numpy as np
import pytest
import yaml
from huggingface_hub import ModelCard

from rlcomm.cli import main
from rlcomm.data.clips import load_clip
from rlcomm.data.media import MediaSettings
from rlcomm.data.write_media import write_clip
from rlcomm.export import model_card
from rlcomm.omni.encode import encode
from rlcomm.omni.policy import load_policy
from rlcomm.omni.rollout import generate
from rlcomm.stages import pipeline
from tests.conftest import make_clip
from tests.stages.conftest import recipe, rows  # noqa: F401

TOKENS = 32


def train(path: str) -> None:
    assert main(["train", path]) == 0


def read(folder: Path) -> ModelCard:
    """A card as the Hub reads it: metadata that is no YAML, or is of another kind, raises."""
    return ModelCard.load(folder / "model" / "README.md")


def program(text: str) -> dict:
    """The names of the card's one Python program, run as it stands."""
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    names: dict = {"__name__": "ask"}
    exec(compile(code, "ask.py", "exec"), names)
    return names


def ours(model: Path, sample) -> str:
    """rlcomm's own greedy answer to the sample."""
    policy = load_policy(str(model))
    prompt = encode(policy, sample, load_clip(sample.video, sample.audio, MediaSettings()), "steps")
    return generate(policy.model, policy.processor, [prompt], max_new_tokens=TOKENS)[0][0]


@pytest.mark.parametrize("use_peft", [False, True])
def test_the_program_on_the_card_gives_what_our_own_decoding_gives(use_peft, recipe, clip_rows, tmp_path):
    """Sound, picture, positions and words: one of them lost and the answers would differ."""
    train(recipe("sft", max_steps=2, learning_rate=0.05, use_peft=use_peft))
    names = program(read(tmp_path / "run").text)
    names["MAX_NEW_TOKENS"] = TOKENS
    said = []
    for sample in clip_rows[:2]:
        said.append(names["main"](sample.video, sample.question))
        assert said[-1] == ours(tmp_path / "run" / "model", sample)
    assert all(said)


MEDIA = (
    {},
    {"media_fps": 1.0, "media_max_frames": 4, "media_audio_seconds": 2.5},
    {"media_height": 28, "media_width": 56, "media_audio_seconds": None},
    {"media_height": 28},
    {"media_width": 42},
    {"media_max_pixels": 2000},
)


@pytest.mark.parametrize("keys", MEDIA)
def test_the_program_decodes_a_clip_as_the_recipe_did(keys, tmp_path):
    clip = make_clip(3, seconds=7.0)
    path = str(tmp_path / "clip.mp4")
    write_clip(path, clip.frames, 2.0, clip.audio)
    names = program(f"```python\n{model_card.snippet('m', keys)}```")
    frames, fps, start = names["frames_of"](path)
    sound = names["sound_of"](path, start)
    settings = MediaSettings(**{key.removeprefix("media_"): value for key, value in keys.items()})
    expected = load_clip(path, path, settings)
    assert np.array_equal(frames, expected.frames)
    assert fps == pytest.approx(expected.fps)
    assert sound.dtype == np.float32
    assert sound.shape == expected.audio.shape
    assert np.allclose(sound, expected.audio, atol=1e-6)


def test_a_card_says_what_was_trained_from_where_and_how(recipe, nano_folder, tmp_path):
    train(recipe("sft", "first", max_steps=1))
    train(recipe("step_rr", "second", max_steps=1, model_name_or_path=str(tmp_path / "first" / "model")))
    card = read(tmp_path / "second")
    assert card.data.library_name == "transformers"
    assert card.data.pipeline_tag == "any-to-any"
    assert {"rlcomm", "step-rr"} <= set(card.data.tags)
    assert card.data.base_model is None  # a folder of this machine is no model of the Hub
    way = [line for line in card.text.splitlines() if re.match(r"\| \d \|", line)]
    assert [name in line for name, line in zip((nano_folder.name, "SFT", "Step-RR"), way, strict=True)] == [
        True
    ] * 3
    assert "GRPO with step-wise rewards against a reference audio model (format)" in way[2]
    assert "| 1 steps |" in way[2]
    assert str(tmp_path) not in "\n".join(way)
    (shown,) = re.findall(r"```yaml\n(.*?)```", card.text, re.DOTALL)
    assert yaml.safe_load(shown) == yaml.safe_load((tmp_path / "second" / "recipe.yaml").read_text())
    assert "## Results" not in card.text  # nothing was measured
    assert "transformers 5." in card.text


def fake_run(folder: Path, **keys) -> Path:
    """A run folder as far as its card reads it."""
    (folder / "model").mkdir(parents=True)
    (folder / "recipe.yaml").write_text(yaml.safe_dump({"stage": "warmup", **keys}))
    return folder


def test_a_base_on_the_hub_is_named_in_the_metadata(tmp_path):
    base = "Qwen/Qwen2.5-Omni-3B"
    run = fake_run(tmp_path / "run", model_name_or_path=base)
    data = model_card.card(run).data
    assert (data.base_model, data.base_model_relation, data.library_name) == (
        base,
        "finetune",
        "transformers",
    )
    (run / "model" / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": base}))
    data = model_card.card(run).data
    assert (data.base_model, data.base_model_relation, data.library_name) == (base, "adapter", "peft")
    # the stage after it has the same base
    after = fake_run(tmp_path / "after", model_name_or_path=str(run / "model"))
    assert model_card.card(after).data.base_model == base


def test_results_and_the_pipelines_table_stand_on_the_card(monkeypatch, tmp_path):
    run = fake_run(tmp_path / "warmup", model_name_or_path="nano_omni")
    acc = {"acc": {"value": 0.25, "n": 8, "ci95": [0.1, 0.5]}, "none": {"value": None, "n": 0, "ci95": None}}
    (run / "results.json").write_text(
        json.dumps({"decoders": {"greedy": {"benchmarks": {"avconfuse_muted": acc}}}})
    )
    (run / "stage.json").write_text("{}")
    text = model_card.card(run).text
    assert "| avconfuse_muted | greedy | acc | 0.250 | 8 | 0.100 to 0.500 |" in text
    assert "| none |" not in text
    assert "## Before and after" not in text
    (run / "results.json").unlink()
    pipeline.summarise(tmp_path, ["warmup"], {})
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert "## Before and after" in read(run).text  # the driver writes the cards once more
    (tmp_path / "summary.json").write_text(
        json.dumps({**summary, "stages": {"base": {"muted_acc": 0.125}, "warmup": {"muted_acc": 0.5}}})
    )
    shown = model_card.card(run).text
    assert re.search(r"Base \(direct\).* 12\.5", shown)
    assert re.search(r"Warm-up.* 50\.0", shown)


def test_the_miniature_reference_models_card_has_no_program_for_clips(tmp_path):
    run = fake_run(tmp_path / "audio", stage="audio", dataset="sync.jsonl", max_steps=3)
    text = model_card.card(run).text
    assert "```python" not in text
    assert "rlcomm reference RECIPE" in text
    assert "random weights" in text
