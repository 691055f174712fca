# Included by the Makefile: three brokers, three workers, two executors, and everything that can happen to them.
.PHONY: chaos

CHAOS_MINUTES ?= 20
CHAOS_SEED ?= 1

chaos: $(READY) ## Kill, stop, cut off and corrupt for 20 minutes on three brokers, then judge (CHAOS_MINUTES=5, CHAOS_SEED=2)
	@cd tests && ../$(BIN)/python -m chaos --minutes $(CHAOS_MINUTES) --seed $(CHAOS_SEED)
