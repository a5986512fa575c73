"""The card of a trained model: what it is, how it came to be, what it scores, and how to ask it something.

    recipe.yaml of this stage and of those before it, results.json, ../summary.json  ->  model/README.md

The snippet in it needs transformers and PyAV alone, and gives what rlcomm's own greedy decoding gives.
"""

import dataclasses
import importlib.metadata
import json
import os
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import ModelCard, ModelCardData

from rlcomm.config.load import read_yaml
from rlcomm.config.media import MediaFields
from rlcomm.data.media import MediaSettings
from rlcomm.omni.encode import INSTRUCTIONS
from rlcomm.reports import stages as report
from rlcomm.utils import files

PACKAGES = ("rlcomm", "torch", "transformers", "trl", "peft", "accelerate")
STAGES = {
    "base": ("Base", "SFT of a miniature from random weights"),
    "audio": ("Reference model", "a miniature Qwen2-Audio that reasons about sound alone"),
    "sft": ("SFT", "supervised fine-tuning"),
    "warmup": ("Warm-up", "SFT on the format: what is heard, what is seen, the answer"),
    "step_rr": ("Step-RR", "GRPO with step-wise rewards against a reference audio model"),
    "grpo": ("GRPO", "GRPO with the rewards of the recipe"),
    "ans_co": ("Ans-CO", "the policy's own best reasoning, with confidence in answers it is sure of"),
}

_ASK = '''\
"""python ask.py clip.mp4 "Is there a violin sound?"   (pip install transformers accelerate av{peft})"""

import math
import sys

import av
import numpy as np
import torch
{imports}
from transformers import AutoProcessor, Qwen2_5OmniThinkerForConditionalGeneration

MODEL = {model!r}
INSTRUCTION = {instruction!r}
FPS, MAX_FRAMES, RATE, MAX_NEW_TOKENS = {fps}, {max_frames}, 16_000, 256


def sized(frame):
    {size}
    return frame.to_ndarray(format="rgb24", width=max(1, width), height=max(1, height))


def frames_of(path):
    """Frames evenly over the clip (F, H, W, 3) uint8, how many a second, and when the first one starts."""
    with av.open(path) as file:
        video = file.streams.video[0]
        length = float(video.duration * video.time_base) if video.duration else file.duration / av.time_base
        count, fps = max(1, round(length * FPS)), FPS
        if count > MAX_FRAMES:
            count, fps = MAX_FRAMES, MAX_FRAMES / length
        shown, last, start = [], None, None
        for frame in file.decode(video):
            start = frame.time if start is None else start
            while last is not None and len(shown) < count and len(shown) / fps < frame.time - start - 1e-3:
                shown.append(sized(last))
            last = frame
    shown += [sized(last)] * (count - len(shown))
    return np.stack(shown + shown[-1:] * (len(shown) % 2)), fps, start  # frames go in pairs


def sound_of(path, start):
    """The sound from the first frame on, 16 kHz mono (N,) float32."""
    with av.open(path) as file:
        track, resampler = file.streams.audio[0], av.AudioResampler(format="fltp", rate=RATE)
        first, parts = None, []
        for frame in file.decode(track):
            first = frame.time if first is None else first
            parts += [part.to_ndarray().mean(0) for part in resampler.resample(frame)]
        parts += [part.to_ndarray().mean(0) for part in resampler.resample(None)]
        sound = np.concatenate(parts)
        if track.duration:  # codecs fill their last frame with padding
            sound = sound[: round(float(track.duration * track.time_base) * RATE)]
    late = round((first - start) * RATE)
    sound = np.pad(sound, (max(late, 0), 0))[max(-late, 0) :]
    return np.clip(sound{heard}, -1, 1).astype(np.float32)


def main(clip, question):
    processor = AutoProcessor.from_pretrained(MODEL)
{load}
    frames, fps, start = frames_of(clip)
    asked = [{{"type": "video"}}, {{"type": "text", "text": f"{{question}}\\n{{INSTRUCTION}}"}}]
    text = processor.apply_chat_template(
        [{{"role": "user", "content": asked}}], add_generation_prompt=True, tokenize=False
    )
    height, width = frames.shape[1:3]
    inputs = processor(
        text=[text], videos=[torch.from_numpy(frames).permute(0, 3, 1, 2)], audio=[sound_of(clip, start)],
        audio_from_video_indices=[0], load_audio_from_video=True, return_tensors="pt",
        videos_kwargs={{
            "do_sample_frames": False, "fps": fps,
            "size": {{"shortest_edge": 28 * 28, "longest_edge": 4 * max(height, 28) * max(width, 28)}},
        }},
    ).to(model.device)
    for media in ("pixel_values_videos", "input_features"):
        inputs[media] = inputs[media].to(model.dtype)
    special = sorted(set(processor.tokenizer.all_special_ids) - {{processor.tokenizer.eos_token_id}})
    with torch.no_grad():
        ids = model.generate(
            **inputs, use_audio_in_video=True, do_sample=False, max_new_tokens=MAX_NEW_TOKENS,
            suppress_tokens=special,
        )
    return processor.tokenizer.decode(ids[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)


if __name__ == "__main__":
    print(main(*sys.argv[1:3]))
'''
_LOAD = """\
    model = Qwen2_5OmniThinkerForConditionalGeneration.from_pretrained(
        {base}, dtype={dtype}, device_map="auto"
    )"""
