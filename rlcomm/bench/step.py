"""What a GRPO step costs when every prompt is paid for once: `rlcomm bench step`.

Beside each of our forms stands what TRL does, made correct for sound and picture: every completion is a row
of its own with its prompt and its media, in `generate` as in the loss. All forms of a part take turns, round
after round, on the same prompts and the same recorded completions.
"""

import gc
import itertools
import statistics
import textwrap
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from rlcomm.bench.work import Shape, Work
from rlcomm.config.step_rr import SCORINGS
from rlcomm.omni.policy import Policy, set_trainable
from rlcomm.reports.tables import plain
from rlcomm.utils.allocated import allocated
from rlcomm.utils.errors import UserError

Forms = dict[str, Callable[[], Any]]  # what is measured, by name

PARTS = ("scoring", "rollout", "step")
BASELINES = {"scoring": "rows", "rollout": "generate", "step": "trl"}
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}


@dataclass
class Options:
    """How `measure` measures.

    Attributes:
        parts: of `PARTS`.
        scorings: of `config.step_rr.SCORINGS`; None: all of them. `rows`, the baseline, is always there.
        rounds: measurements of each form, at least 1; their median is reported.
        memory: also run each form once to see its peak of memory.
        clock: `wall`, or `cpu`: processor seconds of this process, which other jobs on the machine hardly
            change; compare those with one thread.
        embedder: of the rewards in a whole step (see `rlcomm.rewards.embed`); "none" leaves rewards out.
    """

    parts: Sequence[str] = PARTS
    scorings: Sequence[str] | None = None
    rounds: int = 3
    memory: bool = True
    clock: str = "wall"
    embedder: str = "minilm"

    def __post_init__(self) -> None:
        known = [name for name in SCORINGS if name != "auto"]
        chosen = known if self.scorings is None else list(self.scorings)
        for what, names, choices in (
            ("scorings", chosen, SCORINGS), ("parts", self.parts, PARTS), ("clock", [self.clock], CLOCKS),
        ):  # fmt: skip
            if unknown := [name for name in names if name not in choices]:
                raise UserError(
                    f"{what} has {unknown[0]!r}, which is unknown; use some of {', '.join(choices)}."
                )
        if self.rounds < 1:
            raise UserError(f"rounds is {self.rounds}, so nothing would be measured; give 1 or more.")
        self.scorings = ["rows", *(name for name in dict.fromkeys(chosen) if name != "rows")]


