-- A plan's terms of sale: the length of its trial, the number of seats, credits beyond those that were paid.
--
-- Invariant: as credits, they come from the metadata of the price, else of the product, else stay as they are, and a value
-- that is not valid is an error that names it (TB017). Checkout uses the first two: other subscriptions keep their own terms.
-- Overage applies to all subscribers from the change on.
--
--     trial_days      0 (none) to 730
--     seats           any, a number (5: exactly 5), or a range (2-50)
--     overage_limit   credits that may be spent beyond those that there are; 0: none
--     overage_pack    the lookup key or the id of the one-time price with pack_credits that bills them
--
-- Private: called by _resolve_plan.

create function billing._resolve_terms(plan billing.plans, product billing.products)
returns void
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_stripe_price_id text := (_resolve_terms.plan).stripe_price_id;
    v_trial text := coalesce(
        (_resolve_terms.plan).metadata ->> 'trial_days', (_resolve_terms.product).metadata ->> 'trial_days'
    );
    v_seats text := coalesce((_resolve_terms.plan).metadata ->> 'seats', (_resolve_terms.product).metadata ->> 'seats');
    v_overage_pack text := nullif(coalesce(
        (_resolve_terms.plan).metadata ->> 'overage_pack', (_resolve_terms.product).metadata ->> 'overage_pack',
        (_resolve_terms.plan).overage_pack
    ), '');
    v_overage_limit bigint := billing._declared_credits(
        v_stripe_price_id, 'overage_limit', (_resolve_terms.plan).metadata, (_resolve_terms.product).metadata
    );
    v_bounds text[] := regexp_match(v_seats, '^([1-9][0-9]{0,5})(?:-([1-9][0-9]{0,5}))?$');
begin
    if v_trial !~ '^[0-9]{1,3}$' or v_trial::integer > 730 then
        raise exception 'metadata trial_days of % is "%", it must be a whole number of days up to 730', v_stripe_price_id, v_trial
            using errcode = 'TB017', hint = 'Correct the metadata in Stripe. The update event then syncs the plan.';
    elsif v_seats <> 'any' and (v_bounds is null or v_bounds[2]::bigint < v_bounds[1]::bigint) then
        raise exception 'metadata seats of % is "%", it must be any, N or N-M', v_stripe_price_id, v_seats
            using errcode = 'TB017', hint = 'Correct the metadata in Stripe. The update event then syncs the plan.';
    elsif v_overage_limit > 0 and v_overage_pack is null then
        raise exception 'metadata overage_limit of % needs overage_pack, the pack that bills the overage', v_stripe_price_id
            using errcode = 'TB017', hint = 'Correct the metadata in Stripe. The update event then syncs the plan.';
    end if;
    update billing.plans
    set trial_days = coalesce(v_trial::integer, plans.trial_days),
        seats_min = case when v_seats is null then plans.seats_min else coalesce(v_bounds[1]::bigint, 1) end,
        seats_max = case when v_seats is null then plans.seats_max else coalesce(v_bounds[2], v_bounds[1])::bigint end,
        overage_limit = coalesce(v_overage_limit, plans.overage_limit),
        overage_pack = v_overage_pack
    where plans.stripe_price_id = v_stripe_price_id
        and (
            v_trial is not null or v_seats is not null
            or (plans.overage_limit, plans.overage_pack) is distinct from
                (coalesce(v_overage_limit, plans.overage_limit), v_overage_pack)
        );
end
$$;

revoke all on function billing._resolve_terms from public, anon, authenticated, service_role;
