"""The administrator's dashboard: pages on 127.0.0.1 that read as `service_role` and write with the CLI's functions.

till dashboard ─▶ serve.py ─▶ app.py ─▶ guard.py (access) ─▶ one module for each topic ─▶ templates
                                                             └─▶ actions.py (writes)
"""
