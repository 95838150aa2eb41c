"""The administrator's dashboard: pages on loopback that read as `service_role` and write by the functions of the CLI.

till dashboard ─▶ serve.py ─▶ app.py ─▶ guard.py (who asks) ─▶ one module for each topic ─▶ templates
                                                                └─▶ actions.py (what is written)
"""
