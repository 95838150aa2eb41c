-- The running check of ledger and payments: a few accounts at a time, in rounds. A discrepancy is stored until the
-- account is in order, and administrators are notified once of each, and again if it comes back.
--
-- Invariant: two workers never check the same accounts at the same time; an interrupted round continues after its last
-- commit. Each account is checked as of one point in time, without locks. Called by billing_worker.

create table billing.account_proof (
    id boolean primary key default true,
    last_account_id uuid,
    accounts_checked bigint not null default 0,
    round_started_at timestamptz,
    round_finished_at timestamptz,
    constraint there_is_one_row check (id)
);

insert into billing.account_proof default values;

create table billing.found_discrepancies (
    id bigint generated always as identity primary key,
    account_id uuid not null references billing.accounts (id),
    invariant text not null,
    business_key text,
    expected bigint,
    found bigint,
    detail text not null,
    found_at timestamptz not null default clock_timestamp()
);

create unique index found_discrepancies_once on billing.found_discrepancies (account_id, invariant, detail);

alter table billing.account_proof enable row level security;
alter table billing.found_discrepancies enable row level security;
revoke all on all sequences in schema billing from public, anon, authenticated, service_role;
revoke all on billing.account_proof, billing.found_discrepancies from public, anon, authenticated, service_role;
grant select on billing.account_proof, billing.found_discrepancies to service_role;

-- Checks an account, stores its discrepancies and deletes resolved ones. Returns how many it has.
create function billing._prove_account(account_id uuid)
returns bigint
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_count bigint;
begin
    with off as materialized (
        select
            'entitlement_discrepancy' as kind, paid.invariant, paid.business_key, paid.expected, paid.found, paid.detail
        from billing.account_discrepancies(_prove_account.account_id) as paid
        union all
        select
            'ledger_discrepancy', ledger.invariant, null, null, null, ledger.detail
        from billing.account_ledger_discrepancies(_prove_account.account_id) as ledger
        union all
        select
            'ledger_discrepancy', work.invariant, null, null, null, work.detail
        from billing.account_work_discrepancies(_prove_account.account_id) as work
        union all
        select
            'ledger_discrepancy', overage.invariant, null, null, null, overage.detail
        from billing.account_overage_discrepancies(_prove_account.account_id) as overage
    ),
    in_order as (
        delete from billing.found_discrepancies
        where found_discrepancies.account_id = _prove_account.account_id and not exists (
            select from off
            where off.invariant = found_discrepancies.invariant and off.detail = found_discrepancies.detail
        )
    ),
    noted as (
        insert into billing.found_discrepancies (account_id, invariant, business_key, expected, found, detail)
        select _prove_account.account_id, off.invariant, off.business_key, off.expected, off.found, off.detail from off
        on conflict do nothing
        returning found_discrepancies.id, found_discrepancies.invariant, found_discrepancies.detail
    ),
    told as (
        insert into billing.notifications (account_id, audience, kind, dedupe_key, payload)
        select
            _prove_account.account_id, 'administrators', off.kind, format('%s:%s', off.kind, noted.id),
            jsonb_build_object(
                'invariant', off.invariant, 'business_key', off.business_key, 'expected', off.expected,
                'found', off.found, 'detail', off.detail
            )
        from noted
        join off on off.invariant = noted.invariant and off.detail = noted.detail
    )
    select count(*) into v_count from off;
    return v_count;
end
$$;

-- Checks up to accounts_max accounts, and stops after the account during which milliseconds_max passed. Returns how
-- many were checked (0: the round is over, or another worker is checking) and how many discrepancies they have.
create function billing.prove_accounts(accounts_max integer, milliseconds_max integer default 50)
returns table (accounts bigint, discrepancies bigint)
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_began_at timestamptz := clock_timestamp();
    v_proof billing.account_proof;
    v_account_id uuid;
    v_last_account_id uuid;
begin
    accounts := 0;
    discrepancies := 0;
    select * into v_proof from billing.account_proof for update skip locked;
    if not found then
        return next;
        return;
    end if;
    for v_account_id in
        select accounts_after.id from billing.accounts as accounts_after
        where v_proof.last_account_id is null or accounts_after.id > v_proof.last_account_id
        order by accounts_after.id
        limit greatest(prove_accounts.accounts_max, 0)
    loop
        discrepancies := discrepancies + billing._prove_account(v_account_id);
        accounts := accounts + 1;
        v_last_account_id := v_account_id;
        exit when clock_timestamp() - v_began_at >= make_interval(secs => prove_accounts.milliseconds_max / 1000.0);
    end loop;
    update billing.account_proof
    set last_account_id = v_last_account_id,
        accounts_checked = account_proof.accounts_checked + prove_accounts.accounts,
        round_started_at = case
            when v_proof.last_account_id is null then v_began_at else account_proof.round_started_at
        end,
        round_finished_at = case
            when v_last_account_id is null then clock_timestamp() else account_proof.round_finished_at
        end;
    return next;
end
$$;

revoke all on function billing._prove_account, billing.prove_accounts from public, anon, authenticated, service_role;
grant execute on function billing.prove_accounts(integer, integer) to billing_worker, service_role;

comment on table billing.account_proof is 'Progress of the running check of all accounts (ledger_discrepancies and entitlement_discrepancies).';
comment on table billing.found_discrepancies is 'Discrepancies that the running check found and that still exist.';
comment on function billing.prove_accounts(integer, integer) is 'Checks the next accounts, stores discrepancies and notifies administrators of each once.';
