"""The rules of steps 1 and 6: which seeds and which samples are kept, and why the others are not.

What belongs here: filters, the choice among samples, agreement between samples, preferences, keeping benchmarks
out.
What does not: how text is parsed and compared (`selfalign.code`).
"""
