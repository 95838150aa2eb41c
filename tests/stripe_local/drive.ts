// stripe-node, unpatched, against the emulator: prints what it saw as JSON.
import Stripe from "npm:stripe@23.1.0";

const [port, webhookSecret] = Deno.args;
const stripe = new Stripe("sk_test_node", {
  host: "127.0.0.1",
  port: Number(port),
  protocol: "http",
  maxNetworkRetries: 0,
});

const customer = await stripe.customers.create({
  email: "node@example.com",
  payment_method: "pm_card_visa",
  invoice_settings: { default_payment_method: "pm_card_visa" },
});
const product = await stripe.products.create({ name: "Pro" });
const price = await stripe.prices.create({
  product: product.id,
  currency: "usd",
  unit_amount: 2000,
  recurring: { interval: "month" },
});
const rate = await stripe.taxRates.create({
  display_name: "VAT",
  percentage: 20,
  inclusive: false,
});
const subscription = await stripe.subscriptions.create({
  customer: customer.id,
  items: [{ price: price.id }],
  default_tax_rates: [rate.id],
  expand: ["latest_invoice.payments"],
});
const schedule = await stripe.subscriptionSchedules.create({
  from_subscription: subscription.id,
});
let refused = "";
try {
  await stripe.customers.update(customer.id, {
    cash_balance: { settings: { reconciliation_mode: "manual" } },
  });
} catch (error) {
  if (error instanceof Stripe.errors.StripeInvalidRequestError) {
    refused = error.param ?? "";
  }
}
const types: string[] = [];
for await (const event of stripe.events.list({ limit: 3 })) {
  types.push(event.type);
}
let declined = "";
try {
  await stripe.paymentIntents.create({
    amount: 900,
    currency: "usd",
    payment_method: "pm_card_visa_chargeDeclined",
    confirm: true,
  });
} catch (error) {
  if (error instanceof Stripe.errors.StripeCardError) {
    declined = error.decline_code ?? "";
  }
}
const body = JSON.stringify({ id: "evt_1", object: "event", type: "x" });
const header = await stripe.webhooks.generateTestHeaderStringAsync({
  payload: body,
  secret: webhookSecret,
});
const verified = await stripe.webhooks.constructEventAsync(
  body,
  header,
  webhookSecret,
);
const invoice = subscription.latest_invoice as Stripe.Invoice;
console.log(JSON.stringify({
  status: subscription.status,
  paid: invoice.payments?.data[0].status,
  tax: invoice.total_taxes?.[0].amount,
  schedule: schedule.status,
  refused,
  types,
  declined,
  verified: verified.id,
}));
