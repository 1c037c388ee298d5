# SPDX-License-Identifier: Apache-2.0
# A thin front for CMake. Every target first installs what it needs and lacks (tools/bootstrap), so that each works alone
# on a fresh Debian 12 machine with git and make.
PREFIX  ?= /usr/local
SECONDS ?= 60
JOBS    ?= $(shell nproc)

all: setup-build
	@test -f build/build.ninja || cmake --preset release
	@cmake --build build -j $(JOBS) --target folio_shared folio_static folio_cli

setup-%:
	@tools/bootstrap $*

# 200 real requests at 1/16 of their length, through 8 layers; checked, and drawn into examples/data/out
demo: setup-demo all
	@mkdir -p examples/data/out
	build/folio replay examples/data/mooncake_conversation_200.jsonl --scale-lengths 1/16 --layers 8 --memory 128M \
		--plot examples/data/out/demo.svg

python: setup-python
	@tools/python

check: setup-check
	@tools/check

check-all: setup-check-all
	@tools/check all

bench: all
	build/folio bench

# folio beside other systems' attention on this CPU, fetched into .venv-peers
bench-peers: all setup-peers
	@bench/peers/run

# fuzz SECONDS=60: every fuzzer for that long, from the corpus that ships with the project
fuzz: setup-check-all
	@tools/fuzz $(SECONDS)

install: all
	DESTDIR="$(DESTDIR)" cmake --install build --prefix "$(PREFIX)"

clean:
	rm -rf build build-* .cache

help:
	@sed -n 's/^\([a-z-]*\):.*/make \1/p' Makefile

.PHONY: all demo python check check-all bench bench-peers fuzz install clean help
