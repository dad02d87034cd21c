"""How good a registration is: figures, and the verdict made from them."""
