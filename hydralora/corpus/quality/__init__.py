"""What is wrong with a corpus: copies, contradictions, leaks, empty answers, and what will not fit."""

FOLDER = "quality"  # of the newest report, below the corpus' folder
# Training settings that a report depends on.
DECIDING = ("max_length", "long_texts", "learn", "held_out_fraction", "split_by", "objective")
