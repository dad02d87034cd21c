"""What others wrote, read with care: JSON, TOML, YAML, names and numbers."""
