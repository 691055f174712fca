"""The rules of a group, and nothing else.

Rule of this folder: no input or output, no clock, no randomness, no Faust, no Kafka. Everything here is a function of the rows it is
given and of the next record of the log, so that a replay decides the same thing to the same bytes. An import contract enforces it.

Read `rows.py` (what is remembered), then `fold.py` (what a record does to it), then `deadlines.py` (who is due next).
"""
