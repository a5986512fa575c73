"""Recipes: one flat dataclass a stage, read from YAML, overridden by `--key value`, checked in one place.

A recipe's keys are the fields of TRL's and transformers' configs plus those defined here. `stage:` names the
stage and with it the dataclass; paths are relative to the folder the command runs in.
"""

import dataclasses
import difflib
import enum
import math
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn, get_type_hints

import yaml

import rlcomm.utils.torchvision_ops  # noqa: F401  (before anything that imports torchvision)

from huggingface_hub.utils import HFValidationError, validate_repo_id  # isort: skip
from transformers import TrainingArguments  # isort: skip
from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK, is_tensorboard_available  # isort: skip
from transformers.trainer_utils import HubStrategy  # isort: skip
from trl import GRPOConfig, SFTConfig, TrlParser  # isort: skip

from rlcomm.data import controls
from rlcomm.data.media import MediaSettings
from rlcomm.rewards import adapters, avc
from rlcomm.utils import files
from rlcomm.utils.errors import UserError

SCORINGS = ("auto", "grouped", "packed", "rows")
REWARDS = adapters.NAMES
UNCERTAINTIES = ("nats", "log10", "normalised", "1-pmax")
ANSCO_TARGETS = ("self", "gold_answer", "gold")
PROMPT_STYLES = ("steps", "direct")
GRPO_LOSSES = ("grpo", "bnpo", "dr_grpo", "dapo", "luspo", "cispo", "sapo", "vespo")
DTYPES = ("float32", "bfloat16", "float16")
DIAGNOSES = ("flips", "patching", "probes", "reliance")
ATTENTIONS = ("sdpa", "eager", "flash_attention_2")

# Inclusive bounds, wherever a recipe has the key; None: no bound (and a key set to null is not checked).
_AT_LEAST_1 = (
    "per_device_train_batch_size", "gradient_accumulation_steps", "steps_per_generation", "num_generations",
    "generation_batch_size", "num_iterations", "max_completion_length", "max_new_tokens", "batch_size",
    "rollout_batch_size", "eval_batch_size", "eval_max_new_tokens", "max_rows", "eval_max_rows", "lora_r",
    "lora_alpha", "eval_subset", "diagnose_subset", "concurrency", "audio_window",
    "dataloader_prefetch_factor", "rollouts_shown",
)  # fmt: skip
_AT_LEAST_0 = (
    "learning_rate", "max_grad_norm", "prompt_memory_mb", "seed", "temperature", "top_k", "ansco_lambda",
    "ansco_threshold", "eval_every", "diagnose_every", "eval_budget", "budget_points", "gacl_lambda",
    "retries", "dataloader_num_workers", "rollouts_every", "cache_encoders_mb",
)  # fmt: skip
RANGES: dict[str, tuple[float | None, float | None]] = {
    **dict.fromkeys(_AT_LEAST_1, (1, None)),
    **dict.fromkeys(_AT_LEAST_0, (0, None)),
    **{f"modality_dropout_{name}": (0.0, 1.0) for name in ("start", "video", "audio")},
    **dict.fromkeys(("save_steps", "num_train_epochs", "timeout"), (1e-6, None)),
    "top_p": (1e-6, 1.0),
    "omega": (-1.0, 1.0),
    "lora_dropout": (0.0, 0.99),
}


@dataclass
class PolicyFields:
    """Which model, and what of it trains."""

    stage: str = field(
        default="",
        metadata={
            "help": "sft, warmup, base, audio, step_rr, grpo, ans_co, reference, eval, diagnose or pipeline"
        },
    )
    model_name_or_path: str = field(default="nano_omni", metadata={"help": "folder, hub id, or nano_omni"})
    model_revision: str | None = field(default=None, metadata={"help": "hub revision"})
    dtype: str = field(
        default="float32", metadata={"help": "of the loaded weights: float32, bfloat16 or float16"}
    )
    attn_implementation: str = field(default="sdpa", metadata={"help": "sdpa, eager or flash_attention_2"})
    freeze_encoders: bool = field(default=True, metadata={"help": "audio and vision towers do not train"})
    use_peft: bool = field(
        default=False, metadata={"help": "train LoRA adapters on the decoder instead of the weights"}
    )
    lora_r: int = field(default=16, metadata={"help": "LoRA rank"})
    lora_alpha: int = field(default=32, metadata={"help": "LoRA scale"})
    lora_dropout: float = field(default=0.0, metadata={"help": "LoRA dropout, in [0, 1)"})


@dataclass
class MediaFields:
    """How clips are decoded: `rlcomm.data.media.MediaSettings`, prefixed."""

    media_fps: float = field(default=2.0, metadata={"help": "frames a second"})
    media_max_frames: int = field(
        default=32, metadata={"help": "at most so many frames, over the whole clip"}
    )
    media_max_pixels: int = field(default=151_200, metadata={"help": "at most so many pixels a frame"})
    media_height: int | None = field(default=None, metadata={"help": "fixed frame height in pixels"})
    media_width: int | None = field(default=None, metadata={"help": "fixed frame width in pixels"})
    media_audio_seconds: float | None = field(
        default=30.0, metadata={"help": "the policy hears the first so many seconds"}
    )
    media_missing_audio: str = field(
        default="error", metadata={"help": "a clip without sound: error or silence"}
    )
    media_cache_dir: str | None = field(default=None, metadata={"help": "folder for decoded clips"})
    prompt_memory_mb: int = field(
        default=1024, metadata={"help": "encoded prompts kept in memory, megabytes"}
    )

    def media(self) -> MediaSettings:
        """The decoding settings, checked."""
        try:
            return self._media()
        except UserError as error:
            raise UserError(f"media_{error}") from error  # the recipe's name of the field

    def _media(self) -> MediaSettings:
        return MediaSettings(
            fps=self.media_fps, max_frames=self.media_max_frames, height=self.media_height,
            width=self.media_width, max_pixels=self.media_max_pixels, audio_seconds=self.media_audio_seconds,
            missing_audio=self.media_missing_audio,
        )  # fmt: skip


