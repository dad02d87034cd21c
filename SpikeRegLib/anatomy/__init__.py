"""Knowledge of anatomy: a network that reads one image of a head and says which structure is where."""
