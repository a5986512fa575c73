"""Step-RR through three optimiser steps on recorded instruments and on the live band."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from rlcomm.cli import main
from rlcomm.data import confuse, write_media
from rlcomm.data.sample import Sample, Turn, read_jsonl, write_jsonl

RECIPE = """
stage: step_rr
model_name_or_path: nano_omni
dataset: {dataset}
output_dir: {out}
rewards: [format, arr, avc, accuracy]
avc_mode: calibrated
media_fps: 2.0
media_max_frames: 4
media_height: 112
media_width: 168
media_audio_seconds: 4.0
max_steps: 3
per_device_train_batch_size: 8
num_generations: 4
max_completion_length: 24
learning_rate: 1.0e-3
bf16: false
gradient_checkpointing: false
logging_steps: 1
save_strategy: "no"
"""


def with_reference(sample: Sample) -> Sample:
    return replace(sample, reference="I hear a violin.")


def train(rows, tmp_path):
    write_jsonl(tmp_path / "rows.jsonl", [with_reference(row) for row in rows])
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(RECIPE.format(dataset=tmp_path / "rows.jsonl", out=tmp_path / "run"))
    assert main(["train", str(recipe)]) == 0
    metrics = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in metrics] == [1, 2, 3]
    assert all(row["entropy"] > 0 for row in metrics)
    assert (tmp_path / "run" / "model" / "model.safetensors").exists()


def rain(folder: Path) -> dict[str, Path]:
    """A sound to replace others with: noise, as rain makes."""
    noise = np.random.default_rng(0).standard_normal(16_000).astype(np.float32) * 0.1
    write_media.write_audio(folder / "rain.wav", noise, 16_000)
    return {"rain": folder / "rain.wav"}


def asked(clip: Path, answer: str) -> Sample:
    turn = Turn("Is there a guitar sound?", answer)
    return Sample(id=clip.stem, turns=(turn,), video=str(clip), audio=str(clip))


def test_recorded_instruments_and_their_muted_and_modified_variants(gcompris_clips, tmp_path):
    """Six rows, each of which one of the three steps sees."""
    rows = read_jsonl(gcompris_clips.rows)
    whole, muted = ([row for row in rows if bool(row.meta["muted"]) == gone][:2] for gone in (False, True))
    sources = [row.video for row in whole]
    assert len({*sources, *(row.video for row in muted)}) == 2
    confuse.confuse(sources[:1], tmp_path, "modified", sounds=rain(tmp_path), progress=False)
    [modified] = (tmp_path / "clips").glob("combined_*_rain.mp4")
    rows = [*whole, *muted, asked(modified, "no"), replace(asked(modified, "no"), id="again")]
    assert {row.answer for row in muted} == {"yes", "no"}
    train(rows, tmp_path)


def test_the_live_band_muted_modified_and_shifted(band_video, tmp_path):
    """Six rows, each of which one of the three steps sees."""
    names = {band_video.stem: ["guitar", "drum"]}
    for mode, options in (
        ("muted", dict(instruments=names)), ("modified", dict(sounds=rain(tmp_path))),
        ("shifted", dict(seconds=2.0)),
    ):  # fmt: skip
        confuse.confuse([band_video], tmp_path, mode, progress=False, **options)
    clips = {clip.stem.removeprefix(band_video.stem): clip for clip in (tmp_path / "clips").glob("*.mp4")}
    modified = clips.pop(f"combined_{band_video.stem}_rain")
    assert clips.keys() == {"_silent", "_sounding", "_shift+2"}
    rows = [
        asked(band_video, "yes"), asked(clips["_silent"], "no"), asked(clips["_sounding"], "yes"),
        asked(clips["_shift+2"], "yes"), asked(modified, "no"), replace(asked(modified, "no"), id="again"),
    ]  # fmt: skip
    train(rows, tmp_path)


@pytest.mark.parametrize("cut", [0, 400])
def test_a_cut_off_clip_ends_with_one_sentence(gcompris_clips, tmp_path, capsys, cut):
    source = read_jsonl(gcompris_clips.rows)[0]
    broken = tmp_path / "broken.mp4"
    with open(str(source.video), "rb") as file:
        broken.write_bytes(file.read()[:cut])
    rows = [Sample(id=name, turns=source.turns, video=str(broken), audio=str(broken)) for name in "ab"]
    write_jsonl(tmp_path / "rows.jsonl", [with_reference(row) for row in rows])
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(RECIPE.format(dataset=tmp_path / "rows.jsonl", out=tmp_path / "run"))
    assert main(["train", str(recipe)]) == 2
    error = capsys.readouterr().err
    assert "broken.mp4" in error
    assert not re.search("Traceback", error)
