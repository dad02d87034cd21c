"""Many registrations from one table: each in a folder of its own, done once, and summarised together.

`manifest` reads the table, `content` tells what a row's result depends on, `folders` what lies on disk of it, `rows`
does one row; `alone` does rows in this process, `dask_cluster` on Dask's distributed scheduler; `summary` and `page`
write what all rows have in common.
"""
