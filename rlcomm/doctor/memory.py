"""What a training step needs of a device's memory, from a model's configuration alone.

    model on the meta device --(one layer of each stack, traced on fake tensors)--> bytes a layer keeps
    x layers, tokens, weights, optimiser --(formulas of `estimate`)--> peak of a rank

No weight is read and nothing is computed: a layer of the model's own classes runs forward and backward on
fake tensors of the step's true shapes while the bytes alive are counted, so LoRA, autocast, frozen towers and
the attention implementation are counted as they are and not guessed. tests/doctor/test_memory.py compares the
result with the measured peak of real steps.
"""

import math
import weakref
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

import rlcomm.utils.torchvision_ops  # noqa: F401  (before anything that imports torchvision)

import torch  # isort: skip
from peft import get_peft_model
from torch._subclasses import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers.models.qwen2_vl.image_processing_qwen2_vl import smart_resize
from transformers.models.qwen3_omni_moe.processing_qwen3_omni_moe import _get_feat_extract_output_lengths

from rlcomm.data.media import MediaSettings, expected
from rlcomm.omni import grouped
from rlcomm.omni.policy import lora_config, set_trainable, thinker_class

STRATEGIES = ("single", "ZeRO-2", "ZeRO-3", "LoRA")
HOP = 160  # samples a mel frame, of Whisper's extractor at 16 kHz
BUCKET = 500_000_000  # DeepSpeed's reduce_bucket_size, in elements
LIVE = 1_000_000_000  # DeepSpeed's stage3_max_live_parameters
HEAD_ROWS, HEAD_COLUMNS = 4096, 32_768  # buffer of TRL's fused head, so wide for any vocabulary
HEAD_COPIES = {"cuda": 0, "cpu": 7}  # of it in float32: a Triton kernel works in place, torch does not
HEADROOM = 0.9  # share of a device that we fill: the CUDA context and fragmentation take the rest


@dataclass(frozen=True)
class Prompt:
    """Sizes of one prompt and what follows it.

    Attributes:
        words: text tokens, those of the chat template included.
        video_tokens: visual tokens, patches / merge^2.
        audio_tokens: 25 a second of Qwen2.5-Omni, 13 of Qwen3-Omni.
        patches: rows of `pixel_values_videos`.
        mel_frames: frames of the sound, 100 a second.
        completion: tokens behind the prompt.
    """

    words: int
    video_tokens: int
    audio_tokens: int
    patches: int
    mel_frames: int
    completion: int

    @property
    def tokens(self) -> int:
        """P, the length of the prompt."""
        return self.words + self.video_tokens + self.audio_tokens


@dataclass(frozen=True)
class Step:
    """What one rank does between two updates.

    Attributes:
        batch: per_device_train_batch_size.
        group: completions a prompt, G; 1 in SFT.
        scoring: how completions are scored; but for `rows` a prompt is read once for its completions.
        sampled: completions sampled at once; 0: no rollout.
        sampled_group: of them so many share a prompt.
        accumulation: gradient_accumulation_steps.
        checkpointing: gradient_checkpointing.
        autocast: bf16 of the recipe.
        ranks: processes that ZeRO divides over.
        device: "cuda" or "cpu": how the fused head works.
        embedder: bytes of the reward embedder.
    """

    batch: int
    group: int = 1
    scoring: str = "rows"
    sampled: int = 0
    sampled_group: int = 1
    accumulation: int = 1
    checkpointing: bool = False
    autocast: bool = False
    ranks: int = 1
    device: str = "cuda"
    embedder: int = 0


@dataclass(frozen=True)
class Layer:
    """Bytes that one layer of a stack needs for its inputs.

    Attributes:
        hidden: its input.
        kept: what its backward keeps, input and output left out.
        forward: most alive at once in its forward, input left out.
        work: most alive at once in its backward, beyond `kept`; the gradients of its weights included.
    """

    hidden: int
    kept: int
    forward: int
    work: int


