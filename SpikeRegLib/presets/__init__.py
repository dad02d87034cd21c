"""Presets: what a registration does when nothing else is said."""
