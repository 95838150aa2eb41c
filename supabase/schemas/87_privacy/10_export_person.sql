-- Everything that the database has about one person, for a request under the GDPR (Articles 15 and 20).
--
-- Invariant: nothing here writes. Rows are complete, except for what belongs to somebody else: a held credit does not name
-- the other account that used the card. Callable by service_role.

-- The accounts' Stripe customers, or the one that no account owns.
create function billing._customers_of_person(account_id uuid, stripe_customer_id text)
returns text[]
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select array(
        select customers.stripe_customer_id from billing.customers
        where customers.stripe_customer_id is not null and (
            customers.account_id = _customers_of_person.account_id
            or customers.stripe_customer_id = _customers_of_person.stripe_customer_id
        )
        order by customers.id
    )
$$;

-- Addresses that are the person's, now and before: a user's confirmed one, and those that we sent to Stripe. Not what was
-- typed at Stripe, which may be the address of somebody else; a guest has no other. A team has none of its own.
create function billing._emails_of_person(account_id uuid, stripe_customer_ids text[])
returns text[]
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select array(
        select lower(found.email) from (
            select users.email::text as email
            from billing.accounts join auth.users on users.id = accounts.owner_id
            where accounts.id = _emails_of_person.account_id and accounts.kind = 'personal'
                and users.email_confirmed_at is not null
            union
            select customers.email from billing.customers
            where customers.stripe_customer_id = any (_emails_of_person.stripe_customer_ids)
                and customers.account_id is null
            union
            select customer_claims.email
            from billing.accounts join billing.customer_claims on customer_claims.account_id = accounts.id
            where accounts.id = _emails_of_person.account_id and accounts.kind = 'personal'
            union
            select unnest(changes.old_emails || changes.new_email)
            from billing.accounts
            join billing.customers on customers.account_id = accounts.id
            join billing.customer_email_changes as changes
                on changes.stripe_customer_id = customers.stripe_customer_id
            where accounts.id = _emails_of_person.account_id and accounts.kind = 'personal'
        ) as found
        where found.email like '%@%'
        order by 1
    )
$$;

-- Stripe ids by which events name the person: customers and, because disputes, reviews, warnings, refunds and payments of
-- invoices name no customer, what these are about.
create function billing._ids_in_events(account_id uuid, stripe_customer_ids text[])
returns text[]
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select array(
        select unnest(_ids_in_events.stripe_customer_ids)
        union
        select unnest(array[payments.stripe_charge_id, payments.stripe_payment_intent_id]) from billing.payments
        where payments.account_id = _ids_in_events.account_id
            or payments.stripe_customer_id = any (_ids_in_events.stripe_customer_ids)
        union
        select invoices.stripe_invoice_id from billing.invoices
        where invoices.account_id = _ids_in_events.account_id
            or invoices.stripe_customer_id = any (_ids_in_events.stripe_customer_ids)
    )
$$;

-- Stored events whose body has one of these ids, or one of these addresses and no customer, whose event it would be.
-- Reads all bodies of events received since then.
create function billing._events_of_person(
    stripe_ids text[], emails text[], received_from timestamptz default '-infinity'
)
returns table (stripe_event_id text, status text, has_id boolean)
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select events.stripe_event_id, events.status, found.has_id
    -- All ids at once, as keys: a search for each would read the body again and again.
    from (
        select coalesce(jsonb_object_agg(named.id, true), '{}') as ids
        from unnest(_events_of_person.stripe_ids) as named (id)
        where named.id is not null
    ) as person
    cross join billing.stripe_events as events
    cross join lateral (
        select person.ids ?| array(
            select named.match[1]
            from pg_catalog.regexp_matches(
                events.payload, '"((?:cus|ch|py|pi|in)_[A-Za-z0-9_]+)"', 'g'
            ) as named (match)
        ) as has_id
    ) as found
    where events.payload <> '' and events.received_at >= _events_of_person.received_from and (
        found.has_id
        or pg_catalog.strpos(events.payload, '"cus_') = 0 and exists (
            select from unnest(_events_of_person.emails) as named (email)
            where pg_catalog.strpos(lower(events.payload), to_json(named.email)::text) > 0
        )
    )
$$;

