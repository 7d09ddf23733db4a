"""Untrusted programs in a sandbox, and the metric that is computed with it.

What belongs here: all that runs a program and says how it ended. What does not: anything that needs the rest of this
project, because the folder is an `evaluate` module of its own, which is copied and loaded elsewhere.
"""
