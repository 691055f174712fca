"""Everything that touches the inside of Faust or aiokafka, and nothing else.

Stock Faust loses events at three places: it acknowledges what raised, it commits before its sends are safe, and it drops fetched
events at the end of recovery. This package replaces those places through Faust's own extension points: a transport that hands the
agent runs of records of one partition (`transport.py`, `fetch.py`, `intake.py`), an outlet whose every record is awaited
(`outlet.py`), a table whose rows only lanes write (`table.py`), and a take-over without races (`recovery.py`).

Rule of this folder: each override names the upstream line it replaces and says why; `versions.py` refuses to start with other
versions than those it was written for; a contract test fails when upstream changes.
"""
