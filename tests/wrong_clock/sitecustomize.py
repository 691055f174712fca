"""Makes the wall clock of a Python process wrong by WAIT_FOR_ME_TEST_CLOCK_OFFSET_SECONDS; put this folder on PYTHONPATH."""

import os
import time

_offset = float(os.environ.get("WAIT_FOR_ME_TEST_CLOCK_OFFSET_SECONDS", "0"))
if _offset:
    _time, _time_ns = time.time, time.time_ns
    time.time = lambda: _time() + _offset
    time.time_ns = lambda: _time_ns() + int(_offset * 1e9)
