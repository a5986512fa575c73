"""The stages that train the two miniatures: interrupted, they go on; nothing half made is taken for whole."""

import dataclasses

import pytest
import yaml
from safetensors.torch import load_file

from rlcomm.cli import main
from rlcomm.data.sample import Turn, write_jsonl
from rlcomm.orchestra import miniature, nano
from rlcomm.trainers.metrics_file import MetricsFile, read_metrics
from tests.stages.conftest import COMMON

TURNS = (
    Turn("Is there a drum sound?", "yes", type="Audio/Existential"),
    Turn("What do you hear?", "I hear a drum.", type="Open/Hear"),
)
KEYS = {
    "base": {"per_device_train_batch_size": 2, "prompt_style": "direct"},
    "audio": {"per_device_train_batch_size": 2},
}


@pytest.fixture
def recipe(clip_rows, tmp_path):
    """Writes the recipe of a stage; its run folder is tmp_path/<name>."""
    write_jsonl(tmp_path / "rows.jsonl", [dataclasses.replace(row, turns=TURNS) for row in clip_rows])

    def write(stage: str, name: str, **keys) -> str:
        values = {
            "stage": stage, "dataset": str(tmp_path / "rows.jsonl"), **COMMON, **KEYS[stage],
            "output_dir": str(tmp_path / name), **keys,
        }  # fmt: skip
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(values))
        return str(tmp_path / f"{name}.yaml")

    return write


def test_an_interrupted_audio_model_goes_on_to_the_same_end(recipe, monkeypatch, capsys, tmp_path):
    assert main(["train", recipe("audio", "whole")]) == 0

    class Interrupting(MetricsFile):
        def on_step_begin(self, args, state, control, **kwargs):
            if state.global_step == 3:
                raise KeyboardInterrupt

    path = recipe("audio", "cut", save_steps=2)
    with monkeypatch.context() as patch:
        patch.setattr(miniature, "MetricsFile", Interrupting)
        assert main(["train", path]) == 130
    assert "Traceback" not in capsys.readouterr().err
    assert not (tmp_path / "cut" / "model").exists()
    assert main(["train", path]) == 0
    assert [row["step"] for row in read_metrics(tmp_path / "cut" / "metrics.jsonl")] == [1, 2, 3, 4]
    whole, cut = (load_file(tmp_path / name / "model" / "model.safetensors") for name in ("whole", "cut"))
    assert max((whole[key] - cut[key]).abs().max() for key in whole) < 1e-6


def test_an_untrained_base_is_whole_or_not_there(recipe, monkeypatch, tmp_path):
    """Else the next run would find its config.json, take it for made, and fail for want of a processor."""

    def ctrl_c(*args, **kwargs):
        raise KeyboardInterrupt

    path = recipe("base", "run", max_steps=1)
    with monkeypatch.context() as patch:
        patch.setattr(nano, "omni_processor", ctrl_c)
        assert main(["train", path]) == 130
    assert {p.name for p in (tmp_path / "run").iterdir()} == {"recipe.yaml"}
    assert main(["train", path]) == 0
    assert (tmp_path / "run" / "model" / "model.safetensors").exists()
