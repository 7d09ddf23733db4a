"""What people read: the report page with its charts and examples, model cards, and the paper's tables with our results.

What belongs here: turning finished datasets and results into something to read. What does not: the cards of datasets,
which the runner writes with every part (`selfalign.runner.card`), and statistics, which others need as well
(`selfalign.statistics`).
"""
