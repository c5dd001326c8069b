"""The field's terms in plain words: what opens in place behind “What is this?” beside a number or below a figure."""

from __future__ import annotations

from collections.abc import Sequence

# Name and meaning of each term.
TERMS: dict[str, tuple[str, str]] = {
    "exact match": (
        "Right (exact match)",
        "An answer counts as right when it is the wanted one word for word, white space aside. A good answer in other "
        "words counts as wrong.",
    ),
    "held out": (
        "Unseen (held out)",
        "Examples that were set aside before the training: the run has never learnt from them.",
    ),
    "sign test": (
        "Open, beyond chance (sign test)",
        "Only questions that one of two has right and the other wrong can tell them apart. Where so few differ that a "
        "coin could have dealt them, the difference is called open.",
    ),
    "interval": (
        "95 % interval",
        "A range that holds the true share in about 95 of 100 such measurements. Few questions make it wide.",
    ),
    "loss": (
        "Loss (nats per token)",
        "How surprised the model is by the next right piece of an answer, on average. 0 is never; 0.69 is as unsure as "
        "a coin; 1 less is 2.7 times as likely.",
    ),
    "trained weights": (
        "Trained weights",
        "Numbers that the training may change. All others of the base stay as they are.",
    ),
    "learning rate": ("Learning rate", "How far one step may move the trained weights."),
    "margin": (
        "Margin",
        "By how much more likely the better answer of a pair has become than the worse one, since the training began.",
    ),
    "gate": (
        "Routing weight (gate)",
        "The share of a token that the router gives to an expert; the shares of all experts come to 100 %. A large "
        "share does not mean that the expert helps there.",
    ),
    "effective experts": (
        "Effective number of experts",
        "How many experts share a token: 1 is one alone, and all of them is an equal mix. It is exp(entropy) of the "
        "routing weights.",
    ),
    "r2": (
        "R² between groups",
        "How much of the differences between routing weights goes with the group a text is of: 0 is none, 1 is all.",
    ),
    "nmi": (
        "NMI (normalised mutual information)",
        "How much the leading expert tells of the group, and the group of the expert: 0 is nothing, 1 is everything.",
    ),
    "chance": (
        "Chance",
        "What shuffled names or random matrices reach in 99 of 100 draws. What does not exceed it is no finding.",
    ),
    "muting": (
        "Loss without it (muting)",
        "The expert's routing weight is set to 0 and the held-out loss measured again. Above 0, the expert helps. Two "
        "experts that do the same can each be missed little.",
    ),
    "moved": (
        "Moved (total variation)",
        "The share of the routing weights that went from some experts to others: half the sum of all changes.",
    ),
    "cosine": (
        "Cosine",
        "Whether two matrices point the same way: 1 is the same up to their size, 0 is unrelated, -1 is the opposite.",
    ),
    "overlap": (
        "Overlap of spaces",
        "Whether two matrices read or write the same directions, whatever they do within them: 0 is none, 1 is all.",
    ),
    "cka": (
        "CKA",
        "Whether two matrices use the same directions with the same strengths: 0 is not at all, 1 is fully.",
    ),
    "update": (
        "Update (B A)",
        "What an expert adds to a layer: A reads the input, the expert's head B writes the output.",
    ),
    "norm": ("Norm", "The size of a matrix: the root of the sum of its squared numbers. An untrained head has 0."),
    "map": (
        "Map",
        "Like matrices are drawn near each other, as far as a plane can show it. Distances between groups and their "
        "sizes mean nothing.",
    ),
    "silhouette": (
        "Silhouette",
        "How much nearer texts are to their own cluster than to the next one: 1 is far apart, 0 is on the border.",
    ),
    "agreement": (
        "Agreement",
        "Whether two halves of the corpus, clustered apart, give the same clusters: 1 is the same, 0 is chance.",
    ),
    "elbow": (
        "Elbow",
        "The number from which on more clusters shorten the distances within them only a little.",
    ),
}


def explained(terms: Sequence[str]) -> list[tuple[str, str]]:
    """Name and meaning of some terms."""
    return [TERMS[term] for term in terms]
