"""Parts of the module's panel, each in charge of a few widgets of the .ui file."""
