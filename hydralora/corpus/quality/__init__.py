"""What is wrong with a corpus: copies, contradictions, leaks, empty answers, and what will not fit."""

FOLDER = "quality"  # of the newest report, below the corpus' folder
DECIDING = ("max_length", "learn", "held_out_fraction", "split_by")  # training settings that a report depends on
