"""The ZFS store, volumes sent to other pools, and the only place that runs `zfs` and `zpool`."""
