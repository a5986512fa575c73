"""What the frozen audio and vision towers make of a clip, computed once.

    sound, frames --(towers, once a clip)--> embeddings --> rollout
                                                       \\--> scoring, in every step of every epoch

A prompt that `Towers` has been over carries embeddings in place of what the towers read. They enter the model
where the towers' own output does, whatever form (rollout, rows, grouped) the forward has.
"""

import dataclasses
import hashlib
from collections import OrderedDict
from typing import Any

import torch
from transformers.modeling_outputs import BaseModelOutputWithPooling

from rlcomm.omni.encode import EncodedPrompt
from rlcomm.omni.policy import ENCODERS, base_model
from rlcomm.utils.errors import UserError

# Per sense: the keys of `EncodedPrompt.media` that its tower reads.
READ = {
    "audio": ("input_features", "feature_attention_mask"),
    "image": ("pixel_values", "image_grid_thw"),
    "video": ("pixel_values_videos", "video_grid_thw"),
}


class Towers:
    """Replaces the media of prompts by what the towers make of them, and remembers it by content.

    Two rows that ask about one clip, or whose clips share the picture alone, share the embeddings.

    Args:
        model: the thinker, or a PeftModel around it, its towers frozen.
        memory_mb: embeddings (on the CPU) are kept up to so many megabytes, the longest unused dropped first.

    Attributes:
        computed: how often a tower had to be asked.

    Raises:
        UserError: the towers train, or ZeRO-3 has divided them.
    """

    def __init__(self, model: Any, memory_mb: int):
        self.model = base_model(model).model
        parameters = [p for name in ENCODERS for p in getattr(self.model, name).parameters()]
        if any(parameter.requires_grad for parameter in parameters):
            raise UserError(
                f"cache_encoders_mb is {memory_mb}, but the audio and vision towers train, so what is kept "
                "would be of old weights; set cache_encoders_mb 0 or freeze_encoders true."
            )
        if any(hasattr(parameter, "ds_id") for parameter in parameters):
            raise UserError(
                f"cache_encoders_mb is {memory_mb}, but under ZeRO-3 every process must run the towers "
                "whenever one does, and each knows other clips; set cache_encoders_mb 0 or use ZeRO-2."
            )
        self.computed = 0
        self._memory: OrderedDict[bytes, torch.Tensor] = OrderedDict()
        self._free = memory_mb * 2**20
        self._hook = self.model.register_forward_pre_hook(_enter, with_kwargs=True)

    def __call__(self, prompt: EncodedPrompt) -> EncodedPrompt:
        """The prompt with `audio_embeds` (tokens, H) and `image_embeds`, `video_embeds` (tokens, 1 + D, H)
        for media; D counts the inner layers of the vision tower that the decoder also reads (0 in
        Qwen2.5-Omni)."""
        media = {}
        for sense, keys in READ.items():
            if keys[0] in prompt.media:
                media[f"{sense}_embeds"] = self._embeds(sense, [prompt.media[key] for key in keys])
        return dataclasses.replace(prompt, media=media)

    def close(self) -> None:
        """The model takes no embeddings any more."""
        self._hook.remove()

    def _embeds(self, sense: str, inputs: list[torch.Tensor]) -> torch.Tensor:
        digest = hashlib.blake2b(sense.encode())
        for tensor in inputs:
            digest.update(f"{tuple(tensor.shape)} {tensor.dtype}".encode())
            digest.update(tensor.contiguous().numpy().data)
        key = digest.digest()
        if key in self._memory:
            self._memory.move_to_end(key)
            return self._memory[key]
        self.computed += 1
        found = self._memory[key] = self._compute(sense, inputs).cpu()
        self._free -= found.numel() * found.element_size()
        while self._free < 0 and len(self._memory) > 1:
            dropped = self._memory.popitem(last=False)[1]
            self._free += dropped.numel() * dropped.element_size()
        return found

    @torch.no_grad()
    def _compute(self, sense: str, inputs: list[torch.Tensor]) -> torch.Tensor:
        tower = getattr(self.model, "audio_tower" if sense == "audio" else "visual")
        like = next(tower.parameters())
        values, lengths = inputs[0].to(like.device, like.dtype), inputs[1].to(like.device)
        training = tower.training
        tower.eval()
        try:
            output = getattr(self.model, f"get_{sense}_features")(values, lengths, return_dict=True)
        finally:
            tower.train(training)
        if sense == "audio":
            return output.last_hidden_state
        layers = [output.pooler_output, *(getattr(output, "deepstack_features", None) or [])]
        return torch.stack([torch.cat(list(layer)) for layer in layers], 1)


def _enter(model: Any, args: tuple, kwargs: dict[str, Any]) -> tuple[tuple, dict[str, Any]] | None:
    """Before the thinker's own forward: embeddings take the places of their tokens."""
    given = {sense: kwargs[f"{sense}_embeds"] for sense in READ if f"{sense}_embeds" in kwargs}
    if not given:
        return None
    kwargs = {key: value for key, value in kwargs.items() if key.removesuffix("_embeds") not in given}
    if "audio" in given:
        ids = kwargs["input_ids"]
        words = model.get_input_embeddings()(ids)
        places = (ids == model.config.audio_token_id)[..., None]
        kwargs["inputs_embeds"] = words.masked_scatter(places, given.pop("audio").to(words))
    if given:
        kwargs["mm_encoder_outputs"] = {sense: _output(embeds) for sense, embeds in given.items()}
    return args, kwargs


def _output(embeds: torch.Tensor) -> BaseModelOutputWithPooling:
    """(tokens, 1 + D, H) as transformers' vision towers return it."""
    output = BaseModelOutputWithPooling(pooler_output=(embeds[:, 0],))  # type: ignore[arg-type]
    inner = [(layer,) for layer in embeds[:, 1:].unbind(1)]
    output.deepstack_features = inner  # type: ignore[attr-defined]
    return output