_ADAPT = """
    model = PeftModel.from_pretrained(model, MODEL)"""


def write(run_dir: str | os.PathLike, repo: str | None = None) -> None:
    """Writes `model/README.md` of a run folder; a card that stands there (PEFT's own, an older one) goes.

    Args:
        run_dir: holds recipe.yaml and model/.
        repo: "owner/name" on the Hub, for the snippet; None: the folder itself.
    """
    files.write_text(Path(run_dir) / "model" / "README.md", str(card(Path(run_dir), repo)))


def card(run_dir: Path, repo: str | None = None) -> ModelCard:
    """The card itself, metadata and text; arguments as in `write`."""
    recipe = read_yaml(run_dir / "recipe.yaml")
    repo = repo or (recipe.get("hub_model_id") if recipe.get("push_to_hub") else None)
    base, stages = lineage(run_dir)
    adapter = _adapted(run_dir / "model")
    stage = recipe["stage"]
    data = ModelCardData(
        language="en",
        library_name="peft" if adapter else "transformers",
        pipeline_tag="any-to-any",
        base_model=base if _on_hub(base) else None,
        base_model_relation=("adapter" if adapter else "finetune") if _on_hub(base) else None,
        tags=["rlcomm", "trl", "audio", "video", "multimodal", stage.replace("_", "-")],
        model_name=run_dir.resolve().name,
    )
    title, what = STAGES[stage]
    parts = [
        f"# {title}: {run_dir.resolve().name}",
        f"{what[0].upper()}{what[1:]}, trained with rlcomm (modality-balanced fine-tuning of omni models: "
        f"text, vision and audio in one decoder). Base: {_named(base)}.",
        "## How it came to be\n\n" + _steps(base, stages),
        "## Ask it something\n\n" + _usage(run_dir, recipe, repo, adapter),
        *_results(run_dir),
        f"## Recipe\n\n```yaml\n{yaml.safe_dump(recipe, sort_keys=True, allow_unicode=True)}```",
        "## Versions\n\n" + ", ".join(f"{name} {importlib.metadata.version(name)}" for name in PACKAGES),
    ]
    return ModelCard(f"---\n{data.to_yaml()}\n---\n\n" + "\n\n".join(parts) + "\n")


def lineage(run_dir: str | os.PathLike) -> tuple[str, list[dict[str, Any]]]:
    """Where a run began and what was done since, read from the run folders that its model came through.

    Returns:
        The base (Hub id, folder, or "random weights") and the recipes of the stages, oldest first.
    """
    folder = Path(run_dir)
    stages: list[dict[str, Any]] = []
    while True:
        recipe = read_yaml(folder / "recipe.yaml")
        stages.insert(0, recipe)
        if recipe["stage"] in ("base", "audio"):
            return "random weights", stages
        start = str(recipe.get("model_name_or_path", "nano_omni"))
        if not (Path(start).is_dir() and (Path(start).parent / "recipe.yaml").exists()):
            return start, stages
        folder = Path(start).parent


def snippet(model: str, recipe: dict[str, Any], adapter: str | None = None) -> str:
    """A program that asks `model` about a clip, with transformers alone.

    Args:
        model: folder or Hub id.
        recipe: keys of the stage: how it decoded clips and asked.
        adapter: the model that the LoRA adapters in `model` stand on; None: `model` is whole.
    """
    known = {field.name for field in dataclasses.fields(MediaFields)}
    media = MediaFields(**{key: value for key, value in recipe.items() if key in known}).media()
    dtype = repr(str(recipe["dtype"])) if "dtype" in recipe else '"auto"'
    load = _LOAD.format(base=repr(adapter) if adapter else "MODEL", dtype=dtype if adapter else '"auto"')
    return _ASK.format(
        model=model,
        instruction=INSTRUCTIONS[recipe.get("prompt_style", "steps")],
        fps=media.fps,
        max_frames=media.max_frames,
        size=_size(media),
        heard="" if media.audio_seconds is None else f"[: round({media.audio_seconds} * RATE)]",
        load=load + (_ADAPT if adapter else ""),
        imports="from peft import PeftModel" if adapter else "",
        peft=" peft" if adapter else "",
    ).replace("import torch\n\nfrom", "import torch\nfrom")


