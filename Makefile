# A developer's commands; the scripts that the recipes call say more.
PYTHON ?= /usr/bin/python3
PARTS := lint docs unit fuzz sanity integration role-dropbear role-ssh-hook hook-tests vm-tests molecule engines launchers demo-test \
	upgrade-from-sarus monitoring release-test slurm rootless
SCENARIOS := upgrade debian11 old-kernel lifecycle old-beside-new slurm-editor sarus-suite launch-real node-image architectures mutants \
	soak
FUZZ_SECONDS ?= 60
SOAK_STARTS ?= 1000
SOAK_SECONDS ?= 600
ARGS := # only from the command line of make, not from the environment
TAKE_ARGS := unit sanity integration role-dropbear role-ssh-hook hook-tests vm-tests el-policy old-kernel monitoring node-image architectures \
	mutants

ifneq ($(strip $(ARGS)),)
ifneq ($(filter-out $(TAKE_ARGS),$(MAKECMDGOALS)),)
$(error $(firstword $(filter-out $(TAKE_ARGS),$(MAKECMDGOALS))) takes no ARGS. These targets do: $(TAKE_ARGS))
endif
endif

export PATH := $(CURDIR)/.venv/bin:$(PATH)

HERE := help venv lint unit# these run on this machine itself; all others as root, in the test system
ALL := $(HERE) test test-all under-load $(PARTS) $(SCENARIOS) real-engines real-suite newest-engines real-apptainer el-policy audit-algorithms \
	bench bench-deploy scale demo demo-down
IN_TEST_SYSTEM := $(and $(wildcard /etc/testbed),$(filter /srv/checkout,$(CURDIR)))
.PHONY: $(ALL)
.DEFAULT_GOAL := help

help:
	@echo 'For a usual change:'
	@echo 'make unit ARGS=tests/unit/hook/linux/test_files.py      one file or test, in seconds'
	@echo 'make lint                                               linters and types'
	@echo 'make hook-tests ARGS="tests/hook/test_wait.py -k NAME"  the hook in a container'
	@echo
	@echo 'All targets:'
	@echo 'make demo         start a small cluster, deploy to it, and show ssh from container to container'
	@echo 'make demo-down    remove the cluster; only build results stay, in .cache and .venv'
	@echo 'make test         all of the checks below, three at a time, with a summary (LANES=1: one at a time)'
	@echo 'make lint         linters, types, documentation, changelog; quick'
	@echo 'make docs         the site of the documentation, in .cache/docs/html; any warning is an error'
	@echo 'make unit         unit tests, on the oldest and the newest Python of this machine'
	@echo 'make fuzz         the parsers, with random inputs for FUZZ_SECONDS (60; in make test 27)'
	@echo 'make sanity       ansible-test sanity'
	@echo 'make integration  the modules, by ansible-test integration'
	@echo 'make role-dropbear, make role-ssh-hook  each role alone, on this machine and in a bed'
	@echo 'make hook-tests   the hook, in real containers'
	@echo 'make vm-tests     the hook under AppArmor and under SELinux, and homes under autofs, in virtual machines'
	@echo 'make molecule     the roles, on a cluster of nodes'
	@echo 'make engines      sessions between containers of crun, runc, podman, and started as Sarus does'
	@echo 'make launchers    MPI, pdsh and similar launchers between containers on a cluster of nodes'
	@echo 'make demo-test    the demo, started and removed, beside one that is running'
	@echo 'make upgrade-from-sarus  from the SSH hook of Sarus to this one and back'
	@echo 'make monitoring   the page of an audit in a browser; metrics in node_exporter'
	@echo 'make release-test a release by the written procedure, in a copy, and its archive as Galaxy and a site take it'
	@echo 'make rootless     rootless podman: networks, user namespaces, runtimes, overlays, two users on a node'
	@echo 'make slurm        jobs of users in Slurm'
	@echo 'make unit ARGS="FILE -k NAME"  arguments for pytest, or of ansible-test for sanity and integration; taken by'
	@echo '                  $(TAKE_ARGS)'
	@echo 'make test-all     all of these, and the scenarios below'
	@echo 'make under-load   what `make test` runs, twice, beside processes that keep processors and disk busy'
	@echo 'make upgrade      an upgrade and a rollback under load, and a removal, on a cluster of nodes'
	@echo 'make debian11     a deployment to nodes with Debian 11, which are as old as those with EL 9, and its removal'
	@echo 'make old-kernel   the hook on Linux 5.10, the kernel of Debian 11, in a virtual machine'
	@echo 'make el-policy    the hook under the SELinux policy of EL, which POLICY=DIR has, in a virtual machine'
	@echo 'make lifecycle    years of a deployment: upgrades under load, faults, changed variables, removal'
	@echo 'make old-beside-new  one job on nodes with the last release, with this version, and as a site of Sarus has them'
	@echo 'make slurm-editor an editor, Jupyter and TensorBoard on a laptop, whose servers run in containers of jobs'
	@echo 'make sarus-suite  steps of Slurm in containers, as the plugin of the Sarus Suite starts them'
	@echo 'make real-engines  the real enroot and pyxis, which TREE=DIR has as installed (tests/real_engines/pack);'
	@echo '                  STARTS (20) of each row of its table, STEPS (40) after which nodes are compared'
	@echo 'make real-suite   the real Sarus Suite, which TREE=DIR has; with STARTS and STEPS as well'
	@echo 'make newest-engines  the tests of starts, ends and the root directory with the engines that TREE=DIR has'
	@echo 'make real-apptainer  ssh_hook attach for the Apptainer that TREE=DIR has'
	@echo 'make launch-real  DeepSpeed, PyTorch, Ray, Dask, mpi4py and other launchers as users have them'
	@echo 'make node-image   an image of a stateless node: deployed into, booted in a virtual machine'
	@echo 'make architectures  the programs for aarch64, ppc64le and riscv64, built and run under emulation'
	@echo 'make mutants      small faults in the hook, one at a time: a test has to notice each; ARGS are words of them'
	@echo 'make soak         SOAK_STARTS (1000) starts and as many races, and fuzzing for SOAK_SECONDS (600);'
	@echo '                  in make test-all 150 starts and 60 seconds'
	@echo 'make bench        performance of the hook and its peers; nine minutes'
	@echo 'make bench-deploy a deployment to three nodes, twice: seconds, and the slowest tasks'
	@echo 'make scale        a deployment to up to a hundred nodes, twice: seconds, processor time and memory; half an hour'
	@echo 'make audit-algorithms  what ssh-audit says of the daemon and of ssh, on loopback'
	@echo 'make venv         only the development tools, in .venv (PYTHON=... chooses the Python)'

