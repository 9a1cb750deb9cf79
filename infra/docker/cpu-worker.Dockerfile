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
# The packages are a layer of their own: it changes with the versions, not with the code. Of their 6 GB 5 are CUDA, unless
# CPU_WHEELS is the address of an index that has torch for CPUs; a version of such a one (2.11.0+cpu) goes before the plain one.
ARG CPU_WHEELS=
COPY constraints.txt pyproject.toml ./
RUN python -c "import tomllib; project = tomllib.load(open('pyproject.toml', 'rb'))['project']; extras = project['optional-dependencies']; \
        print(*project['dependencies'], *extras['run'], *extras['gcp'], sep='\n')" > requirements.txt \
    && pip install ${CPU_WHEELS:+--extra-index-url "$CPU_WHEELS"} --constraint constraints.txt --requirement requirements.txt
COPY README.md LICENSE ./
COPY schemas schemas
COPY sssl sssl
COPY pipelines pipelines
RUN pip install --no-deps . && pip check && sssl segment --help > /dev/null

# Root, as Dataflow expects: what it mounts for logs and artifacts belongs to root.
ENTRYPOINT ["/opt/apache/beam/boot"]
