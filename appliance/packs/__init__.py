"""How trees of files cross the API: manifests, and packs, which are tar archives of bounded size.

Both ends use it: the CLI in its own process, the daemon in child processes without any package of others. So it is
built on the standard library and the error tree alone, and it has its own walking by descriptors: what is sent and what
receives it are trees that somebody else may change meanwhile.
"""
