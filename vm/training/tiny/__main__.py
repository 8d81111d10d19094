"""`python -m vm.training.tiny`: makes the bundled checkpoint."""

# The commands are in a module of their own, since processes started anew do not find what is in this one.
from vm.terminal import run_app
from vm.training.tiny.steps import app

if __name__ == "__main__":
    run_app(app, "python -m vm.training.tiny")
