-- Erases one person's data, for a request under the GDPR (Article 17), and keeps the ledger.
--
-- Erased: names, addresses, texts that people or your app wrote, metadata, links to Stripe's pages, saved cards, the bodies
-- of events and notifications. Kept: amounts, times, states, keys and the ids of Stripe's objects, which accounting and the
-- ledger need, and who decided what. A card's fingerprint is kept only while settings.seen_card_policy compares cards, and the
-- hash of an address only while a rule of free credits is once_per_person: an erasure must not give the same person free
-- credits again.
--
-- Invariant: balances, entries, grants and facts are unchanged, so both comparisons of credits stay empty. An erased account
-- is closed and has no user. Later events of its customers are applied as always, and erased in the same transaction.
-- Erasing again changes nothing. Callable by service_role.
--
-- Locks: events by id, then the balance, as the worker does; then the teams that the person leaves.

-- Who decided something, without the person's own name.
create function billing._without_names(actor text, names text[])
returns text
language sql
immutable
set search_path = pg_catalog, pg_temp
as $$
    select case
        when exists (
            select from unnest(_without_names.names) as named (name)
            where pg_catalog.strpos(lower(_without_names.actor), named.name) > 0
        ) then 'erased'
        else _without_names.actor
    end
$$;

-- The actor of an entry: the app named who spent, the administrator is one of ours.
create function billing._without_spender(entry billing.credit_entries, names text[])
returns text
language sql
immutable
set search_path = pg_catalog, pg_temp
as $$
    select case
        when (_without_spender.entry).kind in ('spend', 'capture', 'refund') and (_without_spender.entry).actor is not null
            then 'erased'
        else billing._without_names((_without_spender.entry).actor, _without_spender.names)
    end
$$;

-- Ends notifications that were not sent yet.
create function billing._skip_erased_notifications(account_id uuid, audience text)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_ids text[];
begin
    with skipped as (
        update billing.notifications set status = 'skipped', last_error = 'erased'
        where notifications.account_id = _skip_erased_notifications.account_id
            and notifications.audience = _skip_erased_notifications.audience
            and notifications.status in ('queued', 'sending')
        returning notifications.id
    )
    select array_agg(skipped.id::text) into v_ids from skipped;
    if v_ids is not null then
        perform billing._drop_jobs(_skip_erased_notifications.audience || '_notification', v_ids);
    end if;
end
$$;

-- Empties what is personal in every table, and changes nothing that is already empty. names: the person's addresses and
-- user id, which are replaced where they name who decided something.
create function billing._erase_rows(account_id uuid, stripe_customer_id text, names text[] default '{}')
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_account_id uuid := _erase_rows.account_id;
    v_customers text[] := billing._customers_of_person(v_account_id, _erase_rows.stripe_customer_id);
    v_charges text[];
