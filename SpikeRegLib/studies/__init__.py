"""Studies: many pairs measured alike, tables of them, public data sets by name, and two methods compared."""
