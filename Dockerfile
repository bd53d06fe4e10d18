# One image for servers, the operator and index jobs: `docker build -t pywharf .`, or podman or buildah.
# With the same base, SOURCE_DATE_EPOCH and `--timestamp` (buildah, podman) or `rewrite-timestamp` (buildx) the
# result is the same to the byte.
# A base that never changes: `--build-arg BASE_IMAGE=python:3.13-slim@sha256:…`.
ARG BASE_IMAGE=python:3.13-slim

FROM ${BASE_IMAGE} AS build
ARG SOURCE_DATE_EPOCH=1767225600
ENV SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH} \
    PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PYTHONDONTWRITEBYTECODE=1 PYTHONHASHSEED=0
WORKDIR /src
COPY requirements/build.txt requirements/runtime.txt requirements/
# The environment that stays has no pip; the one that fills it does not stay.
RUN python3 -m venv /build \
    && /build/bin/pip install --quiet --no-compile --require-hashes -r requirements/build.txt \
    && python3 -m venv --without-pip /opt/pywharf \
    && /build/bin/pip --python /opt/pywharf/bin/python install --quiet --no-compile \
        --require-hashes -r requirements/runtime.txt
COPY pyproject.toml README.md LICENSE ./
COPY server server
COPY operator operator
# Bytecode that names hashes in place of times: nothing in it tells when it was made.
RUN /build/bin/pip wheel --quiet --no-deps --no-build-isolation --wheel-dir /dist . \
    && /build/bin/pip --python /opt/pywharf/bin/python install --quiet --no-compile --no-deps --no-index /dist/*.whl \
    && /opt/pywharf/bin/python -m compileall -q --invalidation-mode unchecked-hash /opt/pywharf/lib \
    && find /opt/pywharf -exec touch --no-dereference --date="@${SOURCE_DATE_EPOCH}" {} +

FROM ${BASE_IMAGE}
ARG VERSION=1.0.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="pywharf" \
      org.opencontainers.image.description="Private Python package index for Kubernetes" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
# pip of the base, where a python image or Debian puts it.
RUN rm -rf /usr/local/bin/pip* /usr/local/lib/python3*/site-packages/* /usr/local/lib/python3*/ensurepip \
        /usr/lib/python3*/ensurepip /usr/share/python-wheels
COPY --from=build /opt/pywharf /opt/pywharf
# HOME: a numeric user has none. Bytecode is there already.
ENV PATH=/opt/pywharf/bin:$PATH HOME=/tmp PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
USER 65532:65532
EXPOSE 8888
ENTRYPOINT ["pywharf"]
