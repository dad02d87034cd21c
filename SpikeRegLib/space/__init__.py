"""Where things are: grids, displacement fields and transforms, and what is known where."""
