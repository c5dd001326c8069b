"""Finished folders in a store that several machines reach, by an address of fsspec such as `s3://BUCKET/PREFIX`."""
