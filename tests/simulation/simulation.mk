# Included by the Makefile: simulated deployments, and faulty versions of the product that the tests must notice.
.PHONY: simulate mutants

SCHEDULES ?= 20000
FIRST ?= 0

simulate: $(READY) ## Run simulated schedules (SCHEDULES=2000000 FIRST=0); the last line is JSON
	@cd tests && ../$(BIN)/python -m simulation --schedules $(SCHEDULES) --first $(FIRST)

mutants: $(READY) ## Put known mistakes into the product one by one; each must be noticed
	@cd tests && ../$(BIN)/python -m mutants
