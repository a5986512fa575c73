"""An audio-language model behind an endpoint: what it is asked, and what of its answer counts as text.

    sound -> split_audio -> WAV, base64 -> input_audio parts + the prompt -> chat completion -> one text a row

`RLCOMM_REFERENCE_BASE_URL` with `RLCOMM_REFERENCE_API_KEY` (else OpenAI's variables) say where; how it is
asked is `rlcomm.llm_api`'s. It is used like a local `rlcomm.reference.audio_model.AudioModel`.
"""

import base64
from collections.abc import Sequence
from typing import Any

import numpy as np

from rlcomm.data.write_media import wav_bytes
from rlcomm.llm_api import Asking, Endpoint, Failure, ask, clean, from_environment, short
from rlcomm.reference.audio_model import split_audio

WHO = "reference model"
RATE = 16_000  # Hz of what is sent; speech and audio models resample to this or hear it as it is


def endpoint() -> Endpoint:
    """The reference model's endpoint.

    Raises:
        UserError: as `rlcomm.llm_api.from_environment`.
    """
    return from_environment("RLCOMM_REFERENCE", WHO)


class RemoteAudioModel:
    """A model at an endpoint; may be asked by several threads at once."""

    def __init__(self, asking: Asking, window: float | None = None) -> None:
        """
        Args:
            asking: how it is asked.
            window: seconds of sound in one part at most; None: a sound is one part, however long.
        """
        self.asking, self.window = asking, window

    def parts(self, audio: np.ndarray) -> int:
        """In how many parts an (N,) float32 sound is sent."""
        return len(split_audio(audio, RATE, self.window))

    def write(
        self,
        audios: Sequence[np.ndarray],
        prompts: Sequence[str],
        seeds: Sequence[int],
        sampling: dict[str, Any],
    ) -> list[str]:
        """One text for each row, asked one after the other; the key is not in it.

        Args:
            audios: B mono sounds (N,) float32 at `RATE`.
            prompts: B texts.
            seeds: sent along, (B,); an endpoint may do with them as it likes.
            sampling: temperature, top_p, max_new_tokens.

        Raises:
            rlcomm.llm_api.Failure: no text came; its scope is "item" where the row itself was refused.
        """
        return [
            self._text(request(split_audio(audio, RATE, self.window), prompt, seed, sampling))
            for audio, prompt, seed in zip(audios, prompts, seeds, strict=True)
        ]

    def _text(self, fields: dict[str, Any]) -> str:
        message = ask(fields, self.asking)
        refusal = message.get("refusal")
        if isinstance(refusal, str) and refusal.strip():
            raise Failure(short(clean(refusal, self.asking)), "item")
        return clean(message["content"], self.asking) or "(the model said nothing)"


def request(parts: Sequence[np.ndarray], prompt: str, seed: int, sampling: dict[str, Any]) -> dict[str, Any]:
    """The fields of one chat completion beside the model's name.

    Args:
        parts: of the sound, each (N,) float32 at `RATE`. prompt: the text behind them. seed: of the row.
        sampling: temperature, top_p, max_new_tokens.
    """
    content: list[dict[str, Any]] = []
    for part in parts:
        data = base64.b64encode(wav_bytes(part, RATE)).decode()
        content.append({"type": "input_audio", "input_audio": {"data": data, "format": "wav"}})
    return {
        "messages": [{"role": "user", "content": [*content, {"type": "text", "text": prompt}]}],
        "temperature": sampling["temperature"],
        "top_p": sampling["top_p"],
        "max_tokens": sampling["max_new_tokens"],  # the name that every server knows
        "seed": seed % (1 << 31),  # what fits any server's integers
    }
