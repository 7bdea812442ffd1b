#!/usr/bin/env python
"""Stands in for MRSegmentator 2.0: takes its command line, names its files as it does, and draws labels by intensity.

STAND_IN in the environment makes it misbehave: "fails", "no liver", "elsewhere", or "one" (only the first scan).
"""

import argparse
import os
import sys
from pathlib import Path

import nibabel as nib
import numpy as np

ENDINGS = (".nii.gz", ".nii", ".mha", ".nrrd")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="MRSegmentator")
    parser.add_argument("-i", "--input", type=str, required=True)
    parser.add_argument("-o", "--outdir", type=str, default="segmentations")
    parser.add_argument("--body_comp", action="store_true")
    parser.add_argument("--fast", action="store_true")
    parser.add_argument("--postfix", type=str, default="seg")
    parser.add_argument("--fold", type=int, choices=range(5))
    for name, usual in (("batchsize", 8), ("nproc", 3), ("nproc_export", 8), ("split_level", 0), ("split_margin", 3)):
        parser.add_argument(f"--{name}", type=int, default=usual)
    parser.add_argument("--cpu_only", action="store_true")
    parser.add_argument("--log_level", default="INFO", choices=["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"])
    parser.add_argument("--no_tqdm", action="store_true")
    return parser.parse_args()


def main() -> None:
    asked, act = arguments(), os.environ.get("STAND_IN")
    assert "PYTHONPATH" not in os.environ, "another program's packages"
    if act == "fails":
        sys.exit("RuntimeError: CUDA out of memory")
    source = Path(asked.input)
    images = sorted(path for path in source.iterdir() if path.name.endswith(ENDINGS)) if source.is_dir() else [source]
    for path in images[:1] if act == "one" else images:
        image = nib.load(path)
        values = np.asarray(image.dataobj)
        labels = np.where(values > 100, 1 if act == "no liver" else 5, 0) + np.where(
            (values > 20) & (values < 50), 1, 0
        )
        affine = image.affine + (np.eye(4, k=3) * 9 if act == "elsewhere" else 0)
        ending = next(one for one in ENDINGS if path.name.endswith(one))
        name = f"{path.name.removesuffix(ending)}_{asked.postfix}{ending}"
        nib.save(nib.Nifti1Image(labels.astype(np.uint8), affine), Path(asked.outdir) / name)


if __name__ == "__main__":
    main()
