# Dataflow's worker for scoring on NVIDIA GPUs. CUDA 12 comes with torch's packages (cuda-12.txt), the driver from
# Dataflow, which mounts it where `install-nvidia-driver` is asked for.
FROM apache/beam_python3.11_sdk:2.77.0 AS beam

FROM python:3.11.13-slim-bookworm

# Beam's boot would make a virtual environment for each worker process.
ENV RUN_PYTHON_SDK_IN_DEFAULT_ENVIRONMENT=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    OMP_NUM_THREADS=1 \
    MALLOC_ARENA_MAX=2 \
    PATH=/usr/local/nvidia/bin:$PATH \
    LD_LIBRARY_PATH=/usr/local/nvidia/lib64

COPY --from=beam /opt/apache/beam /opt/apache/beam

WORKDIR /opt/sssl
# The packages' 6 GB are a layer of their own: it changes with the versions, not with the code.
COPY infra/docker/locked/gpu-worker.txt locked.txt
RUN pip install --no-deps --require-hashes --requirement locked.txt \
    && python -c "import torch; assert torch.version.cuda.startswith('12.'), torch.version.cuda"
COPY README.md LICENSE pyproject.toml ./
COPY schemas schemas
COPY sssl sssl
COPY pipelines pipelines
RUN pip install --no-deps . && pip check && sssl score --help > /dev/null

# Boot and launcher are root, as Dataflow wants them; whatever Python they start is not.
RUN useradd --create-home --uid 1000 sssl
COPY infra/docker/as-user /opt/sssl/bin/
RUN ln -s as-user bin/python && ln -s as-user bin/python3
ENV PATH=/opt/sssl/bin:$PATH

ENTRYPOINT ["/opt/apache/beam/boot"]
