"""What a GRPO step costs when every prompt is paid for once: `rlcomm bench step`.

Beside each of our forms stands what TRL does, made correct for sound and picture: every completion is a row
of its own with its prompt and its media, in `generate` as in the loss. All forms of a part take turns, round
after round, on the same prompts and the same recorded completions.
"""

import copy
import gc
import itertools
import statistics
import textwrap
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import rlcomm.utils.torchvision_ops  # noqa: F401  (before transformers, which imports torchvision)

import numpy as np  # isort: skip
import torch  # isort: skip
from transformers import AutoProcessor
from trl.trainer.utils import add_fused_lm_head

from rlcomm import steps
from rlcomm.config.step_rr import SCORINGS
from rlcomm.data.media import Clip
from rlcomm.data.sample import Sample, Turn
from rlcomm.doctor.peak import allocated
from rlcomm.omni.encode import EncodedPrompt, encode, merge_media, reword
from rlcomm.omni.policy import Policy, load_policy, resolve_model, set_trainable, suppressed_tokens
from rlcomm.omni.rollout import generate_ids
from rlcomm.omni.score import score
from rlcomm.omni.towers import Towers
from rlcomm.orchestra.nano import nano_omni, omni_processor
from rlcomm.reports.tables import plain
from rlcomm.rewards import adapters
from rlcomm.rewards.embed import Embedder
from rlcomm.rewards.omega import MINILM_OMEGA
from rlcomm.utils.errors import UserError

Forms = dict[str, Callable[[], Any]]  # what is measured, by name

PARTS = ("scoring", "rollout", "step")
BASELINES = {"scoring": "rows", "rollout": "generate", "step": "trl"}
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
_SECOND = 33  # tokens of one second of our clips: 25 of sound, 8 of two frames


@dataclass(frozen=True)
class Shape:
    """`prompts` prompts of `prompt` tokens with `generations` completions of `completion` tokens each."""

    prompt: int
    completion: int
    generations: int
    prompts: int

    @property
    def limit(self) -> float:
        """Tokens with a row per completion for each token with every prompt once: (P + C) G / (P + G C)."""
        once = self.prompt + self.generations * self.completion
        return (self.prompt + self.completion) * self.generations / once


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
    prompt_lengths: Sequence[int] = (512, 1536), completion_lengths: Sequence[int] = (64,),
    generations: Sequence[int] = (8,), prompts: Sequence[int] = (1,), model_name_or_path: str | None = None,
    hidden: int = 384, layers: int = 6, dtype: str = "float32", options: Options | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Measures every combination of the lengths given.

    Args:
        prompt_lengths: P, tokens of a prompt, nearly all of them media.
        completion_lengths: C, tokens of a completion.
        generations: G, completions of a prompt, at least 2.
        prompts: prompts in a batch.
        model_name_or_path: a checkpoint; None: an untrained miniature of `hidden` and `layers`.
        hidden: width of the miniature's decoder, a multiple of 128.
        layers: of the miniature's decoder.
        dtype: `float32` or `bfloat16`.
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
        ("generations", generations, 2), ("prompts", prompts, 1), ("layers", [layers], 1),
    ):  # fmt: skip
        if low := [value for value in values if value < least]:
            raise UserError(f"{name} has {low[0]}, which is nothing to measure; give {least} or more.")
    if hidden < 128 or hidden % 128:
        raise UserError(f"hidden is {hidden}, which its heads do not divide; give a multiple of 128.")
    policy = _policy(model_name_or_path, hidden, layers, dtype, max(prompt_lengths))
    shapes = itertools.product(prompt_lengths, completion_lengths, generations, prompts)
    device = policy.model.device
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "threads": torch.get_num_threads(),
        "model": policy.path,
        "parameters": sum(parameter.numel() for parameter in policy.model.parameters()),
        "dtype": dtype,
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


def _rollout(work: "Work", tokens: int, options: Options) -> dict[str, dict[str, Any]]:
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