begin
    update billing.accounts
    set name = null, owner_id = null, updated_at = now(),
        frozen_reason = case when accounts.frozen_reason is not null then 'erased' end
    where accounts.id = v_account_id
        and (accounts.name is not null or accounts.owner_id is not null or accounts.frozen_reason <> 'erased');
    delete from billing.account_members where account_members.account_id = v_account_id;
    delete from billing.team_invitations
    where team_invitations.account_id = v_account_id or team_invitations.email = any (_erase_rows.names);

    update billing.customers
    set email = null, name = null, metadata = '{}', updated_at = now(),
        dismissed_reason = case when customers.dismissed_reason is not null then 'erased' end,
        dismissed_by = billing._without_names(customers.dismissed_by, _erase_rows.names)
    where (customers.account_id = v_account_id or customers.stripe_customer_id = any (v_customers))
        and (
            customers.email is not null or customers.name is not null or customers.metadata <> '{}'
            or customers.dismissed_reason <> 'erased'
            or billing._without_names(customers.dismissed_by, _erase_rows.names) <> customers.dismissed_by
        );
    update billing.customer_claims set email = null, name = null, updated_at = now()
    where customer_claims.account_id = v_account_id
        and (customer_claims.email is not null or customer_claims.name is not null);
    perform billing._drop_jobs('email_change', v_customers) where exists (
        select from billing.customer_email_changes where customer_email_changes.stripe_customer_id = any (v_customers)
    );
    delete from billing.customer_email_changes where customer_email_changes.stripe_customer_id = any (v_customers);
    delete from billing.saved_cards where saved_cards.stripe_customer_id = any (v_customers);
    if billing._seen_card_policy() = 'grant' then
        delete from billing.card_fingerprints where card_fingerprints.stripe_customer_id = any (v_customers);
    end if;
    delete from billing.free_credit_persons
    where free_credit_persons.account_id = v_account_id and not exists (
        select from billing.free_credits where free_credits.active and free_credits.once_per_person
    );

    update billing.subscriptions set metadata = '{}', updated_at = now()
    where (subscriptions.account_id = v_account_id or subscriptions.stripe_customer_id = any (v_customers))
        and subscriptions.metadata <> '{}';
    update billing.invoices set hosted_invoice_url = null, updated_at = now()
    where (invoices.account_id = v_account_id or invoices.stripe_customer_id = any (v_customers))
        and invoices.hosted_invoice_url is not null;
    update billing.checkout_sessions set client_reference_id = null, updated_at = now()
    where (checkout_sessions.account_id = v_account_id or checkout_sessions.stripe_customer_id = any (v_customers))
        and checkout_sessions.client_reference_id is not null;
    update billing.checkout_requests set params = '{}', user_id = null
    where checkout_requests.account_id = v_account_id
        and (checkout_requests.params <> '{}' or checkout_requests.user_id is not null);
    delete from billing.stripe_requests where stripe_requests.account_id = v_account_id;

    update billing.payments set card_fingerprint = null, receipt_url = null, updated_at = now()
    where (payments.account_id = v_account_id or payments.stripe_customer_id = any (v_customers))
        and (payments.card_fingerprint is not null or payments.receipt_url is not null);
    v_charges := array(
        select payments.stripe_charge_id from billing.payments
        where payments.account_id = v_account_id or payments.stripe_customer_id = any (v_customers)
    );
    update billing.fraud_warnings set notes = null, updated_at = now()
    where fraud_warnings.stripe_charge_id = any (v_charges) and fraud_warnings.notes is not null;
    update billing.fraud_actions
    set reason = 'erased', last_error = null, updated_at = now(),
        undone_reason = case when fraud_actions.undone_reason is not null then 'erased' end,
        actor = billing._without_names(fraud_actions.actor, _erase_rows.names),
        undone_by = billing._without_names(fraud_actions.undone_by, _erase_rows.names)
    where (fraud_actions.account_id = v_account_id or fraud_actions.stripe_charge_id = any (v_charges))
        and (
            fraud_actions.reason <> 'erased' or fraud_actions.undone_reason <> 'erased'
            or fraud_actions.last_error is not null
            or billing._without_names(fraud_actions.actor, _erase_rows.names) <> fraud_actions.actor
            or billing._without_names(fraud_actions.undone_by, _erase_rows.names) <> fraud_actions.undone_by
        );
    update billing.held_credits
    set description = null, updated_at = now(),
        reason = case when held_credits.reason is not null then 'erased' end,
        reviewed_by = billing._without_names(held_credits.reviewed_by, _erase_rows.names),
        card_fingerprint = case
            when billing._seen_card_policy() = 'grant' then 'erased' else held_credits.card_fingerprint
        end
    where held_credits.account_id = v_account_id
        and (
            held_credits.description is not null or held_credits.reason <> 'erased'
            or billing._without_names(held_credits.reviewed_by, _erase_rows.names) <> held_credits.reviewed_by
        );

    update billing.credit_entries
    set description = null, metadata = '{}',
        actor = billing._without_spender(credit_entries, _erase_rows.names)
    where credit_entries.account_id = v_account_id
        and (
            credit_entries.description is not null or credit_entries.metadata::jsonb <> '{}'
            or billing._without_spender(credit_entries, _erase_rows.names) <> credit_entries.actor
        );
    update billing.credit_grants set description = null
    where credit_grants.account_id = v_account_id and credit_grants.description is not null;
    delete from billing.budgets where budgets.account_id = v_account_id;
    update billing.credit_balances set has_budgets = false
    where credit_balances.account_id = v_account_id and credit_balances.has_budgets;
    update billing.credit_holds
    set description = null, metadata = '{}', actor = case when credit_holds.actor is not null then 'erased' end
    where credit_holds.account_id = v_account_id
        and (
            credit_holds.description is not null or credit_holds.metadata::jsonb <> '{}'
            or credit_holds.actor <> 'erased'
        );
    update billing.credit_revocations
    set reason = 'erased', actor = billing._without_names(credit_revocations.actor, _erase_rows.names)
    where credit_revocations.account_id = v_account_id
        and (
            credit_revocations.reason <> 'erased'
            or billing._without_names(credit_revocations.actor, _erase_rows.names) <> credit_revocations.actor
        );
    update billing.credit_reinstatements
    set reason = 'erased', actor = billing._without_names(credit_reinstatements.actor, _erase_rows.names)
    where credit_reinstatements.account_id = v_account_id
        and (
            credit_reinstatements.reason <> 'erased'
            or billing._without_names(credit_reinstatements.actor, _erase_rows.names) <> credit_reinstatements.actor
        );
    update billing.pack_purchases set description = null
    where pack_purchases.account_id = v_account_id and pack_purchases.description is not null;
    delete from billing.recharge_settings where recharge_settings.account_id = v_account_id;
    update billing.recharges set return_url = null, action_url = null, last_error = null, updated_at = now()
    where recharges.account_id = v_account_id
        and (recharges.return_url is not null or recharges.action_url is not null or recharges.last_error is not null);
    update billing.overages
    set reason = case when overages.reason is not null then 'erased' end, last_error = null, updated_at = now()
    where overages.account_id = v_account_id and (overages.reason <> 'erased' or overages.last_error is not null);

    -- A dispute that is opened later must still reach the administrators: their open notifications stay.
    perform billing._skip_erased_notifications(v_account_id, 'customer');
    update billing.notifications
    set payload = '{}', last_error = case when notifications.last_error is not null then 'erased' end
    where notifications.account_id = v_account_id and notifications.status not in ('queued', 'sending')
        and (notifications.payload <> '{}' or notifications.last_error <> 'erased');
