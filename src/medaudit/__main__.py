"""`python -m medaudit` is `medaudit`."""

from medaudit.cli.main import run

run()
