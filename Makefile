.DEFAULT_GOAL := help
VENV ?= .venv
BIN := $(VENV)/bin
PYTHON ?= $(shell command -v python3.11 || command -v python3)
DEMO ?= demo
STAMP := $(VENV)/.installed
TOOLS := .tools/bin
JOBS ?= 2
PYTEST ?=
# tests/sssl and tests/schemas would hide the packages of these names if the root did not come first.
SCRIPT = PYTHONPATH=.:tests:tests/bench $(BIN)/python

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

$(STAMP): pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null || { echo "$(PYTHON) is missing: apt-get install python3.11 python3.11-venv"; exit 1; }
	$(PYTHON) -m venv $(VENV) || { echo "venv is missing: apt-get install python3.11-venv"; exit 1; }
	$(BIN)/pip install --quiet --disable-pip-version-check --upgrade pip
	@echo "installing packages (about 6 GB, mostly CUDA libraries; some minutes)"
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

install: $(STAMP)  ## make the virtual environment

demo: $(STAMP)  ## label a small synthesized catalog end to end
	$(BIN)/sssl demo --output $(DEMO)

$(TOOLS)/fake-gcs-server:
	$(call go_install,github.com/fsouza/fake-gcs-server@v1.56.1)

$(TOOLS)/prism:
	$(call go_install,github.com/apache/beam/sdks/v2/go/cmd/prism@v2.77.0)

# `go install` refuses OpenTofu for its replaced HCL, so it is built as a dependency with the same replacement.
$(TOOLS)/tofu:
	@command -v go >/dev/null || { echo "go is missing: install Go 1.21 or later (it fetches the version it needs)"; exit 1; }
	rm -rf .tools/build && mkdir -p .tools/build
	cd .tools/build && go mod init build \
	  && go mod edit -replace github.com/hashicorp/hcl/v2@v2.20.1=github.com/opentofu/hcl/v2@v2.20.2-0.20251021132045-587d123c2828 \
	  && go get github.com/opentofu/opentofu/cmd/tofu@v1.12.6 \
	  && go build -o $(CURDIR)/$@ github.com/opentofu/opentofu/cmd/tofu

$(TOOLS)/terraform-provider-google:
	$(call go_install,github.com/hashicorp/terraform-provider-google@v1.20.1-0.20260828184646-f3721fb45fa3)

# Apart from our packages, whose versions it would change.
.tools/checkov/bin/checkov:
	$(PYTHON) -m venv .tools/checkov
	.tools/checkov/bin/pip install --quiet --disable-pip-version-check checkov==3.3.30

# Built from source once; Go's caches make it quick in the next checkout.
define go_install
@command -v go >/dev/null || { echo "go is missing: install Go 1.21 or later (it fetches the version it needs)"; exit 1; }
GOBIN=$(CURDIR)/$(TOOLS) go install $(1)
endef

# Two processes even where there are more cores: tests start processes of their own, and each wants up to 2 GB.
test: $(STAMP)  ## run the tests that need nothing but Python
	$(BIN)/python -m pytest $(PYTEST) -m "not cloud and not browser and not readers" --numprocesses $(JOBS) --dist worksteal

test-fast: $(STAMP)  ## run the tests that neither run a pipeline, nor train, nor make a report, in some minutes
	$(BIN)/python -m pytest $(PYTEST) -m "not slow and not readers" --numprocesses $(JOBS) --dist worksteal

test-readers: $(VENV)/.readers  ## open a published folder in other programs (needs Java 17)
	@command -v java || { echo "java is missing: apt-get install openjdk-17-jre-headless"; exit 1; }
	$(BIN)/python -m pytest $(PYTEST) -m readers

$(VENV)/.readers: $(STAMP)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[readers]'
	touch $@

# As on machines that round differently; `make test` takes the kernels of this one. A process for each: most of it is
# to train once.
test-kernels: $(STAMP)  ## run the tests that look at what training found, on other kernels of torch
	$(MAKE) --jobs=$(JOBS) --output-sync=target kernels-default kernels-avx2

kernels-%: $(STAMP)
	ATEN_CPU_CAPABILITY=$* $(BIN)/python -m pytest $(PYTEST) -m kernels

test-browser: $(STAMP)  ## look at the report in a real browser (needs Chromium)
	@command -v chromium || { echo "chromium is missing: apt-get install chromium"; exit 1; }
	$(BIN)/python -m pytest $(PYTEST) -m browser

test-cloud: $(STAMP) tools  ## run the tests on object storage and on an engine outside the process (needs Go)
	$(BIN)/python -m pytest $(PYTEST) -m cloud --numprocesses $(JOBS) --dist worksteal

tools: $(TOOLS)/fake-gcs-server $(TOOLS)/prism  ## build the storage emulator and the Beam engine that the tests use

