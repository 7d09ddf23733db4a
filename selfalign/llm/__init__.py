"""Talking to models: a fleet of servers, what is spoken with each, how they are tried out, and prompts.

What belongs here: everything between a prompt and the samples that come back. What does not: rows, datasets and runs
(`selfalign.runner`), and the engine of serve.py (`server`), which is the other end of the line.
"""
