"""More than one pair: the template of a group, the visits of one person, the frames of a series."""
