"""Neural deformation fields (NePhi, ECCV 2024, arXiv 2309.07322): a deformation as a continuous function of codes."""