class Alive(TorchDispatchMode):
    """Counts the bytes of all storages made inside it and still alive: `now` and `peak`."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._known: dict[int, weakref.ref] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = {id(storage) for storage in _storages((args, kwargs))}
        out = func(*args, **(kwargs or {}))
        for storage in _storages(out):
            key = id(storage)
            if key not in self._known and key not in given:  # neither seen before nor from outside
                self.now += storage.nbytes()
                self.peak = max(self.peak, self.now)
                self._known[key] = weakref.ref(storage, self._forget(key, storage.nbytes()))
        return out

    def _forget(self, key: int, size: int) -> Callable[[Any], None]:
        def forget(_: Any) -> None:
            self._known.pop(key, None)
            self.now -= size

        return forget


def _storages(tree: Any) -> list[Any]:
    return [leaf.untyped_storage() for leaf in tree_leaves(tree) if isinstance(leaf, torch.Tensor)]


# -- model and prompt ----------------------------------------------------------------------------------------


def meta_model(config: Any, dtype: str, attn: str, freeze_encoders: bool, lora: tuple | None = None) -> Any:
    """The thinker of a configuration without a byte of weights, prepared as the stages do.

    Args:
        config: of the whole model or of the thinker.
        dtype: `float32`, `bfloat16` or `float16`.
        attn: attention implementation; `flash_attention_2` keeps what `sdpa` keeps.
        freeze_encoders: as in a recipe.
        lora: (r, alpha, dropout); None: all weights train.

    Raises:
        UserError: it is no omni model that this library reads.
    """
    thinker = thinker_class(config.model_type, config.model_type)
    config = getattr(config, "thinker_config", config)
    with torch.device("meta"):
        model = thinker._from_config(
            config, dtype=getattr(torch, dtype), attn_implementation="eager" if attn == "eager" else "sdpa"
        )
        model.tie_weights()
        set_trainable(model, freeze_encoders)
        return model if lora is None else get_peft_model(model, lora_config(*lora))


def prompt_sizes(
    config: Any, settings: MediaSettings, seconds: float, width: int | None, height: int | None, sound: bool,
    words: int, completion: int,
) -> Prompt:  # fmt: skip
    """Sizes of the prompt of one clip, by the arithmetic of `data.media` and of the model's own processor.

    The picture: frames sized by `settings`, both sides rounded to whole tokens (transformers'
    `smart_resize`), frames/2 x height/14 x width/14 patches, 4 patches a token. The sound: 100 mel frames a
    second, halved by the convolution and again by the pooling; Qwen3-Omni's by three convolutions, a second
    by itself.

    Args:
        config: of the thinker.
        settings: of the recipe.
        seconds: length of the clip.
        width: of its picture in pixels; None: it has none.
        height: likewise.
        sound: it is heard.
        words: tokens of text.
        completion: tokens behind the prompt.
    """
    frames, wide, high, samples = expected(seconds, width, height, settings)
    patches, vision = 0, config.vision_config
    if frames:
        token = vision.patch_size * vision.spatial_merge_size
        high, wide = smart_resize(high, wide, token, token * token, 4 * max(high, token) * max(wide, token))
        pairs = math.ceil(frames / vision.temporal_patch_size)
        patches = pairs * (high // vision.patch_size) * (wide // vision.patch_size)
    mel = math.ceil(samples / HOP) if sound else 0
    heard = audio_tokens(config.model_type, mel)
    return Prompt(words, patches // vision.spatial_merge_size**2, heard, patches, mel, completion)


def audio_tokens(model_type: str, mel: int) -> int:
    """Tokens of a sound of so many mel frames, by the processor of the model."""
    if mel and model_type.startswith("qwen3_omni_moe"):
        return int(_get_feat_extract_output_lengths(mel))
    return ((mel - 1) // 2 + 1) // 2


# -- layers --------------------------------------------------------------------------------------------------


def trace(
    layer: Any, shape: tuple[int, ...], dtype: torch.dtype, autocast: bool, grad: bool, **given: Any
) -> Layer:
    """Runs one layer on fake tensors and counts.

    Args:
        layer: on the meta device.
        shape: of its input.
        dtype: of its input.
        autocast: to bfloat16, as the trainers do.
        grad: a gradient passes through it.
        **given: its other arguments; a tuple (dtype, *shape) stands for a tensor, a list of them for a tuple.
    """
    with FakeTensorMode(allow_non_fake_inputs=True), torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        weights = {
            name: torch.empty(p.shape, dtype=p.dtype, requires_grad=p.requires_grad)
            for name, p in layer.named_parameters()
        }
        arguments = {name: _fake(value) for name, value in given.items()}
        hidden = torch.empty(shape, dtype=dtype, requires_grad=grad)

        def run() -> torch.Tensor:
            out = torch.func.functional_call(layer, weights, (hidden,), arguments)
            return out[0] if isinstance(out, tuple) else out

        size = hidden.untyped_storage().nbytes()
        with torch.set_grad_enabled(grad), Alive() as alive:
            out = run()
            kept, forward = alive.now - out.untyped_storage().nbytes(), alive.peak
            if not grad:
                return Layer(size, 0, forward, 0)
            out.backward(torch.empty_like(out))
        return Layer(size, kept, forward, max(0, alive.peak - kept - size))


def _fake(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(map(_fake, value))
    return torch.empty(value[1:], dtype=value[0]) if isinstance(value, tuple) else value


class Stacks:
    """The three stacks of layers of a meta model, traced on demand.

    Args:
        model: of `meta_model`.
        autocast: see `Step`.
    """

    def __init__(self, model: Any, autocast: bool):
        inner = model.get_base_model() if hasattr(model, "get_base_model") else model
        self.config, self.dtype, self.inner = inner.config, inner.dtype, inner.model
        self.text, self.autocast, self.thinker = inner.config.text_config, autocast, inner
        self._decoder, self._tower = lru_cache(None)(self._decode), lru_cache(None)(self._watch)
        self._grouped = lru_cache(None)(self._group)

    def decoder(self, lines: int, tokens: int, grad: bool = True) -> Layer:
        """A decoder layer over (lines, tokens); several rows have a Boolean mask for their padding."""
        return _along(lambda number: self._decoder(number, tokens, grad), lines)

    def groups(self, prompts: int, prefix: int, completion: int, count: int) -> Layer:
        """A decoder layer over one row of prompts with `count` completions each (`rlcomm.omni.grouped`)."""
        return _along(lambda number: self._grouped(number, prefix, completion, count), prompts)

    def towers(self, prompt: Prompt, lines: int, checkpointed: bool) -> list[tuple[int, Layer]]:
        """(Layers, one of them) of each tower that has something to read in so many such prompts.

        Where checkpointing is on transformers makes the towers' first outputs require a gradient, frozen or
        not (`enable_input_require_grads`), so that their layers keep their inputs too.
        """
        places = {"visual": prompt.patches, "audio_tower": math.ceil(prompt.mel_frames / 2)}
        return [self.tower(name, count, lines, checkpointed) for name, count in places.items() if count]

    def clip(self, prompt: Prompt) -> int:
        """Bytes of what the towers read of one prompt: in float32, and again where that is not s."""
        values = prompt.patches * 3 * 2 * self.config.vision_config.patch_size**2
        values += prompt.mel_frames * self.config.audio_config.num_mel_bins
        return values * (4 if self.dtype == torch.float32 else 6)

    def tower(self, name: str, places: int, lines: int, grad: bool) -> tuple[int, Layer]:
        """Layers of a tower and one of them over so many places (patches, or pairs of mel frames) a line."""
        tower = getattr(self.inner, name)
        grad = grad or any(p.requires_grad for p in tower.parameters())
        layers = tower.blocks if name == "visual" else tower.layers
        return len(layers), _along(lambda number: self._tower(name, places, number, grad), lines)

    def _decode(self, lines: int, tokens: int, grad: bool) -> Layer:
        mask = (torch.bool, lines, 1, tokens, tokens) if lines > 1 else None
        return self._trace(lines, tokens, grad, attention_mask=mask)

    def _group(self, prompts: int, prefix: int, completion: int, count: int) -> Layer:
        grouped.enable(self.thinker)
        size = prefix + count * completion
        groups = []
        for start in range(0, prompts * size, size):
            split = start + prefix
            groups.append(grouped.Group.of((), start, [prefix], torch.device("cpu")))
            groups.append(
                grouped.Group.of([slice(start, split)], split, [completion] * count, torch.device("cpu"))
            )
        return self._trace(1, prompts * size, True, **{grouped.ARGUMENT: grouped.Groups(groups)})

    def _trace(self, lines: int, tokens: int, grad: bool, **given: Any) -> Layer:
        heads = getattr(self.text, "head_dim", None) or self.text.hidden_size // self.text.num_attention_heads
        return trace(
            self.inner.language_model.layers[0], (lines, tokens, self.text.hidden_size), self.dtype,
            self.autocast, grad, position_embeddings=[(self.dtype, lines, tokens, heads)] * 2, **given,
        )  # fmt: skip

    def _watch(self, name: str, places: int, lines: int, grad: bool) -> Layer:
        tower = getattr(self.inner, name)
        layer = tower.blocks[0] if name == "visual" else tower.layers[0]
        width = tower.config.hidden_size if name == "visual" else tower.config.d_model
        given: dict[str, Any] = {"cu_seqlens": np.arange(lines + 1) * places}
        if name == "visual":
            given["position_embeddings"] = [
                (torch.float32, lines * places, width // tower.config.num_heads)
            ] * 2
        return trace(layer, (lines * places, width), self.dtype, self.autocast, grad, **given)


def _along(traced: Callable[[int], Layer], lines: int) -> Layer:
    """A layer over many lines, from two and three: every tensor in it has so many lines or none."""
    if lines <= 3:
        return traced(lines)
    two, three = traced(2), traced(3)
    fields = ("hidden", "kept", "forward", "work")
    return Layer(*(getattr(two, f) + (lines - 2) * (getattr(three, f) - getattr(two, f)) for f in fields))


# -- the estimate --------------------------------------------------------------------------------------------


def weigh(parameters: Iterable[torch.nn.Parameter]) -> tuple[int, int, int, int]:
    """Numbers and bytes of all and of the trained weights: (N, N bytes, n, n bytes)."""
    sizes = [(p.numel(), p.numel() * p.element_size(), p.requires_grad) for p in parameters]
    trained = [size for size in sizes if size[2]]
    return (*(sum(s[i] for s in some) for some in (sizes, trained) for i in (0, 1)),)  # type: ignore[return-value]


def estimate(model: Any, stacks: Stacks, prompt: Prompt, step: Step, strategy: str) -> dict[str, Any]:
    """Bytes of one rank by term (`held`, `training`, `rollout`), their `peak`, and the moment it comes `at`.

    What is held is always there. To it comes the largest of five moments: the rollout; the towers reading;
    the start of the backward (all that is kept, and the head or a first layer at work); its end (all
    gradients, one layer at work); the update.

    Args:
        model: of `meta_model`, with adapters where `strategy` is LoRA.
        stacks: of the same model.
        prompt: the longest one.
        step: what a rank does.
        strategy: one of `STRATEGIES`.
    """
    always = held(model, step, strategy)
    work = training(stacks, prompt, step, strategy != "LoRA")
    drawn = rollout(stacks, prompt, step)
    _, size, trained, trained_size = weigh(model.parameters())
    zero = strategy.startswith("ZeRO")
    whole = 0 if zero or step.accumulation > 1 else trained_size  # gradients that `held` does not have yet
    update = 4 * trained // step.ranks if zero else 0  # DeepSpeed's float32 copy of a rank's gradients
    if strategy == "ZeRO-3" and drawn["cache"]:
        # TRL gathers all weights to generate
        drawn["gathered"] = size + size // step.ranks - always["weights"]
    read = work["media"] + work["mask"]
    moments = {
        "rollout": max(drawn["cache"] + drawn["logits"], drawn["prefill"]) + drawn.get("gathered", 0),
        "towers": work["media"] + work["towers"],
        "backward, start": read + work["kept"] + max(work["head"], work["head_gradient"] + work["layer"]),
        "backward, end": read + whole + work["layer"],
        "update": whole + update,
    }
    at = max(moments, key=lambda name: moments[name])
    return {**always, **work, **drawn, "update": update, "peak": sum(always.values()) + moments[at], "at": at}


def held(model: Any, step: Step, strategy: str) -> dict[str, int]:
    """What is there all the time: N weights of s bytes, of which n of t bytes train, over W ranks.

    weights     N s; ZeRO-3: N s / W, and what is gathered at a time, at most 1e9 weights
    optimizer   Adam's moments, 2 n t; ZeRO: those and masters in float32, 12 n / W
    gradients   n t where several batches are accumulated (else they come and go); ZeRO: n s / W
    buckets     ZeRO: at most 5e8 gradients being reduced; DDP's, n t, are not in `single`
    embedder    weights of the reward embedder
    """
    count, size, trained, trained_size = weigh(model.parameters())
    if not strategy.startswith("ZeRO"):
        gradients = trained_size if step.accumulation > 1 else 0
        return {"weights": size, "optimizer": 2 * trained_size, "gradients": gradients, "buckets": 0,
                "embedder": step.embedder}  # fmt: skip
    s = 2 if step.autocast else size // count  # DeepSpeed's bf16 makes the weights bfloat16
    gathered = min(count, LIVE) * s
    return {
        "weights": count * s // step.ranks + gathered if strategy == "ZeRO-3" else count * s,
        "optimizer": 12 * trained // step.ranks,
        "gradients": trained * s // step.ranks,
        "buckets": min(BUCKET, trained) * s,
        "embedder": step.embedder,
    }


def training(stacks: Stacks, prompt: Prompt, step: Step, head_trains: bool) -> dict[str, int]:
    """What one forward and backward needs: B rows, G completions of C tokens to a prompt of P, width h.

    The lines are those of `lines_of`, of T tokens; grouped, all stand in one row and have no mask.

        media       what the towers read, in float32 and in s
        mask        T^2 a padded row
        kept        L (input + `Layer.kept`) of the decoder, L inputs where it is checkpointed, and three more
                    (embeddings, last norm, scored positions); of a tower likewise where a gradient passes
        layer       the layer at work in the backward, with what it keeps where it is checkpointed
        towers      the largest layer of a tower at work in the forward
        head        TRL's fused head: a buffer of B C x 32768 s (4096 rows at most; on a CPU seven float32
                    copies of the vocabulary's part of it), B C (s + 4) h, its float32 gradient 4 V h
        head_gradient  s V h, once the head is done
    """
    s = torch.empty(0, dtype=stacks.dtype).element_size()
    text = stacks.text
    lines, tokens = lines_of(prompt, step)
    if step.scoring == "grouped":
        count = math.ceil(step.batch / lines)
        decoder = stacks.groups(lines, prompt.tokens - 1, prompt.completion, count)
    else:
        decoder = stacks.decoder(lines, tokens)
    masked = step.scoring == "rows" and lines > 1
    layers = [(text.num_hidden_layers, decoder)]
    towers = stacks.towers(prompt, lines, step.checkpointing)
    layers += [(depth, layer) for depth, layer in towers if layer.kept]  # a gradient passes
    kept = sum((depth + 3) * layer.hidden for depth, layer in layers)
    work = max(layer.work + step.checkpointing * layer.kept for _, layer in layers)
    if not step.checkpointing:
        kept += sum(depth * layer.kept for depth, layer in layers)
    rows = step.batch * prompt.completion
    copies = HEAD_COPIES[step.device] * min(text.vocab_size, HEAD_COLUMNS) * 4
    head = min(rows, HEAD_ROWS) * (HEAD_COLUMNS * s + copies) + rows * text.hidden_size * (s + 4)
    matrix = head_trains * text.vocab_size * text.hidden_size
    return {
        "media": lines * stacks.clip(prompt),
        "mask": lines * tokens**2 * masked,
        "kept": kept,
        "layer": work,
        "towers": max((layer.hidden + layer.forward for _, layer in towers), default=0),
        "head": head + 4 * matrix,
        "head_gradient": s * matrix,
    }


def lines_of(prompt: Prompt, step: Step) -> tuple[int, int]:
    """Lines of one forward and their length in tokens, at most.

    Rows: B lines of P + C. Else a line per prompt, of P - 1 and its completions: groups stay together, so
    that B is of whole groups, or of one cut one, or its last group begins where the one before was cut.
    """
    if step.scoring == "rows":
        return step.batch, prompt.tokens + prompt.completion
    batch, group = step.batch, step.group
    lines = (
        max(1, batch // group) if batch % group == 0 or group % batch == 0 else -(-(batch - 1) // group) + 1
    )
    return lines, prompt.tokens - 1 + min(group, batch) * prompt.completion


def rollout(stacks: Stacks, prompt: Prompt, step: Step) -> dict[str, int]:
    """What sampling R completions of C tokens to R / G prompts of P needs; zeros where nothing is sampled.

    cache       keys and values, R (P + C) 2 kv d s L, and one layer of them twice while it grows
    prefill     the prompts' media and the largest layer reading them, or two hidden states, a decoder
                layer at work and the prompts' keys and values
    logits      3 R V in float32
    """
    if not step.sampled:
        return {"cache": 0, "prefill": 0, "logits": 0}
    s = torch.empty(0, dtype=stacks.dtype).element_size()
    text, layers = stacks.text, stacks.text.num_hidden_layers
    token = 2 * text.num_key_value_heads * (text.hidden_size // text.num_attention_heads) * s
    prompts = max(1, step.sampled // step.sampled_group)
    read = stacks.decoder(prompts, prompt.tokens, grad=False)
    towers = stacks.towers(prompt, prompts, False)
    seen = max((layer.hidden + layer.forward for _, layer in towers), default=0)
    reading = 2 * read.hidden + read.forward + prompts * prompt.tokens * token * layers
    return {
        "cache": step.sampled * (prompt.tokens + prompt.completion) * token * (layers + 1),
        "prefill": prompts * stacks.clip(prompt) + max(seen, reading),
        "logits": 3 * step.sampled * text.vocab_size * 4,
    }


def largest_batch(peak: Callable[[int], int], memory: float, unit: int) -> int:
    """The largest batch, a multiple of `unit`, whose `peak(batch)` stays within `memory` bytes; 0: none."""
    low, high = 0, unit
    while peak(high) <= memory:
        low, high = high, 2 * high
    while high - low > unit:
        middle = (low + high) // (2 * unit) * unit
        low, high = (middle, high) if peak(middle) <= memory else (low, middle)
    return low
