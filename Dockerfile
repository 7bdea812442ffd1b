# CPU image: docker build -t cirrnb . && docker run --rm -v "$PWD:/work" cirrnb demo
# This file was never built, because its authors have no Docker; hadolint 2.15 finds nothing in it.
# The explorer and the course listen to this machine alone; run them outside, or with --network host.
FROM python:3.12-slim-bookworm

RUN useradd --create-home --uid 1000 cirrnb
WORKDIR /opt/cirrnb
COPY pyproject.toml PYPI.md LICENSE ./
COPY cirrnb cirrnb
COPY notebooks notebooks
# What is installed is this folder, which has no version to pin.
# hadolint ignore=DL3013
RUN pip install --no-cache-dir --extra-index-url https://download.pytorch.org/whl/cpu ".[dicom]"

USER 1000
WORKDIR /work
ENTRYPOINT ["cirrnb"]
CMD ["--help"]
