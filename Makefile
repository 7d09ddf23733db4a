.PHONY: quickstart test test-slow style quality

quickstart:  ## the whole pipeline on this machine, with a small model
	bash runs/quickstart.sh

test:  ## linter, type checker and tests
	bash runs/test.sh

test-slow:  ## the longer proofs
	bash runs/test.sh -m slow

style:  ## format, and mend what can be mended
	bash -c '. runs/setup.sh dev && ruff format . && ruff check --fix .'

quality:  ## linter and type checker alone
	bash -c '. runs/setup.sh dev && ruff format --check . && ruff check . && basedpyright --level error'