@dataclass
class DataFields(MediaFields):
    """Which rows, asked how."""

    dataset: str = field(default="", metadata={"help": "JSON Lines file of samples"})
    max_rows: int | None = field(default=None, metadata={"help": "the first so many rows"})
    prompt_style: str = field(
        default="steps", metadata={"help": "steps (three segments) or direct (the answer alone)"}
    )
    eval_data: str | None = field(
        default=None, metadata={"help": "data folder to evaluate on when the stage ends"}
    )
    eval_max_rows: int | None = field(
        default=None, metadata={"help": "the first so many rows of each benchmark"}
    )
    eval_max_new_tokens: int = field(default=96, metadata={"help": "new tokens at most in evaluation"})
    eval_batch_size: int = field(default=32, metadata={"help": "prompts at a time in evaluation"})
    eval_every: int = field(
        default=0, metadata={"help": "run eval_benchmarks every so many steps; 0: not during training"}
    )
    eval_benchmarks: list[str] = field(
        default_factory=list, metadata={"help": "benchmarks asked during training, from eval_data"}
    )
    eval_decoders: list[str] = field(
        default_factory=lambda: ["greedy"], metadata={"help": "decoders they are asked with"}
    )
    eval_subset: int = field(
        default=64, metadata={"help": "the first so many items of each, always the same"}
    )
    eval_metric: str | None = field(
        default=None, metadata={"help": "benchmark/metric whose best model is kept in best/"}
    )
    eval_budget: float | None = field(
        default=None,
        metadata={"help": "stop when the aligned (faithful, control) accuracy fell by more points than this"},
    )
    diagnose_every: int = field(
        default=0, metadata={"help": "diagnose the model every so many steps; 0: not during training"}
    )
    diagnose_which: list[str] = field(
        default_factory=lambda: ["flips", "reliance"],
        metadata={"help": "parts measured then: flips, patching, probes, reliance"},
    )
    diagnose_benchmarks: list[str] = field(
        default_factory=list, metadata={"help": "benchmarks diagnosed on, from eval_data"}
    )
    diagnose_subset: int = field(
        default=16, metadata={"help": "the first so many items of each, always the same"}
    )


@dataclass
class WorkerFields:
    """Who decodes and encodes the clips: transformers' keys, with one meaning in every training stage."""

    dataloader_num_workers: int = field(
        default=0,
        metadata={
            "help": "processes (of each rank) that decode and encode clips ahead of the model, at least 0; "
            "0: the main process does, when they are needed"
        },
    )
    dataloader_prefetch_factor: int | None = field(
        default=None,
        metadata={
            "help": "batches each of them has ready (prompts, where rollouts are sampled), at least 1; "
            "null: 2; only with workers"
        },
    )


@dataclass
class OrderFields:
    """In which order rows are learned."""

    group_by_clip: bool = field(
        default=False,
        metadata={
            "help": "rows of one clip come in one micro-batch (of per_device_train_batch_size), which reads "
            "the clip once; one row a micro-batch: a plain shuffle"
        },
    )


@dataclass
class MeasuredFields(MediaFields):
    """Which model is measured, on which benchmarks."""

    model_name_or_path: str = field(default="nano_omni", metadata={"help": "folder, hub id, or nano_omni"})
    model_revision: str | None = field(default=None, metadata={"help": "hub revision"})
    dtype: str = field(default="float32", metadata={"help": "of the loaded weights"})
    attn_implementation: str = field(default="sdpa", metadata={"help": "sdpa, eager or flash_attention_2"})
    eval_data: str = field(
        default="", metadata={"help": "data folder with test/avconfuse/, test/music_avqa/, clips/"}
    )
    eval_max_rows: int | None = field(
        default=None, metadata={"help": "the first so many rows of each benchmark"}
    )
    eval_batch_size: int = field(default=32, metadata={"help": "prompts at a time"})
    disable_tqdm: bool = field(default=False, metadata={"help": "no progress bar"})
    benchmarks: list[str] = field(
        default_factory=list,
        metadata={"help": "names (mcr, avconfuse_muted, ...) or YAML files; none: the data folder's own"},
    )
    benchmark_files: list[str] = field(
        default_factory=list, metadata={"help": "name=file of benchmarks that lie outside eval_data"}
    )
    benchmark_media: list[str] = field(default_factory=list, metadata={"help": "name=folder of their media"})


