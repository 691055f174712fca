"""Second opinions about a log: nothing here may import the code it judges.

An auditor that shares a parser, a constant or a helper with the worker repeats the worker's mistakes and calls them
right. So this folder imports the standard library only, and reads no topic by itself: records in, findings out.

    reference.py, wire.py   what must have come of the commands of one partition
    rows.py                 what the changelog says has come of them
    judge.py                all topics of one partition, compared with the reference
    findings.py             what is said about it
"""
