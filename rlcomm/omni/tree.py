"""Candidate scores of several wordings over the same media, in one forward: a tree behind one prompt.

    media, opening --+-- "A drum plays. Which one plays?" --+-- drum
                     |                                      +-- harp
                     +-- "Which one plays?" ----------------+-- drum
                                                            +-- harp

The prefix with all media stands once, every wording once, every shared beginning of two labels once. Two
branches that do not share their media (one without the picture) are two trees of the same batch.
`score.candidate_scores`, one prompt at a time, is the plain reference.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from rlcomm.omni.encode import EncodedPrompt, merge_media, position_dtype
from rlcomm.omni.labels import label_ids
from rlcomm.omni.rollout import base_model
from rlcomm.omni.score import refusal
from rlcomm.utils.errors import UserError

_IGNORED = -100


@dataclass
class _Tree:
    """One row of the batch: a root prompt and the tokens behind it.

    Attributes:
        ids: of the root (P,): the prompts up to where their words part.
        positions: of the root (3, P).
        next_position: of a node of depth 0.
        reader: the prompt whose media are read.
        tokens: ids of the nodes.
        parents: their parents' numbers; -1: the end of the root.
        depths: their depth below the root.
        children: (parent, token) -> node.
        asked: nodes whose log-probability is wanted, in order of insertion.
    """

    ids: torch.Tensor
    positions: torch.Tensor
    next_position: float
    reader: EncodedPrompt
    tokens: list[int] = field(default_factory=list)
    parents: list[int] = field(default_factory=list)
    depths: list[int] = field(default_factory=list)
    children: dict[tuple[int, int], int] = field(default_factory=dict)
    asked: dict[int, None] = field(default_factory=dict)

    def add(self, path: Sequence[int], counted: int) -> list[int]:
        """Adds a path below the root; its last `counted` nodes are asked for and returned."""
        node, found = -1, []
        for token in path:
            key = (node, token)
            if key not in self.children:
                self.children[key] = len(self.tokens)
                self.tokens.append(token)
                self.parents.append(node)
                self.depths.append(0 if node < 0 else self.depths[node] + 1)
            node = self.children[key]
            found.append(node)
        wanted = found[len(found) - counted :]
        self.asked.update(dict.fromkeys(wanted))
        return wanted


@torch.no_grad()
def branch_scores(
    model: Any,
    processor: Any,
    items: Sequence[Sequence[EncodedPrompt]],
    candidates: Sequence[Sequence[str]],
    normalise: bool = True,
) -> list[list[list[float]]]:
    """Log-probability of every candidate behind every branch's prompt, by the tokens of `label_ids`.

    Args:
        model: thinker with TRL's fused head.
        processor: its processor.
        items: per item the prompts of its branches; those that share their media (`encode.reword` makes such)
            share one prefix.
        candidates: per item the labels.
        normalise: mean over the label's tokens instead of their sum.

    Returns:
        Per item, per branch, one score (nats, at most 0) per candidate.

    Raises:
        UserError: the attention of the model takes no mask.
    """
    tokenizer = processor.tokenizer
    trees: list[_Tree] = []
    wanted: list[list[list[tuple[int, list[int]]]]] = []  # item, branch, label -> tree and nodes
    for prompts, labels in zip(items, candidates, strict=True):
        ends = label_ids(tokenizer, labels)
        rows: list[list[tuple[int, list[int]]]] = [[] for _ in prompts]
        for group in _groups(prompts):
            tree, common = _root([prompts[i] for i in group])
            trees.append(tree)
            for i in group:
                words = prompts[i].ids[common:].tolist()
                rows[i] = [(len(trees) - 1, tree.add([*words, *end], len(end))) for end in ends]
        wanted.append(rows)
    values = _forward(model, trees, tokenizer.pad_token_id)
    return [
        [[_total(values[tree], nodes, normalise) for tree, nodes in row] for row in rows] for rows in wanted
    ]


def _total(values: dict[int, float], nodes: list[int], normalise: bool) -> float:
    total = sum(values[node] for node in nodes)
    return total / len(nodes) if normalise else total


def _groups(prompts: Sequence[EncodedPrompt]) -> list[list[int]]:
    """Branches with the same media tensors, by identity."""
    groups: dict[tuple, list[int]] = {}
    for i, prompt in enumerate(prompts):
        key = tuple(sorted((name, id(tensor)) for name, tensor in prompt.media.items()))
        groups.setdefault(key if key else ("none",), []).append(i)
    return list(groups.values())


def _root(prompts: Sequence[EncodedPrompt]) -> tuple[_Tree, int]:
    """The longest common prefix of several prompts (never a whole prompt) as the root of a tree.

    Where media stand in the prompts, all of them do so in the prefix: behind the last one text alone follows,
    whose positions count on, so that a node's position is its depth.
    """
    first = prompts[0]
    common = min(len(prompt) for prompt in prompts) - 1
    for prompt in prompts[1:]:
        same = (prompt.ids[:common] == first.ids[:common]).long().cumprod(0)
        common = int(same.sum())
    start = first.positions[0, common].item()
    for prompt in prompts:
        rest = start + torch.arange(len(prompt) - common)
        if not ((prompt.positions[:, common:] - rest).abs() < 1e-2).all():  # fractions are rounded
            raise ValueError("the prompts part before the end of their media; only their words may differ")
    return _Tree(first.ids[:common], first.positions[:, :common], start, first), common


def _forward(model: Any, trees: list[_Tree], pad_id: int) -> list[dict[int, float]]:
    """Per tree the log-probability of every asked node.

    A position predicts one label. A node with several asked children therefore stands once as itself and once
    more, seen by nobody, for each further child (as does the root's last token).
    """
    inner = base_model(model.module if hasattr(model, "module") else model)
    if (why := refusal("packed", inner.config.get_text_config())) is not None:
        raise UserError(f"candidates are scored behind one prompt, but {why}; set attn_implementation sdpa.")
    device = inner.device
    layouts = [_layout(tree) for tree in trees]
    longest = max(len(layout[0]) for layout in layouts)
    ids = torch.full((len(trees), longest), pad_id)
    labels = torch.full_like(ids, _IGNORED)
    positions = torch.zeros((3, *ids.shape), dtype=position_dtype(tree.reader for tree in trees))
    allowed = torch.eye(longest, dtype=torch.bool).repeat(len(trees), 1, 1)
    for row, (tokens, places, sees, asks) in enumerate(layouts):
        length = len(tokens)
        ids[row, :length], positions[:, row, :length] = tokens, places
        allowed[row, :length, :length] = sees
        for place, (_, token) in asks.items():
            labels[row, place] = token
    blocked = torch.zeros(allowed.shape, dtype=inner.dtype).masked_fill_(
        ~allowed, torch.finfo(inner.dtype).min
    )
    outputs = model(
        input_ids=ids.to(device),
        attention_mask=blocked[:, None].to(device),
        position_ids=positions.to(device),
        **merge_media([tree.reader for tree in trees], device, inner.dtype),
        shift_labels=labels.to(device),
        fused_lm_head=True,
        use_cache=False,
    )
    logps = outputs.log_probs.view(len(trees), longest).float().cpu()
    return [
        {node: float(logps[row, place]) for place, (node, _) in asks.items()}
        for row, (_, _, _, asks) in enumerate(layouts)
    ]


def _layout(tree: _Tree) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, dict[int, tuple[int, int]]]:
    """Tokens (L,), positions (3, L), who sees whom (L, L), and place -> (asked node, its token)."""
    size = len(tree.ids)
    parents: list[int] = list(tree.parents)  # by node; copies follow
    tokens, depths = list(tree.tokens), list(tree.depths)
    asks: dict[int, tuple[int, int]] = {}
    for node in tree.asked:
        parent = tree.parents[node]
        place = size + parent if parent >= 0 else size - 1
        if place in asks:  # a copy of the parent, at its position, behind the parent's own ancestors
            place = size + len(tokens)
            tokens.append(tree.tokens[parent] if parent >= 0 else int(tree.ids[-1]))
            parents.append(tree.parents[parent] if parent >= 0 else -2)
            depths.append(tree.depths[parent] if parent >= 0 else -1)
        asks[place] = (node, tree.tokens[node])
    length = size + len(tokens)
    sees = torch.eye(length, dtype=torch.bool)
    sees[:size, :size] = torch.ones(size, size, dtype=torch.bool).tril()
    for number, parent in enumerate(parents):
        place = size + number
        if parent >= 0:
            sees[place] |= sees[size + parent]
        else:  # the whole root; a copy of its last token sees what that token sees, and itself
            sees[place, : size if parent == -1 else size - 1] = True
    places = torch.cat(
        [tree.positions, (tree.next_position + torch.tensor(depths, dtype=torch.long)).expand(3, -1)], 1
    )
    return torch.cat([tree.ids, torch.tensor(tokens, dtype=tree.ids.dtype)]), places, sees, asks
