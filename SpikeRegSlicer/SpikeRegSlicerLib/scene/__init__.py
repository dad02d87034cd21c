"""The MRML scene and the library's files: what goes out for a run, what comes back; no Qt, no torch."""
