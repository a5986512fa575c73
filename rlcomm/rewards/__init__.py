"""Rewards of Step-RR: pure functions of text (RL-CoMM, arXiv 2511.10059); `adapters` hands them to TRL.

`None` means not applicable (there is nothing to compare with), `0.0` means bad.
"""
