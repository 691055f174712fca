"""The dead letters of a deployment: read, shown, sent once more or discarded. Behind `wait-for-me dlq`.

Dead letters hold users' data and whatever else somebody has written, so the rules of this folder are: nothing in a
letter is believed before it is checked (it is sent only to a topic of this deployment, never to where a header says),
what is shown is escaped and cut, and what was done with a letter is written down.

**What is remembered, and where.** A letter that was handled stays in its topic, which only Kafka's retention empties.
Behind it, in the same partition, lies a *marker*: a record without key and value whose headers say which offsets were
handled, how, by whom and when. Committed offsets could not say it, for letters are handled in any order. A marker is
written when the copies are safe; a crash between the two leaves the letters open, and to send them again is harmless,
as fires keep their fire_id and commands their event_id.

    letters.py     a letter, and where it came from: four families of headers. Pure
    handled.py     markers. Pure
    selection.py   which letters are meant. Pure
    copies.py      what is sent when a letter is retried, or why it cannot be. Pure
    post.py        reads the topics, writes copies and markers; the only file here that talks to Kafka
    shown.py       letters as text and JSON
    command.py     the command line
"""
