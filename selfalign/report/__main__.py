"""`python -m selfalign.report`: the page of finished instructions, made anew."""

from selfalign.options import run_script
from selfalign.report import page

if __name__ == "__main__":
    run_script(page.main, page.Options, page.__doc__)
