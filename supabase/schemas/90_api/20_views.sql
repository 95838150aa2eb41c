-- Views for clients, under row level security.
--
-- Invariant: a view shows only what its reader's policies on the tables allow (security_invoker). Each object first
-- loses the default privileges of older projects, then gets its grants.

-- An account's balance as the next expiry will leave it, calculated without writing: expired holds are released,
-- scheduled lots open (debt and withheld credits first), expired lots are removed except for held credits. Same rules
-- as _settle_due.
create function billing.settled_balance(balance billing.credit_balances)
returns billing.credit_balances
language plpgsql
stable
strict
set search_path = pg_catalog, pg_temp
as $$
declare
    v_now timestamptz := billing.current_time();
    v_balance numeric := (settled_balance.balance).balance;
    v_debt bigint := (settled_balance.balance).debt;
    v_withheld bigint := (settled_balance.balance).withheld;
    v_available numeric;
    v_settled billing.credit_balances := settled_balance.balance;
    v_lot record;
    v_repaid bigint;
    v_kept_back bigint;
begin
    -- Due holds are released, debt takes its part in the order of spending, then due lots expire.
    with given_back as (
        select pins.grant_id, sum(pins.amount) as amount from billing.credit_holds as holds
        join billing.credit_hold_lots as pins on pins.hold_id = holds.id
        where holds.account_id = (settled_balance.balance).account_id and holds.status = 'held'
            and holds.expires_at <= v_now
        group by pins.grant_id
    ),
    free as (
        select
            lots.expires_at, lots.remaining - lots.held + coalesce(given_back.amount, 0) as amount,
            sum(lots.remaining - lots.held + coalesce(given_back.amount, 0)) over (
                order by lots.priority, lots.expires_at, lots.id
            ) as upper
        from billing.credit_grants as lots
        left join given_back on given_back.grant_id = lots.id
        where lots.account_id = (settled_balance.balance).account_id and lots.closed_at is null
    )
    select
        greatest(v_debt - coalesce(sum(free.amount), 0), 0),
        coalesce(sum(least(free.amount, greatest(free.upper - v_debt, 0))) filter (
            where (free.expires_at > v_now) is not false
        ), 0)
    into v_debt, v_available
    from free;
    v_available := v_available - v_debt;
    for v_lot in
        select lots.amount, lots.expires_at from billing.credit_grants as lots
        where lots.account_id = (settled_balance.balance).account_id and lots.entry_id is null
            and lots.closed_at is null and lots.effective_at <= v_now
        order by lots.effective_at, lots.id
    loop
        continue when v_balance + v_lot.amount > 9223372036854775807;
        v_repaid := least(v_debt, v_lot.amount);
        v_kept_back := least(v_withheld, v_lot.amount - v_repaid);
        v_debt := v_debt - v_repaid;
        v_withheld := v_withheld - v_kept_back;
        v_balance := v_balance + v_lot.amount - v_kept_back;
        v_available := v_available + v_lot.amount - v_kept_back;
        if v_lot.expires_at <= v_now then
            v_available := v_available - (v_lot.amount - v_repaid - v_kept_back);
        end if;
    end loop;
    v_settled.held := v_settled.held - coalesce((
        select sum(pins.amount) from billing.credit_holds as holds
        join billing.credit_hold_lots as pins on pins.hold_id = holds.id
        where holds.account_id = v_settled.account_id and holds.status = 'held' and holds.expires_at <= v_now
    ), 0);
    v_settled.balance := v_available + v_settled.held;
    return v_settled;
end
$$;

revoke all on function billing.settled_balance from public, anon, authenticated, service_role;
grant execute on function billing.settled_balance(billing.credit_balances) to authenticated, service_role;

