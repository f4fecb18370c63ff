# Every command of the project; `make help` lists them.

PYTHON      ?= $(shell command -v python3.11 || echo python3)
VENV        := .venv
BIN         := $(VENV)/bin
READY       := $(VENV)/.ready
WORLD_DAY   := $(shell sed -nE 's/.*"last_day": "(.*)".*/\1/p' demo/world.json 2>/dev/null)
DAY         ?= $(or $(WORLD_DAY),$(shell date -u -d yesterday +%F))
CONF        ?= conf/demo.toml
MONTH       ?= $(shell date -u -d "$$(date -u +%Y-%m-01) -1 day" +%Y-%m)
SUBSCRIBERS ?= 20000
CENTRES     ?= 26
DAYS        ?= 1
SEED        ?= 7
GEOGRAPHY   ?= conf/demo_geography.toml
SEEDS       ?= 200
PUBLISHED   ?= demo/published
RESTRICTED  ?= demo/restricted
BUILD       ?= build
DIST        ?= dist

.DEFAULT_GOAL := help
.PHONY: help setup demo world night status deliver rewards report budget statement certificate erase expire
.PHONY: attack notebooks test sensitivity leaks accuracy bench year soak chaos check zip clean

help: ## List all commands
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):[^#]*## */\1\t/' | expand -t 12

setup: $(READY) ## Make the environment (.venv) and fetch the jars, once

$(READY): requirements.txt setup.py conf/jars.txt tests/conf/jars.txt .ci/setup .ci/archive_classes.py
	@PYTHON=$(PYTHON) VENV=$(VENV) sh .ci/setup >&2
	@touch $@

demo: ATTACK := 1
demo: $(READY) world night ## A demo world and one whole night over it, from nothing: SUBSCRIBERS=20000 DAY=yesterday

world: $(READY) ## Make the demo world: SUBSCRIBERS=20000 CENTRES=26 DAYS=1 DAY=yesterday SEED=7 GEOGRAPHY=FILE
	@$(BIN)/python -m jobs.make_world --out demo --subscribers $(SUBSCRIBERS) --centres $(CENTRES) \
		--days $(DAYS) --last-day $(DAY) --seed $(SEED) --geography $(GEOGRAPHY)

night: $(READY) ## Run every job of one night, safe to repeat: DAY=2026-11-23 (or FROM= TO=) CONF=conf/demo.toml RESTATE=1 ATTACK=1 DRY=1
	@$(BIN)/python -m jobs.run_night --conf $(CONF) $(if $(FROM),--from $(FROM) --to $(or $(TO),$(DAY)),--day $(DAY)) \
		$(if $(RESTATE),--restate) $(if $(ATTACK),--attack) $(if $(DRY),--dry-run)

status: $(READY) ## Show how the last nights went, and what is left to do: DAY=2026-11-23 CONF=conf/demo.toml
	@$(BIN)/python -m jobs.show_status --conf $(CONF) --day $(DAY)

deliver: $(READY) ## Deliver to every buyer what was published since the last time: DAY=2026-11-23 BUYERS=conf/buyers.toml CONF=conf/demo.toml
	@$(BIN)/python -m jobs.deliver_products --conf $(CONF) --day $(DAY) --buyers $(or $(BUYERS),conf/buyers.toml)

rewards: $(READY) ## Settle what taking part earned in a month that is over, once: MONTH=2026-11 CONF=conf/demo.toml
	@$(BIN)/python -m jobs.settle_rewards --conf $(CONF) --day $(MONTH)-01

report: $(READY) ## Render the HTML report of a published night: DAY=2026-11-23 CONF=conf/demo.toml FULL=1 (charts of every zone)
	@$(BIN)/python -m jobs.render_report --conf $(CONF) --day $(DAY) $(if $(FULL),--full)

budget: $(READY) ## Show what a night cost, and 7 and 30 days: DAY=2026-11-23 CONF=conf/demo.toml
	@$(BIN)/python -m jobs.show_budget --conf $(CONF) --day $(DAY)

statement: $(READY) ## Render the data-protection officer's page: DAY=2026-11-23 CONF=conf/demo.toml
	@$(BIN)/python -m jobs.render_statement --conf $(CONF) --day $(DAY)

certificate: $(READY) ## Show who was left out, and that the chain of certificates holds: DAY=2026-11-23 CONF=conf/demo.toml
	@$(BIN)/python -m jobs.show_certificate --conf $(CONF) --day $(DAY)

erase: $(READY) ## Erase people for good, and prove it: IDS=FILE (one id a line) CONF=conf/demo.toml
	@$(BIN)/python -m jobs.erase_subscribers --conf $(CONF) --day $(DAY) --ids $(or $(IDS),$(error IDS=FILE names whom to erase))

expire: $(READY) ## Erase what is over its age limit, as every night does: DAY=2026-11-23 CONF=conf/demo.toml
	@$(BIN)/python -m jobs.erase_expired --conf $(CONF) --day $(DAY)

attack: $(READY) ## Attack a published night in every known way: DAY=2026-11-23 CONF=conf/demo.toml QUICK=1
	@$(BIN)/python -m jobs.attack_release --conf $(CONF) --day $(DAY) $(if $(QUICK),--quick)

notebooks: $(READY) ## Execute every notebook on the two roots: PUBLISHED=demo/published RESTRICTED=demo/restricted
	@FOOTFALL_PUBLISHED=$(abspath $(PUBLISHED)) FOOTFALL_RESTRICTED=$(abspath $(RESTRICTED)) $(BIN)/jupyter-execute notebooks/*.ipynb

test: $(READY) ## Run the tests, in two processes: LONG=1 (the longest, too)
	@$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(if $(LONG),-m '')

sensitivity: $(READY) ## Search for a subscriber-day that changes more than is declared: SEEDS=200
	@$(BIN)/python -m pytest -n 2 --dist load tests/test_sensitivity.py --seeds $(SEEDS)

leaks: SUBSCRIBERS = 50000
leaks: $(READY) ## Search everything a night leaves for identities and keys: SUBSCRIBERS=50000
	@$(BIN)/python -m pytest -s tests/test_leaks.py --subscribers $(SUBSCRIBERS)

accuracy: $(READY) ## Hold published numbers against the truth of made worlds: SEEDS=5 SCENARIO=outage QUICK=1 RECORD=1
	@$(BIN)/python -m jobs.measure_accuracy $(if $(filter command line,$(origin SEEDS)),--seeds $(SEEDS)) \
		$(if $(SCENARIO),--scenario $(SCENARIO)) $(if $(QUICK),--quick) $(if $(RECORD),--record)

bench: EVENTS ?= 20000000
bench: $(READY) ## Hold the speed of a night against DuckDB on the same events: EVENTS=20000000 PAIRS=3 SKEWED=1
	@$(BIN)/python -m tests.bench --events $(EVENTS) $(if $(PAIRS),--pairs $(PAIRS)) $(if $(SKEWED),--skewed)

year: $(READY) ## Hold the last night of a year against the first of a new warehouse: PAIRS=3
	@$(BIN)/python -m tests.year $(if $(PAIRS),--pairs $(PAIRS))

soak: $(READY) ## Run many nights into one warehouse and say what grows: NIGHTS=60
	@$(BIN)/python -m tests.soak $(if $(NIGHTS),--nights $(NIGHTS))

chaos: KILLS ?= 50
chaos: NIGHTS ?= 10
chaos: $(READY) ## Kill nights at random moments and hold what they leave against undisturbed ones: KILLS=50 NIGHTS=10 SEED=7
	@$(BIN)/python -m tests.chaos --kills $(KILLS) --nights $(NIGHTS) --seed $(SEED)

check: $(READY) ## Lint, types, architecture rules
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/python -m pytest -q tests/test_architecture.py

zip: $(READY) ## Build dist/footfall.zip for spark-submit --py-files
	@rm -rf $(BUILD)/zip && mkdir -p $(BUILD)/zip $(DIST)
	@cp -r jobs transforms $(BUILD)/zip && find $(BUILD)/zip -name __pycache__ -prune -exec rm -r {} +
	@cd $(BUILD)/zip && $(abspath $(BIN))/python -m zipfile -c $(abspath $(DIST))/footfall.zip jobs transforms

clean: ## Remove what was built and the demo, not the environment
	@rm -rf build dist demo *.egg-info
