"""NVML: which GPUs there are. The only room that imports pynvml."""
