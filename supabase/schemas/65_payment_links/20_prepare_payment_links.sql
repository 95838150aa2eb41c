-- A user's request → the steps that find or create Payment Links (see 60_checkout/15_stripe_steps.sql). prepare_… and
-- claim_… return the first step, continue_payment_link the later ones.
--
-- Invariant: a refused request changes nothing, in the database or in Stripe. After a failure, the next request continues.
--
-- Called by billing_checkout; claim_payment_link by the owner of the database only. Private: all other functions here.

create function billing.claim_payment_link(plan text, pack text, options jsonb default '{}')
returns jsonb
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_price record;
begin
    select * into strict v_price from billing._price_on_sale(claim_payment_link.plan, claim_payment_link.pack);
    if v_price.is_metered then
        raise exception 'a metered plan cannot be sold by a payment link'
            using errcode = 'TB042', hint = 'A Payment Link has a fixed quantity. Use checkout.';
    -- A link can be paid any number of times, and each payment would grant credits.
    elsif exists (
        select from billing.plans where plans.stripe_price_id = v_price.stripe_price_id and plans.unit_amount = 0
    ) then
        raise exception 'a free plan cannot be sold by a payment link'
            using errcode = 'TB042', hint = 'Use checkout, which checks that an account takes it once.';
    end if;
    return billing._claim_link(
        v_price.stripe_price_id, v_price.seats_min, claim_payment_link.pack is not null, claim_payment_link.options,
        coalesce(claim_payment_link.plan, claim_payment_link.pack)
    );
end
$$;

-- {"links": [{"name", "step"}], "reference"}: the link of the plan or pack, or else of all plans that the account may
-- subscribe to; and the reference that assigns their payments to the account.
create function billing.prepare_payment_links(user_id uuid, plan text, pack text, account_id uuid default null)
returns jsonb
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_account_id uuid := billing._account_to_bill(prepare_payment_links.user_id, prepare_payment_links.account_id);
    v_links jsonb := '[]';
    v_name text;
    v_plan billing.plans;
