"""What a worker shows of itself: an HTTP API, a live page, health and metrics.

The rule of this folder: it looks and it asks. Nothing in here decides about a group; a command that comes in over HTTP goes to Kafka
like any other. Rows are read as they are committed, in slices, off the event loop, so that a page with many viewers cannot delay
a fire. The danger is the opposite of the worker's: here, input comes from anybody who reaches the port (`access.py`, `limits.py`).
"""
