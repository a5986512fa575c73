"""Recipes: one flat dataclass a stage, read from YAML, overridden by `--key value`, checked in one place.

A recipe's keys are the fields of TRL's and transformers' configs plus those defined here. `stage:` names the
stage and with it the dataclass; paths are relative to the folder the command runs in.

    check                                      what every recipe shares of its checks
    policy, media, data, workers, watch,
    rewards, measured                          keys that several stages share
    sft, audio, step_rr, ans_co, reference,
    evaluation, diagnose, pipeline             a stage's dataclass
    stages, load                               stage -> dataclass; file -> recipe
"""
