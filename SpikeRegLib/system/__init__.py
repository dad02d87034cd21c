"""The process and its machine: processors, memory, interruption, and what ITK prints."""
