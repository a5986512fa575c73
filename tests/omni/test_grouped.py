"""Grouped scoring: the same numbers as rows in every setting it is used in, and less to hold on the way."""

import contextlib
import multiprocessing

import rlcomm.utils.torchvision_ops  # noqa: F401  (a rank imports this file first)

import numpy as np  # isort: skip
import pytest
import torch
from peft import get_peft_model
from torch.utils._python_dispatch import TorchDispatchMode

from rlcomm.omni import grouped
from rlcomm.omni.encode import reword, swap_media
from rlcomm.omni.layout import find_families
from rlcomm.omni.policy import load_policy, lora_config, set_trainable
from rlcomm.omni.score import Work, _chosen, form, pad_completions, score
from rlcomm.utils.errors import UserError
from tests.conftest import make_prompt
from tests.omni.test_score import batch  # noqa: F401  (three clips, groups of 4, 3 and 1, shuffled)

CPU = torch.device("cpu")
every_attention = pytest.mark.parametrize("policy", ["sdpa", "eager"], indirect=True)


@pytest.fixture
def policy(nano_folder, request):
    return load_policy(str(nano_folder), attn_implementation=getattr(request, "param", "sdpa"))


def gradient(model, prompts, ids, mask, scoring, dtype=None) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probs (B, C) and the gradient, as one vector, of a loss that weighs every row and the entropies."""
    model.zero_grad()
    weight = torch.linspace(-1, 1, len(ids))[:, None]
    with torch.autocast("cpu", dtype) if dtype else contextlib.nullcontext():
        logps, entropies = score(model, prompts, ids, mask, scoring)
    (weight * logps + 0.1 * entropies).sum().backward()
    return logps.detach(), torch.cat(
        [p.grad.float().flatten() for p in model.parameters() if p.grad is not None]
    )


def adapted(policy):
    """The policy with adapters that are not zero."""
    model = get_peft_model(policy.model, lora_config(r=4, alpha=8))
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.05)
    return model


def distance(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).norm() / b.norm())


@every_attention
@pytest.mark.parametrize("lora", [False, True], ids=["whole", "lora"])
@pytest.mark.parametrize("checkpointing", [None, False, True], ids=["plain", "checkpoint", "reentrant"])
def test_log_probs_and_gradients_equal_rows(policy, batch, lora, checkpointing):  # noqa: F811
    """Trap: a checkpointed layer is computed again in the backward, and must attend as in the forward."""
    set_trainable(policy.model, freeze_encoders=True)
    model = adapted(policy) if lora else policy.model
    if checkpointing is not None:
        model.gradient_checkpointing_enable({"use_reentrant": checkpointing})
        model.enable_input_require_grads()
    model.train()
    (rows, expected), (found, moved) = (gradient(model, *batch, form) for form in ("rows", "grouped"))
    assert torch.allclose(found, rows, atol=1e-5)
    assert expected.norm() > 0.1
    assert distance(moved, expected) < 1e-4


@every_attention
def test_in_autocast_the_difference_is_that_of_the_precision(policy, batch):  # noqa: F811
    set_trainable(policy.model, freeze_encoders=True)
    exact, direction = gradient(policy.model, *batch, "rows")
    logps, moved = {}, {}
    for name in ("rows", "grouped"):
        logps[name], moved[name] = gradient(policy.model, *batch, name, torch.bfloat16)
    error = (logps["rows"] - exact).abs().max()
    assert error > 1e-3  # bfloat16 it was
    assert (logps["grouped"] - exact).abs().max() < 2 * error
    assert distance(moved["grouped"], direction) < 2 * distance(moved["rows"], direction)


@every_attention
def test_a_bfloat16_model_scores_alike(policy, batch):  # noqa: F811
    prompts, ids, mask = batch
    exact = score(policy.model, prompts, ids, mask, "rows")[0]
    policy.model.to(torch.bfloat16)
    with torch.no_grad():
        rows, found = (score(policy.model, prompts, ids, mask, form)[0] for form in ("rows", "grouped"))
    assert (rows - exact).abs().max() > 1e-3
    assert (found - exact).abs().max() < 2 * (rows - exact).abs().max()


def test_a_cut_group_scores_as_in_the_whole(policy, batch):  # noqa: F811
    """Other processes hold the rest of it: nothing may depend on who is beside a completion."""
    prompts, ids, mask = batch
    whole = score(policy.model, prompts, ids, mask, "grouped")[0]
    for part in (slice(0, 3), slice(3, 8), slice(4, 5)):
        found = score(policy.model, prompts[part], ids[part], mask[part], "grouped")[0]
        assert torch.allclose(found, whole[part], atol=1e-5)


def test_completions_of_one_length_and_of_many_are_both_exact(policy):
    """Equal lengths go without gathering, which is another path."""
    prompt = make_prompt(policy, 0)
    for lengths in ([5, 5, 5], [1, 1], [7, 1, 3], [4]):
        ids, mask = pad_completions([[20 + i + j for j in range(n)] for i, n in enumerate(lengths)], 0, CPU)
        rows, found = (
            score(policy.model, [prompt] * len(lengths), ids, mask, form)[0] for form in ("rows", "grouped")
        )
        assert torch.allclose(found, rows, atol=1e-5)


def test_swapped_media_are_told_apart(policy, batch):  # noqa: F811
    """The comparison with rows would not see media that reach neither: here they must matter, in both."""
    prompts, ids, mask = batch
    exact = score(policy.model, prompts, ids, mask, "rows")[0]
    first = prompts[0]
    for keys in (("input_features",), ("pixel_values_videos",)):
        other = swap_media(first, make_prompt(policy, 77), keys)
        swapped = [other if prompt is first else prompt for prompt in prompts]
        found = score(policy.model, swapped, ids, mask, "grouped")[0]
        with pytest.raises(AssertionError):
            assert torch.allclose(found, exact, atol=1e-5)
        assert torch.allclose(found, score(policy.model, swapped, ids, mask, "rows")[0], atol=1e-5)


def test_ten_steps_by_each_form_end_in_the_same_weights(nano_folder, batch):  # noqa: F811
    prompts, ids, mask = batch
    advantages = torch.linspace(-1, 1, len(ids))[:, None]
    ends = {}
    for scoring in ("rows", "grouped"):
        model = load_policy(str(nano_folder)).model
        set_trainable(model, freeze_encoders=True)
        model.train()
        trained = [p for p in model.parameters() if p.requires_grad]
        start = torch.cat([p.detach().flatten().clone() for p in trained])
        optimizer = torch.optim.SGD(trained, lr=1e-2)
        old = score(model, prompts, ids, mask, "rows")[0].detach()
        for _ in range(10):
            logps, _ = score(model, prompts, ids, mask, scoring)
            ratio = (logps - old).exp()
            gain = torch.min(ratio * advantages, ratio.clamp(0.8, 1.2) * advantages)
            loss = -((gain * mask).sum(1) / mask.sum(1)).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        ends[scoring] = torch.cat([p.detach().flatten() for p in trained]) - start
    assert ends["rows"].abs().max() > 1e-3
    assert (ends["grouped"] - ends["rows"]).abs().max() < 1e-4
    assert distance(ends["grouped"], ends["rows"]) < 1e-2


class Shapes(TorchDispatchMode):
    """The shapes of all tensors that any operation makes."""

    def __init__(self):
        super().__init__()
        self.seen: set[tuple[int, ...]] = set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        made = function(*args, **(kwargs or {}))
        for one in made if isinstance(made, (tuple, list)) else (made,):
            if isinstance(one, torch.Tensor):
                self.seen.add(tuple(one.shape))
        return made

    def squares(self, *sizes: int) -> set[tuple[int, ...]]:
        """Those with two of these sizes among their dimensions."""
        return {shape for shape in self.seen if sum(size in sizes for size in shape) > 1}


def test_nothing_is_as_large_as_tokens_by_tokens(policy):
    """Trap: a mask (or scores) over all tokens, or over all completions of a prompt. Eager attention over one
    long row has such ones, and the same eye sees them; on the way back nothing of the kind may come up."""
    prompt = make_prompt(policy, 0, 8.0)
    ids, mask = pad_completions([[20 + (i + j) % 200 for j in range(37)] for i in range(7)], 0, CPU)
    words = 7 * 37
    places = len(prompt) - 1 + words
    for attention in ("sdpa", "eager"):
        policy.model.set_attn_implementation(attention)
        with Shapes() as shapes:
            score(policy.model, [prompt] * 7, ids, mask, "grouped")[0].sum().backward()
        assert (1, places, policy.model.config.get_text_config().hidden_size) in shapes.seen
        assert shapes.squares(places, words) == set()
        assert attention == "eager" or shapes.squares(len(prompt) - 1) == set()
    policy.model.set_attn_implementation("eager")
    with Shapes() as shapes:
        policy.model(input_ids=torch.full((1, places), 20))
    assert (1, 4, places, places) in shapes.squares(places)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_the_mask_is_made_once_for_all_layers_and_the_way_back(policy, batch, monkeypatch, checkpointing):  # noqa: F811
    """Trap: a layout that outlives a change of dtype (autocast) must not hand out the mask of another."""
    layouts, seen = [], []
    made, sdpa = grouped.Groups, grouped.scaled_dot_product_attention
    monkeypatch.setattr(grouped, "Groups", lambda groups: layouts.append(made(groups)) or layouts[-1])
    monkeypatch.setattr(
        grouped,
        "scaled_dot_product_attention",
        lambda *args, **kwargs: seen.append(kwargs["attn_mask"]) or sdpa(*args, **kwargs),
    )
    if checkpointing:
        policy.model.gradient_checkpointing_enable({"use_reentrant": False})
    policy.model.train()
    score(policy.model, *batch, "grouped")[0].sum().backward()
    layers, prompts = policy.model.config.get_text_config().num_hidden_layers, 3
    assert layers > 1
    assert len(seen) == layers * prompts * (2 if checkpointing else 1)
    assert len({id(mask) for mask in seen}) == prompts
    (layout,) = layouts
    assert layout.mask(1, 1, torch.bfloat16, CPU).dtype == torch.bfloat16


def test_a_mask_hides_what_comes_behind():
    layout = grouped.Groups([grouped.Group.of([slice(4, 6)], 6, [3, 1], CPU)])
    hidden = [[0, 0, 0, 1, 1], [0, 0, 0, 0, 1], [0, 0, 0, 0, 0]]
    found = layout.mask(0, 2, torch.float32, CPU)
    assert found.isneginf().int().tolist() == hidden * 2
    assert found[~found.isneginf()].eq(0).all()


def test_questions_about_one_clip_are_read_behind_it_once(policy):
    """Rows of one clip (its tensors are shared) with other words and several targets each."""
    prompt = make_prompt(policy, 0, 6.0)
    others = [
        reword(policy, prompt, text) for text in ("Which one plays?", "Is there a drum, or is there none?")
    ]
    prompts = [prompt, others[0], others[1], others[0], make_prompt(policy, 3), prompt]
    tokenizer = policy.processor.tokenizer
    texts = [tokenizer(text)["input_ids"] for text in ("yes", "a drum", "no harp no", "see", "no", "I hear")]
    ids, mask = pad_completions(texts, 0, CPU)
    found, gradients, work = {}, {}, {}
    for scoring in ("rows", "grouped"):
        work[scoring] = Work()
        logps, entropies = score(policy.model, prompts, ids, mask, scoring, work=work[scoring])
        policy.model.zero_grad()
        (logps * torch.linspace(-1, 1, 6)[:, None] + entropies).sum().backward()
        found[scoring] = (logps.detach(), entropies.detach())
        gradients[scoring] = torch.cat(
            [p.grad.flatten() for p in policy.model.parameters() if p.grad is not None]
        )
    for one, other in zip(found["grouped"], found["rows"], strict=True):
        assert torch.allclose(one, other, atol=1e-5)
    assert distance(gradients["grouped"], gradients["rows"]) < 1e-4
    media = int(torch.isin(prompt.ids, torch.tensor([policy.config.audio_token_id])).sum())
    assert work["rows"].read - work["grouped"].read > 4 * media  # five rows of that clip, read once
    assert work["rows"].tokens == work["grouped"].tokens == work["rows"].read
    assert work["grouped"].padding == 0 < work["rows"].padding


def test_words_longer_than_the_clip_stand_once_behind_it(policy):
    """Trap: words repeated for each of their completions would cost more than the clip that is shared."""
    prompt = make_prompt(policy, 0)
    other = reword(policy, prompt, "Is there a drum? " * 20)
    ids, mask = pad_completions([[20, 21]] * 8, 0, CPU)
    work = Work()
    score(policy.model, [prompt] * 4 + [other] * 4, ids, mask, "grouped", work=work)
    common = int((prompt.ids == other.ids[: len(prompt)]).long().cumprod(0).sum())
    assert 0 < common < len(prompt) - 1
    assert work.read == common + (len(prompt) - 1 - common) + (len(other) - 1 - common) + 8 * 2


def test_the_towers_keep_their_attention_and_files_do_not_tell(policy, batch, tmp_path):  # noqa: F811
    before = {
        name: getattr(policy.config, name)._attn_implementation for name in ("audio_config", "vision_config")
    }
    score(policy.model, *batch, "grouped")
    assert policy.model.model.language_model.config._attn_implementation == f"{grouped.ATTENTION}sdpa"
    for name, kept in before.items():
        assert getattr(policy.config, name)._attn_implementation == kept
    policy.model.save_pretrained(tmp_path)
    assert grouped.ATTENTION.strip("_") not in (tmp_path / "config.json").read_text()


@every_attention
def test_without_groups_the_attention_is_the_models_own_to_the_bit(policy, batch):  # noqa: F811
    before = score(policy.model, *batch, "rows")[0]
    grouped.enable(policy.model)
    assert torch.equal(score(policy.model, *batch, "rows")[0], before)


def test_a_layout_that_is_lost_on_its_way_is_no_silent_error(policy, batch, monkeypatch):  # noqa: F811
    monkeypatch.setattr(grouped, "enable", lambda thinker: None)
    with pytest.raises(RuntimeError, match="lost"):
        score(policy.model, *batch, "grouped")


@pytest.mark.parametrize("kind", ["flash_attention_2", "sliding"])
def test_what_cannot_attend_so_is_refused_and_auto_goes_around_it(policy, batch, kind):  # noqa: F811
    """Trap: groups that a kernel or a window does not heed give wrong numbers and no error."""
    config = policy.config.get_text_config()
    if kind == "sliding":
        config.layer_types = ["sliding_attention"] * config.num_hidden_layers
    else:
        config._attn_implementation_internal = kind
    with pytest.raises(UserError, match=r"scoring is grouped, but .*; leave scoring at auto"):
        score(policy.model, *batch, "grouped")
    families = find_families(batch[0], policy.config)
    assert _chosen("auto", config, families, len(batch[1])) == "rows"
    config.layer_types, config._attn_implementation_internal = None, "eager"
    assert _chosen("auto", config, families, len(batch[1])) == "grouped"


@pytest.fixture
def alone(tmp_path):
    """A process group of this process alone."""
    torch.distributed.init_process_group("gloo", f"file://{tmp_path}/ranks", rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


def test_the_layout_passes_through_ddp_around_peft(policy, batch, alone):  # noqa: F811
    """Gradients are synchronised by hooks of the wrapper: calling inner modules would leave them out."""
    set_trainable(policy.model, freeze_encoders=True)
    inner = adapted(policy)
    _, expected = gradient(inner, *batch, "rows")
    model = torch.nn.parallel.DistributedDataParallel(inner)
    calls = []
    model.register_forward_hook(lambda *_: calls.append(1))
    _, moved = gradient(model, *batch, "grouped")
    assert calls == [1]
    assert distance(moved, expected) < 1e-4


def of_a_rank(rank: int, folder, path: str, prompts, ids, mask) -> None:
    """One of two processes, each with half of every group; writes the gradient that DDP leaves it with."""
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", f"file://{folder}/ranks", rank=rank, world_size=2)
    half = slice(rank, None, 2)
    weight = torch.linspace(-1, 1, len(ids))[half, None]
    model = load_policy(path).model
    set_trainable(model, freeze_encoders=True)
    wrapped = torch.nn.parallel.DistributedDataParallel(model)
    logps, _ = score(wrapped, prompts[half], ids[half], mask[half], "grouped")
    (weight * logps).sum().backward()
    moved = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
    np.save(folder / f"{rank}.npy", moved.numpy())
    # Before the group: a reducer that goes last takes gloo's thread down with the GIL held, which that thread
    # may be waiting for (torch 2.13; one run in twenty did not end).
    del wrapped
    torch.distributed.destroy_process_group()


@pytest.mark.distributed
def test_groups_cut_over_two_ranks_give_the_gradient_of_the_whole(policy, batch, tmp_path):  # noqa: F811
    set_trainable(policy.model, freeze_encoders=True)
    prompts, ids, mask = batch
    clean = multiprocessing.get_context("forkserver")  # a fork of this process would lack its threads
    ranks = [
        clean.Process(target=of_a_rank, args=(rank, tmp_path, policy.path, prompts, ids, mask))
        for rank in (0, 1)
    ]
    for rank in ranks:
        rank.start()
    for rank in ranks:
        rank.join(240)
        rank.kill()
    assert [rank.exitcode for rank in ranks] == [0, 0]
    logps, _ = score(policy.model, prompts, ids, mask, "rows")
    ((torch.linspace(-1, 1, len(ids))[:, None] * logps).sum() / 2).backward()  # DDP takes the mean of ranks
    expected = torch.cat([p.grad.flatten() for p in policy.model.parameters() if p.grad is not None])
    for rank in (0, 1):
        assert distance(torch.from_numpy(np.load(tmp_path / f"{rank}.npy")), expected) < 1e-4


def test_auto_is_rows_where_nothing_is_shared():
    assert form(1) == "rows"
    assert form(8) == "grouped"
