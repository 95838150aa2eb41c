-- Many spends in one call, all or none.
--
-- Each account is locked once and its entries are posted together: entries, lots and lineage are the same as with one
-- spend_credits after the other. Only keys are looked up one by one (lateral, limit 1), because a join of the batch
-- with the entries is planned as a hash of the whole ledger. Callable by service_role.

-- The spends of one account with a new key. A key may have been used before, by an earlier call or twice in this one:
-- then all arguments must be the same.
create function billing._without_repeats(account_id uuid, spends jsonb)
returns jsonb
language plpgsql
stable
set search_path = pg_catalog, pg_temp
as $$
declare
    v_key text;
begin
    select spend.idempotency_key into v_key
    from jsonb_to_recordset(_without_repeats.spends) as spend (
        amount numeric, idempotency_key text, description text, metadata jsonb, feature text, reference_id text,
        actor text
    )
    left join lateral (
        select * from billing.credit_entries
        where credit_entries.account_id = _without_repeats.account_id and credit_entries.key_space = 'caller'
            and credit_entries.idempotency_key = spend.idempotency_key
        limit 1
    ) as held on true
    group by spend.idempotency_key, held.id
    having count(distinct (
            spend.amount, spend.description, coalesce(spend.metadata, '{}'), spend.feature, spend.reference_id,
            spend.actor
        )) > 1
        or held.id is not null and bool_or(
            (
                'spend', -spend.amount, spend.description, coalesce(spend.metadata, '{}'), spend.feature,
                spend.reference_id, spend.actor
            ) is distinct from (
                held.kind, held.amount, held.description, held.metadata, held.feature, held.reference_id,
                held.actor
            ) or held.up_to is not null
        )
    limit 1;
    if found then
        perform billing._raise_key_reused(v_key);
    end if;

    return (
        select jsonb_agg(fresh.spend order by fresh.position) from (
            select distinct on (asked.spend ->> 'idempotency_key') asked.spend, asked.position
            from jsonb_array_elements(_without_repeats.spends) with ordinality as asked (spend, position)
            where (
                select credit_entries.id from billing.credit_entries
                where credit_entries.account_id = _without_repeats.account_id and credit_entries.key_space = 'caller'
                    and credit_entries.idempotency_key = asked.spend ->> 'idempotency_key'
                limit 1
            ) is null
            order by asked.spend ->> 'idempotency_key', asked.position
        ) as fresh
    );
end
$$;

create function billing.spend_credits_batch(spends jsonb)
returns setof billing.credit_entries
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_account_id uuid;
    v_key text;
    v_new jsonb;
    v_repeated boolean;
    v_balance billing.credit_balances;
    v_now timestamptz;
begin
    if jsonb_typeof(spend_credits_batch.spends) is distinct from 'array'
        or jsonb_path_exists(spend_credits_batch.spends, 'strict $[*] ? (@.type() != "object")') then
        raise exception 'spends must be an array of objects'
            using errcode = 'TB023',
            hint = 'Pass [{"account_id": …, "amount": …, "idempotency_key": …}, …], with the parameters of spend_credits.';
    end if;
    -- Otherwise a misspelt name would be ignored silently, and the spend would differ from what was meant.
    select name into v_key
    from jsonb_array_elements(spend_credits_batch.spends) as spend, jsonb_object_keys(spend) as name
    where name not in (
        'account_id', 'amount', 'idempotency_key', 'description', 'metadata', 'feature', 'reference_id',
        'actor'
    )
    limit 1;
    if found then
        raise exception 'a spend of the batch has the unknown field %', v_key
            using errcode = 'TB023', hint = 'Allowed fields: account_id, amount, idempotency_key, description, metadata, feature, reference_id, actor.';
    end if;
    perform billing._checked_key(spend.idempotency_key, coalesce(spend.metadata, '{}')),
        billing._checked_amount(spend.amount), billing._checked_actor(spend.actor)
    from jsonb_to_recordset(spend_credits_batch.spends) as spend (
        amount numeric, idempotency_key text, metadata jsonb, actor text
    );

    for v_account_id in
        select distinct spend.account_id from jsonb_to_recordset(spend_credits_batch.spends) as spend (account_id uuid)
        order by spend.account_id
    loop
        perform billing._lock_balance(v_account_id);

        select
            jsonb_agg(asked.spend order by asked.position),
            count(held.id) > 0 or count(distinct asked.spend ->> 'idempotency_key') < count(*)
        into v_new, v_repeated
        from jsonb_array_elements(spend_credits_batch.spends) with ordinality as asked (spend, position)
        left join lateral (
            select credit_entries.id from billing.credit_entries
            where credit_entries.account_id = v_account_id and credit_entries.key_space = 'caller'
                and credit_entries.idempotency_key = asked.spend ->> 'idempotency_key'
            limit 1
        ) as held on true
        where (asked.spend ->> 'account_id')::uuid = v_account_id;
        if v_repeated then
            v_new := billing._without_repeats(v_account_id, v_new);
        end if;
        if v_new is not null then
            v_balance := billing._lock_settled_balance(v_account_id);
            perform billing._check_may_spend(v_account_id);
            v_now := billing.current_time();
            perform billing._post_spends(v_balance, array_agg(billing._entry(
                account_id => v_account_id, kind => 'spend', amount => -spend.amount::bigint, source => 'app',
                reference_id => spend.reference_id, description => spend.description, feature => spend.feature,
                metadata => coalesce(spend.metadata, '{}'), actor => spend.actor, key_space => 'caller',
                idempotency_key => spend.idempotency_key, occurred_at => v_now
            )))
            from jsonb_to_recordset(v_new) as spend (
                amount numeric, idempotency_key text, description text, metadata jsonb, feature text, reference_id text,
                actor text
            );
        end if;
    end loop;

    return query
    select found.*
    from jsonb_array_elements(spend_credits_batch.spends) with ordinality as asked (spend, position)
    cross join lateral (
        select * from billing.credit_entries
        where credit_entries.account_id = (asked.spend ->> 'account_id')::uuid and credit_entries.key_space = 'caller'
            and credit_entries.idempotency_key = asked.spend ->> 'idempotency_key'
        limit 1
    ) as found
    order by asked.position;
end
$$;

revoke all on function billing._without_repeats, billing.spend_credits_batch from public, anon, authenticated, service_role;
grant execute on function billing.spend_credits_batch(jsonb) to service_role;

comment on function billing.spend_credits_batch(jsonb) is 'Spends for many jobs in one call, all or none: [{account_id, amount, idempotency_key, description, metadata, feature, reference_id, actor}, …]. Returns the entries in the same order; a used key returns its first entry.';
