-- What was revoked from lots, and what was reinstated of it.
--
-- Invariant: taken and shortfall are at most what was requested; the rest had expired unspent. A reinstatement is at
-- most what was taken, also from other lots; nothing is reinstated for a shortfall that was only recorded. Only
-- functions write; service_role reads, clients cannot.

create table billing.credit_revocations (
    id bigint generated always as identity primary key,
    account_id uuid not null references billing.accounts (id),
    grant_id bigint not null references billing.credit_grants (id),
    entry_id bigint references billing.credit_entries (id),
    requested bigint not null,
    taken bigint not null,
    shortfall bigint not null,
    shortfall_policy text not null,
    reinstated bigint not null default 0,
    voided bigint not null default 0,
    reason text not null,
    actor text,
    key_space billing.key_space not null,
    idempotency_key billing.idempotency_key not null,
    business_key text,
    created_at timestamptz not null default now(),
    constraint requested_is_positive check (requested > 0),
    constraint taken_and_shortfall_are_within_the_request
    check (taken >= 0 and shortfall >= 0 and taken + shortfall <= requested),
    constraint reinstated_is_within_what_was_collected check (
        reinstated between 0 and taken + case shortfall_policy when 'clamp_and_record' then 0 else shortfall end
    ),
    constraint voided_is_within_what_was_not_taken check (voided between 0 and requested - taken),
    constraint shortfall_policy_is_known
    check (shortfall_policy in ('clamp_and_record', 'allow_negative', 'block_future_grants'))
);

create table billing.credit_reinstatements (
    id bigint generated always as identity primary key,
    account_id uuid not null references billing.accounts (id),
    revocation_id bigint not null references billing.credit_revocations (id),
    entry_id bigint references billing.credit_entries (id),
    amount bigint not null,
    unwithheld bigint not null,
    reason text not null,
    actor text not null,
    key_space billing.key_space not null,
    idempotency_key billing.idempotency_key not null,
    created_at timestamptz not null default now(),
    constraint amount_is_positive check (amount > 0),
    constraint unwithheld_is_within_the_amount check (unwithheld between 0 and amount)
);

create unique index credit_reinstatements_key on billing.credit_reinstatements (account_id, key_space, idempotency_key);
create index credit_reinstatements_revocation on billing.credit_reinstatements (revocation_id);
create index credit_reinstatements_entry on billing.credit_reinstatements (entry_id) where entry_id is not null;
create unique index credit_revocations_key on billing.credit_revocations (account_id, key_space, idempotency_key);
create index credit_revocations_business_key on billing.credit_revocations (business_key) where business_key is not null;
create index credit_revocations_grant on billing.credit_revocations (grant_id);
create index credit_revocations_entry on billing.credit_revocations (entry_id) where entry_id is not null;
create index credit_revocations_shortfall on billing.credit_revocations (account_id)
where shortfall > 0 and shortfall_policy <> 'allow_negative';

alter table billing.credit_revocations enable row level security;
alter table billing.credit_reinstatements enable row level security;

revoke all on all sequences in schema billing from public, anon, authenticated, service_role;
revoke all on billing.credit_revocations, billing.credit_reinstatements from public, anon, authenticated, service_role;
grant select on billing.credit_revocations, billing.credit_reinstatements to service_role;

comment on table billing.credit_revocations is 'Revocations of lots. requested = taken + shortfall (spent or held) + expired unspent.';
comment on column billing.credit_revocations.business_key is 'The business key that is worth less than was granted; null for a revocation by a person.';
comment on column billing.credit_revocations.voided is 'Part of requested for which nothing had been taken, and which is no longer requested.';
comment on table billing.credit_reinstatements is 'What was reinstated of revocations.';
comment on column billing.credit_reinstatements.entry_id is 'The entry of the reinstatement; null if it only ended withholding.';
comment on column billing.credit_reinstatements.unwithheld is 'Credits that were still to be withheld, and no longer are.';
comment on column billing.credit_revocations.entry_id is 'The entry of the revocation; null if nothing was left to take.';
