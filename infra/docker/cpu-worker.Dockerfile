# Dataflow's worker for segment, relabel and songs: the code is inside, nothing is staged or installed when it starts.
FROM apache/beam_python3.11_sdk:2.77.0 AS beam

FROM python:3.11.13-slim-bookworm

# Beam's boot would make a virtual environment for each worker process.
ENV RUN_PYTHON_SDK_IN_DEFAULT_ENVIRONMENT=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    OMP_NUM_THREADS=1 \
    MALLOC_ARENA_MAX=2

COPY --from=beam /opt/apache/beam /opt/apache/beam

WORKDIR /opt/sssl
# The packages are a layer of their own: it changes with the versions, not with the code. From PyPI torch brings 5 GB of CUDA
# along, so torch alone comes from CPU_WHEELS, PyTorch's own index of wheels for CPUs, where that is given.
ARG CPU_WHEELS=
COPY infra/docker/locked/cpu-worker.txt locked.txt
RUN if [ -z "$CPU_WHEELS" ]; then cp locked.txt others.txt; else \
        sed -nE 's/^(torch(audio)?==[^ ]+) .*/\1/p' locked.txt > torch.txt \
        && pip install --no-deps --index-url "$CPU_WHEELS" --requirement torch.txt \
        && grep -vE '^(torch|torchaudio|triton|cuda-[a-z]+|nvidia-[a-z0-9-]+)==' locked.txt > others.txt; \
    fi && pip install --no-deps --require-hashes --requirement others.txt
COPY README.md LICENSE pyproject.toml ./
COPY schemas schemas
COPY sssl sssl
COPY pipelines pipelines
RUN pip install --no-deps . && pip check && sssl segment --help > /dev/null

# Boot and launcher are root, as Dataflow wants them; whatever Python they start is not.
RUN useradd --create-home --uid 1000 sssl
COPY infra/docker/as-user /opt/sssl/bin/
RUN ln -s as-user bin/python && ln -s as-user bin/python3
ENV PATH=/opt/sssl/bin:$PATH

ENTRYPOINT ["/opt/apache/beam/boot"]
