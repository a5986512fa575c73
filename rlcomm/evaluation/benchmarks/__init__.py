"""One benchmark a file: read the official files, score one item, count over the records.

A benchmark file knows its own format and metrics and nothing else: paths come in as arguments, and no file
knows which model or which data set it will meet. Which there are: `rlcomm.evaluation.catalog`.
"""
