/** A team → its members, what each has spent of which budget, and what the signed-in user may change of it. The database
 * checks their role. */

import { account, switchTo } from "./account.js";
import { $, element, pressed, show } from "./parts.js";
import { invoke, supabase } from "./project.js";

const ROLES = ["owner", "admin", "member"];
let me;

async function call(name, parameters) {
  const { data, error } = await supabase.rpc(name, parameters);
  if (error) throw error;
  return data;
}

/** The page's accounts changed: read them again. */
function reload() {
  document.dispatchEvent(new Event("accounts"));
}

export async function loadTeam(shown, userId) {
  me = userId;
  const isTeam = shown.kind === "team";
  $("team-title").textContent = isTeam ? shown.name : "Team";
  $("create-team").hidden = isTeam;
  $("team-card").hidden = !isTeam;
  $("invite").hidden = shown.role === "member";
  $("members").replaceChildren();
  if (!isTeam) return;
  const [members, caps, spent] = await Promise.all([
    call("team_members", { account_id: shown.account_id }),
    budgets(shown),
    spentThisMonth(shown),
  ]);
  if (shown !== account()) return;
  $("members").replaceChildren(
    ...members.map((member) => {
      const actor = `member:${member.user_id}`;
      return row(shown, member, spent.get(actor) ?? 0, caps.get(actor) ?? null);
    }),
  );
}

/** Actor → the cap of its budget. The example's function spends as `member:<id>`. */
async function budgets(team) {
  const { data, error } = await supabase.from("budgets").select("actor, cap")
    .eq("account_id", team.account_id);
  if (error) throw error;
  return new Map(data.map(({ actor, cap }) => [actor, cap]));
}

/** Actor → credits since the first of the month, as budgets count them: by UTC. */
async function spentThisMonth(team) {
  const now = new Date();
  const start = Date.UTC(now.getUTCFullYear(), now.getUTCMonth());
  const end = Date.UTC(now.getUTCFullYear(), now.getUTCMonth() + 1);
  const days = await call("credit_usage_by_actor", {
    account_id: team.account_id,
    period_start: new Date(start).toISOString(),
    period_end: new Date(end).toISOString(),
  });
  const spent = new Map();
  for (const { actor, credits } of days) {
    spent.set(actor, (spent.get(actor) ?? 0) + credits);
  }
  return spent;
}

function row(team, { user_id, email, role }, spent, cap) {
  const isMe = user_id === me;
  const manages = team.role === "owner" ||
    (team.role === "admin" && role !== "owner");
  return element(
    "tr",
    {},
    element("td", { textContent: isMe ? `${email} (you)` : email }),
    element("td", {}, manages ? roles(team, user_id, email, role) : role),
    element("td", { className: "number", textContent: spent }),
    element(
      "td",
      { className: "number" },
      team.role === "member"
        ? `${cap ?? "–"}`
        : budget(team, user_id, email, cap),
    ),
    element(
      "td",
      { className: "number" },
      (isMe || manages) && leave(team, user_id, email, isMe),
    ),
  );
}

function roles(team, user_id, email, role) {
  const offered = team.role === "owner" ? ROLES : ROLES.slice(1);
  const select = element(
    "select",
    { ariaLabel: `Role of ${email}` },
    ...offered.map((name) =>
      element("option", { textContent: name, selected: name === role })
    ),
  );
  select.addEventListener("change", () =>
    pressed(select, async () => {
      const { account_id } = team;
      try {
        await call("set_member_role", {
          account_id,
          user_id,
          role: select.value,
        });
      } finally {
        reload();
      }
    }));
  return select;
}

function budget(team, user_id, email, cap) {
  const input = element("input", {
    type: "number",
    min: 0,
    step: 1,
    placeholder: "none",
    value: cap ?? "",
    ariaLabel: `Monthly budget of ${email}`,
  });
  input.addEventListener("change", () =>
    pressed(input, async () => {
      const { account_id } = team;
      const actor = `member:${user_id}`;
      await (input.value === ""
        ? call("remove_budget", { account_id, actor })
        : call("set_budget", {
          account_id,
          actor,
          cap: input.valueAsNumber,
          period: "month",
        }));
      show($("notice"), `The budget of ${email} is saved.`);
    }));
  return input;
}

function leave(team, user_id, email, isMe) {
  const button = element("button", {
    className: "quiet",
    textContent: isMe ? "Leave" : "Remove",
    ariaLabel: isMe ? "Leave the team" : `Remove ${email}`,
  });
  button.addEventListener("click", () =>
    pressed(button, async () => {
      await call("remove_member", { account_id: team.account_id, user_id });
      reload();
    }));
  return button;
}

/** Joins the team whose invitation led here. The token works once, for the address that was invited. */
export async function acceptInvitation() {
  const token = sessionStorage.getItem("invitation");
  if (!token) return;
  sessionStorage.removeItem("invitation");
  const { data, error } = await supabase.rpc("accept_invitation", { token });
  if (error) {
    show($("problem"), error.message);
    return;
  }
  switchTo(data.account_id);
  show($("notice"), "Welcome to the team.");
}

$("create-team").addEventListener("submit", (event) => {
  event.preventDefault();
  pressed(event.submitter, async () => {
    const { account_id } = await invoke("team", { name: $("team-name").value });
    event.target.reset();
    switchTo(account_id);
    reload();
  });
});

$("invite").addEventListener("submit", (event) => {
  event.preventDefault();
  pressed(event.submitter, async () => {
    const email = $("invited").value;
    const [{ token }] = await call("invite_member", {
      account_id: account().account_id,
      email,
    });
    event.target.reset();
    // Your app sends it by e-mail, from its own server.
    const link = `${location.origin}/?invitation=${token}`;
    show(
      $("notice"),
      `Send this link to ${email}. It works once, for a week: `,
    );
    $("notice").append(element("a", { href: link, textContent: link }));
  });
});