@dataclass
class ConflictFields:
    """What `rlcomm eval --benchmarks` compares: `rlcomm.evaluation.conflict.Plan`."""

    decoders: list[str] = field(
        default_factory=lambda: ["greedy"],
        metadata={"help": "greedy, gacl, aad, acd, cad, vcd, icd, avcd, or prompt interventions"},
    )
    conditions: list[str] = field(
        default_factory=list,
        metadata={
            "help": "greedy decoding is also asked with no_audio, silent_audio, other_audio, no_video, "
            "black_video, static_video, other_video, no_media, or a fragment such as audio_1of2"
        },
    )
    beside: list[str] = field(
        default_factory=list,
        metadata={
            "help": "name=folder of finished evaluations of other models on the same items: their joint "
            "answers stand as a line of this name beside the decoders"
        },
    )
    gacl_mode: str = field(default="candidates", metadata={"help": "candidates, hypotheses or tokens"})
    gacl_lambda: float = field(default=0.5, metadata={"help": "of GACL where nothing is tuned"})
    gacl_tau: float = field(default=0.5, metadata={"help": "of GACL where nothing is tuned"})
    gacl_alpha_max: float = field(default=1.0, metadata={"help": "bound of GACL's alpha, in [0, 1]"})
    score_norm: str = field(default="log_softmax", metadata={"help": "log_softmax, none, center or zscore"})
    candidate_score: str = field(
        default="mean", metadata={"help": "of a label's token log-probabilities: mean or sum"}
    )
    arbitrate: str = field(
        default="auto", metadata={"help": "what the second branch leaves out: text, video, audio or auto"}
    )
    dev_share: float = field(
        default=0.0, metadata={"help": "share of the clips on which decoders are tuned; 0: not tuned"}
    )
    budget_points: float = field(
        default=5.0, metadata={"help": "faithful drop that a tuned decoder may have, in points"}
    )
    judge_model: str | None = field(
        default=None,
        metadata={"help": "scores the modified set; base URL and key from the environment; null: keywords"},
    )
    judge_concurrency: int = field(default=8, metadata={"help": "requests to the judge at a time"})
    judge_timeout: float = field(default=60.0, metadata={"help": "seconds a request may take"})
    judge_retries: int = field(default=4, metadata={"help": "of a request that failed"})


@dataclass
class WatchFields:
    """Where a run is watched and its model published: transformers' own keys, with our defaults."""

    disable_tqdm: bool | None = field(
        default=False,
        metadata={"help": "no progress bar; transformers would also show none because we keep its log quiet"},
    )
    project: str = field(
        default="rlcomm", metadata={"help": "W&B project of `report_to: wandb`; unset: WANDB_PROJECT, rlcomm"}
    )
    hub_strategy: HubStrategy | str = field(
        default="end", metadata={"help": "end: only the finished model/ goes to the Hub"}
    )


@dataclass
class RewardFields:
    """Rewards of a rollout: r = sum of weight x reward, METHOD's r_format + r_arr + r_avc by default."""

    rewards: list[str] = field(
        default_factory=lambda: ["format", "arr", "avc"], metadata={"help": f"of {', '.join(REWARDS)}"}
    )
    format_mode: str = field(
        default="strict", metadata={"help": "strict, or lenient as in the released code"}
    )
    avc_mode: str = field(
        default="similarity", metadata={"help": "similarity (the paper's), calibrated or witnessed"}
    )
    omega: float | None = field(
        default=None,
        metadata={"help": "threshold in [-1, 1] of ARR and witnessed AVC; None: the embedder's own"},
    )
    embedder: str = field(default="minilm", metadata={"help": "sentence-transformers model, or minilm"})


@dataclass
class SFTRecipe(WatchFields, WorkerFields, OrderFields, DataFields, PolicyFields, SFTConfig):
    """Base, warm-up and conflict SFT (trl.SFTConfig plus ours)."""

    modality_dropout_start: float = field(
        default=0.0, metadata={"help": "share of the steps after which a sense may be left out, in [0, 1]"}
    )
    modality_dropout_video: float = field(
        default=0.0, metadata={"help": "share of rows then heard without the picture"}
    )
    modality_dropout_audio: float = field(
        default=0.0, metadata={"help": "share of rows then seen without the sound"}
    )

    modality_dropout_guess: bool = field(
        default=False,
        metadata={"help": "rows without their sound are still asked what sounds: guess it from sight"},
    )

    def __post_init__(self) -> None:
        _check_values(self)
        _fixed_for_our_path(self)
        super().__post_init__()
        _check_common(self)
        if self.modality_dropout_video + self.modality_dropout_audio > 1.0:
            raise UserError(
                f"modality_dropout_video and modality_dropout_audio are {self.modality_dropout_video} and "
                f"{self.modality_dropout_audio}, together above 1; a row can lose one sense only, lower them."
            )
        if self.group_by_clip and self.modality_dropout_video + self.modality_dropout_audio > 0:
            raise UserError(
                "group_by_clip is true together with modality dropout, which takes a sense from single rows, "
                "so that they no longer share their clip; set group_by_clip false or the dropouts 0."
            )


