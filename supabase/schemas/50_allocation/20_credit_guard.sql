-- One-time credits: initial and trial credits, limited to one account of the same person. Free credits use its review.
--
-- Invariant: granted once for each account and product (or as settings.initial_credits_per and one_trial_per say), whatever the
-- key. If a card of the account was seen on another account before, settings.seen_card_policy decides: grant, hold for review, or
-- refuse. The earlier account is the one where Stripe saw the card first, by the times of cards and charges (if equal, the
-- smaller id), so the order of events makes no difference.
--
-- card_fingerprints   which cards Stripe saw on which customer, and so on which account
-- held_credits        initial, trial and free credits under review, approved or refused
-- Only functions write; service_role reads. Private: _grant_once, called by the functions that grant such credits.

create table billing.card_fingerprints (
    card_fingerprint text not null,
    stripe_customer_id text not null references billing.customers (stripe_customer_id),
    account_id uuid references billing.accounts (id),
    first_seen_at timestamptz not null,
    created_at timestamptz not null default now(),
    primary key (stripe_customer_id, card_fingerprint)
);

create index card_fingerprints_seen on billing.card_fingerprints (card_fingerprint, first_seen_at, account_id);
create index card_fingerprints_account on billing.card_fingerprints (account_id);

create table billing.held_credits (
    id bigint generated always as identity primary key,
    account_id uuid not null references billing.accounts (id),
    kind text not null,
    amount billing.positive_credits not null,
    card_fingerprint text not null,
    matched_account_id uuid not null references billing.accounts (id),
    status text not null default 'pending',
    reason text,
    reviewed_by text,
    reviewed_at timestamptz,
    idempotency_key billing.idempotency_key not null,
    source text not null,
    reference_id text,
    description text,
    stripe_invoice_id text,
    stripe_subscription_item_id text,
    stripe_price_id text,
    expires_at timestamptz,
    revocation_id bigint references billing.credit_revocations (id),
    held_at timestamptz not null,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    constraint kind_is_known check (kind in ('initial', 'trial', 'free')),
    constraint status_is_known check (status in ('pending', 'approved', 'refused')),
    constraint accounts_differ check (matched_account_id <> account_id),
    constraint reviews_say_who_and_why
    check ((reviewed_at is null) = (reviewed_by is null) and (reviewed_at is null) = (reason is null)),
    constraint reviewed_credits_are_pending_no_more check (status <> 'pending' or reviewed_at is null),
    constraint credits_are_approved_by_somebody check (status <> 'approved' or reviewed_at is not null)
);

create unique index held_credits_key on billing.held_credits (idempotency_key);
create index held_credits_account on billing.held_credits (account_id);
create index held_credits_matched_account on billing.held_credits (matched_account_id);
create index held_credits_revocation on billing.held_credits (revocation_id) where revocation_id is not null;
create index held_credits_pending on billing.held_credits (held_at) where status = 'pending';

alter table billing.card_fingerprints enable row level security;
alter table billing.held_credits enable row level security;

revoke all on all sequences in schema billing from public, anon, authenticated, service_role;
revoke all on billing.card_fingerprints, billing.held_credits from public, anon, authenticated, service_role;
grant select on billing.card_fingerprints, billing.held_credits to service_role;

-- The policy for credits of an account whose card was seen on another account. Everybody uses the same test cards, so
-- in test mode nothing is held unless the settings say so.
create function billing._seen_card_policy()
returns text
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select coalesce(settings.seen_card_policy, case when settings.livemode then 'hold' else 'grant' end)
    from billing.settings
$$;

-- The key of one-time credits (kind: initial or trial): for each product, or for each account, as the settings say.
create function billing._once_key(kind text, account_id uuid, stripe_product_id text)
returns text
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
    return (select case case _once_key.kind when 'trial' then settings.one_trial_per else settings.initial_credits_per end
        when 'account' then format('%s:%s', _once_key.kind, _once_key.account_id)
        else format('%s:%s:%s', _once_key.kind, _once_key.account_id, _once_key.stripe_product_id)
    end
    from billing.settings);
end
$$;

-- True if such credits were granted or held under any key, so that the setting can change at any time: compares the
-- kind in the key, and the product of the price.
create function billing._was_given(account_id uuid, kind text, stripe_price_id text)
returns boolean
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
    return (select exists (
        select from (
            select credit_grants.idempotency_key, credit_grants.stripe_price_id from billing.credit_grants
            where credit_grants.account_id = _was_given.account_id and credit_grants.key_space = 'stripe'
            union all
            select held_credits.idempotency_key, held_credits.stripe_price_id from billing.held_credits
            where held_credits.account_id = _was_given.account_id
        ) as given
        left join billing.plans on plans.stripe_price_id = given.stripe_price_id
        where split_part(given.idempotency_key, ':', 1) = _was_given.kind and (
            case _was_given.kind when 'trial' then settings.one_trial_per else settings.initial_credits_per end = 'account'
            or plans.stripe_product_id = (
                select mine.stripe_product_id from billing.plans as mine
                where mine.stripe_price_id = _was_given.stripe_price_id
            )
        )
    )
    from billing.settings);
