.PHONY: quickstart test test-slow style quality

quickstart:  ## the whole pipeline on this machine, with a small model
	bash runs/quickstart.sh

test:  ## formatter, linter, type checker and tests
	bash runs/test.sh

test-slow:  ## only the tests that take minutes
	bash runs/test.sh -m slow

style:  ## format the code, and fix what the linter can fix
	bash -c '. runs/setup.sh dev && ruff format . && ruff check --fix .'

quality:  ## formatter, linter and type checker without the tests
	bash -c '. runs/setup.sh dev && ruff format --check . && ruff check . && basedpyright --level error'
