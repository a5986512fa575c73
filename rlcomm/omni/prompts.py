"""Samples to encoded prompts, each decoded, processed and encoded once while memory lasts."""

from collections import OrderedDict
from typing import Any

from rlcomm.data.media import MediaSettings, load_clip
from rlcomm.data.sample import Sample
from rlcomm.omni.encode import EncodedPrompt, encode, user_text


class Prompts:
    """Loads the clip of a sample and encodes its first question; remembers what it has encoded.

    The same sample gives the same object as long as it is remembered, which is also how scoring recognises
    the rows that share a prompt.

    Args:
        policy: anything with `.processor` and `.config`.
        media: how clips are decoded.
        prompt_style: `steps` or `direct`.
        cache_dir: folder for decoded clips; None decodes each time.
        memory_mb: encoded prompts are kept up to so many megabytes, the longest unused dropped first.
    """

    def __init__(
        self,
        policy: Any,
        media: MediaSettings,
        prompt_style: str,
        cache_dir: str | None = None,
        memory_mb: int = 1024,
    ):
        self.policy, self.media, self.prompt_style, self.cache_dir = policy, media, prompt_style, cache_dir
        self._memory: OrderedDict[tuple, EncodedPrompt] = OrderedDict()
        self._free = memory_mb * 2**20

    def __call__(self, sample: Sample) -> EncodedPrompt:
        """The encoded prompt of `sample` (tensors on the CPU).

        Raises:
            MediaError: the clip is missing or cannot be decoded; the message names the file.
        """
        words = user_text(sample.turns[0], self.prompt_style)
        key = (sample.video, sample.audio, words)
        if key in self._memory:
            self._memory.move_to_end(key)
            return self._memory[key]
        clip = load_clip(sample.video, sample.audio, self.media, self.cache_dir)
        prompt = encode(self.policy, sample, clip, self.prompt_style, text=words)
        self._memory[key] = prompt
        self._free -= _bytes(prompt)
        while self._free < 0 and len(self._memory) > 1:
            self._free += _bytes(self._memory.popitem(last=False)[1])
        return prompt


def _bytes(prompt: EncodedPrompt) -> int:
    return sum(
        tensor.numel() * tensor.element_size()
        for tensor in [prompt.ids, prompt.positions, *prompt.media.values()]
    )