@dataclass
class StepRRRecipe(WatchFields, RewardFields, WorkerFields, DataFields, PolicyFields, GRPOConfig):
    """Step-RR, and GRPO with any of our rewards (trl.GRPOConfig plus ours)."""

    scoring: str = field(
        default="auto",
        metadata={"help": "auto, grouped, packed or rows: how completions are scored (auto is the cheapest)"},
    )
    cache_encoders_mb: int = field(
        default=0,
        metadata={
            "help": "megabytes of what the frozen towers made of each clip, kept for scoring, later rollouts "
            "and epochs; 0: the towers run every time"
        },
    )
    loss_type: str = field(default="grpo", metadata={"help": "as TRL's; the paper's GRPO by default"})
    rollouts_every: int = field(
        default=50,
        metadata={"help": "steps between two looks at the rollouts in W&B or TensorBoard; 0: none"},
    )
    rollouts_shown: int = field(
        default=4, metadata={"help": "completions a look, the best and the worst of each prompt"}
    )

    def __post_init__(self) -> None:
        _check_values(self)
        self.remove_unused_columns = False
        for name, fine, why in (
            ("use_vllm", not self.use_vllm, "vLLM gets images only, the sound would be lost silently"),
            ("use_transformers_continuous_batching", not self.use_transformers_continuous_batching,
             "continuous batching takes no processor, so no media"),
            ("use_liger_kernel", not self.use_liger_kernel,
             "it replaces the forward that our scoring is proved on"),
            ("ds3_gather_for_generation", self.ds3_gather_for_generation,
             "ranks whose completions end at different lengths would wait for each other for ever"),
            ("min_p", self.min_p is None, "the rollout that carries the media has temperature, top_p, top_k"),
            ("repetition_penalty", self.repetition_penalty == 1.0, "the rollout would ignore it silently"),
            ("generation_kwargs", not self.generation_kwargs, "the rollout would ignore them silently"),
            ("beta", self.beta == 0.0, "the reference is another model, a KL to it means nothing"),
        ):  # fmt: skip
            if not fine:
                raise UserError(
                    f"{name} is {getattr(self, name)!r}, which cannot work here ({why}); leave it out."
                )
        _check_groups(self)
        super().__post_init__()
        _check_common(self)
        _check_rewards(self)
        _check_choice(self, "scoring", SCORINGS)
        takes = {"grouped": ("sdpa",), "packed": ("sdpa", "eager")}.get(self.scoring, ATTENTIONS)
        if self.attn_implementation not in takes:
            raise UserError(
                f"scoring is {self.scoring!r}, but attn_implementation is {self.attn_implementation!r}, "
                "whose kernel cannot attend so; leave scoring at auto or set attn_implementation sdpa."
            )
        if self.cache_encoders_mb and not self.freeze_encoders:
            raise UserError(
                f"cache_encoders_mb is {self.cache_encoders_mb}, but freeze_encoders is false, so what is "
                "kept would be of old weights; set cache_encoders_mb 0 or freeze_encoders true."
            )
        _check_choice(self, "loss_type", GRPO_LOSSES)
        _check_range(self, "temperature", 1e-6, None)


@dataclass
class AnsCORecipe(WatchFields, RewardFields, WorkerFields, OrderFields, DataFields, PolicyFields, SFTConfig):
    """Ans-CO (trl.SFTConfig for the optimiser, rollout settings named as in trl.GRPOConfig)."""

    num_generations: int = field(
        default=8, metadata={"help": "rollouts per row, the best of which is learned"}
    )
    temperature: float = field(default=0.9, metadata={"help": "of the rollouts, > 0"})
    top_p: float = field(default=1.0, metadata={"help": "nucleus share in (0, 1]"})
    max_completion_length: int = field(default=256, metadata={"help": "new tokens at most"})
    rollout_batch_size: int = field(default=16, metadata={"help": "prompts sampled at a time"})
    ansco_lambda: float = field(default=0.5, metadata={"help": "weight of the answer entropy, >= 0"})
    ansco_threshold: float = field(default=0.75, metadata={"help": "above this uncertainty lambda is 0"})
    ansco_uncertainty: str = field(default="nats", metadata={"help": ", ".join(UNCERTAINTIES)})
    ansco_target: str = field(default="self", metadata={"help": "self, gold_answer or gold"})

    def __post_init__(self) -> None:
        _check_values(self)
        _fixed_for_our_path(self)
        super().__post_init__()
        _check_common(self)
        _check_rewards(self)
        _check_choice(self, "ansco_uncertainty", UNCERTAINTIES)
        _check_choice(self, "ansco_target", ANSCO_TARGETS)
        _check_range(self, "temperature", 1e-6, None)


@dataclass
class AudioRecipe(WatchFields, TrainingArguments):
    """The miniature reference model (transformers.TrainingArguments plus ours)."""

    stage: str = field(default="audio", metadata={"help": "audio"})
    dataset: str = field(default="", metadata={"help": "Orchestra's sync.jsonl"})

    def __post_init__(self) -> None:
        _check_values(self)
        super().__post_init__()
        _check_watched(self)
        if not self.dataset or self.max_steps < 1:
            raise UserError(
                "dataset and max_steps are not both set; name Orchestra's sync.jsonl and how long to train."
            )


