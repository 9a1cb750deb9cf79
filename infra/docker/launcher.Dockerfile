# What starts work and what trains. As a Flex Template's launcher it builds the job of one stage, the build argument STAGE;
# with `as-user sssl-launch` as its command it trains on Vertex AI, and judges and publishes on Cloud Run.
FROM gcr.io/dataflow-templates-base/python311-template-launcher-base:flex_templates_base_image_release_20240628_RC00 AS launcher

FROM python:3.11.13-slim-bookworm

ENV PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    OMP_NUM_THREADS=1 \
    SSSL_LOG=INFO \
    SSSL_LOG_FORMAT=json

COPY --from=launcher /opt/google/dataflow/python_template_launcher /opt/google/dataflow/python_template_launcher

WORKDIR /opt/sssl
# The packages' 6 GB are a layer of their own: it changes with the versions, not with the code.
COPY infra/docker/locked/launcher.txt locked.txt
RUN pip install --no-deps --require-hashes --requirement locked.txt \
    && python -c "import torch; assert torch.version.cuda.startswith('12.'), torch.version.cuda"
COPY README.md LICENSE pyproject.toml ./
COPY schemas schemas
COPY sssl sssl
COPY pipelines pipelines
RUN pip install --no-deps . && pip check && sssl train --help > /dev/null

# Boot and launcher are root, as Dataflow wants them; whatever Python they start is not.
RUN useradd --create-home --uid 1000 sssl
COPY infra/docker/as-user /opt/sssl/bin/
RUN ln -s as-user bin/python && ln -s as-user bin/python3
ENV PATH=/opt/sssl/bin:$PATH
WORKDIR /home/sssl

ENV FLEX_TEMPLATE_PYTHON_PY_FILE=/usr/local/bin/sssl-launch
ARG STAGE=segment
ENV SSSL_STAGE=$STAGE
ENTRYPOINT ["/opt/google/dataflow/python_template_launcher"]
