"""Files of ours that Jupyter reads or imports in a session, without imports from here; see `jupyter.config_files`."""
