"""Forty ways to be quietly wrong, and the test that says so (`run.py` tries them).

`old` stands once in the package, wherever its file lies. Where a change makes it stand nowhere, `run.py` says
so, and the fault is written anew for the code as it is.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Fault:
    """`old` becomes `new`, and `test` must fail."""

    name: str
    old: str
    new: str
    test: str


FAULTS = [
    # -- log-probabilities and the prompt --------------------------------------------------------------------
    Fault(
        "log-probs of the token after",
        "labels[:, ids.shape[1] - 1 : -1] = completions",
        "labels[:, ids.shape[1] :] = completions",
        "tests/omni/test_score.py::test_scores_equal_a_plain_forward",
    ),
    Fault(
        "scores at the trainer's temperature",
        '    add_fused_lm_head(inner, outputs=("log_probs", "entropy"))\n    try:\n',
        "    try:\n",
        "tests/stages/test_eval_during.py::test_scores_are_taken_at_temperature_one_whatever_the_trainer_set",
    ),
    Fault(
        "sampling at the inverse temperature",
        "warp.append(TemperatureLogitsWarper(temperature))",
        "warp.append(TemperatureLogitsWarper(1 / temperature))",
        "tests/omni/test_rollout.py::test_a_seed_repeats_and_sampling_follows_the_distribution",
    ),
    Fault(
        "a completion sees its next token",
        "behind.triu(before + 1)",
        "behind.triu(before + 2)",
        "tests/omni/test_grouped.py::test_a_mask_hides_what_comes_behind",
    ),
    Fault(
        "completions one position too far",
        "following = prompt.next_position + torch.arange(len(completion) - 1)",
        "following = prompt.next_position + 1 + torch.arange(len(completion) - 1)",
        "tests/omni/test_score.py::test_scores_equal_a_plain_forward",
    ),
    Fault(
        "media of another row",
        "parts = [prompt.media[key] for prompt in prompts if key in prompt.media]",
        "parts = [prompt.media[key] for prompt in reversed(prompts) if key in prompt.media]",
        "tests/omni/test_score.py::test_scores_equal_a_plain_forward",
    ),
    Fault(
        "no sound in the loss",
        "        **merge_media(readers, device, inner.dtype),\n",
        '        **{k: v for k, v in merge_media(readers, device, inner.dtype).items() if "fea" not in k},\n',
        "tests/trainers/test_sft.py::test_another_clips_sound_or_picture_changes_the_loss",
    ),
    Fault(
        "media tokens are sampled",
        "sorted(set(tokenizer.all_special_ids) - {tokenizer.eos_token_id})",
        "sorted(set())",
        "tests/omni/test_rollout.py::test_special_tokens_are_never_sampled",
    ),
    Fault(
        "the rate of the sound is the processor's",
        'inputs["position_id_per_seconds"] = policy.config.position_id_per_seconds',
        'inputs["position_id_per_seconds"] = 2 * policy.config.position_id_per_seconds',
        "tests/omni/test_encode.py::test_positions_are_the_models_own_and_audio_is_interleaved_with_video",
    ),
    # -- rewards ---------------------------------------------------------------------------------------------
    Fault(
        "a part of an answer is the answer",
        'return normalise(candidate) == normalise(gold) != ""',
        "return normalise(gold) in normalise(candidate)",
        "tests/rewards/test_scores.py::test_open_answers_are_compared_whole",
    ),
    Fault(
        "omega the other way round",
        "similarity(steps.audio.text, sample.reference, INSTRUCTION) > omega",
        "similarity(steps.audio.text, sample.reference, INSTRUCTION) < omega",
        "tests/rewards/test_scores.py::test_arr_needs_the_reasoning_and_the_answer",
    ),
    Fault(
        "avc of a text without segments",
        "    if not (steps.audio.found and steps.video.found and steps.answer.found):\n        return 0.0\n",
        "",
        "tests/rewards/test_scores.py::test_avc_is_zero_unless_all_three_parse",
    ),
    Fault(
        "the strict format is the lenient one",
        "    if lenient:\n        return float(all(tag in",
        "    if True:\n        return float(all(tag in",
        "tests/rewards/test_scores.py::test_format_strict_and_lenient",
    ),
    Fault(
        "a repeated segment is read from its last copy",
        "closing.group(2) == name and name not in pairs:",
        "closing.group(2) == name:",
        "tests/test_steps.py::test_repeated_segment_keeps_the_first_text",
    ),
    # -- training --------------------------------------------------------------------------------------------
    Fault(
        "prompts do not follow their rows through the shuffle",
        '        self._encoded = inputs["encoded"]\n',
        "",
        "tests/trainers/test_grpo.py::test_every_row_keeps_its_own_prompt_through_shuffle_and_split",
    ),
    Fault(
        "advantages do not follow their rows",
        "else value[order]\n",
        "else value\n",
        "tests/trainers/test_grpo.py::test_what_has_rows_is_reordered_with_them",
    ),
    Fault(
        "an answer for another prompt of the batch",
        "for rows, group in zip(some, sampled, strict=True):",
        "for rows, group in zip(some, reversed(sampled), strict=True):",
        "tests/trainers/test_grpo.py::test_the_sampler_answers_each_row_with_its_own_group",
    ),
    Fault(
        "Ans-CO learns doubt",
        "return (likelihood + lambdas * spread).mean()",
        "return (likelihood - lambdas * spread).mean()",
        "tests/trainers/test_ans_co.py::test_loss_by_hand",
    ),
    Fault(
        "Ans-CO's tokens begin at the answer's text",
        "behind, answer = parsed.answer_start, parsed.answer",
        "behind, answer = parsed.answer.span[0], parsed.answer",
        "tests/trainers/test_ans_co.py::test_the_answers_tokens_are_those_behind_v_think",
    ),
    Fault(
        "Ans-CO's gate opens for guesses",
        "lambdas = torch.where(u > self.ansco_threshold, 0.0, self.ansco_lambda)",
        "lambdas = torch.where(u > self.ansco_threshold, self.ansco_lambda, 0.0)",
        "tests/trainers/test_ans_co.py::test_lambda_is_exactly_zero_above_the_threshold_and_whole_up_to_it",
    ),
    Fault(
        "metrics of a resumed run twice",
        'kept = [row for row in read_metrics(self.path) if row["step"] <= state.global_step]',
        "kept = read_metrics(self.path)",
        "tests/stages/test_run.py::test_metrics_of_a_killed_run_lose_the_torn_line_and_the_steps_after_the_checkpoint",
    ),
    # -- metrics and decoders --------------------------------------------------------------------------------
    Fault(
        "the bootstrap draws rows, not clips",
        "[str(c) for c in clusters] if clusters is not None else np.arange(len(items)), return_inverse=True",
        "np.arange(len(items)), return_inverse=True",
        "tests/evaluation/test_metrics.py::test_questions_about_one_clip_are_not_independent",
    ),
    Fault(
        "flips over all rows instead of the right ones",
        "[f and b for f, b in zip(flips, before, strict=True)], before, clusters",
        "[f and b for f, b in zip(flips, before, strict=True)], [True] * len(before), clusters",
        "tests/evaluation/test_influence.py::test_adversarial_influence_by_hand",
    ),
    Fault(
        "nAUC is an area, not a mean",
        "return (heights * (ends - jumps)).sum(axis=1) / budget",
        "return (heights * (ends - jumps)).sum(axis=1)",
        "tests/evaluation/test_repair.py::test_nauc_by_hand",
    ),
    Fault(
        "a tie is a sign flip",
        "joint is not None and alone is not None and alone > 0 > joint",
        "joint is not None and alone is not None and alone >= 0 >= joint",
        "tests/evaluation/test_margins.py::test_sign_flips_by_hand_with_ties_and_missing_margins",
    ),
    Fault(
        "GACL's alpha has no bound",
        "alpha = min(max(settings.lam * reliability * gate, 0.0), settings.alpha_max)",
        "alpha = max(settings.lam * reliability * gate, 0.0)",
        "tests/decoding/test_gacl.py::test_alpha_is_clipped_at_its_bound",
    ),
    Fault(
        "GACL's margin is to the joint answer",
        "margin = s_a[y_a] - max(others) if",
        "margin = s_a[y_a] - s_a[y_j] if y_j is not None and",
        "tests/decoding/test_gacl.py::test_the_margin_is_over_the_audio_branchs_own_second",
    ),
    Fault(
        "GACL goes beyond the audio",
        "return joint + alpha * (audio - joint)",
        "return joint + alpha * audio",
        "tests/decoding/test_gacl.py::test_the_equations_by_hand",
    ),
    Fault(
        "a contrast pulls towards its reference",
        "_masked((1 + a) * full - a * reference, full)",
        "_masked((1 + a) * full + a * reference, full)",
        "tests/decoding/test_contrastive.py::test_the_contrast_by_hand",
    ),
    # -- data ------------------------------------------------------------------------------------------------
    Fault(
        "the sound keeps its own rate",
        'self._shape = av.AudioResampler(format="fltp", rate=self.rate), shape',
        'self._shape = av.AudioResampler(format="fltp", rate=frame.sample_rate), shape',
        "tests/data/test_media.py::test_odd_rates_and_channels_give_16_khz_mono",
    ),
    Fault(
        "a clip is its own donor",
        "first[names[(i + 1) % len(names)]]",
        "first[names[i % len(names)]]",
        "tests/data/test_controls.py::test_a_donor_is_never_the_clip_itself",
    ),
    Fault(
        "a shift to the other side",
        "samples = round(seconds * rate)\n    shifted",
        "samples = round(-seconds * rate)\n    shifted",
        "tests/data/test_confuse.py::test_shift_by_hand",
    ),
    # -- export, doctor, endpoint ----------------------------------------------------------------------------
    Fault(
        "adapters are dropped, not merged",
        "        layer.merge(safe_merge=True)\n",
        "",
        "tests/export/test_export.py::test_a_thinker_alone_is_the_policy",
    ),
    Fault(
        "a tied head is looked for in the base",
        "self.twins = {name for name, own in named.items() if own in model.all_tied_weights_keys}",
        "self.twins = set()",
        "tests/export/test_export.py::test_a_full_checkpoint_is_the_base_with_the_trained_thinker_in_it[tied-trained]",
    ),
    Fault(
        "ZeRO's optimiser in half the bytes",
        '"optimizer": 12 * trained // step.ranks',
        '"optimizer": 6 * trained // step.ranks',
        "tests/doctor/test_memory.py::test_zero_divides_what_it_says_it_divides",
    ),
    Fault(
        "the endpoint's words with the key in them",
        'return text.replace(asking.endpoint.key, "[key]") if asking.endpoint.key else text',
        "return text",
        "tests/evaluation/test_judge_model.py::test_the_key_never_leaks",
    ),
    Fault(
        "the picture is opened for the audio model",
        "audio = load_clip(None, sample.audio, media, recipe.media_cache_dir).audio",
        "audio = load_clip(sample.video, sample.audio, media, recipe.media_cache_dir).audio",
        "tests/reference/test_reference.py::test_only_the_sound_is_ever_opened",
    ),
    Fault(
        "the seed of the world is not used",
        "np.random.default_rng([seed, zlib.crc32(split.encode()), index])",
        "np.random.default_rng([0, zlib.crc32(split.encode()), index])",
        "tests/orchestra/test_orchestra_build.py::test_another_seed_gives_other_scenes_and_a_longer_build_begins_alike",
    ),
    Fault(
        "a label's mean over the words before it too",
        "totals = totals / (mask.sum(1) - before)",
        "totals = totals / mask.sum(1)",
        "tests/omni/test_score.py::test_candidate_scores_are_sums_over_label_tokens",
    ),
    # -- the evaluation --------------------------------------------------------------------------------------
    Fault(
        "hearing everything costs the judge nothing",
        "clean = 1 - len(invented) / len(shown) if shown else 1.0",
        "clean = 1.0",
        "tests/evaluation/test_judge.py::test_scores_by_hand",
    ),
    Fault(
        "the faithful text is asked as the adversarial one",
        "for name, text in texts.items()}",
        "for name, text in zip(texts, reversed(texts.values()), strict=True)}",
        "tests/evaluation/test_official_files.py::test_mcr",
    ),
    Fault(
        "a category read from the sub-category",
        'category, kind = wrong.text(row, "category"), wrong.text(row, "sub_category")',
        'category, kind = wrong.text(row, "category"), wrong.text(row, "category")',
        "tests/evaluation/test_official_files.py::test_cmm",
    ),
    Fault(
        "an unparsed answer is a no",
        "return found.group(1) if found else None",
        'return found.group(1) if found else "no"',
        "tests/evaluation/test_benchmarks.py::test_yes_no",
    ),
]
