"""Samples to encoded prompts, each decoded, processed and encoded once while memory lasts."""

from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Any

from rlcomm.data.clips import load_clip
from rlcomm.data.media import MediaSettings
from rlcomm.data.sample import Sample
from rlcomm.omni.ahead import Ahead
from rlcomm.omni.encode import EncodedPrompt, encode, reword, style_of, user_text


class Prompts:
    """Loads the clip of a sample and encodes its first question; remembers what it has encoded.

    The same sample gives the same object as long as it is remembered, and other words about a remembered clip
    give a prompt of the same media tensors: so scoring recognises the rows that share a prompt or a clip.

    Args:
        policy: anything with `.processor` and `.config`.
        media: how clips are decoded.
        prompt_style: `steps` or `direct`, of the rows that name none of their own.
        cache_dir: folder for decoded clips; None decodes each time.
        memory_mb: encoded prompts are kept up to so many megabytes, the longest unused dropped first.
        workers: processes that prepare what `expect` announces; 0: everything is done when it is asked for.
        ahead: prompts a worker may have ready, above `memory_mb`.
        towers: what is done to a prompt once it is encoded, in this process (`omni.towers.Towers`).
    """

    def __init__(
        self,
        policy: Any,
        media: MediaSettings,
        prompt_style: str,
        cache_dir: str | None = None,
        memory_mb: int = 1024,
        workers: int = 0,
        ahead: int = 2,
        towers: Callable[[EncodedPrompt], EncodedPrompt] | None = None,
    ):
        self.policy, self.media, self.prompt_style, self.cache_dir = policy, media, prompt_style, cache_dir
        self.towers = towers
        self._memory: OrderedDict[tuple, EncodedPrompt] = OrderedDict()
        self._free = memory_mb * 2**20
        self._ahead = Ahead(self._encode, workers, workers * ahead) if workers else None

    def expect(self, samples: Iterable[Sample]) -> None:
        """Says which samples are asked for next, so that the workers begin with them; changes no result."""
        if self._ahead is not None:
            coming = {key[:2] for key in self._memory}
            for sample in samples:
                if (key := self._key(sample))[:2] not in coming:
                    coming.add(key[:2])
                    self._ahead.expect(key, sample)

    def close(self) -> None:
        """Ends the workers."""
        if self._ahead is not None:
            self._ahead.close()

    def __call__(self, sample: Sample) -> EncodedPrompt:
        """The encoded prompt of `sample` (tensors on the CPU).

        Raises:
            MediaError: the clip is missing or cannot be decoded; the message names the file.
        """
        key = self._key(sample)
        if key in self._memory:
            self._memory.move_to_end(key)
            return self._memory[key]
        prompt = self._ahead.take(key) if self._ahead is not None else None
        if prompt is None and (known := self._clip(key)) is not None:
            prompt = reword(self.policy, known, key[2])
        if prompt is None:
            prompt = self._encode(sample)
        if self.towers is not None:
            prompt = self.towers(prompt)
        self._memory[key] = prompt
        self._free -= _bytes(prompt)
        while self._free < 0 and len(self._memory) > 1:
            self._free += _bytes(self._memory.popitem(last=False)[1])
        return prompt

    def _clip(self, key: tuple) -> EncodedPrompt | None:
        """The prompt that was last asked for of the same clip."""
        return next((self._memory[other] for other in reversed(self._memory) if other[:2] == key[:2]), None)

    def _key(self, sample: Sample) -> tuple[str | None, str | None, str]:
        return sample.video, sample.audio, user_text(sample.turns[0], style_of(sample, self.prompt_style))

    def _encode(self, sample: Sample) -> EncodedPrompt:
        clip = load_clip(sample.video, sample.audio, self.media, self.cache_dir)
        return encode(self.policy, sample, clip, style_of(sample, self.prompt_style))


def _bytes(prompt: EncodedPrompt) -> int:
    return sum(
        tensor.numel() * tensor.element_size()
        for tensor in [prompt.ids, prompt.positions, *prompt.media.values()]
    )
