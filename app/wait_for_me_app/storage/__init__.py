"""Where rows are kept on disk: bytes of keys and rows, one RocksDB a partition, and the rows that are hot in memory.

Rule of this folder: it is the only code that touches rocksdict, and it knows neither Faust nor Kafka. What is on disk is a cache of
the changelog, never ahead of it: it can be wiped at any time.
"""