-- Raises if no such customer is known, or if an account owns it.
create function billing._check_is_unowned(stripe_customer_id text)
returns void
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
    v_customer billing.customers;
begin
    select * into v_customer from billing.customers
    where customers.stripe_customer_id = _check_is_unowned.stripe_customer_id;
    if not found then
        raise exception 'there is no customer %', coalesce(_check_is_unowned.stripe_customer_id, 'null')
            using errcode = 'TB018', hint = 'List customers with `till customers list --status all`.';
    elsif v_customer.account_id is not null then
        raise exception 'customer % is linked to account %', v_customer.stripe_customer_id, v_customer.account_id
            using errcode = 'TB018', hint = 'Export or erase the account: its customers are part of it.';
    end if;
end
$$;

create function billing._export(account_id uuid, stripe_customer_id text)
returns table (section text, data jsonb)
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
    v_account_id uuid := _export.account_id;
    v_customers text[] := billing._customers_of_person(v_account_id, _export.stripe_customer_id);
    v_emails text[] := billing._emails_of_person(v_account_id, v_customers);
    v_subscriptions text[];
    v_invoices text[];
    v_sessions text[];
    v_charges text[];
    v_intents text[];
    v_events text[];
begin
    return query select 'accounts', to_jsonb(accounts) from billing.accounts where accounts.id = v_account_id;
    return query
    select 'user', jsonb_build_object(
        'id', users.id, 'email', users.email, 'created_at', users.created_at, 'user_metadata', users.raw_user_meta_data
    )
    from billing.accounts join auth.users on users.id = accounts.owner_id where accounts.id = v_account_id;
    return query
    select 'account_members', to_jsonb(members) from billing.account_members as members
    where members.account_id = v_account_id or members.user_id in (
        select accounts.owner_id from billing.accounts where accounts.id = v_account_id and accounts.kind = 'personal'
    );
    return query
    select 'team_invitations', to_jsonb(invitations) - 'token_hash' from billing.team_invitations as invitations
    where invitations.account_id = v_account_id or invitations.email = any (v_emails);
    return query
    select 'erasures', to_jsonb(erasures) from billing.erasures
    where erasures.account_id = v_account_id or erasures.stripe_customer_id = any (v_customers);
    return query
    select 'customers', to_jsonb(customers) from billing.customers
    where customers.account_id = v_account_id or customers.stripe_customer_id = any (v_customers);
    return query
    select 'customer_claims', to_jsonb(claims) from billing.customer_claims as claims
    where claims.account_id = v_account_id;
    return query
    select 'customer_email_changes', to_jsonb(changes) from billing.customer_email_changes as changes
    where changes.stripe_customer_id = any (v_customers);
    return query
    select 'saved_cards', to_jsonb(cards) from billing.saved_cards as cards
    where cards.stripe_customer_id = any (v_customers);
    return query
    select 'card_fingerprints', to_jsonb(cards) from billing.card_fingerprints as cards
    where cards.stripe_customer_id = any (v_customers);

    select array_agg(subscriptions.stripe_subscription_id) into v_subscriptions from billing.subscriptions
    where subscriptions.account_id = v_account_id or subscriptions.stripe_customer_id = any (v_customers);
    return query
    select 'subscriptions', to_jsonb(subscriptions) from billing.subscriptions
    where subscriptions.stripe_subscription_id = any (v_subscriptions);
    return query
    select 'subscription_items', to_jsonb(items) from billing.subscription_items as items
    where items.stripe_subscription_id = any (v_subscriptions);
    return query
    select 'trial_items', to_jsonb(items) from billing.trial_items as items
    where items.stripe_subscription_id = any (v_subscriptions);
    return query
    select 'credit_schedules', to_jsonb(schedules) from billing.credit_schedules as schedules
    where schedules.stripe_subscription_id = any (v_subscriptions);

    select array_agg(invoices.stripe_invoice_id) into v_invoices from billing.invoices
    where invoices.account_id = v_account_id or invoices.stripe_customer_id = any (v_customers);
    return query
    select 'invoices', to_jsonb(invoices) from billing.invoices where invoices.stripe_invoice_id = any (v_invoices);
    return query
    select 'invoice_lines', to_jsonb(lines) from billing.invoice_lines as lines
    where lines.stripe_invoice_id = any (v_invoices);
    return query
    select 'invoice_payments', to_jsonb(paid) from billing.invoice_payments as paid
    where paid.stripe_invoice_id = any (v_invoices);
    return query
    select 'credit_notes', to_jsonb(notes) from billing.credit_notes as notes
    where notes.stripe_invoice_id = any (v_invoices);
    return query
    select 'credit_note_lines', to_jsonb(lines) from billing.credit_note_lines as lines
    join billing.credit_notes as notes using (stripe_credit_note_id)
    where notes.stripe_invoice_id = any (v_invoices);

    select array_agg(sessions.stripe_checkout_session_id), array_agg(sessions.stripe_payment_intent_id)
    into v_sessions, v_intents
    from billing.checkout_sessions as sessions
    where sessions.account_id = v_account_id or sessions.stripe_customer_id = any (v_customers);
    return query
    select 'checkout_sessions', to_jsonb(sessions) from billing.checkout_sessions as sessions
    where sessions.stripe_checkout_session_id = any (v_sessions);
    return query
    select 'checkout_line_items', to_jsonb(items) from billing.checkout_line_items as items
    where items.stripe_checkout_session_id = any (v_sessions);
    return query
    select 'checkout_requests', to_jsonb(requests) from billing.checkout_requests as requests
    where requests.account_id = v_account_id;
    return query
    select 'stripe_requests', to_jsonb(requests) from billing.stripe_requests as requests
    where requests.account_id = v_account_id;

    select array_agg(payments.stripe_charge_id), v_intents || array_agg(payments.stripe_payment_intent_id)
    into v_charges, v_intents
    from billing.payments
    where payments.account_id = v_account_id or payments.stripe_customer_id = any (v_customers);
    return query
    select 'payments', to_jsonb(payments) from billing.payments where payments.stripe_charge_id = any (v_charges);
    return query
    select 'payment_intents', to_jsonb(intents) from billing.payment_intents as intents
    where intents.stripe_payment_intent_id = any (v_intents);
    return query
    select 'refunds', to_jsonb(refunds) from billing.refunds
    where refunds.stripe_charge_id = any (v_charges) or refunds.stripe_payment_intent_id = any (v_intents);
    return query
    select 'disputes', to_jsonb(disputes) from billing.disputes where disputes.stripe_charge_id = any (v_charges);
    return query
    select 'fraud_warnings', to_jsonb(warnings) from billing.fraud_warnings as warnings
    where warnings.stripe_charge_id = any (v_charges);
    return query
    select 'reviews', to_jsonb(reviews) from billing.reviews
    where reviews.stripe_charge_id = any (v_charges) or reviews.stripe_payment_intent_id = any (v_intents);
    return query
    select 'fraud_actions', to_jsonb(actions) from billing.fraud_actions as actions
    where actions.account_id = v_account_id or actions.stripe_charge_id = any (v_charges);
    return query
    select 'held_credits', to_jsonb(held) - 'matched_account_id' from billing.held_credits as held
    where held.account_id = v_account_id;
    return query
    select 'free_credit_slots', to_jsonb(slots) from billing.free_credit_slots as slots
    where slots.account_id = v_account_id order by slots.rule;
    return query
    select 'free_credit_persons', to_jsonb(persons) from billing.free_credit_persons as persons
    where persons.account_id = v_account_id order by persons.rule;

    return query
    select 'credit_balances', to_jsonb(balances) from billing.credit_balances as balances
    where balances.account_id = v_account_id;
    return query
    select 'credit_entries', to_jsonb(entries) from billing.credit_entries as entries
    where entries.account_id = v_account_id order by entries.id;
    return query
    select 'credit_grants', to_jsonb(grants) from billing.credit_grants as grants
    where grants.account_id = v_account_id order by grants.id;
    return query
    select 'credit_consumptions', to_jsonb(taken) from billing.credit_consumptions as taken
    join billing.credit_grants as grants on grants.id = taken.grant_id
    where grants.account_id = v_account_id order by taken.entry_id, taken.grant_id;
    return query
    select 'credit_holds', to_jsonb(holds) from billing.credit_holds as holds
    where holds.account_id = v_account_id order by holds.created_at;
    return query
    select 'budgets', to_jsonb(budgets) from billing.budgets
    where budgets.account_id = v_account_id order by budgets.actor;
    return query
    select 'credit_hold_lots', to_jsonb(reserved) from billing.credit_hold_lots as reserved
    join billing.credit_holds as holds on holds.id = reserved.hold_id
    where holds.account_id = v_account_id;
    return query
    select 'work_holds', to_jsonb(work) from billing.work_holds as work
    join billing.credit_holds as holds on holds.id = work.hold_id
    where holds.account_id = v_account_id;
    return query
    select 'work_charges', to_jsonb(charges) from billing.work_charges as charges
    where charges.account_id = v_account_id order by charges.id;
    return query
    select 'credit_revocations', to_jsonb(revocations) from billing.credit_revocations as revocations
    where revocations.account_id = v_account_id order by revocations.id;
    return query
    select 'credit_reinstatements', to_jsonb(reinstated) from billing.credit_reinstatements as reinstated
    where reinstated.account_id = v_account_id order by reinstated.id;
    return query
    select 'carried_credits', to_jsonb(carried) from billing.carried_credits as carried
    where carried.account_id = v_account_id;
    return query
    select 'pack_purchases', to_jsonb(packs) from billing.pack_purchases as packs
    where packs.account_id = v_account_id order by packs.purchased_at;
    return query
    select 'recharge_settings', to_jsonb(recharging) from billing.recharge_settings as recharging
    where recharging.account_id = v_account_id;
    return query
    select 'recharges', to_jsonb(recharges) from billing.recharges
    where recharges.account_id = v_account_id order by recharges.claimed_at;
    return query
    select 'overage_periods', to_jsonb(periods) from billing.overage_periods as periods
    where periods.account_id = v_account_id;
    return query
    select 'overages', to_jsonb(overages) from billing.overages
    where overages.account_id = v_account_id order by overages.counted_from;
    return query
    select 'found_discrepancies', to_jsonb(discrepancies) from billing.found_discrepancies as discrepancies
    where discrepancies.account_id = v_account_id;
    return query
    select 'notifications', to_jsonb(notifications) from billing.notifications
    where notifications.account_id = v_account_id order by notifications.id;

    select array_agg(events.stripe_event_id) into v_events
    from billing._events_of_person(billing._ids_in_events(v_account_id, v_customers), v_emails) as events;
    return query
    select 'stripe_events', to_jsonb(events) from billing.stripe_events as events
    where events.stripe_event_id = any (v_events) order by events.received_at;
