"""NVML: which GPUs there are, how they fare, and who is on them. The only room that imports pynvml.

`watch` follows a child process (`probe`) that asks NVML; nothing else of the daemon ever waits for a card.
"""
