"""rlcomm: RL fine-tuning for modality-balanced omni models. Its parts, for scripts of your own.

    rows and clips    Sample, Turn, read_jsonl, MediaSettings, Clip, load_clip
    models            Policy, load_policy, EncodedPrompt, encode, generate, score
    completions       Steps, parse
    rewards           format_reward, arr_reward, avc_reward, accuracy_reward; Embedder; trl_rewards, audit
    decoding          of scores: gacl, gacl_tokens, GACLSettings, contrast, avcd
                      of a model: decode_label, decode_text
    evaluation        benchmarks, open_benchmarks, evaluate

Every name is imported when it is first used, so that `import rlcomm` costs nothing.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rlcomm.data.clips import load_clip
    from rlcomm.data.media import Clip, MediaSettings
    from rlcomm.data.sample import Sample, Turn, read_jsonl
    from rlcomm.decoding.contrastive import avcd, contrast
    from rlcomm.decoding.gacl import Settings as GACLSettings
    from rlcomm.decoding.gacl import arbitrate as gacl
    from rlcomm.decoding.gacl import arbitrate_tokens as gacl_tokens
    from rlcomm.decoding.models import decode_label, decode_text
    from rlcomm.diagnostics.audit import audit_rewards as audit
    from rlcomm.evaluation.catalog import KINDS as benchmarks
    from rlcomm.evaluation.catalog import open_sets as open_benchmarks
    from rlcomm.evaluation.generated import evaluate
    from rlcomm.omni.encode import EncodedPrompt, encode
    from rlcomm.omni.policy import Policy, load_policy
    from rlcomm.omni.rollout import generate
    from rlcomm.omni.score import score
    from rlcomm.rewards.accuracy import score as accuracy_reward
    from rlcomm.rewards.adapters import trl_rewards
    from rlcomm.rewards.arr import score as arr_reward
    from rlcomm.rewards.avc import score as avc_reward
    from rlcomm.rewards.embed import Embedder
    from rlcomm.rewards.format import score as format_reward
    from rlcomm.steps import Steps, parse

# name -> (module, its name there); the imports above say the same to type checkers, and a test holds the two
# together.
_PUBLIC = {
    "Clip": ("rlcomm.data.media", "Clip"),
    "Embedder": ("rlcomm.rewards.embed", "Embedder"),
    "EncodedPrompt": ("rlcomm.omni.encode", "EncodedPrompt"),
    "GACLSettings": ("rlcomm.decoding.gacl", "Settings"),
    "MediaSettings": ("rlcomm.data.media", "MediaSettings"),
    "Policy": ("rlcomm.omni.policy", "Policy"),
    "Sample": ("rlcomm.data.sample", "Sample"),
    "Steps": ("rlcomm.steps", "Steps"),
    "Turn": ("rlcomm.data.sample", "Turn"),
    "accuracy_reward": ("rlcomm.rewards.accuracy", "score"),
    "arr_reward": ("rlcomm.rewards.arr", "score"),
    "audit": ("rlcomm.diagnostics.audit", "audit_rewards"),
    "avc_reward": ("rlcomm.rewards.avc", "score"),
    "avcd": ("rlcomm.decoding.contrastive", "avcd"),
    "benchmarks": ("rlcomm.evaluation.catalog", "KINDS"),
    "contrast": ("rlcomm.decoding.contrastive", "contrast"),
    "decode_label": ("rlcomm.decoding.models", "decode_label"),
    "decode_text": ("rlcomm.decoding.models", "decode_text"),
    "encode": ("rlcomm.omni.encode", "encode"),
    "evaluate": ("rlcomm.evaluation.generated", "evaluate"),
    "format_reward": ("rlcomm.rewards.format", "score"),
    "gacl": ("rlcomm.decoding.gacl", "arbitrate"),
    "gacl_tokens": ("rlcomm.decoding.gacl", "arbitrate_tokens"),
    "generate": ("rlcomm.omni.rollout", "generate"),
    "load_clip": ("rlcomm.data.clips", "load_clip"),
    "load_policy": ("rlcomm.omni.policy", "load_policy"),
    "open_benchmarks": ("rlcomm.evaluation.catalog", "open_sets"),
    "parse": ("rlcomm.steps", "parse"),
    "read_jsonl": ("rlcomm.data.sample", "read_jsonl"),
    "score": ("rlcomm.omni.score", "score"),
    "trl_rewards": ("rlcomm.rewards.adapters", "trl_rewards"),
}

__all__ = [
    "Clip", "Embedder", "EncodedPrompt", "GACLSettings", "MediaSettings", "Policy", "Sample", "Steps", "Turn",
    "accuracy_reward", "arr_reward", "audit", "avc_reward", "avcd", "benchmarks", "contrast", "decode_label",
    "decode_text", "encode", "evaluate", "format_reward", "gacl", "gacl_tokens", "generate", "load_clip",
    "load_policy", "open_benchmarks", "parse", "read_jsonl", "score", "trl_rewards",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'rlcomm' has no attribute {name!r}")
    # TRL and the omni classes import beside a CPU build of torch only behind this
    importlib.import_module("rlcomm.utils.torchvision_ops")
    module, own = _PUBLIC[name]
    found = globals()[name] = getattr(importlib.import_module(module), own)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
