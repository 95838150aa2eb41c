-- Customers for the app's own server over the Data API: twins in `public`, each of the one in `billing`.
--
-- Invariant: a twin runs as its caller and says nothing of its own. Only service_role may execute it.

create function public.merge_customer(stripe_customer_id text, duplicate_of text)
returns void
language sql
volatile
set search_path = ''
as $$
    select billing.merge_customer(merge_customer.stripe_customer_id, merge_customer.duplicate_of)
$$;

revoke all on function public.merge_customer(text, text) from public, anon, authenticated, service_role;
grant execute on function public.merge_customer(text, text) to service_role;
