"""Who gets which GPU, who waits and why, and what it cost."""
