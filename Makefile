# These need nothing but make, a shell and Python 3; the rest they get themselves.
.DEFAULT_GOAL := help
.PHONY: help demo test test-quick test-image test-browser coverage pictures lint bench faults docs golden

# Certificate authorities of the machine's own count too, as behind a proxy that opens TLS.
export UV_SYSTEM_CERTS ?= 1
UV = uv=$$(tools/bootstrap.sh) && "$$uv"
RUN = $(UV) run --locked --all-groups
PYTEST = pytest -n 2 --dist loadfile --no-loadscope-reorder
COMPOSE = */docker-compose*.yml deploy/*/docker-compose*.yml

help:
	@echo "make demo       the exporter on port 8000, beside a private MongoDB with simulated traffic"
	@echo "make test       lint, types and all tests"
	@echo "make test-quick the tests that need no server, on any machine"
	@echo "make test-image the image built on two Debians, and the Compose stack, run for real; needs root"
	@echo "make test-browser  the page in a real browser, Debian's Chromium"
	@echo "make coverage   all tests again, slower, and the branches that they take"
	@echo "make bench      the measurements of docs/performance.md"
	@echo "make faults     faults, load, sizes and endurance, for three quarters of an hour"
	@echo "make docs       write all that is generated from the code anew"
	@echo "make pictures   take and draw the pictures of docs/images anew"
	@echo "make golden     write the golden exposition anew"

demo:
	@$(UV) run --locked --group mongod python -m tools.demo

lint:
	$(RUN) ruff check .
	$(RUN) ruff format --check .
	$(RUN) mypy
	$(RUN) hadolint Dockerfile
	$(RUN) yamllint --strict .github historic-analysis prometheus-dev deploy
	$(RUN) zizmor --offline --no-progress .github
	$(RUN) check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml
	$(RUN) check-jsonschema --builtin-schema vendor.dependabot .github/dependabot.yml
	$(RUN) check-jsonschema --builtin-schema vendor.compose-spec $(COMPOSE)

test: lint
	tools/debian-packages.sh
	tools/newer-debian.sh
	$(RUN) $(PYTEST)

coverage:
	tools/debian-packages.sh
	tools/newer-debian.sh
	$(RUN) $(PYTEST) --cov --cov-report=term:skip-covered

test-quick:
	@$(UV) run --locked --group quick pytest -n auto --quick

test-image:
	tools/debian-packages.sh images
	$(RUN) pytest -m image

test-browser:
	tools/debian-packages.sh browser
	$(RUN) pytest -m browser

pictures:
	tools/debian-packages.sh
	tools/debian-packages.sh browser
	$(RUN) python -m tools.pictures

bench:
	$(RUN) python -m benchmarks.scrape
	$(RUN) python -m benchmarks.rates
	$(RUN) python -m benchmarks.payers
	tools/debian-packages.sh
	$(RUN) python -m benchmarks.export

faults:
	$(RUN) pytest -m slow

docs:
	$(RUN) python -m tools.reference

golden:
	$(RUN) pytest tests/test_golden.py --write-golden
