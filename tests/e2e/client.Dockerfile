# What the pods of users have: pip, uv and twine, from the locks.
ARG BASE_IMAGE=python:3.13-slim
FROM ${BASE_IMAGE}
COPY requirements/clients.txt requirements/
RUN python3 -m venv /opt/clients \
    && /opt/clients/bin/pip install --quiet --no-cache-dir --require-hashes -r requirements/clients.txt
ENV PATH=/opt/clients/bin:$PATH HOME=/tmp
USER 65532:65532
