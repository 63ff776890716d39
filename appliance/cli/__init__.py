"""The `appliance` command: one module a noun, thin over the client. stdout is data, stderr is narration."""
