"""The past of a workspace: snapshots, rollback that destroys nothing, undo."""
