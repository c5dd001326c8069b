"""The look of every page: Gradio's theme from the studio's colours, style sheet and page head."""

from __future__ import annotations

from pathlib import Path

import gradio as gr

from studio.figures.palette import TOKENS, stylesheet

STATIC = Path(__file__).parents[1] / "static"
CSS = STATIC / "studio.css"

# Scripts are served by the studio itself; nothing is fetched from another host. The colours stand in the head and not
# in the style sheet, since Gradio rewrites the selectors of the latter.
HEAD = f"""
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
{stylesheet()}</style>
<script src="/ui/static/early.js"></script>
<script type="module" src="/ui/static/studio.js"></script>
<script src="/ui/plotly.min.js" defer></script>
"""

# Gradio's variables by the colour they take, in light and in dark.
COLOURED: dict[str, tuple[str, ...]] = {
    "ground": ("body_background_fill", "background_fill_primary"),
    "sheet": (
        "block_background_fill",
        "input_background_fill",
        "button_secondary_background_fill",
        "button_cancel_background_fill",
        "checkbox_background_color",
        "checkbox_label_background_fill",
        "table_even_background_fill",
        "table_odd_background_fill",
        "panel_background_fill",
    ),
    "sel": (
        "background_fill_secondary",
        "button_secondary_background_fill_hover",
        "button_cancel_background_fill_hover",
        "checkbox_label_background_fill_hover",
        "checkbox_label_background_fill_selected",
        "color_accent_soft",
    ),
    "well": ("code_background_fill", "block_label_background_fill"),
    "ink": (
        "body_text_color",
        "accordion_text_color",
        "table_text_color",
        "button_secondary_text_color",
        "button_secondary_border_color_hover",
        "button_primary_background_fill",
        "button_primary_border_color",
        "checkbox_background_color_selected",
        "checkbox_border_color_selected",
        "checkbox_label_border_color_selected",
        "checkbox_label_text_color",
        "checkbox_label_text_color_selected",
        "link_text_color",
        "link_text_color_active",
        "link_text_color_hover",
        "link_text_color_visited",
        "loader_color",
        "slider_color",
    ),
    "ink-hover": ("button_primary_background_fill_hover", "button_primary_border_color_hover"),
    "onink": ("button_primary_text_color", "button_primary_text_color_hover"),
    "ink2": (
        "body_text_color_subdued",
        "block_info_text_color",
        "block_label_text_color",
        "block_title_text_color",
        "input_placeholder_color",
    ),
    "line": (
        "border_color_primary",
        "border_color_accent_subdued",
        "block_border_color",
        "block_label_border_color",
        "table_border_color",
        "panel_border_color",
    ),
    "edge": (
        "input_border_color",
        "input_border_color_hover",
        "button_secondary_border_color",
        "button_cancel_border_color",
        "checkbox_border_color",
        "checkbox_border_color_hover",
        "checkbox_label_border_color",
    ),
    "focus": ("border_color_accent", "input_border_color_focus", "checkbox_border_color_focus"),
    "bad": ("button_cancel_text_color", "button_cancel_border_color_hover", "error_text_color", "error_border_color"),
}
MEASURES = {
    "block_border_width": "1px",
    "block_shadow": "none",
    "block_radius": "10px",
    "block_info_text_size": "13px",
    "block_title_text_size": "13px",
    "block_title_text_weight": "400",
    "block_label_text_weight": "400",
    "block_label_text_size": "13px",
    "input_border_width": "1px",
    "input_radius": "8px",
    "input_shadow": "none",
    "input_shadow_focus": "none",
    "input_text_size": "14px",
    "input_padding": "7px 12px",
    "button_border_width": "1px",
    "button_transition": "background 120ms ease-out",
    "button_large_padding": "0 15px",
    "button_large_radius": "8px",
    "button_large_text_size": "14px",
    "button_large_text_weight": "700",
    "button_small_padding": "0 10px",
    "button_small_radius": "7px",
    "button_small_text_size": "13px",
    "button_small_text_weight": "400",
    "button_primary_shadow": "none",
    "button_secondary_shadow": "none",
    "checkbox_label_text_size": "14px",
    "checkbox_label_padding": "8px 12px",
    "checkbox_label_shadow": "none",
    "checkbox_shadow": "none",
    "layout_gap": "16px",
    "section_header_text_weight": "700",
}


def studio_theme() -> gr.themes.Base:
    """Ink on paper; every colour of Gradio's parts is one of ``TOKENS``."""
    # The bundled half-bold and medium files hold only some letters, so that words would change face in the middle.
    fonts = (gr.themes.LocalFont("IBM Plex Sans", weights=(400, 700)), "system-ui", "sans-serif")
    mono = (gr.themes.LocalFont("IBM Plex Mono", weights=(400, 700)), "ui-monospace", "monospace")
    colours: dict[str, str] = {}
    for token, names in COLOURED.items():
        light, dark = TOKENS[token]
        colours |= {name: light for name in names} | {f"{name}_dark": dark for name in names}
    theme = gr.themes.Base(font=fonts, font_mono=mono, radius_size="md", text_size="md")
    return theme.set(**colours, **MEASURES)
