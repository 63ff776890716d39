"""What differs between two moments of a workspace, down to lines and notebook cells.

`compare` is the way in. The work is done by child programs (`tree` walks, `file` looks into one file), started by
`walk`: a comparison takes no interpreter lock from the daemon and is cancelled by ending its process.
"""