create view public.credit_balance with (security_invoker = on) as
select
    balances.account_id,
    -- Credits that are due count as expired, although no movement has expired them yet.
    coalesce(settled.balance, balances.balance) as balance,
    coalesce(settled.held, balances.held) as held,
    greatest(coalesce(settled.balance, balances.balance) - coalesce(settled.held, balances.held), 0) as available,
    balances.updated_at
from billing.credit_balances as balances
left join lateral (
    -- A condition would be evaluated after the function. Being strict, the function is not called for null.
    select swept.balance, swept.held
    from billing.settled_balance(case when balances.next_due_at <= billing.current_time() then balances end) as swept
) as settled on true;

-- Without these triggers Postgres refuses a write to this view of two relations before it checks privileges, and
-- PostgREST answers 500. With them, roles without the privilege get a permission error.
create function billing.tg_credit_balance__refuse()
returns trigger
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
    raise exception using
        errcode = 'insufficient_privilege',
        message = 'credit_balance is read-only',
        hint = 'To change a balance, call grant_credits, spend_credits or adjust_credits.';
end
$$;

revoke all on function billing.tg_credit_balance__refuse from public, anon, authenticated, service_role;

create trigger tg_credit_balance__refuse
instead of insert or update or delete on public.credit_balance
for each row execute function billing.tg_credit_balance__refuse();

create view public.credit_history with (security_invoker = on) as
select id, account_id, kind, amount, balance_after, source, reference_id, description, feature, metadata, occurred_at
from billing.credit_entries;

create view public.billing_plans with (security_invoker = on) as
select
    plans.stripe_price_id, plans.lookup_key, coalesce(plans.nickname, products.name) as name, products.description,
    plans.currency, plans.unit_amount, plans.recurring_interval, plans.recurring_interval_count,
    plans.initial_credits, plans.monthly_credits, plans.trial_credits, plans.features, plans.trial_days,
    plans.seats_min, plans.seats_max, plans.overage_limit, plans.overage_pack
from billing.plans
join billing.products on products.stripe_product_id = plans.stripe_product_id
-- The policies apply the same filter to clients; roles that bypass them also get only what is on sale.
where plans.active and products.active and plans.livemode = (select billing.is_livemode());

create view public.billing_packs with (security_invoker = on) as
select
    packs.stripe_price_id, packs.lookup_key, coalesce(packs.nickname, products.name) as name, products.description,
    packs.currency, packs.unit_amount, packs.pack_credits, packs.credits_per_unit, packs.expires_after
from billing.credit_packs as packs
join billing.products on products.stripe_product_id = packs.stripe_product_id
where packs.active and products.active and packs.livemode = (select billing.is_livemode());

create view public.billing_subscription with (security_invoker = on) as
select
    subscriptions.account_id, subscriptions.stripe_subscription_id, subscriptions.status,
    items.stripe_price_id, items.quantity, items.current_period_start, items.current_period_end,
    subscriptions.trial_end,
    -- Flexible billing mode schedules a cancellation with cancel_at alone.
    case when subscriptions.cancel_at_period_end then items.current_period_end else subscriptions.cancel_at end as cancels_at,
    subscriptions.ended_at
from billing.subscriptions
join billing.subscription_items as items
    on items.stripe_subscription_id = subscriptions.stripe_subscription_id;

-- Whether it is paid is what its invoice says, also after a refund or a void.
create view public.billing_overages with (security_invoker = on) as
select
    overages.id, overages.account_id, overages.stripe_subscription_id, overages.period_start, overages.period_end,
    overages.credits, overages.quantity, overages.amount, overages.currency,
    case when overages.status = 'invoiced' then coalesce(invoices.status, 'draft') else overages.status end as status,
    overages.reason, overages.stripe_invoice_id, invoices.hosted_invoice_url, overages.claimed_at
from billing.overages
left join billing.invoices on invoices.stripe_invoice_id = overages.stripe_invoice_id;

revoke all on
    public.billing_overages, public.credit_balance, public.credit_history, public.billing_plans, public.billing_packs, public.billing_subscription
