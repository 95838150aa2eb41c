-- The entitlement proof as a running check: a few accounts at a time, round and round, and administrators are told once of
-- each discrepancy.
--
-- Invariant: two workers never walk the same accounts at the same moment; a walk that is cut off goes on where it was
-- committed. Called by billing_worker.

create table billing.entitlement_proof (
    id boolean primary key default true,
    last_account_id uuid,
    accounts_checked bigint not null default 0,
    round_started_at timestamptz,
    round_finished_at timestamptz,
    constraint there_is_one_row check (id)
);

insert into billing.entitlement_proof default values;

alter table billing.entitlement_proof enable row level security;
revoke all on billing.entitlement_proof from public, anon, authenticated, service_role;
grant select on billing.entitlement_proof to service_role;

-- Checks up to accounts_max accounts. How many were checked (0: the round is over, or another worker is at it), and how
-- many discrepancies they had.
create function billing.prove_entitlements(accounts_max integer)
returns table (accounts bigint, discrepancies bigint)
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_proof billing.entitlement_proof;
    v_account_ids uuid[];
begin
    accounts := 0;
    discrepancies := 0;
    select * into v_proof from billing.entitlement_proof for update skip locked;
    if not found then
        return next;
        return;
    end if;
    v_account_ids := array(
        select accounts_after.id from billing.accounts as accounts_after
        where v_proof.last_account_id is null or accounts_after.id > v_proof.last_account_id
        order by accounts_after.id
        limit greatest(prove_entitlements.accounts_max, 0)
    );
    accounts := cardinality(v_account_ids);
    update billing.entitlement_proof
    set last_account_id = v_account_ids[cardinality(v_account_ids)],
        accounts_checked = entitlement_proof.accounts_checked + cardinality(v_account_ids),
        round_started_at = case
            when v_proof.last_account_id is null then clock_timestamp() else entitlement_proof.round_started_at
        end,
        round_finished_at = case
            when cardinality(v_account_ids) = 0 then clock_timestamp() else entitlement_proof.round_finished_at
        end;

    with found as (
        select checked.* from unnest(v_account_ids) as account_id
        cross join lateral billing.account_discrepancies(account_id) as checked
    ),
    told as (
        insert into billing.notifications (account_id, audience, kind, dedupe_key, payload)
        select
            found.account_id_of, 'administrators', 'entitlement_discrepancy',
            format(
                'entitlement_discrepancy:%s:%s:%s:%s:%s', found.account_id_of, found.invariant, found.business_key,
                found.expected, found.found
            ),
            jsonb_build_object(
                'invariant', found.invariant, 'business_key', found.business_key, 'expected', found.expected,
                'found', found.found, 'detail', found.detail
            )
        from found
        on conflict (dedupe_key) do nothing
    )
    select count(*) into discrepancies from found;
    return next;
end
$$;

revoke all on function billing.prove_entitlements from public, anon, authenticated, service_role;
grant execute on function billing.prove_entitlements(integer) to billing_worker, service_role;

comment on table billing.entitlement_proof is 'How far the running check of billing.entitlement_discrepancies is.';
comment on function billing.prove_entitlements(integer) is 'Checks the next accounts of the running entitlement proof and has administrators told, once, of what is off.';
