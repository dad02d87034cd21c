"""The parts of instance optimisation: grids of the levels, the similarity's gradient, diffeomorphic fields."""
