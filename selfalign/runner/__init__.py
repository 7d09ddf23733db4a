"""Running a step over the rows of a dataset: the source, the rows in flight, the parts of the output, shards, cards.

What belongs here: everything that keeps rows from being lost or done twice, on disk and on the Hub. What does not: what
a step does with a row (the scripts), and how a model is asked (`selfalign.llm`).
"""
