"""`python -m cli.dashboard`: the dashboard as a part of the local stack."""

from cli.dashboard.serve import main

if __name__ == "__main__":
    main()
