"""The page: Gradio, plots, wording, and the same as commands. Knows no SQL and no tensor."""

from studio import quick_gradio as quick_gradio  # before any page imports Gradio
