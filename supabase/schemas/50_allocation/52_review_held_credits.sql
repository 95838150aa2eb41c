-- An administrator's decision on credits under review.
--
-- Invariant: decided once. An approval grants held credits, or restores revoked ones, exactly once. Reason and actor
-- are kept. Callable by service_role only.

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
        raise exception 'unknown decision: %', coalesce(review_held_credits.decision, 'null')
            using errcode = 'TB034', hint = 'Use approve or refuse.';
    end if;
    select * into v_held from billing.held_credits where held_credits.id = review_held_credits.id;
    if found then
        -- Read again under the lock that every function takes that holds or grants credits.
        perform billing._lock_balance(v_held.account_id);
        select * into v_held from billing.held_credits where held_credits.id = review_held_credits.id;
    end if;
    if not found then
        raise exception 'there are no credits under review with the id %', coalesce(review_held_credits.id::text, 'null')
            using errcode = 'TB035', hint = 'List credits under review with `till credits review list`.';
    elsif v_held.reviewed_at is not null and v_held.status = v_status then
        return v_held;
    elsif v_held.reviewed_at is not null then
        raise exception 'the review % was already decided: % by %', v_held.id, v_held.status, v_held.reviewed_by
            using errcode = 'TB036', hint = 'A decision is final. Grant or revoke credits with `till credits grant` or `till credits revoke`.';
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

comment on function billing.review_held_credits(bigint, text, text, text) is 'Approves or refuses credits under review (decision: approve or refuse), once; repeating the same decision changes nothing. Credits that only the policy refused can still be approved.';
