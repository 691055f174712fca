# syntax=docker/dockerfile:1
# Two images from one file:
#   docker build --target worker -t wait-for-me-worker .        worker, executor and the topics command
#   docker build --target producer -t wait-for-me-producer .    a service that only sends: the client, without Faust

FROM python:3.13-slim AS wheel
WORKDIR /source
RUN apt-get update && apt-get install --yes --no-install-recommends gcc libc6-dev && rm -rf /var/lib/apt/lists/*
COPY pyproject.toml hatch_build.py README.md LICENSE ./
COPY producers producers
COPY app app
# Its busy modules compiled, as `make wheel` does.
RUN HATCH_BUILD_HOOKS_ENABLE=1 pip wheel --no-cache-dir --no-deps --wheel-dir /wheel .

FROM python:3.13-slim AS base
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONUNBUFFERED=1
RUN useradd --system --uid 10001 --home-dir /data --create-home waitforme
WORKDIR /data

FROM base AS producer
RUN --mount=type=bind,from=wheel,source=/wheel,target=/wheel pip install /wheel/*.whl
USER waitforme
CMD ["python", "-c", "import wait_for_me; help(wait_for_me)"]

FROM base AS worker
RUN --mount=type=bind,from=wheel,source=/wheel,target=/wheel pip install "$(echo /wheel/*.whl)[app]"
USER waitforme
# The store belongs to one worker: mount a volume of its own for each at /data.
ENV WAIT_FOR_ME_DATA_DIR=/data/store
VOLUME /data
ENTRYPOINT ["wait-for-me"]
CMD ["worker"]
