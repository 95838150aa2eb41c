/** Small parts of the page. Text from elsewhere is only ever set as text. */

export const $ = (id) => document.getElementById(id);

/** An element with these properties and children; null and false are left out. */
export function element(name, properties, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children.filter(Boolean));
  return made;
}

/** Shows the text in the box, or hides the box without one. */
export function show(box, text) {
  box.textContent = text ?? "";
  box.hidden = !text;
}

/** `2000, usd` → `$20.00`. Amounts are in the currency's smallest unit. */
export function money(amount, currency) {
  const format = new Intl.NumberFormat(undefined, {
    style: "currency",
    currency,
  });
  const { maximumFractionDigits } = format.resolvedOptions();
  return format.format(amount / 10 ** maximumFractionDigits);
}

/** Runs what a button does: the button waits, and errors are shown. */
export async function pressed(button, work) {
  for (const box of ["problem", "notice"]) show($(box), null);
  button.disabled = true;
  try {
    await work();
  } catch (error) {
    show($("problem"), error.message);
  } finally {
    button.disabled = false;
  }
}
