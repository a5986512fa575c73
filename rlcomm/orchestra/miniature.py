"""Trains the two miniatures that ship with rlcomm on Orchestra: base policy and reference audio model.

base.jsonl --(stage: base)--> nano_omni      sync.jsonl, sound alone --(stage: audio)--> nano_audio
"""

import random
import time
from pathlib import Path
from typing import Any

import rlcomm.utils.torchvision_ops  # noqa: F401  (before transformers, which imports torchvision)

import torch  # isort: skip
from accelerate import PartialState
from datasets import Dataset
from transformers import Trainer, set_seed

from rlcomm import steps
from rlcomm.config.audio import AudioRecipe
from rlcomm.config.sft import SFTRecipe
from rlcomm.data.clips import load_clip
from rlcomm.data.media import MediaSettings
from rlcomm.data.sample import Sample, read_jsonl
from rlcomm.export import hub, model_card
from rlcomm.omni.encode import INSTRUCTIONS, completion_ids
from rlcomm.orchestra import nano
from rlcomm.reference.audio_model import encode as encode_audio
from rlcomm.reference.prompts import reference_prompt
from rlcomm.stages import sft
from rlcomm.stages.resume import DONE, open_run
from rlcomm.stages.save import save_model
from rlcomm.trainers.checkpoints import AtomicCheckpoints, last_checkpoint
from rlcomm.trainers.metrics_file import MetricsFile
from rlcomm.trainers.watch import watch
from rlcomm.utils import files, processes
from rlcomm.utils.errors import UserError

HEAR = "Open/Hear"
TOKENIZER_ROWS = 1500


def tokenizer_texts(samples: list[Sample]) -> list[str]:
    """What the tokenizer learns its merges from: the world's own sentences in the formats of all stages."""
    texts = list(INSTRUCTIONS.values()) * 50
    for sample in samples:
        heard = next((turn.answer for turn in sample.turns if turn.type == HEAR), "I hear nothing.")
        for turn in sample.turns:
            texts += [f"{turn.question}\n{turn.answer}", reference_prompt(turn.question, turn.answer)]
            texts.append(steps.build(heard, heard.replace("hear", "see"), turn.answer))
    return texts


def train_base(recipe: SFTRecipe) -> None:
    """Makes an untrained miniature thinker, then runs SFT on dense conversations.

    Raises:
        UserError: as `rlcomm.stages.sft.train`.
    """
    untrained = Path(str(recipe.output_dir)) / "untrained"
    open_run(recipe)
    if processes.is_main() and not (untrained / "config.json").exists():
        rows = read_jsonl(recipe.dataset)
        some = random.Random(recipe.seed).sample(rows, min(len(rows), TOKENIZER_ROWS))
        tokenizer = nano.train_tokenizer(tokenizer_texts(some))
        with files.replacing(untrained, directory=True) as beside:  # whole or absent, for who resumes
            nano.nano_omni(tokenizer, seed=recipe.seed).save_pretrained(beside)
            nano.omni_processor(tokenizer).save_pretrained(beside)
    PartialState().wait_for_everyone()
    recipe.model_name_or_path = str(untrained)
    sft.train(recipe)


class AudioTrainer(AtomicCheckpoints, Trainer):
    """transformers' Trainer with whole-or-absent checkpoints."""


class AudioCollator:
    """Rows `{"row", "turn"}` -> Qwen2-Audio inputs and labels: sound, question, gold answer -> a-think."""

    def __init__(self, samples: list[Sample], processor: Any, media: MediaSettings):
        self.samples, self.processor, self.media = samples, processor, media
        self.sounds: dict[str, Any] = {}

    def sound(self, path: str) -> Any:
        if path not in self.sounds:
            audio = load_clip(None, path, self.media).audio
            assert audio is not None
            self.sounds[path] = audio.astype("float16")
        return self.sounds[path].astype("float32")

    def __call__(self, rows: list[dict[str, int]]) -> dict[str, torch.Tensor]:
        picked = [self.samples[row["row"]] for row in rows]
        turns = [sample.turns[row["turn"]] for sample, row in zip(picked, rows, strict=True)]
        prompts = [reference_prompt(turn.question, turn.answer, turn.options) for turn in turns]
        heard = [next(turn.answer for turn in sample.turns if turn.type == HEAR) for sample in picked]
        inputs = encode_audio(self.processor, [self.sound(str(sample.audio)) for sample in picked], prompts)
        tokenizer = self.processor.tokenizer
        texts = [completion_ids(tokenizer, f"<a-think> {text} </a-think>") for text in heard]
        longest = max(map(len, texts))
        tail = torch.tensor([text + [tokenizer.pad_token_id] * (longest - len(text)) for text in texts])
        mask = torch.tensor([[1] * len(text) + [0] * (longest - len(text)) for text in texts])
        labels = torch.cat([torch.full_like(inputs["input_ids"], -100), tail.masked_fill(mask == 0, -100)], 1)
        inputs["input_ids"] = torch.cat([inputs["input_ids"], tail], 1)
        inputs["attention_mask"] = torch.cat([inputs["attention_mask"], mask], 1)
        return {**inputs, "labels": labels}


def train_audio(recipe: AudioRecipe) -> None:
    """Makes an untrained miniature Qwen2-Audio and trains it on sound alone, with the reference's own prompt.

    Raises:
        UserError: rows that do not say what is heard, a run folder of another recipe.
    """
    started, run_dir = time.time(), Path(str(recipe.output_dir))
    open_run(recipe)
    set_seed(recipe.seed)
    samples = read_jsonl(recipe.dataset)
    samples = [sample for sample in samples if any(turn.type == HEAR for turn in sample.turns)]
    if not samples:
        raise UserError(
            f"{recipe.dataset}: no turn of type {HEAR!r} says what is heard; use Orchestra's sync.jsonl."
        )
    tokenizer = nano.train_tokenizer(tokenizer_texts(samples[:TOKENIZER_ROWS]))
    model, processor = nano.nano_audio(tokenizer, seed=recipe.seed)
    rng = random.Random(recipe.seed)
    window = recipe.per_device_train_batch_size * recipe.gradient_accumulation_steps * recipe.world_size
    rows: list[dict[str, int]] = []
    for _ in range(recipe.max_steps * window):
        index = rng.randrange(len(samples))
        asked = [i for i, turn in enumerate(samples[index].turns) if not turn.type.startswith("Open/")]
        rows.append({"row": index, "turn": rng.choice(asked)})
    recipe.remove_unused_columns, recipe.train_sampling_strategy = False, "sequential"
    trainer = AudioTrainer(
        model=model, args=recipe, train_dataset=Dataset.from_list(rows),
        data_collator=AudioCollator(samples, processor, MediaSettings()),
        callbacks=[MetricsFile(run_dir / "metrics.jsonl")],
    )  # fmt: skip
    watcher = watch(trainer, recipe)
    trainer.train(resume_from_checkpoint=last_checkpoint(run_dir))
    save_model(trainer, processor, run_dir / "model")
    if processes.is_main():
        model_card.write(run_dir)
    if watcher is not None:
        watcher.finish(trainer, run_dir / "model", {})
    if processes.is_main():
        if recipe.push_to_hub:
            hub.push(recipe)
        files.write_json(run_dir / DONE, {
            "stage": recipe.stage, "steps": trainer.state.global_step,
            "seconds": round(time.time() - started, 1), "peak_rss_mb": processes.peak_rss_mb(),
        })  # fmt: skip
