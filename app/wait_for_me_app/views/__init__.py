"""What the command line shows of a running deployment: groups, fires, health, and what is wrong with the setup.

The rule: it asks a worker over HTTP, or Kafka as a viewer, and changes nothing. Data goes to stdout in the form asked for, everything else to stderr;
names come from strangers, so nothing in them may reach the terminal as a command.
"""
