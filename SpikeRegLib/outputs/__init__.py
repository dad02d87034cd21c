"""What a registration leaves behind: the object in memory and the folder on disk."""
