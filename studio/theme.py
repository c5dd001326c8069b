"""The look of every page: Gradio theme, style sheet and page head."""

from __future__ import annotations

from pathlib import Path

import gradio as gr

STATIC = Path(__file__).parent / "static"
CSS = STATIC / "studio.css"

# Scripts are served by the studio itself; nothing is fetched from another host.
HEAD = """
<meta name="viewport" content="width=device-width, initial-scale=1">
<script src="/ui/plotly.min.js" defer></script>
<script src="/ui/static/studio.js" defer></script>
<script src="/ui/static/chat.js" defer></script>
"""


def studio_theme() -> gr.themes.Base:
    """Quiet neutrals with one accent; subdued text is dark enough for WCAG AA."""
    fonts = (gr.themes.LocalFont("IBM Plex Sans", weights=(400, 700)), "system-ui", "sans-serif")
    mono = (gr.themes.LocalFont("IBM Plex Mono"), "ui-monospace", "monospace")
    return gr.themes.Base(
        primary_hue="blue", neutral_hue="slate", font=fonts, font_mono=mono, radius_size="md", text_size="md"
    ).set(
        body_background_fill="*neutral_50",
        body_background_fill_dark="*neutral_950",
        body_text_color="*neutral_900",
        body_text_color_subdued="*neutral_600",
        body_text_color_subdued_dark="*neutral_300",
        block_info_text_color="*neutral_600",
        block_info_text_color_dark="*neutral_300",
        block_border_width="1px",
        block_shadow="none",
        block_label_text_weight="600",
        block_title_text_weight="600",
        block_title_text_color="*neutral_800",
        block_title_text_color_dark="*neutral_200",
        button_primary_background_fill="*primary_700",
        button_primary_background_fill_hover="*primary_800",
        button_primary_background_fill_dark="*primary_600",
        button_primary_text_color="white",
        input_background_fill="white",
        input_background_fill_dark="*neutral_900",
    )
