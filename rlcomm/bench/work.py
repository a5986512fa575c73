"""The work of a GRPO step that `rlcomm bench step` measures: prompts, completions, rewards, update."""

import copy
import itertools
from dataclasses import dataclass
from typing import Any

import rlcomm.utils.torchvision_ops  # noqa: F401  (before transformers, which imports torchvision)

import numpy as np  # isort: skip
import torch  # isort: skip

from rlcomm import steps
from rlcomm.data.media import Clip
from rlcomm.data.sample import Sample, Turn
from rlcomm.omni.encode import EncodedPrompt, encode, merge_media, reword
from rlcomm.omni.policy import Policy, suppressed_tokens
from rlcomm.omni.rollout import generate_ids
from rlcomm.omni.score import score
from rlcomm.omni.towers import Towers
from rlcomm.rewards import adapters
from rlcomm.rewards.embed import Embedder
from rlcomm.rewards.omega import MINILM_OMEGA
from rlcomm.utils.errors import UserError

SECOND = 33  # tokens of one second of our clips: 25 of sound, 8 of two frames


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
    seconds = 1 + (tokens - len(shortest)) // SECOND
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