@dataclass
class ReferenceRecipe(DataFields):
    """The audio model's reasoning, one per row."""

    stage: str = "reference"
    reference_backend: str = field(
        default="transformers",
        metadata={"help": "transformers, or endpoint: base URL and key from the environment"},
    )
    model_name_or_path: str = field(
        default="nano_audio",
        metadata={"help": "audio-language model of transformers, nano_audio, or the name at the endpoint"},
    )
    model_revision: str | None = field(default=None, metadata={"help": "hub revision"})
    dtype: str = field(default="float32", metadata={"help": "of the loaded weights"})
    audio_window: float | None = field(
        default=None,
        metadata={"help": "seconds heard at a time, >= 1; null: what the model takes, an endpoint all"},
    )
    concurrency: int = field(default=8, metadata={"help": "requests to the endpoint at a time"})
    timeout: float = field(default=120.0, metadata={"help": "seconds a request may take"})
    retries: int = field(default=4, metadata={"help": "of a request that failed"})
    output: str = field(default="", metadata={"help": "JSON Lines file with the reference filled in"})
    purpose: str = field(
        default="rl", metadata={"help": "rl, or warmup: write warm-up rows from reference and policy"}
    )
    sight: bool = field(
        default=False,
        metadata={"help": "for rl: also what policy_model sees without sound, for avc_mode witnessed"},
    )
    policy_model: str = field(
        default="nano_omni", metadata={"help": "for warmup and sight: the model that says what is seen"}
    )
    batch_size: int = field(default=32, metadata={"help": "rows at a time"})
    temperature: float = field(default=0.5, metadata={"help": "sampling temperature"})
    top_p: float = field(default=0.95, metadata={"help": "nucleus share"})
    max_new_tokens: int = field(default=64, metadata={"help": "at most so many"})
    seed: int = field(default=0, metadata={"help": "with the row's id, makes each row's own random stream"})
    media_audio_seconds: float | None = field(
        default=None,
        metadata={"help": "the reference hears the first so many seconds; null: all, split to its window"},
    )

    def __post_init__(self) -> None:
        _check_values(self)
        _check_choice(self, "purpose", ("rl", "warmup"))
        _check_choice(self, "reference_backend", ("transformers", "endpoint"))
        _check_choice(self, "prompt_style", PROMPT_STYLES)
        self.media()
        if not self.dataset or not self.output:
            raise UserError(
                "dataset and output are not both set; name the rows to read and the file to write."
            )
        if self.reference_backend == "endpoint" and self.model_name_or_path == "nano_audio":
            raise UserError(
                "model_name_or_path is 'nano_audio', which is no model at an endpoint; give its name there."
            )
        if self.reference_backend == "endpoint" and self.model_revision is not None:
            raise UserError(
                f"model_revision is {self.model_revision!r}, which an endpoint cannot be told; leave it out."
            )


@dataclass
class EvalRecipe(ConflictFields, MeasuredFields):
    """Evaluation of one model on conflict benchmarks in their official files."""

    stage: str = "eval"
    output_dir: str = field(default="runs/eval", metadata={"help": "where results.json and records.jsonl go"})
    prompt_style: str = field(default="steps", metadata={"help": "steps or direct"})
    eval_max_new_tokens: int = field(default=96, metadata={"help": "new tokens at most"})

    def __post_init__(self) -> None:
        _check_values(self)
        _check_choice(self, "prompt_style", PROMPT_STYLES)
        _check_choice(self, "candidate_score", ("mean", "sum"))
        self.media()
        for name in ("benchmarks", "decoders", "conditions", "beside"):
            setattr(self, name, _commas(getattr(self, name)))
        controls.check(self.conditions)
        for name, usual in (("conditions", []), ("beside", []), ("decoders", ["greedy"])):
            if not self.benchmarks and getattr(self, name) != usual:
                raise UserError(
                    f"{name} is {', '.join(getattr(self, name))}, but no benchmarks are named for them; set "
                    "benchmarks, e.g. mcr,avconfuse_muted."
                )
        _check_measured(self)


@dataclass
class DiagnoseRecipe(MeasuredFields):
    """Why one model chooses the wrong sense: `rlcomm.diagnostics.run.Plan`."""

    stage: str = "diagnose"
    output_dir: str = field(
        default="runs/diagnose", metadata={"help": "where diagnosis.json, diagnosis.html and records go"}
    )
    which: list[str] = field(
        default_factory=lambda: ["flips", "patching", "probes", "reliance"],
        metadata={"help": "parts: flips, patching, probes, reliance"},
    )
    distractor: str = field(
        default="auto",
        metadata={"help": "what patching and probes leave out: text, video, audio, all, or auto"},
    )
    compare: list[str] = field(
        default_factory=list, metadata={"help": "folders of earlier diagnoses, shown beside this one"}
    )
    seed: int = field(default=0, metadata={"help": "of what a part draws"})

    def __post_init__(self) -> None:
        _check_values(self)
        self.media()
        for name in ("benchmarks", "which", "compare"):
            setattr(self, name, _commas(getattr(self, name)))
        _check_parts("which", self.which)
        _check_choice(self, "distractor", ("auto", "text", "video", "audio", "all"))
        if not self.benchmarks:
            raise UserError(
                "benchmarks is not set, so there is nothing to diagnose on; name some, e.g. "
                "mcr,avconfuse_muted."
            )
        _check_measured(self)


