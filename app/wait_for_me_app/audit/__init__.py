"""Second opinions about a log: nothing here may import the code it judges.

An auditor that shares a parser, a constant or a helper with the worker repeats the worker's mistakes and calls them
right. So this folder imports the standard library only.
"""
