# Two commands, both for a machine that has only Rust, Python and a C compiler:
#   make demo   three services, one trace, printed as a tree; KEEP=1 leaves the server running for its page
#   make test   every check and every test
.PHONY: help demo test

help:
	@echo "make demo   starts a server and three services, prints their distributed trace; KEEP=1 keeps the server for its page"
	@echo "make test   formats, lints, builds and tests everything, as CI does"

demo:
	@bash scripts/demo.sh

test:
	@bash scripts/test.sh
