"""Python and Markdown as text: parsing code that nobody trusts, functions, type checkers, mutants, near-duplicates.

What belongs here: pure functions from text to text or to a verdict. What does not: running code (`code_eval`), and the
rules by which a step keeps or drops rows (`selfalign.data`).
"""
