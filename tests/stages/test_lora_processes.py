"""The LoRA recipes on several cards, in miniature: two processes, adapters, each with its own prompts."""

from pathlib import Path

import pandas as pd
import pytest

from tests.stages.conftest import on_two_processes

KEYS = dict(
    use_peft=True, lora_r=4, lora_alpha=8, dtype="bfloat16", gradient_checkpointing=True, rewards=["format"],
    ddp_find_unused_parameters=False, per_device_train_batch_size=2, gradient_accumulation_steps=2,
    max_steps=1, save_strategy="no", log_completions=True, num_completions_to_print=0,
)  # fmt: skip


def completions(recipe, tmp_path: Path, name: str, **keys) -> pd.DataFrame:
    on_two_processes("train", recipe("step_rr", name, **KEYS, **keys))
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
