"""What happens as it grows: one scenario a file, each run by name with `python -m benchmarks.scale NAME ...`.

A scenario gets a session (a broker of its own, and a share by which its numbers are multiplied for a try) and returns a report:
figures, and what was promised beside what was measured. Answers are checked here as well.
"""
