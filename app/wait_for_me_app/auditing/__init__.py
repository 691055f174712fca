"""Audits a deployment: reads its topics, hands them to `wait_for_me_app.audit`, and shows what that has found. Read-only."""