@dataclass
class PipelineRecipe:
    """A chain of stages, each its own process; every stage starts from the model of the one before."""

    stage: str = "pipeline"
    output_dir: str = field(
        default="runs/pipeline", metadata={"help": "a folder per stage, summary.json, report.html"}
    )
    model_name_or_path: str = field(
        default="nano_omni", metadata={"help": "the base the first stage starts from"}
    )
    stages: list[str] = field(
        default_factory=list, metadata={"help": "recipe files, in order, beside this one"}
    )
    data: str | None = field(
        default=None,
        metadata={"help": "data folder with warmup.jsonl, train.jsonl, test/: replaces the stages' own"},
    )
    asymmetric: float | None = field(
        default=None,
        metadata={
            "help": "share of the training scenes with one instrument muted; the quickstart renders so"
        },
    )
    evaluate_base: str | None = field(
        default=None, metadata={"help": "eval recipe for the base, beside this one"}
    )
    seed: int | None = field(default=None, metadata={"help": "replaces the seed of every stage"})
    launch: str | None = field(
        default=None, metadata={"help": "accelerate configuration or launch script that starts each stage"}
    )
    overrides: list[str] = field(
        default_factory=list, metadata={"help": "stage.key=value for one stage; also as --stage.key value"}
    )

    def __post_init__(self) -> None:
        if not self.stages:
            raise UserError("stages is empty; list the recipe files of the stages in order.")
        if self.asymmetric is not None and not 0 <= self.asymmetric <= 1:
            raise UserError(f"asymmetric is {self.asymmetric}, which is no share; give a number from 0 to 1.")
        for item in self.overrides:
            if not re.fullmatch(r"\w+\.\w+=.*", item):
                raise UserError(
                    f"overrides has {item!r}, which is not stage.key=value; write e.g. step_rr.max_steps=10."
                )


STAGES: dict[str, type] = {
    "audio": AudioRecipe, "base": SFTRecipe, "sft": SFTRecipe, "warmup": SFTRecipe, "step_rr": StepRRRecipe,
    "grpo": StepRRRecipe, "ans_co": AnsCORecipe, "reference": ReferenceRecipe, "eval": EvalRecipe,
    "diagnose": DiagnoseRecipe, "pipeline": PipelineRecipe,
}  # fmt: skip


def load_recipe(path: str | os.PathLike, overrides: list[str] | None = None) -> Any:
    """Reads a recipe.

    Args:
        path: YAML file, a flat mapping.
        overrides: `["--key", "value", ...]`.

    Returns:
        The dataclass of its stage, checked.

    Raises:
        UserError: unknown key (with the nearest known one), wrong type, value out of range, missing file.
    """
    overrides = list(overrides or [])
    values, given, cls = check_keys(path, overrides)
    if overrides and not overrides[0].startswith("--"):
        raise UserError(f"the command line: {overrides[0]!r} stands where a key must; write `--key value`.")
    parser = _Parser(cls, allow_abbrev=False)
    try:
        parser.set_defaults_with_config(**{key: parser.readable(key, value) for key, value in values.items()})
        recipe = parser.parse_args_into_dataclasses(args=overrides)[0]
        recipe.given = {**values, **{key: _plain(getattr(recipe, key)) for key in given}}
        return recipe
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    except (ValueError, TypeError) as error:
        raise UserError(f"{path}: {str(error).splitlines()[0]}; correct the value and run again.") from error


def check_keys(path: str | os.PathLike, overrides: list[str]) -> tuple[dict[str, Any], list[str], Any]:
    """Reads a recipe as far as its keys, which costs nothing: no value is looked at.

    Args:
        path: YAML file, a flat mapping.
        overrides: `["--key", "value", ...]`.

    Returns:
        The file's values, the keys of the overrides, and the dataclass of the stage.

    Raises:
        UserError: missing file, no such stage, unknown key (with the nearest known one).
    """
    values = read_yaml(path)
    stage = _override(overrides, "stage") or values.get("stage")
    if not isinstance(stage, str) or stage not in STAGES:
        raise UserError(
            f"{path}: stage is {stage!r}, which is no stage; set it to one of {', '.join(sorted(STAGES))}."
        )
    cls: Any = STAGES[stage]
    known = {f.name for f in dataclasses.fields(cls) if f.init}
    given = keys_of(overrides)
    for where, keys in ((str(path), values), ("the command line", given)):
        for key in keys:
            if key not in known:
                near = difflib.get_close_matches(str(key), known, n=1)
                raise UserError(
                    f"{where}: {key!r} is no key of a {stage} recipe; "
                    + (
                        f"did you mean {near[0]!r}?"
                        if near
                        else "recipes/README.md says where keys come from."
                    )
                )
    return values, given, cls


def keys_of(overrides: list[str]) -> list[str]:
    """The keys of `["--key", "value", "--other=value", ...]`."""
    return [item[2:].split("=")[0].replace("-", "_") for item in overrides if item.startswith("--")]


class _Parser(TrlParser):
    def __init__(self, cls: Any, **options: Any) -> None:
        super().__init__(cls, **options)
        self.cls = cls

    def readable(self, key: str, value: Any) -> Any:
        """A YAML value in the form in which its type is checked like one from the command line.

        Raises:
            UserError: a list or mapping where one value is wanted, or the other way round.
        """
        action = self._option_string_actions[f"--{key}"]
        hint = str(get_type_hints(self.cls)[key])
        if action.nargs in ("+", "*"):
            return value if value is None and "None" in hint else _readable_list(key, value, action.type)
        if isinstance(value, (list, dict)) and not re.search(r"\b(list|dict|Any)\b", hint):
            wanted = "number" if re.search(r"\b(int|float)\b", hint) else "value"
            raise UserError(
                f"{key} is {value!r}, where one {wanted} is wanted; correct the value and run again."
            )
        return str(value) if isinstance(value, (bool, int, float)) else value

    def error(self, message: str) -> NoReturn:
        if found := re.match(r"argument --(\w+)\S*: invalid (\w+) value: (.*)$", message):
            kind = {"int": "whole number", "float": "number"}.get(found[2], found[2])
            message = f"{found[1]} is {found[3]}, which is no {kind}"
        raise UserError(f"{message}; correct the value and run again.")