end
$$;

-- The first sighting of a card of the account, if it was earlier and on another account. A card that was approved for
-- the account no longer counts (except for held_for: credits that are already held for it stay held), nor does a card
-- that the account first used more than a month after the grant.
create function billing._seen_card(account_id uuid, granted_at timestamptz, held_for text default null)
returns billing.card_fingerprints
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select earlier.*
    from (
        select card_fingerprints.card_fingerprint, min(card_fingerprints.first_seen_at) as first_seen_at
        from billing.card_fingerprints
        where card_fingerprints.account_id = _seen_card.account_id
        group by 1
    ) as mine
    cross join lateral (
        select others.* from billing.card_fingerprints as others
        where others.card_fingerprint = mine.card_fingerprint and others.account_id <> _seen_card.account_id
            and (others.first_seen_at, others.account_id) < (mine.first_seen_at, _seen_card.account_id)
        order by others.first_seen_at, others.account_id
        limit 1
    ) as earlier
    where mine.first_seen_at <= _seen_card.granted_at + interval '30 days' and (
        mine.card_fingerprint = _seen_card.held_for
        or not exists (
            select from billing.held_credits
            where held_credits.account_id = _seen_card.account_id and held_credits.status = 'approved'
                and held_credits.card_fingerprint = mine.card_fingerprint
        )
    )
    order by earlier.first_seen_at, earlier.account_id, earlier.card_fingerprint
    limit 1
$$;

-- Holds or refuses credits, by the policy, and notifies administrators. Returns the new row's id.
create function billing._set_aside(held billing.held_credits)
returns bigint
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_held billing.held_credits := _set_aside.held;
begin
    insert into billing.held_credits (
        account_id, kind, amount, card_fingerprint, matched_account_id, status, idempotency_key, source, reference_id,
        description, stripe_invoice_id, stripe_subscription_item_id, stripe_price_id, expires_at, held_at
    )
    select
        v_held.account_id, v_held.kind, v_held.amount, v_held.card_fingerprint, v_held.matched_account_id,
        case billing._seen_card_policy() when 'refuse' then 'refused' else 'pending' end, v_held.idempotency_key,
        v_held.source, v_held.reference_id, v_held.description, v_held.stripe_invoice_id,
        v_held.stripe_subscription_item_id, v_held.stripe_price_id, v_held.expires_at, billing.current_time()
    from billing.settings
    returning * into v_held;
    insert into billing.notifications (account_id, audience, kind, dedupe_key, payload)
    values (
        v_held.account_id, 'administrators', 'credits_held', 'credits_held:' || v_held.id,
        jsonb_build_object(
            'held_credits_id', v_held.id, 'kind', v_held.kind, 'amount', v_held.amount, 'status', v_held.status,
            'matched_account_id', v_held.matched_account_id
        )
    );
    return v_held.id;
end
$$;

-- Start of the first period of an item that an invoice pays for.
create function billing._paid_from(stripe_invoice_id text, stripe_subscription_item_id text)
returns timestamptz
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
    return (
        select min(invoice_lines.period_start) from billing.invoice_lines
        where invoice_lines.stripe_invoice_id = _paid_from.stripe_invoice_id and not invoice_lines.is_proration
            and invoice_lines.stripe_subscription_item_id = _paid_from.stripe_subscription_item_id
    );
end
$$;

-- True if a plan has or had initial credits, and the account was granted none for this period or an earlier one.
create function billing._may_give_initial(plan billing.plans, account_id uuid, period_start timestamptz)
returns boolean
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
begin
    if (_may_give_initial.plan).initial_credits = 0 and not exists (
        select from billing.credit_terms
        where credit_terms.stripe_price_id = (_may_give_initial.plan).stripe_price_id and credit_terms.initial_credits > 0
    ) then
        return false;
    end if;
    return not exists (
        select from billing.credit_grants as lots
        join billing.invoice_lines as paid on paid.stripe_invoice_id = lots.stripe_invoice_id
            and paid.stripe_subscription_item_id = lots.stripe_subscription_item_id
        where lots.key_space = 'stripe'
            and lots.idempotency_key = billing._once_key(
                'initial', _may_give_initial.account_id, (_may_give_initial.plan).stripe_product_id
            )
            and not paid.is_proration and paid.period_start <= _may_give_initial.period_start
    );
end
$$;