end
$$;

-- Raises while Stripe or an administrator still has to act on what would be erased (TB080).
create function billing._check_erasable(account_id uuid, stripe_customer_id text)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_customers text[] := billing._customers_of_person(_check_erasable.account_id, _check_erasable.stripe_customer_id);
    v_found record;
begin
    select subscriptions.stripe_subscription_id, subscriptions.status into v_found from billing.subscriptions
    where (
            subscriptions.account_id = _check_erasable.account_id
            or subscriptions.stripe_customer_id = any (v_customers)
        )
        and subscriptions.status not in ('canceled', 'incomplete_expired')
    order by subscriptions.started_at, subscriptions.stripe_subscription_id
    limit 1;
    if found then
        raise exception 'subscription % is %', v_found.stripe_subscription_id, v_found.status
            using errcode = 'TB080', detail = v_found.stripe_subscription_id,
            hint = 'Cancel it in Stripe at once, not at the end of its period, and wait for its event: `till subscriptions show` with its id shows its status.';
    end if;
    select disputes.stripe_dispute_id, disputes.status into v_found
    from billing.disputes join billing.payments on payments.stripe_charge_id = disputes.stripe_charge_id
    where (payments.account_id = _check_erasable.account_id or payments.stripe_customer_id = any (v_customers))
        and disputes.is_open
    order by disputes.disputed_at, disputes.stripe_dispute_id
    limit 1;
    if found then
        raise exception 'dispute % is open (%)', v_found.stripe_dispute_id, v_found.status
            using errcode = 'TB080', detail = v_found.stripe_dispute_id,
            hint = 'Its evidence needs this data. Wait until it is decided: `till fraud list disputes`.';
    end if;
    select recharges.id, recharges.status into v_found from billing.recharges
    where recharges.account_id = _check_erasable.account_id and recharges.status in ('claimed', 'charging')
    limit 1;
    if found then
        raise exception 'recharge % is being paid', v_found.id
            using errcode = 'TB080', hint = 'Run it again in a minute: `till recharge attempts` shows when the payment has ended.';
    end if;
    select overages.id into v_found from billing.overages
    where overages.account_id = _check_erasable.account_id and overages.status = 'claimed'
    limit 1;
    if found then
        raise exception 'overage % is being billed', v_found.id
            using errcode = 'TB080', hint = 'Run it again in a minute: `till overage list` shows when it is on an invoice.';
    end if;
    select teams.id into v_found from billing.accounts
    join billing.accounts as teams on teams.owner_id = accounts.owner_id and teams.kind = 'team'
    where accounts.id = _check_erasable.account_id and accounts.kind = 'personal'
    order by teams.created_at
    limit 1;
    if found then
        raise exception 'the person owns the team account %', v_found.id
            using errcode = 'TB080', detail = v_found.id,
            hint = 'Hand it over with `till teams transfer`, or erase that account first with `till accounts erase`.';
    end if;
