# Thin targets: each is one or two plain commands, which README.md also gives for machines without make.
VENV   ?= .venv
PYTHON ?= python3
BIN    := $(VENV)/bin
RUN    := $(BIN)/python
export OMP_WAIT_POLICY ?= PASSIVE
# the place that another .venv was made for: moved or copied with its clone, it would run that clone's code
ELSEWHERE := $(shell test ! -s $(VENV)/.ready || test "$$(cat $(VENV)/.ready)" = "$$(pwd -P)" || cat $(VENV)/.ready)
ifeq "$(filter renew clean,$(MAKECMDGOALS))" ""
$(if $(ELSEWHERE),$(error this $(VENV) was made for $(ELSEWHERE), and would run the code there. `make renew` installs it anew for this place))
endif

.PHONY: setup torch_anew renew lab notebooks book publish pdf assets student instructor grade test lint unit chapters site parity test-gpu bench bench-gpu bench-strokes study scoreboard weights pins clean

# TORCH=cpu leaves the CUDA libraries out, TORCH=auto takes what this machine's driver can use: both from PyTorch's own
# index, whose builds the pins hold as well. What was asked for is remembered; another answer gets PyTorch anew
HELD := $(shell cat $(VENV)/.torch 2>/dev/null)
TORCH ?= $(HELD)
$(if $(filter-out auto cpu cu% rocm% xpu,$(TORCH)),$(error TORCH=$(TORCH) is not known: give cpu or auto))
# compiled at once, as pip does: else every process compiles torch anew where PYTHONDONTWRITEBYTECODE is set
INSTALL = $(RUN) -m uv pip install -q --compile-bytecode $(ANEW) --python $(RUN) -e ".[dev]" -c constraints.txt
BACKEND = --torch-backend $(TORCH) --reinstall-package torch --reinstall-package torchvision
UNREACHED = note: no PyTorch for TORCH=$(TORCH), see above: going on with the usual one, on Linux 6.6 GB of disk; make renew TORCH=$(TORCH) tries again

setup: $(VENV)/.ready
$(VENV)/.ready: pyproject.toml constraints.txt $(if $(filter-out $(HELD),$(TORCH)),torch_anew)
	@echo "Setting up $(VENV): minutes, and on Linux $(if $(filter cpu,$(TORCH)),2.4,6.6) GB of disk"
	@$(PYTHON) -m venv $(VENV)
	@$(RUN) -m pip install -q uv \
	  && { $(if $(TORCH),$(INSTALL) $(BACKEND) || { echo "$(UNREACHED)"; false; } || )$(INSTALL); } \
	  || $(RUN) -m pip install $(ANEW:--re%=--force-re%) -e ".[dev]" -c constraints.txt
	@echo $(TORCH) > $(VENV)/.torch
	@pwd -P > $@
torch_anew:

# after the clone was moved or copied; packages of one's own stay
renew:
	rm -f $(VENV)/.ready
	$(MAKE) setup ANEW=--reinstall

# on the reader's own copies of the chapters, in my_chapters/; LAB=--no-browser and the like go to JupyterLab
lab: setup
	$(RUN) jupyter_book_config/lab.py $(LAB)

notebooks: setup
	$(RUN) jupyter_book_config/notebooks.py $(CHAPTERS)

# from stored outputs, in a minute or two; EXECUTE=1 runs the notebooks, some minutes for each;
# COURSE=my_course.yml builds your own course from a changed copy of jupyter_book_config/course.yml
book: setup
	$(RUN) jupyter_book_config/build.py $(if $(filter-out 0 no false off,$(EXECUTE)),--execute cache) $(if $(COURSE),--course "$(COURSE)") $(BOOK)

# the built pages as the branch gh-pages of where this was cloned from
publish:
	$(RUN) jupyter_book_config/publish.py

# the book, or CHAPTERS="4 5" of it, typeset from the stored outputs: _build/genmed.pdf; needs Chromium
pdf: setup
	$(RUN) jupyter_book_config/pdf.py $(if $(COURSE),--course "$(COURSE)") $(CHAPTERS)

# for slides: figures with captions, each slider as a page, and a deck of each chapter, or CHAPTERS="4 5": _build/assets
assets: setup
	$(RUN) jupyter_book_config/assets.py $(if $(COURSE),--course "$(COURSE)") $(CHAPTERS)

# the book for a class, CHAPTERS="4 5" of it: _build/student.zip without solutions, _build/instructor.zip with them;
# PACKAGE="genmed @ git+https://..." is what students give pip
student instructor: setup
	$(RUN) jupyter_book_config/editions.py $@ $(CHAPTERS) $(if $(COURSE),--course "$(COURSE)") --package "$(PACKAGE)"

# the notebooks of a class: DIR/NAME/04_gan.ipynb or DIR/NAME.ipynb
grade: setup
	$(RUN) jupyter_book_config/grade.py "$(or $(SUBMISSIONS),$(error say where they are: make grade SUBMISSIONS=DIR))" --chapters "$(CHAPTERS)" $(if $(COURSE),--course "$(COURSE)")

test: setup lint unit chapters site

lint: setup
	$(RUN) -m ruff check genmed_core chapters tests jupyter_book_config data
	$(RUN) -m mypy

unit: setup
	GENMED_THREADS=1 $(RUN) -m pytest -q tests --ignore-glob '*book.py' --ignore tests/benchmarks -n 2 --dist loadfile --no-loadscope-reorder

# ends in a table of minutes, memory and promises; CHAPTERS="4 5" of them, or CHANGED=origin/main what differs from there
chapters: setup
	$(RUN) jupyter_book_config/run_chapters.py $(CHAPTERS) $(if $(CHANGED),--changed $(CHANGED))

site: setup
	$(RUN) -m pytest -q tests/test_book.py tests/test_whole_book.py -n 2 --dist loadfile

# the chapters' own training steps: compiled as eager, bfloat16 near float32 (a minute or two for each)
parity: setup
	$(RUN) -m pytest -q -s tests/test_parity.py -m parity

# on a machine with a CUDA GPU: steps and samplers as captured graphs, the chapters' own included
test-gpu: setup
	$(RUN) -m pytest -q -s tests/gpu -m ""

# wants a quiet machine; rewrites the tables and the figure of chapters/speed.md
bench: setup
	$(RUN) -m pytest -q -s tests/benchmarks/test_speed.py

# the same on a machine with a CUDA GPU; fills in the page's table on GPUs
bench-gpu: setup
	GENMED_DEVICE=cuda $(RUN) -m pytest -q -s tests/benchmarks/test_speed.py

bench-strokes: setup
	$(RUN) -m pytest -q -s tests/benchmarks/test_strokes_read_mnist.py

# one stored experiment, named by its file: make study STUDY=prior
study: setup
	$(RUN) tests/benchmarks/studies/$(or $(STUDY),$(error name one: make study STUDY=NAME, a file of tests/benchmarks/studies)).py $(ARGS)

scoreboard: setup
	$(RUN) tests/benchmarks/scoreboard.py run $(CHAPTERS)
	$(RUN) tests/benchmarks/scoreboard.py page

weights: setup
	$(RUN) data/weights/train_digit_classifier.py
	$(RUN) data/weights/train_ddpm.py
	$(RUN) data/weights/train_segmenter.py
	$(RUN) data/weights/train_nodules.py

pins: setup
	$(RUN) -m uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 --no-header --no-annotate -o constraints.txt

clean:
	rm -rf _build runs .pytest_cache .ruff_cache $(VENV)
