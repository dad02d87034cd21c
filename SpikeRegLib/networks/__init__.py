"""Networks made ready and run on a pair: arithmetic, tiles, passes."""
