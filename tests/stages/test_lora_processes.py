"""The LoRA recipes on several cards, in miniature: two processes, adapters, each with its own prompts."""

import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

LAUNCH = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", "launch/cpu_2.yaml"]
KEYS = dict(
    use_peft=True, lora_r=4, lora_alpha=8, dtype="bfloat16", gradient_checkpointing=True, rewards=["format"],
    ddp_find_unused_parameters=False, per_device_train_batch_size=2, gradient_accumulation_steps=2,
    max_steps=1, save_strategy="no", log_completions=True, num_completions_to_print=0,
)  # fmt: skip


def completions(recipe, tmp_path: Path, name: str, **keys) -> pd.DataFrame:
    with subprocess.Popen(
        [*LAUNCH, "-m", "rlcomm", "train", recipe("step_rr", name, **KEYS, **keys)],
        env={**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"},
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    ) as launched:  # fmt: skip
        try:
            _, said = launched.communicate(timeout=400)
        except BaseException:
            launched.terminate()
            raise
    assert launched.returncode == 0, said[-3000:]
    assert (tmp_path / name / "model" / "adapter_model.safetensors").is_file()
    (file,) = (tmp_path / name / "completions").glob("*.parquet")
    return pd.read_parquet(file)[["prompt", "completion"]]


@pytest.mark.distributed
def test_two_ranks_train_adapters_and_prepare_their_own_prompts(recipe, tmp_path):
    """`ddp_find_unused_parameters: false` of the recipes would fail here if a step left an adapter out."""
    alone = completions(recipe, tmp_path, "alone")
    assert len(alone) == 8  # two ranks x two completions x two accumulated: four groups of two
    ahead = completions(recipe, tmp_path, "ahead", dataloader_num_workers=1)
    assert ahead.equals(alone)