end
$$;

-- The events of the person, locked. Raises for one that is not finished (TB080): it needs its body.
create function billing._lock_events_of_person(
    stripe_ids text[], emails text[], received_from timestamptz default '-infinity'
)
returns text[]
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_found record;
    v_event_ids text[] := '{}';
begin
    for v_found in
        select events.stripe_event_id, events.status, named.has_id
        from billing._events_of_person(
            _lock_events_of_person.stripe_ids, _lock_events_of_person.emails, _lock_events_of_person.received_from
        ) as named
        join billing.stripe_events as events on events.stripe_event_id = named.stripe_event_id
        order by events.stripe_event_id
        for update of events
    loop
        if v_found.status in ('applied', 'ignored') then
            v_event_ids := v_event_ids || v_found.stripe_event_id;
        elsif v_found.has_id then
            raise exception 'event % is %', v_found.stripe_event_id, v_found.status
                using errcode = 'TB080', detail = v_found.stripe_event_id,
                hint = 'A queued event is applied within seconds. Retry or dismiss one that is parked or dead: `till events show` with its id says why.';
        end if;
    end loop;
    return v_event_ids;
end
$$;

-- Bodies, and reasons that people wrote. Returns how many.
create function billing._empty_events(event_ids text[])
returns bigint
language sql
volatile
set search_path = pg_catalog, pg_temp
as $$
    with emptied as (
        update billing.stripe_events
        set payload = '', last_error = case when stripe_events.last_error is not null then 'erased' end
        where stripe_events.stripe_event_id = any (_empty_events.event_ids)
        returning stripe_events.stripe_event_id
    )
    select count(*) from emptied
$$;

create function billing._erase(account_id uuid, stripe_customer_id text, reason text, actor text)
returns billing.erasures
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_account_id uuid := _erase.account_id;
    v_customers text[] := billing._customers_of_person(v_account_id, _erase.stripe_customer_id);
    v_names text[] := billing._emails_of_person(v_account_id, v_customers);
    v_owner_id uuid := (
        select accounts.owner_id from billing.accounts where accounts.id = v_account_id and accounts.kind = 'personal'
    );
    v_erasure billing.erasures;
    v_ids text[];
    v_event_ids text[];
begin
    perform billing._check_reason(_erase.reason, _erase.actor);
    select * into v_erasure from billing.erasures
    where erasures.account_id = v_account_id or erasures.stripe_customer_id = _erase.stripe_customer_id;
    if found then
        return v_erasure;
    end if;
    perform billing._check_erasable(v_account_id, _erase.stripe_customer_id);
    v_ids := billing._ids_in_events(v_account_id, v_customers);
    v_event_ids := billing._lock_events_of_person(v_ids, v_names);
    if v_account_id is not null then
        perform billing._lock_balance(v_account_id);
        -- Nobody makes the person the only owner of a team meanwhile.
        perform from billing.accounts
        where accounts.id in (
            select account_members.account_id from billing.account_members where account_members.user_id = v_owner_id
        )
        order by accounts.id
        for no key update;
        -- Again, because they can have changed before the lock.
        perform billing._check_erasable(v_account_id, null);
        v_event_ids := v_event_ids
            || billing._lock_events_of_person(v_ids, v_names, now() - interval '1 minute');
        perform billing.close_account(v_account_id, 'erased', _erase.actor);
    end if;
    insert into billing.erasures (account_id, stripe_customer_id, reason, actor, events_emptied)
    values (
        v_account_id, _erase.stripe_customer_id, _erase.reason, _erase.actor, billing._empty_events(v_event_ids)
    )
    on conflict do nothing
    returning * into v_erasure;
    if not found then
        select * into strict v_erasure from billing.erasures
        where erasures.account_id = v_account_id or erasures.stripe_customer_id = _erase.stripe_customer_id;
        return v_erasure;
    end if;

    perform billing._skip_erased_notifications(v_account_id, 'administrators');
    perform billing._erase_rows(v_account_id, _erase.stripe_customer_id, v_names || v_owner_id::text);
    delete from billing.account_members where account_members.user_id = v_owner_id;
    update billing.checkout_requests set user_id = null where checkout_requests.user_id = v_owner_id;
    return v_erasure;
