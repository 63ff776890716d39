"""What a user writes: YAML, JSON and JSONC into typed models, with every mistake's place."""
