"""The rules of credits in plain Python, written from the rules and not from the SQL: facts of Stripe → credits."""