end
$$;

create function billing.erase_account(account_id uuid, reason text, actor text)
returns billing.erasures
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    if not exists (select from billing.accounts where accounts.id = erase_account.account_id) then
        perform billing._raise_no_account(erase_account.account_id);
    end if;
    return billing._erase(erase_account.account_id, null, erase_account.reason, erase_account.actor);
end
$$;

create function billing.erase_customer(stripe_customer_id text, reason text, actor text)
returns billing.erasures
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
begin
    perform billing._check_is_unowned(erase_customer.stripe_customer_id);
    return billing._erase(null, erase_customer.stripe_customer_id, erase_customer.reason, erase_customer.actor);
end
$$;

create function public.erase_account(account_id uuid, reason text, actor text)
returns billing.erasures
language sql
volatile
set search_path = pg_catalog, pg_temp
as $$
    select billing.erase_account(erase_account.account_id, erase_account.reason, erase_account.actor)
$$;

-- An event of an erased person was applied: what it brought is erased again, before the transaction commits.
create function billing.tg_stripe_events__erase()
returns trigger
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_ids text[];
    v_account_ids uuid[];
    v_erasure billing.erasures;
    v_is_named boolean := false;
begin
    if not exists (select from billing.erasures) then
        return null;
    end if;
    -- Nearly every object names its customer; that is found at once. The others name a payment or an invoice.
    v_ids := array[pg_catalog.substring(new.payload, '"customer"\s*:\s*"(cus_[A-Za-z0-9_]+)"')];
    if v_ids[1] is null then
        v_ids := array(
            select found.match[1]
            from regexp_matches(new.payload, '"((?:cus|ch|py|pi|in)_[A-Za-z0-9_]+)"', 'g') as found (match)
        );
        v_account_ids := array(
            select payments.account_id from billing.payments
            where payments.stripe_charge_id = any (v_ids) or payments.stripe_payment_intent_id = any (v_ids)
            union
            select invoices.account_id from billing.invoices where invoices.stripe_invoice_id = any (v_ids)
        );
    end if;
    v_account_ids := v_account_ids || array(
        select customers.account_id from billing.customers where customers.stripe_customer_id = any (v_ids)
    );
    for v_erasure in
        select erasures.* from billing.erasures
        where erasures.account_id = any (v_account_ids) or erasures.stripe_customer_id in (
            -- A guest who was linked to an account since is a customer like others.
            select customers.stripe_customer_id from billing.customers
            where customers.stripe_customer_id = any (v_ids) and customers.account_id is null
        )
        order by erasures.id
    loop
        perform billing._erase_rows(v_erasure.account_id, v_erasure.stripe_customer_id);
        v_is_named := true;
    end loop;
    if v_is_named then
        perform billing._empty_events(array[new.stripe_event_id]);
    end if;
    return null;
end
$$;

create trigger tg_stripe_events__erase
after update of status on billing.stripe_events
for each row when (new.status in ('applied', 'ignored') and new.status <> old.status)
execute function billing.tg_stripe_events__erase();

revoke all on function
    billing._without_names, billing._without_spender, billing._skip_erased_notifications, billing._erase_rows,
    billing._check_erasable, billing._lock_events_of_person, billing._empty_events, billing._erase, billing.erase_account,
    billing.erase_customer, public.erase_account, billing.tg_stripe_events__erase
from public, anon, authenticated, service_role;
grant execute on function
    billing.erase_account(uuid, text, text), billing.erase_customer(text, text, text),
    public.erase_account(uuid, text, text)
to service_role;

comment on function billing.erase_account(uuid, text, text) is 'Erases the personal data of an account and closes it; amounts, entries and the ids of Stripe objects stay. Later events don''t bring the data back. Refused while a subscription, a dispute, a recharge or an event is open (TB080). Erasing again returns the first erasure.';
comment on function billing.erase_customer(text, text, text) is 'Erases the personal data of a Stripe customer that no account owns, like erase_account.';
comment on function public.erase_account(uuid, text, text) is 'Erases the personal data of an account and closes it; the ledger stays. Erasing again returns the first erasure.';
