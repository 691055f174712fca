"""The executor: every fire becomes an effect, or a dead letter that says why not.

`schedule.py` decides (no Kafka, no clock, no thread of its own), `process.py` acts and states the order of effects. Rule of this
folder: nothing in it knows the worker's lanes, rows or store, and the worker knows nothing of it; they meet in Kafka only.
"""
