-- Cards that Stripe saw → their first account, and the review of initial and trial credits.
--
-- Invariant: a new sighting reviews its own account and every account for which it is now the earlier one, under that account's
-- lock, and a grant reads the sightings under the same lock. So of a sighting and a grant at the same time, one sees the other.
-- Decisions of administrators and closed accounts stay unchanged.
--
-- Locks: the account's balance, the card, then the balances of the other accounts by id. If another transaction has locked an
-- account, the event fails with 55P03 and is retried.
--
--   record_card                  billing_worker      a card was attached to a customer
--   _record_card                 sync_payment        a card was charged
--   _record_cards_of_customer    link functions      a customer was linked to an account

-- This lock serializes sightings of a card; without it, neither of two concurrent ones would see the other.
create function billing._lock_card(card_fingerprint text)
returns void
language sql
volatile
set search_path = pg_catalog, pg_temp
as $$
    select pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtextextended('billing.card:' || _lock_card.card_fingerprint, 0))
$$;

-- Grants held credits, or restores them if they had been granted, except those spent before the revocation.
create function billing._give_held(held billing.held_credits, actor text)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_held billing.held_credits := _give_held.held;
    v_revocation billing.credit_revocations;
    v_left bigint := v_held.amount;
begin
    if v_held.revocation_id is not null then
        select * into strict v_revocation from billing.credit_revocations
        where credit_revocations.id = v_held.revocation_id;
        -- The lot moves to the period for which it is held.
        update billing.credit_grants
        set stripe_invoice_id = v_held.stripe_invoice_id,
            stripe_subscription_item_id = v_held.stripe_subscription_item_id,
            stripe_price_id = v_held.stripe_price_id,
            reference_id = v_held.reference_id
        where credit_grants.id = v_revocation.grant_id;
        -- Credits that stayed with the account, and those that a person reinstated, count.
        v_left := v_held.amount - (v_revocation.requested - v_revocation.taken) - v_revocation.reinstated;
        if least(v_left, v_revocation.taken - v_revocation.reinstated) > 0 then
            perform billing._reinstate(
                v_revocation, least(v_left, v_revocation.taken - v_revocation.reinstated), 'system',
                'approved:' || v_held.id, 'Held credits approved', _give_held.actor
            );
        end if;
        -- The rest is the difference of an earlier paid period, which grants more than the lot had.
        v_left := v_held.amount - v_revocation.requested;
        if v_left <= 0 then
            return;
        end if;
    end if;
    perform billing._grant_credits(
        account_id => v_held.account_id,
        amount => v_left,
        key_space => 'stripe',
        idempotency_key => v_held.idempotency_key
            || case when v_held.revocation_id is null then '' else ':' || v_held.stripe_invoice_id end,
        source => v_held.source,
        reference_id => v_held.reference_id,
        description => v_held.description,
        expires_at => case when v_held.expires_at > billing.current_time() then v_held.expires_at end,
        stripe_invoice_id => v_held.stripe_invoice_id,
        stripe_subscription_item_id => v_held.stripe_subscription_item_id,
        stripe_price_id => v_held.stripe_price_id,
        actor => _give_held.actor
    );
end
$$;

-- Revokes the unspent part of credits that were granted before the card was reported.
create function billing._withdraw_for_review(lot billing.credit_grants, seen billing.card_fingerprints)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_lot billing.credit_grants := _withdraw_for_review.lot;
    v_held billing.held_credits;
    v_revocation billing.credit_revocations;
begin
    v_held.account_id := v_lot.account_id;
    v_held.kind := case when v_lot.source = 'free' then 'free' else split_part(v_lot.idempotency_key, ':', 1) end;
    v_held.card_fingerprint := (_withdraw_for_review.seen).card_fingerprint;
    v_held.matched_account_id := (_withdraw_for_review.seen).account_id;
    v_held.idempotency_key := v_lot.idempotency_key;
    v_held.source := v_lot.source;
    v_held.reference_id := v_lot.reference_id;
    select credit_entries.description into v_held.description from billing.credit_entries
    where credit_entries.id = v_lot.entry_id;
    v_held.stripe_invoice_id := v_lot.stripe_invoice_id;
    v_held.stripe_subscription_item_id := v_lot.stripe_subscription_item_id;
    v_held.stripe_price_id := v_lot.stripe_price_id;
    v_held.expires_at := v_lot.expires_at;
    select v_lot.amount - coalesce(sum(billing._asked_back(credit_revocations)), 0)
    into v_held.amount
    from billing.credit_revocations where credit_revocations.grant_id = v_lot.id;
    v_held.id := billing._set_aside(v_held);
    v_revocation := billing._revoke_grant(
        v_lot, null, 'system', 'held:' || v_held.id, 'clamp_and_record', 'Held for review', 'tillbase'
    );
    update billing.held_credits set revocation_id = v_revocation.id where held_credits.id = v_held.id;
end
$$;

-- Holds or grants credits according to the account's cards.
create function billing._judge_credits(account_id uuid)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_held billing.held_credits;
    v_lot record;
    v_seen billing.card_fingerprints;
