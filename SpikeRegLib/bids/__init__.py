"""Data sets as the Brain Imaging Data Structure (BIDS) has them: T1-weighted images found, derivatives named.

`layout` finds the images of a data set, `work` turns them into rows of a cohort, `derivatives` names what comes out.
https://bids-specification.readthedocs.io
"""
