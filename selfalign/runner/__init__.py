"""Running a step over the rows of a dataset, so that no row is lost or done twice, on disk and on the Hub.

A script reads its `source`, says in a `table` what is made of each row, and hands that to `step`. A `flow` keeps rows
in flight, a `writer` gathers what comes out into parts (`part`), and an `output` (`folder_output`, `hub_output`) keeps
them. The `record` is run.json, the `card` is for people; `shards` run on many machines; `hub` is what both ends need of
the Hub.

What does not belong here: what a step does with a row (the scripts), and how a model is asked (`selfalign.llm`).
"""