begin
    perform billing._check_may_spend(v_account_id);
    if prepare_payment_links.plan is not null and prepare_payment_links.pack is null then
        select plans.* into strict v_plan
        from billing._price_on_sale(prepare_payment_links.plan, null) as price
        join billing.plans on plans.stripe_price_id = price.stripe_price_id;
        perform billing._check_not_subscribed(v_account_id, v_plan);
    end if;
    if prepare_payment_links.plan is not null or prepare_payment_links.pack is not null then
        v_links := jsonb_build_array(jsonb_build_object(
            'name', coalesce(prepare_payment_links.plan, prepare_payment_links.pack),
            'step', billing.claim_payment_link(prepare_payment_links.plan, prepare_payment_links.pack)
        ));
    else
        -- In the order of their names, so that two requests don't deadlock.
        for v_name in
            select distinct coalesce(plans.lookup_key, plans.stripe_price_id)
            from billing.plans
            join billing.products on products.stripe_product_id = plans.stripe_product_id and products.active
            where plans.active and plans.livemode = billing.is_livemode() and plans.usage_type = 'licensed'
            order by 1
        loop
            begin
                select plans.* into strict v_plan
                from billing._price_on_sale(v_name, null) as price
                join billing.plans on plans.stripe_price_id = price.stripe_price_id;
                perform billing._check_not_subscribed(v_account_id, v_plan);
                v_links := v_links
                    || jsonb_build_object('name', v_name, 'step', billing.claim_payment_link(v_name, null));
            exception when sqlstate 'TB045' or sqlstate 'TB042' then
                null;  -- the portal changes what they have; or it went off sale at this moment
            end;
        end loop;
    end if;
    perform billing._note_stripe_request(v_account_id, link #>> '{step,calls,-1,idempotency_key}')
    from jsonb_array_elements(v_links) as link
    where link #>> '{step,calls,-1,idempotency_key}' is not null;
    return jsonb_build_object('links', v_links, 'reference', billing.payment_reference(v_account_id));
end
$$;

-- The URL to return: this link's, unless another one was created for the same row meanwhile; null if the row was retired
-- meanwhile. The worker deactivates a link that is not returned.
create function billing._note_payment_link(token uuid, stripe_payment_link_id text, url text)
returns text
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_link billing.payment_links;
begin
    select * into strict v_link from billing.payment_links where payment_links.id = _note_payment_link.token for update;
    if v_link.stripe_payment_link_id is null then
        update billing.payment_links
        set stripe_payment_link_id = _note_payment_link.stripe_payment_link_id, url = _note_payment_link.url,
            confirmed_at = now(), may_exist = false, updated_at = now(),
            deactivate_at = case when v_link.active then null else now() end
        where payment_links.id = v_link.id
        returning * into v_link;
    elsif v_link.stripe_payment_link_id <> _note_payment_link.stripe_payment_link_id then
        insert into billing.payment_links (
            livemode, stripe_price_id, options, params, params_hash, idempotency_key, stripe_payment_link_id, url,
            active, retired_at, retired_reason, deactivate_at
        )
        values (
            v_link.livemode, v_link.stripe_price_id, v_link.options, v_link.params, v_link.params_hash,
            gen_random_uuid()::text, _note_payment_link.stripe_payment_link_id,
            _note_payment_link.url, false, now(), 'duplicate', now()
        )
        on conflict on constraint payment_links_stripe_payment_link_id_key do nothing;
    elsif v_link.active then
        update billing.payment_links set confirmed_at = now(), updated_at = now()
        where payment_links.id = v_link.id;
    end if;
    return case when v_link.active then v_link.url end;
end
$$;

-- Stripe confirmed that the link is active. Returns its URL, or null if the row was retired meanwhile.
create function billing._confirm_payment_link(stripe_payment_link_id text)
returns text
language sql
volatile
set search_path = pg_catalog, pg_temp
as $$
    update billing.payment_links set confirmed_at = now(), updated_at = now()
    where payment_links.stripe_payment_link_id = _confirm_payment_link.stripe_payment_link_id and payment_links.active
    returning payment_links.url
$$;

-- Stripe reported that the link is deleted or inactive. Returns the step for its replacement. The price may have changed a
-- moment ago, so the name is looked up again.
create function billing._replace_payment_link(stripe_payment_link_id text, name text)
returns jsonb
language plpgsql
volatile
set search_path = pg_catalog, pg_temp
as $$
declare
    v_gone billing.payment_links;
    v_is_pack boolean;
begin
    update billing.payment_links
    set active = false, retired_at = now(), retired_reason = 'stripe', updated_at = now()
    where payment_links.stripe_payment_link_id = _replace_payment_link.stripe_payment_link_id and payment_links.active;
    select * into strict v_gone from billing.payment_links
    where payment_links.stripe_payment_link_id = _replace_payment_link.stripe_payment_link_id;
    v_is_pack := v_gone.params ? 'customer_creation';
    return billing.claim_payment_link(
        case when not v_is_pack then _replace_payment_link.name end,
        case when v_is_pack then _replace_payment_link.name end,
        v_gone.options
    );
end
$$;

-- Stripe repeats its first answer to a key, also a failure. So after a failure the next click uses another key, and first
-- searches for a link that was created with this one.
create function billing._discard_payment_link_key(idempotency_key text)
returns void
language sql
volatile
set search_path = pg_catalog, pg_temp
as $$
    update billing.payment_links
    set idempotency_key = gen_random_uuid()::text, keyed_at = now(), may_exist = true,
        updated_at = now()
    where payment_links.idempotency_key = _discard_payment_link_key.idempotency_key
        and payment_links.stripe_payment_link_id is null
$$;

-- Stripe's answers to a step → the next step. The result is {"url"}.
create function billing.continue_payment_link(state jsonb, answers jsonb)
returns jsonb
language plpgsql
volatile
security definer
set search_path = pg_catalog, pg_temp
as $$
declare
    v_answer jsonb := continue_payment_link.answers -> -1;
    v_error jsonb := v_answer -> 'error';
    v_link_id text := continue_payment_link.state ->> 'check';
    v_url text;
begin
    if v_link_id is not null and (v_error ->> 'status' = '404' or v_answer #>> '{body,active}' = 'false') then
        return billing._replace_payment_link(v_link_id, continue_payment_link.state ->> 'name');
    elsif v_error is not null then
        if billing._is_kept_by_stripe(v_error) then
            perform billing._discard_payment_link_key(v_answer ->> 'idempotency_key');
        end if;
        return billing._refused_by_stripe(v_error);
    elsif v_link_id is not null then
        v_url := billing._confirm_payment_link(v_link_id);
    else
        v_url := billing._note_payment_link(
            (continue_payment_link.state ->> 'token')::uuid, v_answer #>> '{body,id}', v_answer #>> '{body,url}'
        );
    end if;
    if v_url is null then
        return billing._refused_step(
            errcode => 'TB064', message => 'the plan was changed in the meantime', hint => 'Request the link again.'
        );
    end if;
    return jsonb_build_object('done', jsonb_build_object('url', v_url));
end
$$;

revoke all on function
    billing.claim_payment_link, billing.prepare_payment_links, billing._note_payment_link,
    billing._confirm_payment_link, billing._replace_payment_link, billing._discard_payment_link_key,
    billing.continue_payment_link
from public, anon, authenticated, service_role;
grant execute on function
    billing.prepare_payment_links(uuid, text, text, uuid), billing.continue_payment_link(jsonb, jsonb)
to billing_checkout;

comment on function billing.claim_payment_link(text, text, jsonb) is 'Returns the first step to the link of a plan or pack with these options.';
comment on function billing.prepare_payment_links(uuid, text, text, uuid) is 'Decides for which plans a user gets links; returns the first step of each, and the reference that names the account.';
comment on function billing.continue_payment_link(jsonb, jsonb) is 'Takes Stripe''s answers to a step of a link; returns the next step, or the URL.';
