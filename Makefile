# notqmail in Python. `make help` lists what there is. Needs git, make and Python 3.11 or newer.
#
#   PYTHON=/path/to/python3.11   the interpreter for the virtual environment
#   SMTP=127.0.0.1:2526          where `make run` listens
#   MAILHOME=var                 the home that `make run` uses

PYTHON ?=
SMTP ?= 127.0.0.1:2525
MAILHOME ?= var
PYTEST ?= -n 2
DEBIAN ?= yes

TEST_PACKAGES = swaks postfix ucspi-tcp s-nail msmtp strace mandoc groff-base fetchmail getmail6 mutt procmail maildrop dovecot-core \
                daemontools runit s6 git-email libmailtools-perl php-cli bsd-mailx xfsprogs btrfs-progs
MAN_PAGES = $(wildcard man/*.[1578])

# Each recipe that needs an interpreter asks the set-up script for it; that is quick once the set-up is done.
SETUP = PYTHON='$(PYTHON)' packaging/setup-venv
export PYTHONPATH = src

.PHONY: help run test check bench crash power chaos simulate fuzz coverage mutants debian clean

help:
	@echo 'make run     the whole mail system here, as you: SMTP on $(SMTP), mail in $(MAILHOME)/Maildir; Ctrl-C stops it'
	@echo 'make test    all tests (installs what they need, Debian packages included; DEBIAN=no: without those)'
	@echo 'make check   format, lint, types, import floors, man pages, documents'
	@echo 'make crash   the power-cut tests alone, more of each, with their figures; SURVIVORS=1000'
	@echo 'make power   power cuts on real ext4, XFS and btrfs, recorded below the file system (root); SECONDS=600 SEED=1'
	@echo 'make chaos   kills, stops and full disks under load, then every message audited; SECONDS=300 SEED=7 (and so on)'
	@echo 'make simulate  days of traffic and trouble in simulated time, seed after seed; SECONDS=600 SEED=1 DAYS=3 (and so on)'
	@echo 'make fuzz    every parser and session with new hostile input, SECONDS=600'
	@echo 'make coverage  which lines and branches the tests run; writes docs/explanation/coverage.md'
	@echo 'make mutants   small wrong changes to queue, wire and control, or to ONLY=fetch/,wire/pop3.py: do the tests notice? SECONDS=600 (or all) SEED=7'
	@echo 'make bench   speed beside Postfix on this machine, half an hour or so; BENCH=--quick, BENCH=--rows=hosts (and so on)'
	@echo 'make clean   removes .venv and caches; never $(MAILHOME), there may be mail in it'

run:
	@python=$$($(SETUP) run) && exec "$$python" -m notqmail.admin run --home '$(MAILHOME)' --smtp '$(SMTP)'

test: debian
	@python=$$($(SETUP) test) && exec "$$python" -m pytest $(PYTEST)

crash:
	@python=$$($(SETUP) test) && SURVIVORS=$(or $(SURVIVORS),1000) exec "$$python" -m pytest $(PYTEST) tests/crash

power: debian
	@python=$$($(SETUP) test) && exec "$$python" tests/power/power_run.py --seconds $(or $(SECONDS),60) --seed $(or $(SEED),1)

chaos: debian
	@python=$$($(SETUP) test) && exec "$$python" tests/chaos/run.py --seconds $(or $(SECONDS),60) $(if $(SEED),--seed $(SEED))

simulate:
	@python=$$($(SETUP) test) && exec "$$python" -m notqmail.testing.simulation --seconds $(or $(SECONDS),60) \
	--seed $(or $(SEED),1) --days $(or $(DAYS),3)

fuzz:
	@python=$$($(SETUP) test) && exec "$$python" tests/fuzz/fuzz_main.py --seconds $(or $(SECONDS),60)

coverage: debian
	@python=$$($(SETUP) test) && exec "$$python" tests/measure/coverage_run.py $(COVERAGE)

mutants:
	@python=$$($(SETUP) test) && exec "$$python" tests/mutation/run.py --seconds $(or $(SECONDS),300) \
	--seed $(or $(SEED),1) --only '$(ONLY)' $(if $(RESULT),--result '$(RESULT)') $(if $(AGAIN),--again '$(AGAIN)')

check:
	@python=$$($(SETUP) test) && set -ex && \
	"$$python" -m ruff format --check . && \
	"$$python" -m ruff check . && \
	"$$python" -m mypy && \
	{ "$$python" -c 'from importlinter.cli import lint_imports_command; lint_imports_command()' >.venv/imports.log || \
	{ cat .venv/imports.log; false; }; } && tail -n 5 .venv/imports.log && \
	"$$python" -m pytest -q tests/docs
	@if command -v mandoc >/dev/null; \
	then mandoc -Tlint -W warning $(MAN_PAGES) && echo 'man pages: clean'; \
	else echo 'man pages: not checked, mandoc is not installed'; fi

bench: debian
	@python=$$($(SETUP) test) && exec "$$python" bench/run.py $(or $(BENCH),--sweep)

debian:
ifeq ($(DEBIAN),yes)
	@packaging/debian-packages $(TEST_PACKAGES) || \
	{ echo 'make: without these packages: make test DEBIAN=no (tests that need them are skipped and listed)'; exit 1; }
	@packaging/foreign-servers
endif

clean:
	rm -rf .venv build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find src tests bench -name __pycache__ -type d -prune -exec rm -rf {} +
