"""Rows of a batch that begin alike, laid out behind what they share: what `packed` and `grouped` read.

    rows    prompt c1, prompt c2, other c3      ->      lines    prompt | c1 | c2      other | c3

Rows share a prompt (the same object, as in a group of GRPO), or a clip (the same media tensors under several
questions: `encode.reword`). Media are in what is shared, so that they are read once.
"""

from dataclasses import dataclass
from typing import Any

import torch

from rlcomm.omni.encode import EncodedPrompt

IGNORED = -100  # a label that is not asked for


@dataclass
class Family:
    """Rows of a batch that begin alike and are read as one.

    Attributes:
        prefix: tokens that their prompts share, all media among them.
        rows: their numbers.
    """

    prefix: int
    rows: list[int]


def find_families(prompts: list[EncodedPrompt], config: Any) -> list[Family]:
    """Rows with one prompt (the same object), or with one clip (the same tensors) where that reads less.

    Prompts of one clip share everything up to where their words part; the words behind that stand before each
    completion, so that sharing does not pay where they are longer than the clip.
    """
    own: dict[int, list[int]] = {}
    for row, prompt in enumerate(prompts):
        own.setdefault(id(prompt), []).append(row)
    clips: dict[tuple, list[list[int]]] = {}
    for rows in own.values():
        media = prompts[rows[0]].media
        same = tuple(sorted((name, id(tensor)) for name, tensor in media.items()))
        clips.setdefault(same or ("no clip", rows[0]), []).append(rows)
    placeholders = torch.tensor([config.audio_token_id, config.image_token_id, config.video_token_id])
    found = []
    for apart in clips.values():
        alone = [Family(len(prompts[rows[0]]), rows) for rows in apart]
        if len(apart) > 1:
            read = [prompts[rows[0]] for rows in apart]
            prefix = _common(read)
            behind = sum((len(p) - prefix + 1) * len(rows) for p, rows in zip(read, apart, strict=True))
            cost = sum(len(prompt) - 1 + len(rows) for prompt, rows in zip(read, apart, strict=True))
            late = any(torch.isin(prompt.ids[prefix - 1 :], placeholders).any() for prompt in read)
            if prefix > 0 and prefix - 1 + behind < cost and not late:
                alone = [Family(prefix, [row for rows in apart for row in rows])]
        found += alone
    return found


def _common(prompts: list[EncodedPrompt]) -> int:
    """Tokens with which all of these begin, at the same positions."""
    shortest = min(map(len, prompts))
    first = prompts[0]
    same = torch.ones(shortest, dtype=torch.bool)
    for prompt in prompts[1:]:
        same &= prompt.ids[:shortest] == first.ids[:shortest]
        same &= (prompt.positions[:, :shortest] == first.positions[:, :shortest]).all(0)
    return int(same.long().cumprod(0).sum())


class Line:
    """[shared prefix | rest of prompt, c1 | rest of prompt, c2 | ...] of one family.

    The last token of what is shared stands once in front of every completion, at its own position, so that
    each completion's first token has its true predecessor beside it.

    Attributes:
        prompt: whose media are read.
        prefix: tokens of the shared prefix in the line.
        rows: of the batch, those with at least one token.
        sizes: tokens of each row's piece.
        lengths: of their completions, which end the pieces.
        ids: (L,).
        positions: (3, L).
        labels: (L,), what each place predicts.
    """

    def __init__(
        self, family: Family, prompts: list[EncodedPrompt], completions: torch.Tensor, lengths: list[int],
        keep: torch.Tensor,
    ):  # fmt: skip
        device = completions.device
        self.prompt, self.prefix = prompts[family.rows[0]], family.prefix - 1
        self.rows = [row for row in family.rows if lengths[row]]
        self.lengths = [lengths[row] for row in self.rows]
        self.sizes = []
        tokens = [self.prompt.ids[: self.prefix].to(device)]
        places = [self.prompt.positions[:, : self.prefix].to(device)]
        labels = [torch.full_like(tokens[0], IGNORED)]
        for row, length in zip(self.rows, self.lengths, strict=True):
            prompt = prompts[row]
            rest = prompt.ids[self.prefix :].to(device)
            behind = prompt.next_position + torch.arange(length - 1, device=device)
            tokens += [rest, completions[row, : length - 1]]
            places += [
                prompt.positions[:, self.prefix :].to(device),
                behind.to(prompt.positions.dtype).expand(3, -1),
            ]
            labels += [
                torch.full_like(rest[1:], IGNORED),
                completions[row, :length].masked_fill(~keep[row, :length], IGNORED),
            ]
            self.sizes.append(len(rest) + length - 1)
        self.ids, self.labels = torch.cat(tokens), torch.cat(labels)
        self.positions = torch.cat(places, 1)

    def __len__(self) -> int:
        return len(self.ids)


def places(lines: list[Line], starts: list[int], keep: torch.Tensor) -> torch.Tensor:
    """Where each wanted completion token (in the order of `keep`) is predicted, in the flat batch."""
    place = torch.zeros(keep.shape, dtype=torch.long)
    for line, start in zip(lines, starts, strict=True):
        end = start + line.prefix
        for row, length, size in zip(line.rows, line.lengths, line.sizes, strict=True):
            end += size
            place[row, :length] = torch.arange(end - length, end)
    return place.to(keep.device)[keep]
