"""Subscribers in plain tables → each granted a month's credits by a transaction of its own, as a job over users does.

Lock the profile, look the plan up, write the new balance, note the transaction: nothing of the product is in the way.
"""

import psycopg

_TABLES = """
create schema app;
create table app.profiles (
    user_id bigint primary key, credits_balance bigint not null default 0, last_credit_allocation_date date
);
create table app.plans (plan_id text primary key, name text not null, monthly_credits bigint not null);
create table app.subscriptions (
    subscription_id text primary key, user_id bigint not null references app.profiles (user_id),
    plan_id text not null references app.plans (plan_id), status text not null, current_period_end timestamptz not null
);
create index on app.subscriptions (user_id);
create table app.credit_transactions (
    id bigint generated always as identity primary key, user_id bigint not null references app.profiles (user_id),
    transaction_type text not null, amount bigint not null, balance_after bigint not null, description text,
    endpoint text, reference_id text, created_at timestamptz not null default now()
);
create index on app.credit_transactions (user_id, created_at);
"""
_SIGN_UP = """
with plan as (insert into app.plans values ('price_bench', 'Pro', 500) returning plan_id),
profiles as (insert into app.profiles (user_id) select generate_series(1, %(users)s) returning user_id)
insert into app.subscriptions
select 'sub_' || user_id, user_id, plan_id, 'active', now() + interval '11 months' from profiles cross join plan
"""
_ACTIVE = """
select user_id, plan_id, subscription_id from app.subscriptions
where status = 'active' and current_period_end >= now()
"""
_LOCK = """
select credits_balance, last_credit_allocation_date is not distinct from current_date from app.profiles
where user_id = %s for update
"""
_PLAN = "select name, monthly_credits from app.plans where plan_id = %s"
_UPDATE = """
update app.profiles set credits_balance = %s, last_credit_allocation_date = current_date where user_id = %s
"""
_INSERT = """
insert into app.credit_transactions
    (user_id, transaction_type, amount, balance_after, description, endpoint, reference_id)
values (%s, 'addition', %s, %s, %s, 'stripe.monthly_allocation', %s)
"""


def sign_up(conn: psycopg.Connection, users: int) -> None:
    """Make the tables, and so many users with an active subscription each."""
    conn.execute(_TABLES)
    conn.execute(_SIGN_UP, {"users": users})
    conn.execute("analyze")


def allocate_one_by_one(conn: psycopg.Connection) -> int:
    """Grant each user their month and return how many were granted one. `conn` is in autocommit mode."""
    granted = 0
    for user_id, plan_id, subscription_id in conn.execute(_ACTIVE).fetchall():
        with conn.transaction():
            [(balance, has_this_month)] = conn.execute(_LOCK, [user_id]).fetchall()
            if has_this_month:
                continue
            [(name, credits)] = conn.execute(_PLAN, [plan_id]).fetchall()
            balance += credits
            conn.execute(_UPDATE, [balance, user_id])
            description = f"Monthly subscription credits for {name}"
            conn.execute(_INSERT, [user_id, credits, balance, description, subscription_id])
            granted += 1
    return granted
