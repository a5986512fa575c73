"""Decoding that repairs conflicts without training: rules over the scores of several branches.

The rules are pure: scores in, scores and a decision out. What a branch sees, and how it is scored, is not
their business.
"""