-- Grants initial or trial credits, or holds them. A repeated call does nothing, whatever happened to the credits; only
-- credits under review move to an earlier paid period, as a granted lot would.
create function billing._grant_once(
    account_id uuid, kind text, idempotency_key text, amount bigint, source text, reference_id text, description text,
    stripe_invoice_id text, stripe_subscription_item_id text, stripe_price_id text,
    effective_at timestamptz default null, expires_at timestamptz default null
)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_held billing.held_credits;
    v_seen billing.card_fingerprints;
begin
    perform billing._lock_balance(_grant_once.account_id);
    select * into v_held from billing.held_credits where held_credits.idempotency_key = _grant_once.idempotency_key;
    if found then
        update billing.held_credits
        set amount = _grant_once.amount,
            reference_id = _grant_once.reference_id,
            description = _grant_once.description,
            stripe_invoice_id = _grant_once.stripe_invoice_id,
            stripe_subscription_item_id = _grant_once.stripe_subscription_item_id,
            stripe_price_id = _grant_once.stripe_price_id,
            updated_at = now()
        where held_credits.id = v_held.id and held_credits.reviewed_at is null
            and billing._paid_from(_grant_once.stripe_invoice_id, _grant_once.stripe_subscription_item_id)
                < billing._paid_from(v_held.stripe_invoice_id, v_held.stripe_subscription_item_id);
        return;
    elsif exists (
        select from billing.credit_grants
        where credit_grants.idempotency_key = _grant_once.idempotency_key and credit_grants.key_space = 'stripe'
    ) or billing._was_given(_grant_once.account_id, _grant_once.kind, _grant_once.stripe_price_id) then
        return;
    elsif billing._seen_card_policy() <> 'grant' then
        v_seen := billing._seen_card(_grant_once.account_id, billing.current_time());
    end if;

    if v_seen.card_fingerprint is null then
        perform billing._grant_credits(
            account_id => _grant_once.account_id,
            amount => _grant_once.amount,
            key_space => 'stripe',
            idempotency_key => _grant_once.idempotency_key,
            source => _grant_once.source,
            reference_id => _grant_once.reference_id,
            description => _grant_once.description,
            effective_at => _grant_once.effective_at,
            expires_at => _grant_once.expires_at,
            stripe_invoice_id => _grant_once.stripe_invoice_id,
            stripe_subscription_item_id => _grant_once.stripe_subscription_item_id,
            stripe_price_id => _grant_once.stripe_price_id
        );
        return;
    end if;
    perform billing._check_open(_grant_once.account_id);
    v_held.account_id := _grant_once.account_id;
    v_held.kind := _grant_once.kind;
    v_held.amount := _grant_once.amount;
    v_held.card_fingerprint := v_seen.card_fingerprint;
    v_held.matched_account_id := v_seen.account_id;
    v_held.idempotency_key := _grant_once.idempotency_key;
    v_held.source := _grant_once.source;
    v_held.reference_id := _grant_once.reference_id;
    v_held.description := _grant_once.description;
    v_held.stripe_invoice_id := _grant_once.stripe_invoice_id;
    v_held.stripe_subscription_item_id := _grant_once.stripe_subscription_item_id;
    v_held.stripe_price_id := _grant_once.stripe_price_id;
    v_held.expires_at := _grant_once.expires_at;
    perform billing._set_aside(v_held);
end
$$;

-- True if one-time credits are under review, or were refused by the policy.
create function billing._is_held(idempotency_key text)
returns boolean
language sql
stable
set search_path = pg_catalog, pg_temp
as $$
    select exists (
        select from billing.held_credits
        where held_credits.idempotency_key = _is_held.idempotency_key and held_credits.status <> 'approved'
    )
$$;

revoke all on function
    billing._seen_card_policy, billing._once_key, billing._was_given, billing._seen_card, billing._set_aside, billing._paid_from,
    billing._may_give_initial, billing._grant_once, billing._is_held
from public, anon, authenticated, service_role;

comment on table billing.card_fingerprints is 'Cards that Stripe saw on a customer: attached or charged.';
comment on column billing.card_fingerprints.account_id is 'The customer''s account; null while the customer is not linked.';
comment on column billing.card_fingerprints.first_seen_at is 'The earliest time that Stripe reported, not the time of our processing.';
comment on table billing.held_credits is 'Initial, trial and free credits under review: a card of the account was seen on another account before. The key is their business key (key space stripe); the other columns are the arguments of the grant.';
comment on column billing.held_credits.card_fingerprint is 'The card that was seen on matched_account_id before.';
comment on column billing.held_credits.status is 'pending: waits for an administrator. approved or refused: by reviewed_by, or refused by the policy if that is null.';
comment on column billing.held_credits.revocation_id is 'The revocation of the credits, if they were granted before the card was reported.';
