# Two commands, both for a machine that has only Rust, Python and a C compiler:
#   make demo   three services, one trace, printed as a tree
#   make test   every check and every test
.PHONY: help demo test

help:
	@echo "make demo   starts a server and three services, prints their distributed trace, leaves nothing running"
	@echo "make test   formats, lints, builds and tests everything, as CI does"

demo:
	@bash scripts/demo.sh

test:
	@bash scripts/test.sh
