-- An administrator's word on credits that the guard holds.
--
-- Invariant: reviewed once; approving gives what was held, or back what was taken, exactly once. Who and why is kept
-- for ever. Callable by service_role; clients never.

create function billing.review_held_credits(id bigint, decision text, reason text, actor text)
returns billing.held_credits
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_held billing.held_credits;
    v_status text := case review_held_credits.decision when 'approve' then 'approved' when 'refuse' then 'refused' end;
begin
    perform billing._check_reason(review_held_credits.reason, review_held_credits.actor);
    if v_status is null then
        raise exception 'decision % is not known', coalesce(review_held_credits.decision, 'null')
            using errcode = 'TB034', hint = 'Use approve or refuse.';
    end if;
    select * into v_held from billing.held_credits where held_credits.id = review_held_credits.id;
    if found then
        -- Read again under the lock that whatever holds or gives credits takes.
        perform billing._lock_balance(v_held.account_id);
        select * into v_held from billing.held_credits where held_credits.id = review_held_credits.id;
    end if;
    if not found then
        raise exception 'no credits are held under %', coalesce(review_held_credits.id::text, 'null')
            using errcode = 'TB035', hint = 'List what is held with `till credits review list`.';
    elsif v_held.reviewed_at is not null and v_held.status = v_status then
        return v_held;
    elsif v_held.reviewed_at is not null then
        raise exception 'held credits % were % by %', v_held.id, v_held.status, v_held.reviewed_by
            using errcode = 'TB036', hint = 'What was decided stays: grant credits, or revoke them, by hand.';
    elsif v_status = 'approved' then
        perform billing._check_open(v_held.account_id);
        perform billing._give_held(v_held, review_held_credits.actor);
        perform billing._post_returned_credits(v_held.stripe_invoice_id) where v_held.stripe_invoice_id is not null;
    end if;

    update billing.held_credits
    set status = v_status,
        reason = review_held_credits.reason,
        reviewed_by = review_held_credits.actor,
        reviewed_at = billing.current_time(),
        updated_at = now()
    where held_credits.id = v_held.id
    returning * into v_held;
    return v_held;
end
$$;

create function public.review_held_credits(id bigint, decision text, reason text, actor text)
returns billing.held_credits
language sql
volatile
set search_path = pg_catalog, pg_temp
as $$
    select billing.review_held_credits(
        review_held_credits.id, review_held_credits.decision, review_held_credits.reason, review_held_credits.actor
    )
$$;

revoke all on function
    billing.review_held_credits(bigint, text, text, text), public.review_held_credits(bigint, text, text, text)
from public, anon, authenticated, service_role;
grant execute on function
    billing.review_held_credits(bigint, text, text, text), public.review_held_credits(bigint, text, text, text)
to service_role;

comment on function billing.review_held_credits(bigint, text, text, text) is 'Approves or refuses credits that are held (decision: approve or refuse), once; the same decision again changes nothing. What was refused by the policy alone can still be approved.';
