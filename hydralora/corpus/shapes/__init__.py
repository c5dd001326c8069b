"""The shapes that rows of datasets have, one file a family."""
