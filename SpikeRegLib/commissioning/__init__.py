"""Digital phantoms with a known map, and what a registration makes of them: the test before a tool is used."""

KINDS = ("rigid", "affine", "smooth", "local")