venv:
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || tests/testbed/packages --only python3-venv
	@tests/venv .venv requirements/dev.txt $(PYTHON)
	@command -v shellcheck >/dev/null || tests/testbed/packages --only shellcheck

lint: venv
	@tests/testbed/packages lint
	@python tests/lint/run.py

unit:
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || tests/testbed/packages --only python3-venv
	@$(PYTHON) -B tests/unit/run.py $(ARGS)

ifeq ($(IN_TEST_SYSTEM),)
$(filter-out $(HERE),$(ALL)):
	@tests/testbed/system make --no-print-directory $@
else
test: export FUZZ_SECONDS = 27
test: venv
	@python tests/run.py $(PARTS)

test-all: export SOAK_STARTS = 150
test-all: export SOAK_SECONDS = 60
test-all: venv
	@python tests/run.py $(PARTS) $(SCENARIOS)

under-load: export FUZZ_SECONDS = 27
under-load: venv
	@python tests/run.py --under-load $(PARTS)

docs: venv
	@docs/site/build

fuzz: venv
	@python -B tests/fuzz/campaign.py $(FUZZ_SECONDS)
	@python -B -m pytest -q tests/fuzz

sanity: venv
	@tests/sanity/run $(ARGS)

integration: venv
	@tests/integration/run $(ARGS)

role-dropbear: venv
	@tests/role_dropbear/run role-dropbear $(ARGS)

architectures: venv
	@tests/role_dropbear/run architectures tests/role_dropbear/architectures.py $(ARGS)

role-ssh-hook: venv
	@tests/role_ssh_hook/run $(ARGS)

hook-tests: venv
	@tests/hook/run $(ARGS)

vm-tests: venv
	@tests/vm/run own $(ARGS)

molecule: venv
	@tests/testbed/molecule default

launchers: venv
	@tests/testbed/molecule launchers

demo-test: venv
	@tests/demo

slurm: venv
	@tests/testbed/molecule slurm

slurm-editor: venv
	@tests/testbed/molecule slurm-editor

sarus-suite: venv
	@tests/testbed/molecule sarus-suite

real-engines real-suite: venv
	@tests/testbed/molecule $@

newest-engines: venv
	@TB_DIR=$(CURDIR)/.cache/newest-bed tests/hook/run $(foreach name,engines lifecycle root,tests/hook/test_$(name).py) \
		-k 'not readme' $(if $(TREE),,$(error TREE=DIR is missing: a directory with engines as installed))

real-apptainer: venv
	@TB_DIR=$(CURDIR)/.cache/newest-bed tests/hook/run tests/hook/real_apptainer.py \
		$(if $(TREE),,$(error TREE=DIR is missing: a directory with Apptainer as installed))

launch-real: venv
	@tests/testbed/molecule launch-real

upgrade-from-sarus: venv
	@tests/testbed/molecule upgrade-from-sarus

upgrade: venv
	@tests/testbed/molecule upgrade

old-beside-new: venv
	@tests/testbed/molecule old-beside-new

debian11: venv
	@tests/testbed/molecule debian11

el-policy: venv
	@tests/vm/run policy $(ARGS)

old-kernel: venv
	@tests/vm/run old $(ARGS)

lifecycle: venv
	@tests/testbed/molecule lifecycle

rootless: venv
	@tests/testbed/molecule rootless

engines: venv
	@TB_DIR=$(CURDIR)/.cache/engines-bed tests/hook/run tests/hook/test_engines.py
	@tests/testbed/molecule engines

monitoring: venv
	@tests/monitoring/run $(ARGS)

node-image: venv
	@tests/node_image/run $(ARGS)

mutants: venv
	@tests/mutants/run $(ARGS)

release-test: venv
	@tests/release

soak: venv
	@tests/hook/soak $(SOAK_STARTS)
	@python -B tests/fuzz/campaign.py $(SOAK_SECONDS)

audit-algorithms: venv
	@tests/audit/run

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
endif
