"""The stages of `register`, one module each: what it needs, what it hands on, and what it depends on."""
