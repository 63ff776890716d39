"""SQLite: what is declared, what happened, who holds what. The only room that imports sqlite3.

One file, one writer: the daemon's event loop thread. Reads and writes take well under a millisecond
(see the table modules), so they are called straight from the loop. A change and its event share a transaction.
"""
