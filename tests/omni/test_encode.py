"""The one door: positions, interleaving, and that every sense arrives."""

import dataclasses

import numpy as np
import pytest
import torch

from rlcomm.data.media import Clip
from rlcomm.data.sample import Sample, Turn
from rlcomm.omni.encode import conversation_pieces, encode, user_text
from rlcomm.utils.errors import UserError
from tests.conftest import make_clip, make_prompt, make_sample


def plain_positions(policy, prompt, **flags):
    """What the model itself would compute for the same inputs."""
    model = policy.model.model
    return model.get_rope_index(
        prompt.ids[None], video_grid_thw=prompt.media.get("video_grid_thw"),
        attention_mask=torch.ones(1, len(prompt)),
        audio_seqlens=prompt.media["feature_attention_mask"].sum(-1), **flags,
    )[0][:, 0]  # fmt: skip


def test_positions_are_the_models_own_and_audio_is_interleaved_with_video(policy):
    prompt = make_prompt(policy, 0, seconds=6.0)
    expected = plain_positions(policy, prompt, use_audio_in_video=True, second_per_grids=torch.tensor([1.0]))
    assert torch.equal(prompt.positions, expected)
    audio, video = policy.config.audio_token_id, policy.config.video_token_id
    kinds = "".join("a" if t == audio else "v" if t == video else "." for t in prompt.ids.tolist()).strip(".")
    runs = [kinds[0]] + [b for a, b in zip(kinds, kinds[1:]) if a != b]  # noqa: B905, RUF007
    assert "".join(runs).replace(".", "") == "vavava"  # 6 s in chunks of 2 s
    assert prompt.next_position == int(prompt.positions.max()) + 1


def test_the_flag_for_audio_in_video_changes_positions(policy):
    """The trap this door closes: with the flag on one path only, positions differ silently."""
    prompt = make_prompt(policy, 0, seconds=4.0)
    apart = plain_positions(policy, prompt, use_audio_in_video=False, second_per_grids=torch.tensor([1.0]))
    assert not torch.equal(prompt.positions, apart)


def test_audio_is_never_truncated_and_never_padded_in_the_prompt(policy):
    for seconds in (0.5, 1.0, 3.3):
        prompt = make_prompt(policy, 1, seconds)
        frames = prompt.media["feature_attention_mask"].sum().item()
        assert frames == int(seconds * 100)
        tokens = (prompt.ids == policy.config.audio_token_id).sum().item()
        assert tokens == ((frames - 1) // 2 + 1 - 2) // 2 + 1
        assert prompt.media["input_features"].shape[-1] == frames


def test_an_encoded_prompt_keeps_no_padding_in_memory(policy):
    for name, tensor in make_prompt(policy, 1, 1.0).media.items():
        if isinstance(tensor, torch.Tensor):
            assert tensor.untyped_storage().nbytes() == tensor.numel() * tensor.element_size(), name


@pytest.mark.parametrize("lost", ["audio", "video"])
def test_a_missing_sense_leaves_no_trace(policy, lost):
    clip = dataclasses.replace(make_clip(0), **({"audio": None} if lost == "audio" else {"frames": None}))
    prompt = encode(policy, make_sample().without(lost), clip, "direct")
    gone = policy.config.audio_token_id if lost == "audio" else policy.config.video_token_id
    assert gone not in prompt.ids
    assert ("input_features" in prompt.media) == (lost == "video")
    assert ("pixel_values_videos" in prompt.media) == (lost == "audio")


def test_an_image_is_one_frame(policy):
    clip = Clip(frames=np.zeros((1, 56, 84, 3), np.uint8), fps=1.0, audio=None)
    prompt = encode(policy, make_sample(), clip, "direct")
    assert (prompt.ids == policy.config.image_token_id).sum() == 6


def test_frames_keep_the_size_data_gave_them(policy):
    assert make_prompt(policy, 0).media["video_grid_thw"].tolist() == [[1, 4, 6]]


def test_user_text_lists_options_by_letter_and_refuses_an_unknown_style():
    turn = Turn("What?", "b", options=("a", "b"))
    assert user_text(turn, "direct").splitlines()[:3] == ["What?", "A. a", "B. b"]
    assert "<v-think>" in user_text(turn, "steps")
    with pytest.raises(UserError, match="steps, direct"):
        user_text(turn, "essay")


def test_conversation_pieces_put_the_loss_on_the_assistant_alone(policy):
    sample = Sample(id="a", turns=(Turn("One?", "yes"), Turn("Two?", "no")))
    ids, mask = conversation_pieces(policy, sample, "direct", ["yes", "no"])
    tokenizer = policy.processor.tokenizer
    spoken = [i for i, m in zip(ids, mask, strict=True) if m]
    assert tokenizer.decode(spoken) == "yes<|im_end|>no<|im_end|>"
    assert "Two?" in tokenizer.decode([i for i, m in zip(ids, mask, strict=True) if not m])
    rendered = policy.processor.apply_chat_template(
        [{"role": "user", "content": user_text(sample.turns[0], "direct")},
         {"role": "assistant", "content": "yes"},
         {"role": "user", "content": "Two?"}, {"role": "assistant", "content": "no"}], tokenize=False,
    )  # fmt: skip
    opening = rendered[: rendered.index("yes<|im_end|>")]
    assert rendered == opening + tokenizer.decode(ids) + "\n"