# The provider is ours, built from source: `tofu init` would look for it in a registry.
infra-check: export TF_CLI_CONFIG_FILE = $(CURDIR)/.tools/tofu.rc
infra-check: $(STAMP) $(TOOLS)/tofu $(TOOLS)/terraform-provider-google .tools/checkov/bin/checkov  ## check infra/ offline (needs Go, 20 minutes the first time)
	printf 'provider_installation {\n  dev_overrides {\n    "hashicorp/google" = "%s"\n  }\n  direct {}\n}\n' "$(CURDIR)/$(TOOLS)" > $(TF_CLI_CONFIG_FILE)
	$(TOOLS)/tofu fmt -check -diff -recursive infra/terraform
	cd infra/terraform && $(CURDIR)/$(TOOLS)/tofu validate && $(CURDIR)/$(TOOLS)/tofu test
	.tools/checkov/bin/checkov --config-file infra/checkov.yaml
	$(BIN)/python -m pytest tests/infra tests/pipelines/beam/test_dataflow.py tests/pipelines/test_launch.py -m "not cloud"

check: $(STAMP)  ## lint and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

smoke-gcp: needs-project $(STAMP)  ## one small paid run on Google Cloud, about an hour, written to smoke-DATE.json (PROJECT=..., SMOKE="--region R")
	$(SCRIPT) tests/smoke_gcp.py $(PROJECT) $(SMOKE)

needs-project:
	@test -n "$(PROJECT)" || { echo "say which project pays: make smoke-gcp PROJECT=..." >&2; exit 1; }

docs: $(STAMP)  ## write the generated docs, the BigQuery DDL and the metadata of the Flex Templates
	$(BIN)/python -m schemas.docs .
	$(BIN)/python -m sssl.audio.sound .
	$(BIN)/python -m pipelines.templates .

queries: $(STAMP)  ## run docs/queries.md on $(DEMO), write what comes out
	$(SCRIPT) tests/queries.py $(DEMO)

queries-check: $(STAMP)  ## fail where a query of docs/queries.md shows nothing on $(DEMO), or other columns
	$(SCRIPT) tests/queries.py $(DEMO) --check

notebook: $(STAMP)  ## run docs/notebook.ipynb on $(DEMO), keep what it shows
	$(SCRIPT) tests/notebook.py $(DEMO)

fuzz: $(STAMP)  ## damage 2,000 audio files, check what the ledger says of them (FUZZ="--files N --seed S")
	$(SCRIPT) tests/fuzz.py $(FUZZ)

attack: $(STAMP)  ## kill commands 70 times, refuse them 35 operations, flip 640 bits of $(DEMO), damage 40 files (ATTACK="--kills N --seed S"; about an hour)
	$(SCRIPT) tests/attack.py $(DEMO) $(ATTACK)

bench: $(STAMP)  ## measure cost against plain loops (tests/bench)
	$(SCRIPT) tests/bench/bench.py
	$(SCRIPT) tests/bench/reading.py
	$(SCRIPT) tests/bench/tables.py
	$(SCRIPT) tests/bench/scoring.py
	$(SCRIPT) tests/bench/embed.py
	$(SCRIPT) tests/bench/parts.py

bench-page: $(STAMP)  ## measure how quick a report of 10,000 songs is in Chromium, from that of $(DEMO)
	$(SCRIPT) tests/bench/page.py $(DEMO)/report.html

bench-gpu: $(STAMP)  ## measure scoring, training and full cards on a GPU (about 5 minutes; needs nvidia-ml-py, 16 GB of /dev/shm)
	$(SCRIPT) tests/bench/gpu.py

bench-scale: $(STAMP)  ## measure how cost grows with the catalog, and whether sssl estimate is right
	$(SCRIPT) tests/bench/growth.py
	$(SCRIPT) tests/bench/estimate.py
	$(SCRIPT) tests/bench/shards.py

bench-machines: $(STAMP)  ## run the demo as on other machines, some minutes a run (MACHINES="--seeds 0 1")
	$(SCRIPT) tests/bench/machines.py build/machines $(MACHINES)

constraints: $(STAMP)  ## pin what is installed now
	$(BIN)/pip freeze --all --exclude-editable | grep -E '^[A-Za-z0-9_.-]+==' | grep -v '^pip==' > constraints.txt

image-locks: $(STAMP)  ## write which files the images install, with their hashes (some minutes)
	$(SCRIPT) tests/locks.py

clean:  ## remove the virtual environment, the demo and the tools
	rm -rf $(VENV) $(DEMO) .tools

.PHONY: help install demo test test-fast test-kernels test-readers test-browser test-cloud tools check docs queries queries-check notebook fuzz attack bench constraints clean bench-scale bench-page bench-gpu bench-machines infra-check image-locks smoke-gcp needs-project
