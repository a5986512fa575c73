"""What is shared stands once: many prompts and what follows them, laid out in one row.

    rows    clip, question 1, c1          the row     clip | question 1 | question 2, c3 | c1 | c2
            clip, question 1, c2
            clip, question 2, c3          a tree      clip --+-- question 1 --+-- c1
                                                             |                +-- c2
                                                             +-- question 2, c3

Every piece of the row continues others, its context: it attends to them and to itself, and its positions go
on from theirs. Pieces with one context are a group (`omni.grouped` attends by groups). Scoring, the scores of
labels and the prefill of a rollout all read such a row; without filler and without a mask of all by all.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from rlcomm.omni.encode import EncodedPrompt, position_dtype
from rlcomm.omni.grouped import Group

Piece = tuple[torch.Tensor, torch.Tensor]  # ids (T,) and positions (3, T)


@dataclass
class Layout:
    """One row of many prompts and completions.

    Attributes:
        ids: (L,), as all others on the CPU.
        positions: (3, L).
        groups: who attends to whom; in order they are the whole row.
        readers: prompts whose media are read, in the order of the row.
        starts: (B,) where the first token of each completion is predicted, the others behind it; -1: the row
            has none.
        seen: per completion the spans that its first token is predicted from, in order: its whole prompt.
    """

    ids: torch.Tensor
    positions: torch.Tensor
    groups: list[Group]
    readers: list[EncodedPrompt]
    starts: torch.Tensor
    seen: list[tuple[slice, ...]]


@dataclass
class Family:
    """Rows of a batch that begin alike.

    Attributes:
        prefix: tokens that their prompts share, all media among them and never a whole prompt.
        rows: their numbers, those of one prompt together.
    """

    prefix: int
    rows: list[list[int]]


def find_families(prompts: Sequence[EncodedPrompt], config: Any) -> list[Family]:
    """Rows with one prompt (the same object), and prompts of one clip (the same media tensors).

    Prompts of a clip share everything up to where their words part, which must lie behind all media.

    Args:
        prompts: of all rows.
        config: of the thinker.
    """
    own: dict[int, list[int]] = {}
    for row, prompt in enumerate(prompts):
        own.setdefault(id(prompt), []).append(row)
    clips: dict[tuple, list[list[int]]] = {}
    for rows in own.values():
        media = prompts[rows[0]].media
        same = tuple(sorted((name, id(tensor)) for name, tensor in media.items()))
        clips.setdefault(same or ("no clip", rows[0]), []).append(rows)
    found = []
    for alike in clips.values():
        if len(alike) > 1:
            common = _common([prompts[rows[0]] for rows in alike], config)
            if common:
                found.append(Family(common, alike))
                continue
        found += [Family(len(prompts[rows[0]]) - 1, [rows]) for rows in alike]
    return found


def _common(prompts: Sequence[EncodedPrompt], config: Any) -> int:
    """Tokens with which all of these begin, at the same positions, at least one of each left out; 0 where
    media stand behind them."""
    shortest = min(map(len, prompts)) - 1
    first = prompts[0]
    same = torch.ones(shortest, dtype=torch.bool)
    for prompt in prompts[1:]:
        same &= prompt.ids[:shortest] == first.ids[:shortest]
        same &= (prompt.positions[:, :shortest] == first.positions[:, :shortest]).all(0)
    common = int(same.long().cumprod(0).sum())
    media = torch.tensor([config.audio_token_id, config.image_token_id, config.video_token_id])
    late = any(torch.isin(prompt.ids[common:], media).any() for prompt in prompts)
    return 0 if late else common


def lay_out(
    prompts: Sequence[EncodedPrompt], completions: Sequence[torch.Tensor], families: Sequence[Family],
    device: torch.device,
) -> Layout:  # fmt: skip
    """Lays prompts and completions out so that every prefix stands once.

    The last token of a prompt stands in front of every completion, at its own position: the first token of
    each is predicted there. The last token of a completion predicts nothing and is left out.

    Args:
        prompts: of all B rows.
        completions: their ids, (C,) each; with none the row is left out.
        families: of `find_families`.
        device: where the groups' indices are to lie.
    """
    row = _Row(position_dtype(prompts), device)
    starts = torch.full((len(prompts),), -1)
    seen: list[tuple[slice, ...]] = [()] * len(prompts)

    def add(context: tuple[slice, ...], wanted: list[tuple[int, int]]) -> None:
        """Rows behind a context: (number, tokens of the prompt that the context holds)."""
        wanted = [(number, held) for number, held in wanted if len(completions[number])]
        pieces = [_piece(prompts[number], held, completions[number]) for number, held in wanted]
        for (number, _), span in zip(wanted, row.add(context, pieces), strict=True):
            starts[number] = span.stop - len(completions[number])
            seen[number] = (*context, slice(span.start, int(starts[number]) + 1))

    for family in families:
        reader = prompts[family.rows[0][0]]
        row.readers.append(reader)
        prefix = tuple(row.add((), [(reader.ids[: family.prefix], reader.positions[:, : family.prefix])]))
        # A prompt with one completion is one piece with it; with several its words are a piece of their own.
        straight, forked, words = [], [], []
        for rows in family.rows:
            prompt = prompts[rows[0]]
            if len(rows) == 1 or len(prompt) == family.prefix + 1:
                straight += rows
            else:
                forked.append(rows)
                words.append((prompt.ids[family.prefix : -1], prompt.positions[:, family.prefix : -1]))
        add(prefix, [(number, family.prefix) for number in straight])
        for rows, span in zip(forked, row.add(prefix, words), strict=True):
            add((*prefix, span), [(number, len(prompts[number]) - 1) for number in rows])
    return Layout(torch.cat(row.ids), torch.cat(row.positions, 1), row.groups, row.readers, starts, seen)


@dataclass
class _Row:
    """A row that grows group by group."""

    dtype: torch.dtype  # of positions
    device: torch.device
    ids: list[torch.Tensor] = field(default_factory=list)
    positions: list[torch.Tensor] = field(default_factory=list)
    groups: list[Group] = field(default_factory=list)
    readers: list[EncodedPrompt] = field(default_factory=list)
    length: int = 0

    def add(self, context: tuple[slice, ...], pieces: Sequence[Piece]) -> list[slice]:
        """Adds a group of pieces, the empty ones left out, and returns where each of those stands."""
        pieces = [piece for piece in pieces if len(piece[0])]
        if not pieces:
            return []
        lengths = [len(ids) for ids, _ in pieces]
        self.groups.append(Group.of(context, self.length, lengths, self.device))
        spans = []
        for ids, positions in pieces:
            self.ids.append(ids)
            self.positions.append(positions.to(self.dtype))
            spans.append(slice(self.length, self.length + len(ids)))
            self.length += len(ids)
        return spans


def _piece(prompt: EncodedPrompt, held: int, completion: torch.Tensor) -> Piece:
    """The prompt behind its first `held` tokens, and its completion without the last token."""
    following = prompt.next_position + torch.arange(len(completion) - 1)
    return (
        torch.cat([prompt.ids[held:], completion[:-1]]),
        torch.cat([prompt.positions[:, held:], following.to(prompt.positions.dtype).expand(3, -1)], 1),
    )
