"""The environment of a job's process: what its libraries need, and no secret that it does not.

Only names that are listed here go on, and of those none that looks like a secret. The token of the hub goes to the
kinds of job that may load a model from there, the credentials of the artefact store to all where there is one. A job
knows no database, so it is not told where that is.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from jobs.artefacts.address import VARIABLE as ARTEFACTS_VARIABLE
from jobs.home import DATABASE_VARIABLE
from jobs.kind_limits import has_gpu
from jobs.kinds import kind_of
from jobs.machine import VISIBLE

PROJECT = Path(__file__).resolve().parents[2]
PASS_VARIABLE = "HYDRA_STUDIO_PASS_ENVIRONMENT"  # names, with commas between them, that go on besides
NAMES = frozenset(
    "PATH HOME USER LOGNAME LANG LANGUAGE TZ TERM TMPDIR TMP TEMP NO_COLOR VIRTUAL_ENV CONDA_PREFIX GLIBC_TUNABLES "
    "SSL_CERT_FILE SSL_CERT_DIR REQUESTS_CA_BUNDLE CURL_CA_BUNDLE CC CXX".split()
)
BEGINNINGS = (
    "HYDRA_STUDIO_",
    "LC_",
    "XDG_",
    "PYTHON",
    "LD_",
    "DYLD_",
    "MALLOC_",
    "MIMALLOC_",
    "ARROW_",
    "COVERAGE_",
    "OMP_",
    "GOMP_",
    "KMP_",
    "MKL_",
    "OPENBLAS_",
    "BLIS_",
    "VECLIB_",
    "NUMEXPR_",
    "NUMBA_",
    "ATEN_",
    "CUDA_",
    "CUBLAS_",
    "CUDNN_",
    "NVIDIA_",
    "NCCL_",
    "HIP_",
    "HSA_",
    "ROCM_",
    "ROCR_",
    "MIOPEN_",
    "AMD_",
    "TORCH",
    "PYTORCH_",
    "TRITON_",
    "BNB_",
    "ACCELERATE_",
    "HF_",
    "TRANSFORMERS_",
    "TOKENIZERS_",
    "SAFETENSORS_",
)
SECRET_NAME = re.compile(
    r"(TOKEN|SECRET|PASSWORD|PASSWD|PASSPHRASE|CREDENTIAL|COOKIE|KEY|AUTH|DATABASE|DSN)S?(_|$)", re.IGNORECASE
)
SECRET_VALUE = re.compile(r"://[^/@\s]*:[^/@\s]+@")  # an address with a password in it

# What kinds of job that may load a base model need to fetch one: the hub's token, and the way there.
HUB_NAMES = frozenset({"HF_TOKEN", "HF_TOKEN_PATH", "HUGGING_FACE_HUB_TOKEN", "HF_HUB_DISABLE_IMPLICIT_TOKEN"})
CREDENTIALS = {"s3": ("AWS_",), "gs": ("GOOGLE_", "GCLOUD_"), "abfs": ("AZURE_",), "az": ("AZURE_",)}  # by scheme
PROXIES = frozenset({"HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"})


def job_environment(kind: str, environment: Mapping[str, str] = os.environ, gpu: str | None = None) -> dict[str, str]:
    """What the process of a job of this kind is given of ``environment``, and what is set for all.

    Args:
        gpu: The one GPU that it sees, by its uuid; without it the kinds that use one see what we see.
    """
    named = {name.strip() for name in environment.get(PASS_VARIABLE, "").split(",")}
    credentials = credentials_of(environment)
    kept = {
        name: value
        for name, value in environment.items()
        if name in named or (credentials and name.startswith(credentials)) or _goes_on(kind, name, value)
    }
    path = os.pathsep.join(filter(None, [str(PROJECT), environment.get("PYTHONPATH")]))
    if gpu is not None:
        kept[VISIBLE] = gpu
    elif not kind_of(kind).uses_gpu and has_gpu():
        kept[VISIBLE] = ""
    return {
        **kept,
        "PYTHONUNBUFFERED": "1",
        "PYTHONPATH": path,
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "OMP_WAIT_POLICY": "PASSIVE",
    }


def other_database() -> str:
    """URL of the database where it is not the home's own file; it may hold a password, so no environment names it."""
    return os.environ.get(DATABASE_VARIABLE, "")


def forget_hub_token() -> None:
    """Take the hub's token out of this process's environment, where its work goes on without the hub."""
    for name in HUB_NAMES:
        os.environ.pop(name, None)


def credentials_of(environment: Mapping[str, str]) -> tuple[str, ...]:
    """How the names begin by which the artefact store's file system is told its credentials; none without a store."""
    scheme = environment.get(ARTEFACTS_VARIABLE, "").partition(":")[0]
    return (*CREDENTIALS.get(scheme, ()), "FSSPEC_") if scheme else ()


def _goes_on(kind: str, name: str, value: str) -> bool:
    if kind_of(kind).uses_index and (name.startswith("PIP_") or name.upper() in PROXIES):
        return True
    if kind_of(kind).uses_hub and (name in HUB_NAMES or name.upper() in PROXIES or name == "HF_ENDPOINT"):
        return True
    if SECRET_NAME.search(name) or SECRET_VALUE.search(value):
        return False
    return name in NAMES or name.startswith(BEGINNINGS)