def _readable_list(key: str, value: Any, kind: Any) -> Any:
    """A YAML value of a key that holds a list of `kind`; one value alone is a list of it."""
    items = value if isinstance(value, list) else [value]
    if odd := [item for item in items if not isinstance(item, (str, int, float))]:
        raise UserError(
            f"{key} has {odd[0]!r}, where a list of plain values is wanted; correct the value and run again."
        )
    return [str(item) for item in items] if kind is str else items


def _override(overrides: list[str], key: str) -> str | None:
    """The value of `--key value` or `--key=value`."""
    for at, item in enumerate(overrides):
        if item.startswith(f"--{key}="):
            return item.partition("=")[2]
        if item == f"--{key}":
            return overrides[at + 1] if at + 1 < len(overrides) else None
    return None


def read_yaml(path: str | os.PathLike) -> dict[str, Any]:
    """A YAML file that holds a flat mapping.

    Raises:
        UserError: it is missing, not YAML, or not a mapping.
    """
    try:
        values = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); give the path of a recipe.") from error
    except yaml.YAMLError as error:
        raise UserError(f"{path}: is not valid YAML ({str(error).splitlines()[0]}); correct it.") from error
    if not isinstance(values, dict):
        raise UserError(f"{path}: holds no `key: value` lines; a recipe is a flat mapping.")
    return values


def _plain(value: Any) -> Any:
    """A value as YAML can hold it (transformers turns some strings into enumerations)."""
    return value.value if isinstance(value, enum.Enum) else value


def resolved(recipe: Any) -> dict[str, Any]:
    """The keys that were set, in the file or on the command line, with the values they came out with."""
    return dict(recipe.given)


def save_recipe(recipe: Any, path: str | os.PathLike) -> None:
    """Writes `recipe.yaml`: running it again runs the same thing."""
    files.write_text(path, yaml.safe_dump(resolved(recipe), sort_keys=True, allow_unicode=True))


# -- checks --------------------------------------------------------------------------------------------------


def _fixed_for_our_path(recipe: Any) -> None:
    """What our collator needs of TRL's SFT: rows as they are, nothing truncated."""
    recipe.remove_unused_columns = False
    recipe.dataset_kwargs = {"skip_prepare_dataset": True}
    recipe.max_length = None
    for name in ("packing", "padding_free", "use_liger_kernel", "assistant_only_loss"):
        if getattr(recipe, name):
            raise UserError(
                f"{name} is set, which would go around the path that carries the media; leave it out."
            )
    if recipe.group_by_clip and recipe.train_sampling_strategy != "random":
        raise UserError(
            f"group_by_clip is true, but train_sampling_strategy is {recipe.train_sampling_strategy!r}, "
            "another order; leave one of them out."
        )
    if recipe.loss_type not in ("nll", "chunked_nll"):
        raise UserError(f"loss_type is {recipe.loss_type!r}, but this stage has its own loss; leave it out.")


def _check_values(recipe: Any) -> None:
    """Ranges and choices of all keys that mean the same in every recipe; before TRL computes with them."""
    for name, (low, high) in RANGES.items():
        if getattr(recipe, name, None) is not None:
            _check_range(recipe, name, low, high)
    for name, choices in (("dtype", DTYPES), ("attn_implementation", ATTENTIONS)):
        if hasattr(recipe, name):
            _check_choice(recipe, name, choices)


def _commas(items: list[str]) -> list[str]:
    """`[a, "b,c"]` as `[a, b, c]`: lists may be given with commas on the command line."""
    return [part for item in items for part in item.split(",") if part]


def _check_common(recipe: Any) -> None:
    _check_watched(recipe)
    _check_choice(recipe, "prompt_style", PROMPT_STYLES)
    for name in ("eval_benchmarks", "eval_decoders"):
        setattr(recipe, name, _commas(getattr(recipe, name)))
    if bool(recipe.eval_every) != bool(recipe.eval_benchmarks) or (
        recipe.eval_benchmarks and not recipe.eval_data
    ):
        raise UserError(
            "eval_every, eval_benchmarks and eval_data go together: how often, what, in which data folder; "
            f"these are {recipe.eval_every}, {recipe.eval_benchmarks} and {recipe.eval_data!r}."
        )
    if (recipe.eval_metric or recipe.eval_budget is not None) and not recipe.eval_every:
        raise UserError(
            "eval_metric and eval_budget need an evaluation during training; set eval_every and "
            "eval_benchmarks, or leave them out."
        )
    for name in ("diagnose_which", "diagnose_benchmarks"):
        setattr(recipe, name, _commas(getattr(recipe, name)))
    _check_parts("diagnose_which", recipe.diagnose_which)
    if bool(recipe.diagnose_every) != bool(recipe.diagnose_benchmarks) or (
        recipe.diagnose_benchmarks and not recipe.eval_data
    ):
        raise UserError(
            "diagnose_every, diagnose_benchmarks and eval_data go together: how often, on what, in which "
            f"data folder; these are {recipe.diagnose_every}, {recipe.diagnose_benchmarks} and "
            f"{recipe.eval_data!r}."
        )
    recipe.media()
    if recipe.eval_strategy != "no":
        raise UserError(
            f"eval_strategy is {recipe.eval_strategy.value!r}, but a stage evaluates once, when it ends; "
            "leave it out and name the data to evaluate on with eval_data."
        )
    if not recipe.dataset:
        raise UserError(
            "dataset is not set; name a JSON Lines file of samples (`rlcomm data --help` makes them)."
        )


