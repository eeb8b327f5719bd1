"""`python -m unsay`, and `accelerate launch -m unsay`: the command line."""

from unsay.cli import main

main()
