"""Training the network that names the structures in one image: whole heads of any contrast, drawn from label maps."""
