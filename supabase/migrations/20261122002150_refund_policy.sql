-- What the owner tells customers about refunds, for disputes.

alter table billing.settings
add column refund_policy text,
add constraint refund_policy_fits_stripe check (length(refund_policy) between 1 and 20000);

comment on column billing.settings.refund_policy is 'The refund policy as customers are shown it before they buy; evidence in disputes.';
