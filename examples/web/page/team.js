/** A team → its members, and what the signed-in user may change. The database checks their role. */

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
  const members = await call("team_members", { account_id: shown.account_id });
  if (shown !== account()) return;
  $("members").replaceChildren(...members.map((member) => row(shown, member)));
}

function row(team, { user_id, email, role }) {
  const isMe = user_id === me;
  const manages = team.role === "owner" ||
    (team.role === "admin" && role !== "owner");
  return element(
    "tr",
    {},
    element("td", { textContent: isMe ? `${email} (you)` : email }),
    element("td", {}, manages ? roles(team, user_id, email, role) : role),
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
