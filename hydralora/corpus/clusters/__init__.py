"""Clusters of a corpus, and how many experts it seems to need (``docs/clusters.md``).

The number of clusters is the number of experts HydraLoRA's authors suggest (Tian et al. 2024, appendix B: TF-IDF,
k-means, elbow; https://arxiv.org/abs/2404.19245). They give no rule for the elbow, no seed and no TF-IDF settings;
ours are written down here. Clusters never reach the router: they only set N, and serve as a yardstick afterwards.

Nothing is imported here: why a row lies in its cluster (``why``) is answered without scikit-learn.
"""
