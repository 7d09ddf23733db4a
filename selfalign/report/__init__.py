"""What people look at: the report page and its charts, model cards, tables, and the statistics of scores.

What belongs here: turning finished datasets and results into something to read. What does not: the cards of datasets,
which the runner writes with every part (`selfalign.runner.card`).
"""