def step(
    policy: Policy, prompt_lengths: Sequence[int] = (512, 1536), completion_lengths: Sequence[int] = (64,),
    generations: Sequence[int] = (8,), prompts: Sequence[int] = (1,), options: Options | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Measures every combination of the lengths given.

    Args:
        policy: the model; its towers are frozen, as in the recipes.
        prompt_lengths: P, tokens of a prompt, nearly all of them media.
        completion_lengths: C, tokens of a completion.
        generations: G, completions of a prompt, at least 2.
        prompts: prompts in a batch.
        options: what is measured.

    Returns:
        `{"device", "threads", "model", "parameters", "dtype", "clock", "rounds", "shapes": [{"prompt",
        "completion", "generations", "prompts", "limit", "scoring": {form: {"seconds", "times", "peak_mb"}},
        "rollout": {form: {"prefill_s", "prefill_times", "decode_s", "decode_times", "whole_s",
        "whole_times", "peak_mb"}}, "step": {form: {"seconds", "rewards_s", "peak_mb",
        "times"}}}]}`: medians; `times` is
        the baseline's seconds by this form's; peaks are what the form takes beyond what was there before.

    Raises:
        UserError: a number or a name out of its range.
    """
    options = options or Options()
    for name, values, least in (
        ("prompt_lengths", prompt_lengths, 1), ("completion_lengths", completion_lengths, 1),
        ("generations", generations, 2), ("prompts", prompts, 1),
    ):  # fmt: skip
        if low := [value for value in values if value < least]:
            raise UserError(f"{name} has {low[0]}, which is nothing to measure; give {least} or more.")
    set_trainable(policy.model, freeze_encoders=True)
    shapes = itertools.product(prompt_lengths, completion_lengths, generations, prompts)
    device = policy.model.device
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "threads": torch.get_num_threads(),
        "model": policy.path,
        "parameters": sum(parameter.numel() for parameter in policy.model.parameters()),
        "dtype": str(policy.model.dtype).removeprefix("torch."),
        "clock": options.clock,
        "rounds": options.rounds,
        "shapes": [measure(policy, Shape(*shape), options) for shape in shapes],
    }


def measure(policy: Policy, shape: Shape, options: Options) -> dict[str, Any]:
    """One entry of `shapes` in what `step` returns."""
    work = Work(policy, shape, options.embedder if "step" in options.parts else "none")
    found: dict[str, Any] = {**vars(shape), "limit": shape.limit}
    if "scoring" in options.parts:
        forms: Forms = {name: partial(work.score, name) for name in options.scorings or ()}
        times, peaks = _take_turns(forms, options, tuple(forms))
        found["scoring"] = {name: {"seconds": times[name], "peak_mb": peaks.get(name)} for name in forms}
        _compare(found["scoring"], "rows", {"times": "seconds"})
    if "rollout" in options.parts:
        found["rollout"] = _rollout(work, shape.completion, options)
    if "step" in options.parts:
        kept = work.kept()
        forms = {
            "trl": partial(work.step, "generate", "rows"),
            "rlcomm": partial(work.step, "shared", "auto"),
            "kept": partial(kept.step, "shared", "auto"),
        }
        if options.memory:
            work.settle()
        times, peaks = _take_turns({**forms, "rewards": work.reward}, options, tuple(forms))
        found["step"] = {
            name: {"seconds": times[name], "rewards_s": times["rewards"], "peak_mb": peaks.get(name)}
            for name in forms
        }
        _compare(found["step"], "trl", {"times": "seconds"})
    return found


def _rollout(work: Work, tokens: int, options: Options) -> dict[str, dict[str, Any]]:
    """Prefill is a rollout of one token; decoding is what the others add to it."""
    names = ("generate", "copies", "shared")
    forms: Forms = {}
    for name in names:
        forms[f"{name} prefill"] = partial(work.rollout, name, 1)
        forms[f"{name} whole"] = partial(work.rollout, name, tokens)
    times, peaks = _take_turns(forms, options, tuple(f"{name} whole" for name in names))
    found = {}
    for name in names:
        prefill, whole = times[f"{name} prefill"], times[f"{name} whole"]
        found[name] = {
            "prefill_s": prefill, "decode_s": whole - prefill, "whole_s": whole,
            "peak_mb": peaks.get(f"{name} whole"),
        }  # fmt: skip
    _compare(found, "generate", {f"{part}_times": f"{part}_s" for part in ("prefill", "decode", "whole")})
    return found


def _compare(entries: dict[str, dict[str, Any]], baseline: str, ratios: dict[str, str]) -> None:
    """Adds each ratio to every entry: the baseline's value by its own; None: it is 0."""
    for entry in entries.values():
        for ratio, key in ratios.items():
            entry[ratio] = entries[baseline][key] / entry[key] if entry[key] > 0 else None


def _take_turns(
    forms: Forms, options: Options, memory: Sequence[str] = ()
) -> tuple[dict[str, float], dict[str, float]]:
    """Median seconds of every form, and megabytes at the peaks of those named in `memory`.

    The first run of each warms up, and finds the peak; it is not timed.
    """
    peaks = {}
    for name, work in forms.items():
        if options.memory and name in memory:
            peaks[name] = _peak(work) / 2**20
        else:
            work()
    clock = CLOCKS[options.clock]
    times: dict[str, list[float]] = {name: [] for name in forms}
    for _ in range(options.rounds):
        for name, work in forms.items():
            gc.collect()
            _finish()
            started = clock()
            work()
            _finish()
            times[name].append(clock() - started)
    return {name: statistics.median(taken) for name, taken in times.items()}, peaks


def _peak(work: Callable[[], Any]) -> int:
    """Most bytes that `work` held at once beyond what was there before it."""
    gc.collect()
    if not torch.cuda.is_available():
        return allocated(work)
    _finish()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    work()
    _finish()
    return torch.cuda.max_memory_allocated() - before


def _finish() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def format_step(result: dict[str, Any]) -> str:
    """The result as tables, one for each shape."""
    lines = [
        f"{result['model']}, {result['parameters'] / 1e6:.1f} M parameters, {result['dtype']}, "
        f"{result['device']}, {result['threads']} threads, {result['clock']} seconds, median of "
        f"{result['rounds']}"
    ]
    for shape in result["shapes"]:
        lines += [
            "",
            f"P={shape['prompt']} C={shape['completion']} G={shape['generations']}, {shape['prompts']} "
            f"prompt(s): token-count limit (P+C)G/(P+GC) = {shape['limit']:.2f}",
        ]
        for part in PARTS:
            if part not in shape:
                continue
            entries = shape[part]
            names = list(next(iter(entries.values())))
            rows = [[form, *(_cell(entry[name]) for name in names)] for form, entry in entries.items()]
            lines.append(textwrap.indent(plain([part, *names], rows), "  "))
    return "\n".join(lines)


def _cell(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