def _policy(
    model_name_or_path: str | None, hidden: int, layers: int, dtype: str, longest: int = 2048
) -> Policy:
    """The model that is measured, its towers frozen as in the recipes; the miniature's processor hears as
    many seconds as a prompt of `longest` tokens has (it pads every clip to what it can hear)."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if model_name_or_path is not None:
        policy = load_policy(model_name_or_path, dtype, device=device)
    else:
        tokenizer = AutoProcessor.from_pretrained(resolve_model("nano_omni")).tokenizer
        model: Any = nano_omni(tokenizer, hidden, layers, std=0.02)
        model.to(device, getattr(torch, dtype))
        add_fused_lm_head(model, outputs=("log_probs", "entropy"))
        policy = Policy(
            model, omni_processor(tokenizer, longest // _SECOND + 2), f"miniature {hidden} x {layers}"
        )
    set_trainable(policy.model, freeze_encoders=True)
    return policy


class Work:
    """The same work for every form: prompts, recorded completions and their advantages.

    Args:
        policy: the model.
        shape: of the batch.
        embedder: of the rewards, or "none".
    """

    def __init__(self, policy: Policy, shape: Shape, embedder: str = "none"):
        self.policy, self.shape, self.device = policy, shape, policy.model.device
        self.prompts = [make_prompt(policy, shape.prompt, seed) for seed in range(shape.prompts)]
        self.rows = [prompt for prompt in self.prompts for _ in range(shape.generations)]
        tokenizer = policy.processor.tokenizer
        self.suppressed = suppressed_tokens(tokenizer)
        self.pad_id = tokenizer.pad_token_id
        draw = torch.Generator().manual_seed(0)
        words = sorted(set(range(len(tokenizer))) - set(tokenizer.all_special_ids))
        chosen = torch.randint(len(words), (len(self.rows), shape.completion), generator=draw)
        self.completions = torch.tensor(words)[chosen].to(self.device)
        self.mask = torch.ones_like(self.completions)
        self.advantages = torch.linspace(-1, 1, len(self.rows), device=self.device)[:, None]
        # As TRL holds them: the rows of a batch collated, the media of a prompt once for each of its rows.
        self.ids = torch.stack([prompt.ids for prompt in self.rows]).to(self.device)
        self.media = merge_media(self.rows, self.device, policy.model.dtype)
        self.functions: list[Any] = []
        if embedder != "none":
            self.functions = adapters.reward_functions(
                {"format": 1.0, "arr": 1.0, "avc": 1.0}, omega=MINILM_OMEGA, embedder=Embedder(embedder)
            )
        self.trained = [parameter for parameter in policy.model.parameters() if parameter.requires_grad]
        # At rate 0, so that every round has the same model.
        self.optimiser = torch.optim.AdamW(self.trained, lr=0.0)
        self.seeds = itertools.count()  # of the texts that are rewarded

    def kept(self) -> "Work":
        """The same with what the towers make of the clips kept (`cache_encoders_mb`), as in a later epoch."""
        towers = Towers(self.policy.model, memory_mb=4096)
        other = copy.copy(self)
        other.prompts = [towers(prompt) for prompt in self.prompts]
        other.rows = [prompt for prompt in other.prompts for _ in range(self.shape.generations)]
        return other

    def score(self, scoring: str) -> None:
        """Log-probabilities of the recorded completions and the gradients of a policy loss."""
        self._backward(scoring)
        self.optimiser.zero_grad()

    def _backward(self, scoring: str) -> None:
        model = self.policy.model.train()
        logps, _ = score(model, self.rows, self.completions, self.mask, scoring, self.pad_id)
        (-((logps - logps.detach()).exp() * self.advantages).mean()).backward()

    def rollout(self, form: str, tokens: int) -> Any:
        """Exactly `tokens` tokens of every completion."""
        model = self.policy.model.eval()
        if form != "generate":
            return generate_ids(
                model, self.policy.processor, self.prompts, self.shape.generations, tokens, temperature=1.0,
                min_new_tokens=tokens, cache=form,
            )  # fmt: skip
        with torch.no_grad():
            return model.generate(
                input_ids=self.ids, attention_mask=torch.ones_like(self.ids), **self.media, top_k=0,
                do_sample=True, temperature=1.0, max_new_tokens=tokens, min_new_tokens=tokens,
                suppress_tokens=self.suppressed, use_audio_in_video=True,
                video_second_per_grid=torch.ones(len(self.rows), device=self.device),
            )  # fmt: skip

    def reward(self) -> None:
        """The rewards of texts that were never scored before."""
        texts, samples = _answers(len(self.rows), next(self.seeds))
        for function in self.functions:
            function(prompts=texts, completions=texts, sample=samples)

    def settle(self) -> None:
        """Makes AdamW's moments, which every step but the first finds there: no form is to pay for them."""
        for parameter in self.trained:
            parameter.grad = torch.zeros_like(parameter)
        self.optimiser.step()
        self.optimiser.zero_grad()

    def step(self, rollout: str, scoring: str) -> None:
        """A whole Step-RR step: rollout, rewards, scoring, backward, clipping, AdamW."""
        self.rollout(rollout, self.shape.completion)
        self.reward()
        self._backward(scoring)
        torch.nn.utils.clip_grad_norm_(self.trained, 1.0)
        self.optimiser.step()
        self.optimiser.zero_grad()


def _answers(rows: int, seed: int) -> tuple[list[str], list[Sample]]:
    """Well-formed completions with words of their own, so that no embedding of them is known yet."""
    rng = np.random.default_rng(seed)
    turn = Turn("Is there a violin sound?", "yes")
    sample = Sample("a", (turn,), "x.mp4", "x.mp4", reference="I hear a drum.")
    texts = [
        steps.build(f"I hear a drum at {number}.", f"I see a flute at {number}.", "yes")
        for number in rng.integers(0, 10**9, rows)
    ]
    return texts, [sample] * rows


def make_prompt(policy: Policy, tokens: int, seed: int = 0) -> EncodedPrompt:
    """A prompt of exactly `tokens` tokens: noise for a clip, as long as fits, and filling words.

    Raises:
        UserError: not even one second of a clip fits.
    """
    shortest = encode(policy, *_noise(1, seed), "direct", text="a")
    seconds = 1 + (tokens - len(shortest)) // _SECOND
    if seconds < 1:
        raise UserError(
            f"prompt_lengths has {tokens}, but one second of sound and picture with its frame of words takes "
            f"{len(shortest)} tokens; give {len(shortest)} or more."
        )
    prompt = encode(policy, *_noise(seconds, seed), "direct", text="a")
    return reword(policy, prompt, "a" + " a" * (tokens - len(prompt)))


def _noise(seconds: int, seed: int) -> tuple[Sample, Clip]:
    rng = np.random.default_rng(seed)
    frames = rng.integers(0, 255, (2 * seconds, 56, 112, 3), dtype=np.uint8)
    sound = (0.1 * rng.standard_normal(16_000 * seconds)).astype(np.float32)
    return Sample(str(seed), (Turn("a", "a"),), "x.mp4", "x.mp4"), Clip(frames=frames, fps=2.0, audio=sound)


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
