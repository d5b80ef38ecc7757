"""A linter for prose: pages, docstrings, comments and messages in plain English.

`python -m tests.prose [paths]` checks files.  `style.toml` holds the house style, `allowed.toml` the findings of each
file that are not resolved yet; those numbers only fall.
"""
