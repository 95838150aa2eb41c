"""`python -m worker`: the environment's settings → a worker that runs until SIGTERM or SIGINT."""

import os
import sys

from worker.errors import BillingError
from worker.run import main
from worker.settings import Settings

if __name__ == "__main__":
    try:
        main(Settings.from_env(os.environ))
    except BillingError as error:
        sys.exit(f"error: {error}")
