"""How far a deformation is expected to be wrong, in mm, everywhere in the fixed image: evidence, calibration, map."""