end
$$;

-- Raises if there is no such account (TB004).
create function billing.export_account(account_id uuid)
returns table (section text, data jsonb)
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    if not exists (select from billing.accounts where accounts.id = export_account.account_id) then
        perform billing._raise_no_account(export_account.account_id);
    end if;
    return query select found.section, found.data from billing._export(export_account.account_id, null) as found;
end
$$;

-- For a guest: a customer that no account owns. The data of a linked customer is part of its account.
create function billing.export_customer(stripe_customer_id text)
returns table (section text, data jsonb)
language plpgsql
stable
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    perform billing._check_is_unowned(export_customer.stripe_customer_id);
    return query
    select found.section, found.data from billing._export(null, export_customer.stripe_customer_id) as found;
end
$$;

create function public.export_account(account_id uuid)
returns table (section text, data jsonb)
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select found.section, found.data from billing.export_account(export_account.account_id) as found
$$;

revoke all on function
    billing._customers_of_person, billing._emails_of_person, billing._ids_in_events, billing._events_of_person,
    billing._check_is_unowned, billing._export, billing.export_account, billing.export_customer,
    public.export_account
from public, anon, authenticated, service_role;
grant execute on function billing.export_account(uuid), billing.export_customer(text), public.export_account(uuid)
to service_role;

comment on function billing.export_account(uuid) is 'Everything that the database has about the person or team of an account: a row for each row of each table, and the events that name them.';
comment on function billing.export_customer(text) is 'Everything that the database has about a Stripe customer that no account owns.';
comment on function public.export_account(uuid) is 'Everything that the database has about the person or team of an account.';
