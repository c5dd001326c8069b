"""Finished folders in a store that several machines reach, by an address of fsspec: `s3://BUCKET/PREFIX`, `file:///...`."""
