-- All checks of the ledger: every account, rows that belong to no account, and events and jobs that lost their queue
-- message: the credits of such events are missing too. The time grows with the ledger: use it after a restore, and in tests.
--
-- Readable by service_role and postgres.

create view billing.ledger_discrepancies with (security_invoker = on) as
select ids.account_id, discrepancies.invariant, discrepancies.detail
from (
    select accounts.id as account_id from billing.accounts
    union
    select credit_entries.account_id from billing.credit_entries
    union
    select credit_grants.account_id from billing.credit_grants
    union
    select credit_holds.account_id from billing.credit_holds
) as ids
cross join lateral billing.account_ledger_discrepancies(ids.account_id) as discrepancies
union all
select accounts.id, discrepancies.invariant, discrepancies.detail
from billing.accounts
cross join lateral billing.account_work_discrepancies(accounts.id) as discrepancies
union all
select
    null, 'lineage_joins_entry_and_lot',
    format('%s credits of lot %s by entry %s, neither of which is there', c.amount, c.grant_id, c.entry_id)
from billing.credit_consumptions as c
where not exists (select from billing.credit_entries where credit_entries.id = c.entry_id)
    and not exists (select from billing.credit_grants where credit_grants.id = c.grant_id)
union all
select billed.account_id, discrepancies.invariant, discrepancies.detail
from (select distinct overages.account_id from billing.overages) as billed
cross join lateral billing.account_overage_discrepancies(billed.account_id) as discrepancies
union all
select null, lost.invariant, lost.detail from billing.lost_messages() as lost
union all
select null, lost.invariant, lost.detail from billing.lost_jobs() as lost;

revoke all on billing.ledger_discrepancies from public, anon, authenticated, service_role;
grant select on billing.ledger_discrepancies to service_role;

comment on view billing.ledger_discrepancies is 'Every inconsistency of the ledger: account, broken invariant, figures. Empty when all is well.';
