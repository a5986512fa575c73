"""launch/studies/real_shape.sh in small: the path of the real shapes, with few and narrow layers."""

import json
import re
from pathlib import Path

import pytest
from trl import GRPOTrainer

from rlcomm.data.probe import probe
from rlcomm.data.sample import read_jsonl
from tests import real_steps
from tests.real_shapes import omni_config
from tests.real_steps import HEADER, PHASES

LAUNCH = Path(__file__).resolve().parents[1] / "launch"
KEYS = dict(
    embedder="minilm", dtype="float32", bf16="false", use_cpu="true", dataloader_num_workers=0,
    dataloader_prefetch_factor="none", gradient_accumulation_steps=1, max_completion_length=8, lora_r=4,
    num_generations=2, per_device_train_batch_size=2, log_completions="false", max_rows=2,
)  # fmt: skip


@pytest.fixture
def narrow(monkeypatch):
    """The 3B's configuration with a few narrow layers, its mel bins and its vocabulary's surplus kept."""

    def shrunk(size: str):
        config = omni_config(size)
        thinker = config.thinker_config
        for part, values in (
            (thinker.text_config, dict(hidden_size=128, num_hidden_layers=1, num_attention_heads=4,
                                       num_key_value_heads=2, intermediate_size=64, vocab_size=2000)),
            (thinker.audio_config, dict(d_model=64, encoder_attention_heads=4, encoder_ffn_dim=64,
                                        encoder_layers=1, num_hidden_layers=1, output_dim=128)),
            (thinker.vision_config, dict(depth=1, hidden_size=64, intermediate_size=64, num_heads=4,
                                         out_hidden_size=128, fullatt_block_indexes=[0])),
        ):  # fmt: skip
            for name, value in values.items():
                setattr(part, name, value)
        rope = {**thinker.text_config.rope_parameters, "mrope_section": [4, 6, 6]}
        thinker.text_config.rope_parameters = rope
        thinker.text_config.layer_types = ["full_attention"]
        return config

    monkeypatch.setattr(real_steps, "omni_config", shrunk)
    monkeypatch.setattr(GRPOTrainer, "_generate", GRPOTrainer._generate)  # put back behind the test


def test_a_row_of_the_table_comes_from_real_steps(narrow, tmp_path, capsys):
    real_steps.make("3b", tmp_path, seconds=2.0, rows=2)
    rows = read_jsonl(tmp_path / "rows.jsonl")
    clip = probe(rows[0].video)
    assert (clip.width, clip.height) == (480, 360)
    assert clip.seconds == pytest.approx(2.0, abs=0.1)
    assert all(row.reference for row in rows)
    given = {
        **KEYS, "model_name_or_path": tmp_path / "model", "dataset": tmp_path / "rows.jsonl",
        "media_cache_dir": tmp_path / "cache",
    }  # fmt: skip
    words = [word for key, value in given.items() for word in (f"--{key}", str(value))]
    recipe = str(LAUNCH.parent / "recipes" / "qwen2_5_omni_3b_lora" / "step_rr.yaml")
    assert real_steps.main(["train", "LoRA", str(tmp_path), recipe, "--steps", "2", *words]) == 0
    table = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    assert [line.count("|") for line in table] == [len(HEADER) + 1] * 3
    found = dict(zip(HEADER, json.loads((tmp_path / "LoRA.json").read_text())["row"], strict=True))
    assert (found["device"], found["what trains"], found["steps"]) == ("cpu", "LoRA", "2 of 2")
    assert all(float(found[f"{phase}, s"]) > 0 for phase in ("rollout", "score", "backward"))
    assert float(found["gradient norm"]) > 0  # the rewards of a group differ
    assert 0.7 < float(found["ratio"]) < 1.4


def test_what_is_missing_or_not_finite_is_said(tmp_path):
    entry = {f"time/{phase}": 1.0 for phase in PHASES} | {"loss": 0.5, "grad_norm": 1.0}
    measured = {"device": "a GPU", "peak": 2e9, "estimate": 1e9, "ratio": 0.5}
    for log, ran, loss in (
        ([entry, entry | {"time/rollout": 3.0}], "2 of 2", "0.5 to 0.5"),
        ([entry], "1 of 2", "0.5 to 0.5"),
        ([entry, entry | {"loss": float("nan")}], "2 of 2", "NOT FINITE"),
        ([entry, entry | {"grad_norm": float("inf")}], "2 of 2", "NOT FINITE"),
    ):
        found = dict(zip(HEADER, real_steps.row("full", {**measured, "log": log}, 2), strict=True))
        assert (found["steps"], found["loss"]) == (ran, loss)
        assert found["first step, s"] == "6.00"
        if log[1:] and "time/rollout" in log[1] and log[1]["time/rollout"] == 3.0:
            assert (found["rollout, s"], found["step, s"]) == ("3.00", "8.00")


def test_the_script_names_what_is_there():
    script = (LAUNCH / "studies" / "real_shape.sh").read_text()
    [recipe] = re.findall(r"recipe=(\S+)", script)
    assert (LAUNCH.parent / recipe).is_file()
    assert "tests.real_steps make" in script
    assert "tests.real_steps train" in script
    assert "--save_strategy no" in script  # else the doctor asks the disk for room for checkpoints
    assert int(re.search(r"LIMIT:-(\d+)", script)[1]) * 2 < 8 * 60  # two runs, and making the checkpoint
