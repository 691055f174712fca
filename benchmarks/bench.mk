# Measurements; the Makefile includes this file. They run in an environment of their own, because they need a plotter and a profiler.

BENCH := benchmarks/.venvs/bench
BENCH_READY := $(BENCH)/.ready
BENCH_PYTHON ?= $(shell $(PYTHON) benchmarks/fastest_python.py)

.PHONY: bench bench-quick bench-scale profile bench-docs bench-clean

bench: $(BENCH_READY) ## Compare with Kafka Streams, Quix Streams and stock Faust (15 minutes; Java 17, Maven)
	@$(BENCH)/bin/python -m benchmarks.compare

bench-quick: $(BENCH_READY) ## Compare with Kafka Streams only (3 minutes)
	@$(BENCH)/bin/python -m benchmarks.compare --quick

bench-scale: $(BENCH_READY) ## Measure what grows: open groups, partitions, large groups, takeovers (SCENARIOS="a b" for some)
	@$(BENCH)/bin/python -m benchmarks.scale $(SCENARIOS)

profile: $(BENCH_READY) ## Say where the time of an add goes, stage by stage, and what the machine could do
	@$(BENCH)/bin/python -m benchmarks.stages

bench-docs: $(BENCH_READY) ## Write the figures in benchmarks/results into docs/performance.md and docs/scaling.md
	@$(BENCH)/bin/python -m benchmarks.documents

bench-clean: ## Remove what measurements have built and installed
	rm -rf benchmarks/.venvs benchmarks/.build

# What is measured is what the container image runs: the compiled wheel, on an optimised Python.
$(BENCH_READY): $(BENCH)/.libraries hatch_build.py $(shell find app producers -name '*.py')
	@$(call compiled_wheel,$(BENCH)/bin/python,benchmarks/.build/wheel)
	@$(BENCH)/bin/python -m pip install --quiet --disable-pip-version-check --force-reinstall --no-deps benchmarks/.build/wheel/*.whl
	@touch $@

$(BENCH)/.libraries: pyproject.toml benchmarks/requirements.txt
	@test -n "$(PYTHON)" || { echo "No Python 3.11 or newer on the PATH: install one, or say make PYTHON=/path/to/python" >&2; exit 1; }
	@test -x $(BENCH)/bin/python || $(BENCH_PYTHON) -m venv $(BENCH)
	@$(BENCH)/bin/python -m pip install --quiet --disable-pip-version-check '.[app]' -r benchmarks/requirements.txt
	@touch $@
