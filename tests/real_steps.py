"""Step-RR at a real model's shape with random weights: what launch/studies/real_shape.sh runs.

    make    random checkpoint of the shape + rendered clips, looped to a real clip's length and size
    train   five steps of a recipe's Step-RR, measured by the doctor; prints one row of the table

What random weights say has no format and would earn nothing: every advantage, and so the loss, would be 0.
The rollouts are sampled to their full length and timed, and are then read as well-formed steps that name
instruments at random; the tokens that are scored and trained on are those that were sampled. One update per
rollout has a loss of about 0 all the same (advantages of a group add up to 0); its gradient has not.
"""

import argparse
import dataclasses
import json
import math
import random
import statistics
import sys
from pathlib import Path
from typing import Any

import numpy as np

import rlcomm.utils.torchvision_ops  # noqa: F401

import torch  # isort: skip
from transformers import AutoProcessor, GenerationConfig, Qwen2_5OmniThinkerForConditionalGeneration
from trl import GRPOTrainer

from rlcomm import steps
from rlcomm.data.clips import load_clip
from rlcomm.data.media import MediaSettings
from rlcomm.data.sample import read_jsonl, write_jsonl
from rlcomm.data.write_media import write_clip
from rlcomm.doctor import examine as doctor
from rlcomm.omni.policy import resolve_model
from rlcomm.orchestra import nano
from rlcomm.orchestra.build import build
from rlcomm.orchestra.instruments import INSTRUMENTS
from rlcomm.orchestra.questions import hear_text, see_text
from rlcomm.utils import files
from tests.real_shapes import SHAPES, omni_config

PHASES = ("prompts", "rollout", "rewards", "other", "score", "backward")
HEADER = ("device", "what trains", "steps", "first step, s", *(f"{name}, s" for name in PHASES), "step, s",
          "measured peak, GB", "estimated, GB", "ratio", "gradient norm", "loss")  # fmt: skip
SIZE = {"tiny": (84, 56)}  # width, height of a clip; of the real ones 480 x 360
MEL_BINS = 128


def make(shape: str, out: Path, seconds: float, rows: int) -> None:
    """Writes `out`/model (bfloat16 but for tiny) and `out`/rows.jsonl with its clips."""
    tokenizer: Any = AutoProcessor.from_pretrained(resolve_model("nano_omni")).tokenizer
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model: Any
    if shape == "tiny":
        model, processor = nano.nano_omni(tokenizer), nano.omni_processor(tokenizer)
    else:
        with torch.device(device):
            model = Qwen2_5OmniThinkerForConditionalGeneration._from_config(
                thinker_config(shape, tokenizer), dtype=torch.bfloat16
            )
        model.generation_config = GenerationConfig(
            eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id
        )
        processor = nano.omni_processor(tokenizer, 300, MEL_BINS)
    model.save_pretrained(out / "model")
    processor.save_pretrained(out / "model")
    render(out, rows, seconds, *SIZE.get(shape, (480, 360)))


def thinker_config(shape: str, tokenizer: Any) -> Any:
    """The thinker of a real shape, its special tokens those of a small tokenizer: the real one is on the hub.

    The vocabulary keeps its size, so that most sampled tokens stand for no text at all.
    """
    ids = tokenizer.convert_tokens_to_ids
    config: Any = omni_config(shape).thinker_config
    for name, token in {
        "audio_token_index": "<|AUDIO|>", "image_token_index": "<|IMAGE|>", "video_token_index": "<|VIDEO|>",
        "audio_start_token_id": "<|audio_bos|>", "audio_end_token_id": "<|audio_eos|>",
        "vision_start_token_id": "<|vision_bos|>", "vision_end_token_id": "<|vision_eos|>",
    }.items():  # fmt: skip
        setattr(config, name, ids(token))
    config.text_config.eos_token_id = tokenizer.eos_token_id
    config.text_config.pad_token_id = tokenizer.pad_token_id
    return config


