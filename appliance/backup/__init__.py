"""Backup and restore: one consistent point of state, secrets, logs and volumes, in a directory or a ZFS dataset.

`backups.Backups` is what the daemon has; `restore` works offline, into an empty home. The directory form is portable:
`target` describes it. `pack` and `check` run in programs of their own: `child` starts them, `program` is their side.
"""
