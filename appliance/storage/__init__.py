"""Volumes, snapshots and clones, on ZFS or in a plain directory. The only room that runs `zfs`, or imports zfslib.

`base.Store` is the contract that both stores keep, `open.open_store` picks one, `scratch.Scratch` is for workflow
runs. `zfs/` and `directory/` are the two stores, `trees/` the tools for trees of files that both and others use. What
is in a volume is hostile: no symlink in it is ever followed.
"""