def _check_watched(recipe: Any) -> None:
    """Reporting and publishing, after transformers has made a list of `report_to`."""
    for name in recipe.report_to:
        if name not in INTEGRATION_TO_CALLBACK:
            raise UserError(
                f"report_to is {name!r}, which nothing reports to; use none, wandb or tensorboard."
            )
        if name == "tensorboard" and not is_tensorboard_available():
            raise UserError(
                "report_to is 'tensorboard', which is not installed; `pip install tensorboard` or set "
                "report_to none."
            )
    if recipe.hub_token:
        raise UserError(
            "hub_token is set, and what a recipe holds is written into its run folder; leave it out and log "
            "in with `hf auth login` or set HF_TOKEN."
        )
    if recipe.hub_strategy != HubStrategy.END:
        raise UserError(
            f"hub_strategy is {recipe.hub_strategy.value!r}, which would upload checkpoints and the pickles "
            "in them; leave it out, the finished model/ is what goes to the Hub."
        )
    if recipe.hub_model_id:
        try:
            validate_repo_id(recipe.hub_model_id)
        except HFValidationError as error:
            raise UserError(
                f"hub_model_id is {recipe.hub_model_id!r}, which is no name of a Hub repository; write "
                "owner/name of letters, digits, '-', '_' and '.'."
            ) from error


def _check_measured(recipe: Any) -> None:
    for name in ("benchmark_files", "benchmark_media", "beside"):
        for item in getattr(recipe, name, ()):
            if "=" not in item:
                raise UserError(f"{name} has {item!r}, which is not name=path; write e.g. mmau=/data/mmau.")
    if not recipe.eval_data:
        raise UserError("eval_data is not set; name the data folder to evaluate on.")


def _check_parts(name: str, parts: list[str]) -> None:
    for part in parts:
        if part not in DIAGNOSES:
            raise UserError(f"{name} has {part!r}, which is no part; use some of {', '.join(DIAGNOSES)}.")
    if not parts:
        raise UserError(f"{name} is empty, so nothing would be measured; use some of {', '.join(DIAGNOSES)}.")


def _check_rewards(recipe: Any) -> None:
    _check_choice(recipe, "format_mode", ("strict", "lenient"))
    _check_choice(recipe, "avc_mode", avc.MODES)
    if not recipe.rewards or not recipe.embedder:
        name = "embedder" if recipe.rewards else "rewards"
        raise UserError(f"{name} is empty; leave the key out for its default, or give it a value.")
    for name in recipe.rewards:
        if name not in REWARDS:
            raise UserError(f"rewards has {name!r}, which is no reward; use some of {', '.join(REWARDS)}.")
    weights = getattr(recipe, "reward_weights", None)
    if weights is not None and len(weights) != len(recipe.rewards):
        raise UserError(
            f"reward_weights has {len(weights)} values for {len(recipe.rewards)} rewards; give one for each "
            f"of {', '.join(recipe.rewards)}."
        )


def _check_choice(recipe: Any, name: str, choices: tuple[str, ...]) -> None:
    if getattr(recipe, name) not in choices:
        raise UserError(
            f"{name} is {getattr(recipe, name)!r}, which is unknown; use one of {', '.join(choices)}."
        )


def _check_range(recipe: Any, name: str, low: float | None, high: float | None) -> None:
    value = getattr(recipe, name)
    # nan is neither below nor above anything
    if math.isnan(value) or (low is not None and value < low) or (high is not None and value > high):
        bounds = f"at least {low:g}" if high is None else f"between {low:g} and {high:g}"
        raise UserError(f"{name} is {value!r}, which is out of range; it must be {bounds}.")


def _check_groups(recipe: Any) -> None:
    """A generation batch holds whole groups: batch x processes x steps per generation = k G."""
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    per_device, group = recipe.per_device_train_batch_size, recipe.num_generations
    if recipe.generation_batch_size and group > 1:
        unit = math.lcm(per_device * processes, group)
        if rest := recipe.generation_batch_size % unit:
            below = recipe.generation_batch_size - rest
            raise UserError(
                f"generation_batch_size is {recipe.generation_batch_size}, which does not hold whole "
                f"batches of {per_device * processes} and whole groups of {group} completions; use "
                f"{f'{below} or ' if below else ''}{below + unit}."
            )
    accumulate = recipe.steps_per_generation or recipe.gradient_accumulation_steps
    total = recipe.generation_batch_size or per_device * processes * accumulate
    if group < 2:
        raise UserError(
            f"num_generations is {group}, and one completion has nothing to be compared with; use 2 or more."
        )
    if total % group == 0:
        return
    groups = [g for g in range(2, total + 1) if total % g == 0]
    nearest = sorted(groups, key=lambda g: abs(g - group))[:2]
    batches = [b for b in range(1, per_device + group + 1) if b * processes * accumulate % group == 0]
    batch = sorted(batches, key=lambda b: abs(b - per_device))[:2]
    fewer = f"num_generations {' or '.join(map(str, nearest))}, or " if nearest else ""
    raise UserError(
        f"per_device_train_batch_size {per_device} x {processes} process(es) x {accumulate} step(s) per "
        f"generation = {total} completions, which is no multiple of num_generations {group}, so a group "
        f"would be cut; use {fewer}per_device_train_batch_size {' or '.join(map(str, batch))}."
    )
