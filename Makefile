# Everything a developer types; what the recipes call says more.
PYTHON ?= /usr/bin/python3
PARTS := lint unit fuzz sanity integration role-dropbear role-ssh-hook hook-tests vm-tests molecule engines launchers demo-test
SCENARIOS := upgrade-from-sarus rootless lifecycle slurm
FUZZ_SECONDS ?= 60
SOAK_SECONDS ?= 600
ARGS := # only from the command line of make, not from the environment

export PATH := $(CURDIR)/.venv/bin:$(PATH)

.PHONY: help venv test test-all $(PARTS) $(SCENARIOS) soak bench bench-deploy scale demo demo-down
.DEFAULT_GOAL := help

help:
	@echo 'make demo         bring up a small cluster, deploy to it, and show ssh from container to container'
	@echo 'make demo-down    remove every trace of it but what was built, in .cache and .venv'
	@echo 'make test         all of the checks below, two at a time, with a summary (LANES=1: one at a time)'
	@echo 'make lint         linters, types, documentation, changelog; quick'
	@echo 'make unit         unit tests, on the oldest and the newest Python of this machine'
	@echo 'make fuzz         the parsers, by inputs without end for FUZZ_SECONDS (60; in make test 20)'
	@echo 'make sanity       ansible-test sanity'
	@echo 'make integration  the modules, by ansible-test integration'
	@echo 'make role-dropbear, make role-ssh-hook  one role alone, on this machine and in a bed'
	@echo 'make hook-tests   the hook, in real containers'
	@echo 'make vm-tests     the hook under AppArmor and under SELinux, in virtual machines'
	@echo 'make molecule     the roles, on a cluster of nodes'
	@echo 'make engines      containers of crun, runc, podman and in the way of Sarus, which reach each other'
	@echo 'make launchers    MPI, pdsh and their like, from container to container on a cluster of nodes'
	@echo 'make demo-test    the demo, up and down again, beside one that is up'
	@echo 'make unit ARGS="FILE -k NAME"  arguments for pytest; so do role-dropbear, role-ssh-hook, hook-tests and vm-tests'
	@echo 'make test-all     all of these, and the scenarios below'
	@echo 'make upgrade-from-sarus  from the SSH hook of Sarus to this one and back'
	@echo 'make rootless     rootless podman: networks, user namespaces, runtimes, overlays, two users on a node'
	@echo 'make lifecycle    years of a deployment: upgrades under load, faults, other values, removal'
	@echo 'make slurm        jobs of users in Slurm'
	@echo 'make soak         starts and races by the thousand, and fuzzing for SOAK_SECONDS (600)'
	@echo 'make bench        what all of it takes, against its peers; eight minutes'
	@echo 'make bench-deploy a deployment to three nodes, twice: seconds, and the slowest tasks'
	@echo 'make scale        a deployment to as many as a hundred nodes, twice: seconds, processor time and memory; half an hour'
	@echo 'make venv         only the development tools, in .venv (PYTHON=... chooses the Python)'

venv:
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || tests/testbed/packages --only python3-venv
	@tests/venv .venv requirements-dev.txt $(PYTHON)
	@command -v shellcheck >/dev/null || tests/testbed/packages --only shellcheck

test: export FUZZ_SECONDS = 20
test: venv
	@python tests/run.py $(PARTS)

test-all: venv
	@python tests/run.py $(PARTS) $(SCENARIOS)

lint: venv
	@python tests/lint/run.py

unit: venv
	@python tests/unit/run.py $(ARGS)

fuzz: venv
	@python -B tests/fuzz/campaign.py $(FUZZ_SECONDS)

sanity: venv
	@tests/sanity/run $(ARGS)

integration: venv
	@tests/integration/run $(ARGS)

role-dropbear: venv
	@tests/role_dropbear/run $(ARGS)

role-ssh-hook: venv
	@tests/role_ssh_hook/run $(ARGS)

hook-tests: venv
	@tests/hook/run $(ARGS)

vm-tests: venv
	@tests/vm/run $(ARGS)

molecule: venv
	@tests/testbed/molecule default

launchers: venv
	@tests/testbed/molecule launchers

demo-test: venv
	@tests/demo

slurm: venv
	@tests/testbed/molecule slurm

upgrade-from-sarus: venv
	@tests/testbed/molecule upgrade-from-sarus

lifecycle: venv
	@tests/testbed/molecule lifecycle

rootless: venv
	@tests/testbed/molecule rootless

engines: venv
	@tests/testbed/molecule engines

soak: venv
	@tests/hook/soak
	@python -B tests/fuzz/campaign.py $(SOAK_SECONDS)

bench: venv
	@tests/bench/run

bench-deploy: venv
	@tests/bench/deploy

scale: venv
	@tests/bench/scale

demo: venv
	@demo/up

demo-down:
	@demo/down