from public, anon, authenticated, service_role;
grant select on
    public.billing_overages, public.credit_balance, public.credit_history, public.billing_packs, public.billing_subscription
to authenticated, service_role;
grant select on public.billing_plans to anon, authenticated, service_role;

create function public.ensure_account(user_id uuid)
returns uuid
language sql
volatile
set search_path = pg_catalog, pg_temp
as $$
    select billing.ensure_account(ensure_account.user_id)
$$;

create function public.link_customer(account_id uuid, stripe_customer_id text, livemode boolean default null)
returns void
language sql
volatile
set search_path = pg_catalog, pg_temp
as $$
    select billing.link_customer(link_customer.account_id, link_customer.stripe_customer_id, link_customer.livemode)
$$;

revoke all on function
    public.ensure_account(uuid),
    public.link_customer(uuid, text, boolean)
from public, anon, authenticated, service_role;
grant execute on function
    public.ensure_account(uuid),
    public.link_customer(uuid, text, boolean)
to service_role;

comment on function billing.settled_balance(billing.credit_balances) is 'An account''s balance with everything that is due released, opened and expired.';
comment on view public.credit_balance is 'Credits of my accounts: one row each. available leaves out credits that are held or due to expire.';
comment on column public.credit_balance.account_id is 'The account; its id is in public.billing_account.';
comment on column public.credit_balance.balance is 'Credits of the account, without those that expired. Below zero only by debt.';
comment on column public.credit_balance.held is 'Credits that open holds set aside; part of balance.';
comment on column public.credit_balance.available is 'What can be spent now: balance less held, never below zero.';
comment on column public.credit_balance.updated_at is 'When the balance last changed.';
comment on view public.credit_history is 'Movements of credits of my accounts; page by id descending.';
comment on column public.credit_history.id is 'Entries of one account have ascending ids: page with id less than the last one shown.';
comment on column public.credit_history.account_id is 'The account; its id is in public.billing_account.';
comment on column public.credit_history.kind is 'What kind of movement: grant, spend, capture, refund, expiry, revocation and so on.';
comment on column public.credit_history.amount is 'Credits added (above zero) or taken (below zero).';
comment on column public.credit_history.balance_after is 'The balance after this entry.';
comment on column public.credit_history.source is 'Where it comes from: app, free (free credits), or stripe.subscription, stripe.checkout and so on.';
comment on column public.credit_history.reference_id is 'Id of what it is for, as the app or Stripe names it.';
comment on column public.credit_history.description is 'A line for the user.';
comment on column public.credit_history.feature is 'The feature or meter that the credits were used for.';
comment on column public.credit_history.metadata is 'JSON object that the app passed.';
comment on column public.credit_history.occurred_at is 'When it happened.';
comment on view public.billing_plans is 'Plans on sale and the credits they are worth.';
comment on column public.billing_plans.stripe_price_id is 'The price in Stripe.';
comment on column public.billing_plans.lookup_key is 'The price''s lookup key, which checkout accepts; null if it has none.';
comment on column public.billing_plans.name is 'Nickname of the price, or the product''s name.';
comment on column public.billing_plans.description is 'The product''s description.';
comment on column public.billing_plans.currency is 'Three-letter code in lower case.';
comment on column public.billing_plans.unit_amount is 'Price of one unit in minor units (1900 is 19.00 usd); null for tiered prices.';
comment on column public.billing_plans.recurring_interval is 'day, week, month or year.';
comment on column public.billing_plans.recurring_interval_count is 'How many intervals one period has.';
comment on column public.billing_plans.initial_credits is 'Credits granted once, with the first paid period.';
comment on column public.billing_plans.monthly_credits is 'Credits for each paid month and seat.';
comment on column public.billing_plans.trial_credits is 'Credits for the trial.';
comment on column public.billing_plans.features is 'JSON object of what the plan unlocks.';
comment on column public.billing_plans.trial_days is 'Length of the trial that checkout offers; 0: none.';
comment on column public.billing_plans.seats_min is 'The fewest seats that checkout sells.';
comment on column public.billing_plans.seats_max is 'The most seats that checkout sells; null: settings.max_checkout_quantity.';
comment on column public.billing_plans.overage_limit is 'Credits that may be spent beyond the paid ones, and are billed afterwards; 0: none.';
comment on column public.billing_plans.overage_pack is 'The pack that bills them: its lookup key or the id of its price.';
comment on view public.billing_overages is 'Credits that accounts which I manage spent beyond the paid ones, and the invoice that bills them.';
comment on column public.billing_overages.id is 'Id of the overage, also in the metadata of its invoice item (tillbase_overage).';
comment on column public.billing_overages.account_id is 'The account; its id is in public.billing_account.';
comment on column public.billing_overages.stripe_subscription_id is 'The subscription whose plan allows it.';
comment on column public.billing_overages.period_start is 'Start of the month of credits.';
comment on column public.billing_overages.period_end is 'Its end; earlier than the month''s if the subscription ended or lost its overage.';
comment on column public.billing_overages.credits is 'Credits that were owed at its end.';
comment on column public.billing_overages.quantity is 'How many packs bill them.';
comment on column public.billing_overages.amount is 'Amount in minor units, without tax.';
comment on column public.billing_overages.currency is 'Three-letter code in lower case.';
comment on column public.billing_overages.status is 'claimed (will be billed within minutes), failed (Stripe refused it), or the status of its invoice: draft, open, paid, uncollectible, void.';
comment on column public.billing_overages.reason is 'Why it failed.';
comment on column public.billing_overages.stripe_invoice_id is 'Its invoice: the one of the renewal, or one of its own.';
comment on column public.billing_overages.hosted_invoice_url is 'Page of the invoice at Stripe.';
comment on column public.billing_overages.claimed_at is 'When it was added up.';
comment on view public.billing_packs is 'Credit packs on sale, for signed-in users.';
comment on column public.billing_packs.stripe_price_id is 'The price in Stripe.';
comment on column public.billing_packs.lookup_key is 'The price''s lookup key, which checkout accepts; null if it has none.';
comment on column public.billing_packs.name is 'Nickname of the price, or the product''s name.';
comment on column public.billing_packs.description is 'The product''s description.';
comment on column public.billing_packs.currency is 'Three-letter code in lower case.';
comment on column public.billing_packs.unit_amount is 'Price in minor units; null if the customer chooses the amount.';
comment on column public.billing_packs.pack_credits is 'Credits of one pack; null if the customer chooses the amount.';
comment on column public.billing_packs.credits_per_unit is 'Credits for one whole unit of the currency if the customer chooses the amount; else null.';
comment on column public.billing_packs.expires_after is 'How long after the payment the credits expire; null: never.';
comment on view public.billing_subscription is 'Subscriptions of my accounts: one row for each item.';
comment on column public.billing_subscription.account_id is 'The account; its id is in public.billing_account.';
comment on column public.billing_subscription.stripe_subscription_id is 'The subscription in Stripe.';
comment on column public.billing_subscription.status is 'Stripe''s status: trialing, active, past_due, canceled and so on.';
comment on column public.billing_subscription.stripe_price_id is 'The price of this item.';
comment on column public.billing_subscription.quantity is 'Seats.';
comment on column public.billing_subscription.current_period_start is 'Start of the current billing period.';
comment on column public.billing_subscription.current_period_end is 'End of the current billing period.';
comment on column public.billing_subscription.trial_end is 'When the trial ends; null without a trial.';
comment on column public.billing_subscription.cancels_at is 'When a cancellation that was requested takes effect; null if there is none.';
comment on column public.billing_subscription.ended_at is 'When the subscription ended; null while it has not.';

-- Accounts for users who signed up before billing was installed.
select billing.ensure_account(users.id) from auth.users;
