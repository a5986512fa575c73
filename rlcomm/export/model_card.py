"""The card of a trained model: what it is, how it came to be, what it scores, and how to ask it something.

    recipe.yaml of this stage and of those before it, results.json, ../summary.json  ->  model/README.md

The snippet in it needs transformers and PyAV alone, and gives what rlcomm's own greedy decoding gives.
"""

import dataclasses
import importlib.metadata
import json
import os
from importlib import resources
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import ModelCard, ModelCardData
from jinja2 import Environment, PackageLoader, StrictUndefined

from rlcomm.config.media import MediaFields
from rlcomm.config.yaml_file import read_yaml
from rlcomm.omni.encode import INSTRUCTIONS
from rlcomm.reports.stages import format_table
from rlcomm.utils import files
from rlcomm.utils.shipped import shipped_model

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
_PROGRAM = Environment(loader=PackageLoader("rlcomm.export"), trim_blocks=True, undefined=StrictUndefined)
_PROGRAM.keep_trailing_newline = True
_PROGRAM.filters["python"] = repr


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
    model = repo or str(run_dir / "model")
    return ModelCard.from_template(
        data, template_path=str(resources.files("rlcomm.export") / "templates" / "card.md.j2"), title=title,
        what=what, base=_named(base), stages=list(map(_told, stages)), model=model,
        program="" if stage == "audio" else snippet(model, recipe, adapter),
        results=_results(run_dir), before_after=_before_after(run_dir),
        recipe=yaml.safe_dump(recipe, sort_keys=True, allow_unicode=True),
        versions=", ".join(f"{name} {importlib.metadata.version(name)}" for name in PACKAGES),
    )  # fmt: skip


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
        start = str(recipe["model_name_or_path"])
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
    return _PROGRAM.get_template("ask.py.j2").render(
        model=model, base=adapter, media=media, dtype=str(recipe.get("dtype", "")),
        instruction=INSTRUCTIONS[recipe.get("prompt_style", "steps")],
    )  # fmt: skip


def _told(recipe: dict[str, Any]) -> dict[str, str]:
    """A stage's line in the table of how the model came to be."""
    title, what = STAGES[recipe["stage"]]
    if "rewards" in recipe:
        what += f" ({', '.join(recipe['rewards'])})"
    length = f"{recipe['max_steps']} steps" if "max_steps" in recipe else ""
    return {
        "title": title,
        "what": what,
        "data": Path(str(recipe.get("dataset", ""))).name,
        "length": length or f"{recipe.get('num_train_epochs', 3)} epochs",
        "rate": str(recipe.get("learning_rate", "default")),
    }


def _results(run_dir: Path) -> list[tuple[str, ...]] | None:
    """What was measured, a row a metric; None where nothing was."""
    if not (run_dir / "results.json").exists():
        return None
    results = json.loads((run_dir / "results.json").read_text(encoding="utf-8"))
    rows: list[tuple[str, ...]] = []
    for decoder, entry in results["decoders"].items():
        for benchmark, metrics in entry["benchmarks"].items():
            for name, metric in metrics.items():
                if (value := metric["value"]) is not None:
                    interval = " to ".join(f"{bound:.3f}" for bound in metric.get("ci95") or ())
                    rows.append((benchmark, decoder, name, f"{value:.3f}", str(metric["n"]), interval))
    return rows


def _before_after(run_dir: Path) -> str:
    """The pipeline's table; "" outside a pipeline."""
    summary = run_dir.parent / "summary.json"
    return format_table(json.loads(summary.read_text(encoding="utf-8"))) if summary.exists() else ""


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
    return f"{base}, a miniature inside rlcomm" if shipped_model(base) else Path(base).name