begin
    perform billing._lock_balance(_judge_credits.account_id);
    if exists (
        select from billing.accounts where accounts.id = _judge_credits.account_id and accounts.closed_at is not null
    ) then
        return;
    end if;

    for v_held in
        select * from billing.held_credits
        where held_credits.account_id = _judge_credits.account_id and held_credits.reviewed_at is null
        order by held_credits.id
    loop
        v_seen := billing._seen_card(_judge_credits.account_id, v_held.held_at, v_held.card_fingerprint);
        if v_seen.card_fingerprint is not null then
            update billing.held_credits
            set card_fingerprint = v_seen.card_fingerprint, matched_account_id = v_seen.account_id, updated_at = now()
            where held_credits.id = v_held.id
                and (held_credits.card_fingerprint, held_credits.matched_account_id)
                    <> (v_seen.card_fingerprint, v_seen.account_id);
        else
            -- Its own card turned out to be the earlier one: grants as if nothing had been held.
            perform billing._give_held(v_held, 'tillbase');
            delete from billing.held_credits where held_credits.id = v_held.id;
            delete from billing.notifications
            where notifications.dedupe_key = 'credits_held:' || v_held.id and notifications.status = 'queued'
                and notifications.attempts = 0 and notifications.digest_id is null;
        end if;
    end loop;

    if billing._seen_card_policy() = 'grant' then
        return;
    end if;
    for v_lot in
        select credit_grants as lot, credit_entries.occurred_at as granted_at
        from billing.credit_grants
        join billing.credit_entries on credit_entries.id = credit_grants.entry_id
        where credit_grants.account_id = _judge_credits.account_id and credit_grants.key_space = 'stripe'
            and (
                split_part(credit_grants.idempotency_key, ':', 1) in ('initial', 'trial')
                -- Of these there may be one a day: what is used up or expired needs no review.
                or credit_grants.source = 'free' and credit_grants.closed_at is null and exists (
                    select from billing.free_credits
                    where free_credits.name = credit_grants.reference_id and free_credits.once_per_person
                )
            )
            and not exists (
                select from billing.held_credits where held_credits.idempotency_key = credit_grants.idempotency_key
            )
            and credit_grants.amount > (
                select coalesce(sum(billing._asked_back(credit_revocations)), 0)
                from billing.credit_revocations where credit_revocations.grant_id = credit_grants.id
            )
        order by credit_grants.id
    loop
        v_seen := billing._seen_card(_judge_credits.account_id, v_lot.granted_at);
        if v_seen.card_fingerprint is not null then
            perform billing._withdraw_for_review(v_lot.lot, v_seen);
        end if;
    end loop;
end
$$;

-- Reviews the account on which a card was seen, and all accounts that used it later. The caller holds the card's lock.
create function billing._judge_card(card_fingerprint text, account_id uuid)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_first_seen_at timestamptz := (
        select min(card_fingerprints.first_seen_at) from billing.card_fingerprints
        where card_fingerprints.card_fingerprint = _judge_card.card_fingerprint
            and card_fingerprints.account_id = _judge_card.account_id
    );
    v_account_id uuid;
begin
    for v_account_id in
        select distinct card_fingerprints.account_id from billing.card_fingerprints
        where card_fingerprints.card_fingerprint = _judge_card.card_fingerprint
            and card_fingerprints.account_id is not null and card_fingerprints.first_seen_at >= v_first_seen_at
        order by 1
    loop
        perform billing._judge_credits(v_account_id);
    end loop;
end
$$;

create function billing._record_card(
    stripe_customer_id text, account_id uuid, card_fingerprint text, seen_at timestamptz
)
returns text
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
begin
    if exists (
        select from billing.card_fingerprints
        where card_fingerprints.stripe_customer_id = _record_card.stripe_customer_id
            and card_fingerprints.card_fingerprint = _record_card.card_fingerprint
            and card_fingerprints.first_seen_at <= _record_card.seen_at
    ) then
        return 'stale';
    elsif _record_card.account_id is not null then
        perform billing._lock_balance(_record_card.account_id);
    end if;
    perform billing._lock_card(_record_card.card_fingerprint);
    insert into billing.card_fingerprints as held (card_fingerprint, stripe_customer_id, account_id, first_seen_at)
    values (
        _record_card.card_fingerprint, _record_card.stripe_customer_id, _record_card.account_id, _record_card.seen_at
    )
    on conflict on constraint card_fingerprints_pkey do update
    set first_seen_at = least(held.first_seen_at, excluded.first_seen_at);
    if _record_card.account_id is not null then
        perform billing._judge_card(_record_card.card_fingerprint, _record_card.account_id);
    end if;
    return 'applied';
end
$$;

create function billing._record_cards_of_customer(stripe_customer_id text, account_id uuid)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_card_fingerprint text;
begin
    perform billing._lock_balance(_record_cards_of_customer.account_id);
    for v_card_fingerprint in
        select card_fingerprints.card_fingerprint from billing.card_fingerprints
        where card_fingerprints.stripe_customer_id = _record_cards_of_customer.stripe_customer_id
        order by 1
    loop
        perform billing._lock_card(v_card_fingerprint);
        update billing.card_fingerprints set account_id = _record_cards_of_customer.account_id
        where card_fingerprints.stripe_customer_id = _record_cards_of_customer.stripe_customer_id
            and card_fingerprints.card_fingerprint = v_card_fingerprint;
        perform billing._judge_card(v_card_fingerprint, _record_cards_of_customer.account_id);
    end loop;
end
$$;

create function billing.record_card(
    stripe_customer_id text, livemode boolean, card_fingerprint text, seen_at timestamptz
)
returns text
language sql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
    select billing._record_card(
        record_card.stripe_customer_id,
        billing._account_of_customer(record_card.stripe_customer_id, record_card.livemode),
        record_card.card_fingerprint, record_card.seen_at
    )
$$;

revoke all on function
    billing._lock_card, billing._give_held, billing._withdraw_for_review, billing._judge_credits, billing._judge_card,
    billing._record_card, billing._record_cards_of_customer, billing.record_card
from public, anon, authenticated, service_role;
grant execute on function billing.record_card(text, boolean, text, timestamptz) to billing_worker;

comment on function billing.record_card(text, boolean, text, timestamptz) is 'Stripe saw a card on a customer. Returns applied, or stale if an earlier sighting is known.';
