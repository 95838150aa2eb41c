-- Customers and dismissals over the Data API, for the app's own server: functions in `public` that call those in
-- `billing`.
--
-- Invariant: each function runs as its caller and adds no rules. Only service_role may execute it.

create function public.merge_customer(stripe_customer_id text, duplicate_of text)
returns void
language sql
volatile
set search_path = pg_catalog, pg_temp
as $$
    select billing.merge_customer(merge_customer.stripe_customer_id, merge_customer.duplicate_of)
$$;

create function public.dismiss_customer(stripe_customer_id text, reason text, actor text)
returns bigint
language sql
volatile
set search_path = pg_catalog, pg_temp
as $$
    select billing.dismiss_customer(
        dismiss_customer.stripe_customer_id, dismiss_customer.reason, dismiss_customer.actor
    )
$$;

create function public.dismiss_stripe_event(event_id text, reason text, actor text)
returns text
language sql
volatile
set search_path = pg_catalog, pg_temp
as $$
    select billing.dismiss_stripe_event(
        dismiss_stripe_event.event_id, dismiss_stripe_event.reason, dismiss_stripe_event.actor
    )
$$;

revoke all on function
    public.merge_customer(text, text),
    public.dismiss_customer(text, text, text),
    public.dismiss_stripe_event(text, text, text)
from public, anon, authenticated, service_role;
grant execute on function
    public.merge_customer(text, text),
    public.dismiss_customer(text, text, text),
    public.dismiss_stripe_event(text, text, text)
to service_role;