def _size(media: MediaSettings) -> str:
    """The line that gives the size of a frame, as `rlcomm.data.media` does."""
    if media.width and media.height:
        return f"width, height = {media.width}, {media.height}"
    if media.width:
        return f"width, height = {media.width}, round(frame.height * {media.width} / frame.width)"
    if media.height:
        return f"width, height = round(frame.width * {media.height} / frame.height), {media.height}"
    return (
        f"scale = min(1, math.sqrt({media.max_pixels} / (frame.width * frame.height)))\n"
        "    width, height = int(frame.width * scale), int(frame.height * scale)"
    )


def _usage(run_dir: Path, recipe: dict[str, Any], repo: str | None, adapter: str | None) -> str:
    model = repo or str(run_dir / "model")
    if recipe["stage"] == "audio":
        return f"`rlcomm reference RECIPE --model_name_or_path {model}` writes its reasoning about every row."
    return (
        "It answers about the sound and the picture of a clip; nothing of rlcomm is needed:\n\n"
        f"```python\n{snippet(model, recipe, adapter)}```\n\n"
        f"`rlcomm eval RECIPE --model_name_or_path {model}` scores it on the conflict benchmarks."
    )


def _steps(base: str, stages: list[dict[str, Any]]) -> str:
    lines = [
        "| | stage | data | length | learning rate |",
        "|---|---|---|---|---|",
        f"| 0 | {_named(base)} | | | |",
    ]
    for number, recipe in enumerate(stages, 1):
        title, what = STAGES[recipe["stage"]]
        if "rewards" in recipe:
            what += f" ({', '.join(recipe['rewards'])})"
        length = f"{recipe['max_steps']} steps" if "max_steps" in recipe else ""
        length = length or f"{recipe.get('num_train_epochs', 3)} epochs"
        data = Path(str(recipe.get("dataset", ""))).name
        lines.append(
            f"| {number} | {title}: {what} | {data} | {length} | {recipe.get('learning_rate', 'default')} |"
        )
    return "\n".join(lines)


def _results(run_dir: Path) -> list[str]:
    """The sections of what was measured; none where nothing was."""
    found = []
    if (run_dir / "results.json").exists():
        results = json.loads((run_dir / "results.json").read_text(encoding="utf-8"))
        lines = ["| benchmark | decoder | metric | value | n | 95 % interval |", "|---|---|---|---|---|---|"]
        for decoder, entry in results["decoders"].items():
            for benchmark, metrics in entry["benchmarks"].items():
                for metric, value in metrics.items():
                    if value["value"] is None:
                        continue
                    interval = " to ".join(f"{bound:.3f}" for bound in value.get("ci95") or ())
                    cells = benchmark, decoder, metric, f"{value['value']:.3f}", str(value["n"]), interval
                    lines.append(f"| {' | '.join(cells)} |")
        found.append("## Results\n\n" + "\n".join(lines))
    summary = run_dir.parent / "summary.json"
    if summary.exists():
        table = report.format_table(json.loads(summary.read_text(encoding="utf-8")))
        found.append(f"## Before and after, over the pipeline's stages\n\n```\n{table}\n```")
    return found


def _adapted(model: Path) -> str | None:
    """The model that the LoRA adapters in a folder stand on; None where the folder holds a whole model."""
    config = model / "adapter_config.json"
    if not config.exists():
        return None
    return str(json.loads(config.read_text(encoding="utf-8"))["base_model_name_or_path"])


def _on_hub(base: str) -> bool:
    return base.count("/") == 1 and not base.startswith((".", "/", "~")) and not Path(base).exists()


def _named(base: str) -> str:
    """A base in words; of a folder its name alone, the rest means nothing elsewhere."""
    if _on_hub(base):
        return f"[{base}](https://huggingface.co/{base})"
    return {"nano_omni": "nano_omni, the miniature Qwen2.5-Omni inside rlcomm"}.get(base, Path(base).name)
