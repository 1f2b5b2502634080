# SPDX-License-Identifier: MIT
# One command for each thing a developer does; CI runs the same. `make` alone lists them.
#
#   make demo                 see lkm at work in a virtual machine
#   make test                 everything that is checked
#   make test JOBS=4          with four test processes (default: one a processor; eight guests at most)
#   make demo LKM_LAB_MIRROR=URL    on Ubuntu: kernels come from this Debian mirror

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help setup packages demo test lint test-fast test-browser test-vm compare explore test-kernels test-kmod soak bench helper clean distclean
.DELETE_ON_ERROR:

PYTHON3 ?= python3
VENV := .venv
PYTHON := $(VENV)/bin/python
JOBS ?= $(shell nproc)
VM_JOBS ?= $(shell echo $$(($(JOBS) < 8 ? $(JOBS) : 8)))
BENCH := $(wildcard bench/*.py)

export LKM_LAB_MIRROR ?=

# What the lab runs (src/lkm/lab/process.py names each tool's package; a test compares), the compilers of its
# kernels, the C library's headers for them, libelf for kbuild's objtool (libelf-dev has the same name
# everywhere), and the keyring that apt verifies Debian's kernels with, which Ubuntu does not bring.
PACKAGES := apt binutils binutils-aarch64-linux-gnu busybox-static cpio debian-archive-keyring dpkg e2fsprogs gcc-12 \
	gcc-12-aarch64-linux-gnu kmod libc-bin libc6-dev libelf-dev make ovmf qemu-system-arm qemu-system-x86

# What kmod's own test suite is built with (`make test-kmod`).
KMOD_PACKAGES := gcc gzip libc6-dev liblzma-dev libssl-dev libzstd-dev meson ninja-build pkg-config xz-utils zlib1g-dev zstd

# What shows the timeline's page in a test.
BROWSER := chromium-headless-shell

say = printf '\n== %s\n' "$(1)"

help:  ## this list
	@grep -hE '^[a-z-]+:.*## ' Makefile | sed -E 's/:.*## /\t/' | while IFS=$$'\t' read -r name text; do \
		printf 'make %-10s %s\n' "$$name" "$$text"; done

setup: packages $(VENV)/.installed  ## install what is missing: Debian packages, .venv with lkm and its tools
	@[ "$(MAKECMDGOALS)" != setup ] || echo "ready: $(VENV)/bin/lkm"

# Asked every time: dpkg-query answers at once, and a stamp would not know of a package that was removed.
packages:
	@if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then \
		echo "lkm's lab needs Debian or Ubuntu: its kernels and tools come through apt." >&2; \
		echo "The command line itself runs anywhere: python3 -m pip install ." >&2; exit 1; fi; \
	wanted="$(PACKAGES)"; \
	$(PYTHON3) -c 'import ensurepip, venv' 2>/dev/null || wanted="$$wanted python3 python3-venv"; \
	missing=""; for name in $$wanted; do \
		[ "$$(dpkg-query -W -f='$${db:Status-Status}' "$$name" 2>/dev/null)" = installed ] || missing="$$missing $$name"; \
	done; \
	[ -n "$$missing" ] || exit 0; \
	install="apt-get install -y --no-install-recommends$$missing"; sudo=""; \
	if [ "$$(id -u)" != 0 ]; then \
		if ! command -v sudo >/dev/null; then \
			echo "Missing:$$missing. There is neither root nor sudo here; have root run" >&2; \
			echo "  $$install" >&2; exit 1; fi; \
		sudo="sudo"; fi; \
	$(call say,installing$$missing); \
	$$sudo apt-get update -q || echo "apt-get update complains; trying with what there is" >&2; \
	$$sudo env DEBIAN_FRONTEND=noninteractive $$install

$(PYTHON): | packages
	@$(call say,making $(VENV) with $$($(PYTHON3) --version))
	@$(PYTHON3) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml $(PYTHON)
	@$(call say,installing lkm and its tools into $(VENV))
	@$(PYTHON) -m pip install --quiet --editable '.[terminal,zstd,sign,lab,dev]'
	@touch $@

demo: setup  ## see lkm at work in a virtual machine
	@$(call say,lkm lab demo)
	@$(VENV)/bin/lkm lab demo

test: setup  ## everything that is checked: lint, types, tests here, tests on real kernels
	@$(MAKE) --no-print-directory lint
	@$(MAKE) --no-print-directory test-fast
	@$(MAKE) --no-print-directory test-browser
	@$(MAKE) --no-print-directory test-vm

lint: setup  ## ruff's rules and format, mypy's types
	@$(call say,ruff check)
	@$(VENV)/bin/ruff check src tests $(BENCH)
	@$(call say,ruff format --check)
	@$(VENV)/bin/ruff format --check src tests $(BENCH)
	@$(call say,mypy)
	@$(VENV)/bin/mypy src tests $(BENCH)

test-fast: setup  ## the tests that need no virtual machine
	@$(call say,the tests that need no virtual machine)
	@$(PYTHON) -m pytest -q -n $(JOBS) --ignore tests/vm --ignore tests/browser tests

# Apart from `packages`, which `make demo` needs too: a browser is 100 MB. Ubuntu has it as a snap only.
test-browser: setup  ## the timeline's page and picture in headless Chromium
	@if command -v $(BROWSER) >/dev/null || apt-cache show $(BROWSER) >/dev/null 2>&1; then \
		$(MAKE) --no-print-directory packages PACKAGES="$(BROWSER)"; \
		$(call say,the timeline in a browser); \
		$(PYTHON) -m pytest -q tests/browser; \
	else $(call say,NOT RUN: tests/browser; this archive has no $(BROWSER)); fi

test-vm: setup  ## the tests on real kernels: all on the newest, a chosen few on the others
	@$(call say,tests on real kernels (the first time they are fetched: about 100 MB each))
	@$(PYTHON) -m pytest -q -n $(VM_JOBS) tests/vm

explore: setup  ## the property tests with new examples, five hundred each (half an hour)
	@$(call say,new examples)
	@LKM_EXAMPLES=500 $(PYTHON) -m pytest -q -n $(JOBS) tests/property

test-kernels: setup  ## all tests on all kernels, a hundred rescues in a row on each; makes docs/kernels.md
	@$(call say,all tests on all kernels)
	@$(PYTHON) -m pytest -q -n $(VM_JOBS) --all-kernels --table docs/kernels.md tests/vm

compare: setup  ## the classic tools against kmod's on whole trees of three kernels (minutes)
	@$(call say,the classic tools against kmod's)
	@$(PYTHON) -m tests.compare
	@$(call say,depmod killed at 200 moments)
	@LKM_DEPMOD_KILLS=200 $(PYTHON) -m pytest -q tests/unit/tree/test_depmod_write.py -k any_moment

test-kmod: PACKAGES += $(KMOD_PACKAGES)
test-kmod: setup  ## kmod's own test suite, fetched as source, against lkm's tools
	@$(call say,the test suite of kmod)
	@$(PYTHON) -m tests.kmod_suite

soak: setup  ## a thousand rescues on each of three kernels, half in clones, half in one guest (hours)
	@for kernel in 6.1 6.12 7.3; do $(PYTHON) -m tests.vm.soak $$kernel 1000; done

bench: PACKAGES += $(KMOD_PACKAGES)
bench: setup  ## benchmarks, each a ratio against the peer in one run
	@$(call say,benchmarks)
	@$(PYTHON) bench/run.py

helper: setup  ## make the helper's bytes anew from its source
	@$(call say,assembling the helper)
	@$(PYTHON) -m lkm.rescue.helper.rebuild

clean:  ## remove caches and build products (the lab's kernels stay: lkm lab kernels remove)
	rm -rf build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find src tests bench -name __pycache__ -type d -prune -exec rm -rf {} +

distclean: clean  ## clean, and remove .venv
	rm -rf $(VENV)
