"""Measurements: this project beside its peers, itself as it grows, and where its time goes.

Rules of this folder: a real Kafka, never an embedded one; every answer is checked, because a fast wrong answer is no answer; the
systems are run as their users run them, with nothing tuned that only a benchmark would have; what cannot be measured is named.
Nothing in `app/` or `producers/` knows of this folder.
"""