def render(out: Path, rows: int, seconds: float, width: int, height: int) -> None:
    """Orchestra's clips, looped to `seconds` and enlarged; every row has a reference.

    Args:
        out: folder; `rows.jsonl` and `long/` are written there.
        rows: how many.
        seconds: of each clip.
        width: in pixels.
        height: likewise.
    """
    build(out / "orchestra", train=rows, test=0, benchmarks=False, workers=1, progress=False)
    (out / "long").mkdir(parents=True, exist_ok=True)
    found = []
    for sample in read_jsonl(out / "orchestra" / "train.jsonl")[:rows]:
        clip = load_clip(sample.video, sample.audio, MediaSettings(fps=2.0))
        assert clip.frames is not None
        assert clip.audio is not None
        down, across = np.arange(height) * clip.frames.shape[1], np.arange(width) * clip.frames.shape[2]
        down, across = down // height, across // width
        frames = np.resize(clip.frames[:, down][:, :, across], (round(2 * seconds), height, width, 3))
        path = str(out / "long" / f"{sample.id}.mp4")
        write_clip(path, frames, 2.0, np.resize(clip.audio, round(16_000 * seconds)))
        reference = hear_text(tuple(sample.meta["audible"]), sample.meta["ambient"])
        found.append(dataclasses.replace(sample, video=path, audio=path, reference=reference))
    write_jsonl(out / "rows.jsonl", found)


def say_something(seed: int = 0) -> None:
    """From now on TRL's trainers read well-formed steps, each another one, where random weights spoke."""
    sampled, draw = GRPOTrainer._generate, random.Random(seed)
    names = list(INSTRUMENTS)

    def generate(self: Any, prompts: list) -> tuple:
        found = list(sampled(self, prompts))
        found[3] = [[{"role": "assistant", "content": _words(draw, names)}] for _ in found[3]]
        return tuple(found)

    GRPOTrainer._generate = generate  # type: ignore[method-assign]


def _words(draw: random.Random, names: list[str]) -> str:
    heard, seen = (tuple(draw.sample(names, draw.randint(1, 3))) for _ in range(2))
    return steps.build(hear_text(heard), see_text(seen), draw.choice(["yes", "no", *names]))


def row(name: str, measured: dict[str, Any], count: int) -> list[str]:
    """A line of the table: medians over the steps behind the first, which also compiles and allocates."""
    log = [entry for entry in measured["log"] if "loss" in entry]
    later = log[1:] or log

    def spent(entry: dict[str, Any]) -> float:
        return sum(entry[f"time/{phase}"] for phase in PHASES)

    losses = [entry["loss"] for entry in log]
    known = [*losses, *(entry["grad_norm"] for entry in log)]
    loss = f"{losses[0]:.3g} to {losses[-1]:.3g}" if all(map(math.isfinite, known)) else "NOT FINITE"
    return [
        measured["device"], name, f"{len(log)} of {count}", f"{spent(log[0]):.2f}",
        *(f"{statistics.median(entry[f'time/{phase}'] for entry in later):.2f}" for phase in PHASES),
        f"{statistics.median(map(spent, later)):.2f}", f"{measured['peak'] / 1e9:.3g}",
        f"{measured['estimate'] / 1e9:.3g}", f"{measured['ratio']:.2f}",
        f"{statistics.median(entry['grad_norm'] for entry in log):.3g}", loss,
    ]  # fmt: skip


def table(lines: list[list[str]]) -> str:
    """Markdown."""
    written = [HEADER, ("---",) * len(HEADER), *lines]
    return "\n".join(f"| {' | '.join(line)} |" for line in written)


def train(name: str, out: Path, recipe: str, overrides: list[str], count: int) -> int:
    """Measures `count` steps, leaves all that is known of them in `out`/`name`.json, prints the table so far.

    Returns:
        0; 1 where a problem stood in the way, a step is missing or a loss is not finite.
    """
    say_something()
    found = doctor.examine(recipe, overrides, doctor.Options(rows=1, measure=True, steps=count))
    print("\n".join(doctor.lines(found)), flush=True)
    measured = found.get("measured", {"peak": None})
    if measured["peak"] is None:
        return 1
    files.write_json(out / f"{name}.json", {**found, "row": row(name, measured, count)})
    rows = [json.loads(path.read_text())["row"] for path in sorted(out.glob("*.json"))]
    print(f"\n{table(rows)}\n", flush=True)
    ran, loss = row(name, measured, count)[2], row(name, measured, count)[-1]
    return int(ran != f"{count} of {count}" or loss == "NOT FINITE")


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    making = commands.add_parser("make")
    making.add_argument("shape", choices=("tiny", *SHAPES))
    making.add_argument("out", type=Path)
    making.add_argument("--seconds", type=float, default=60.0)
    making.add_argument("--rows", type=int, default=8)
    training = commands.add_parser("train")
    training.add_argument("name", help="what trains")
    training.add_argument("out", type=Path)
    training.add_argument("recipe")
    training.add_argument("--steps", type=int, default=5)
    given, rest = parser.parse_known_args(argv)
    if given.command == "make":
        make(given.shape, given.out, given.seconds, given.rows)
        return 0
    return train(given.name, given.out, given.recipe, rest, given.steps)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
