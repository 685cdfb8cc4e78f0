// The documentation: Swagger UI over /openapi.yaml, and signing in once for all calls.
//
// Tokens stay in the memory of the page: closing it forgets them. They are good for ten minutes, so
// the page trades its refresh token for new ones before they expire.
"use strict";

const form = document.querySelector("#sign-in");
const signedIn = document.querySelector("#signed-in");
const message = document.querySelector("#message");
let refreshing;

const ui = SwaggerUIBundle({
  url: "/openapi.yaml",
  dom_id: "#docs",
  deepLinking: true,
  tryItOutEnabled: true,
  displayRequestDuration: true,
  // A table of contents first. Also, all that is open is rendered anew at each key that is pressed.
  docExpansion: "none",
  defaultModelRendering: "example",
  defaultModelsExpandDepth: 0,
  defaultModelExpandDepth: 3,
  showExtensions: false,
  validatorUrl: null,
  responseInterceptor: adopt,
});

// Links of this page to operations. Swagger UI itself looks at the address only when it starts.
document.querySelector(".way").addEventListener("click", (event) => {
  const [tag, operation] = (event.target.hash ?? "").split("/").slice(1);
  if (!operation) return;
  ui.layoutActions.show(["operations-tag", tag], true);
  ui.layoutActions.show(["operations", tag, operation], true);
  requestAnimationFrame(function scroll() {
    const place = document.getElementById(`operations-${tag}-${operation}`);
    if (place) place.scrollIntoView();
    else requestAnimationFrame(scroll);
  });
});

/** Signing in by one of the calls on the page counts as much as by the form. */
function adopt(response) {
  const path = new URL(response.url, location.href).pathname.replace(/\/$/, "");
  if (response.ok && ["/api/auth/login", "/api/auth/refresh"].includes(path)) {
    begin(JSON.parse(response.text));
  } else if (response.ok && path === "/api/auth/logout") {
    end();
  }
  return response;
}

function begin(grant) {
  clearTimeout(refreshing);
  refreshing = setTimeout(() => refresh(grant.refresh_token), (grant.expires_in - 60) * 1000);
  ui.authActions.authorize({
    accessToken: {
      name: "accessToken",
      schema: { type: "http", scheme: "bearer" },
      value: grant.access_token,
    },
  });
  signedIn.querySelector("span").textContent = `${grant.user.email} · ${grant.user.role}`;
  form.hidden = true;
  signedIn.hidden = false;
  say("");
}

function end(why = "") {
  clearTimeout(refreshing);
  ui.authActions.logout(["accessToken"]);
  form.hidden = false;
  signedIn.hidden = true;
  say(why);
}

async function refresh(token) {
  try {
    begin(await post("/api/auth/refresh/", { refresh_token: token }));
  } catch {
    end("Your session has ended: sign in again.");
  }
}

async function post(path, body, token) {
  const headers = { "content-type": "application/json" };
  if (token) headers.authorization = `Bearer ${token}`;
  const answer = await fetch(path, { method: "POST", headers, body: JSON.stringify(body) });
  const json = await answer.json();
  if (!answer.ok) {
    const fields = json.details?.flatMap((detail) => detail.field_violations ?? []) ?? [];
    throw new Error(fields.map((each) => `${each.field}: ${each.description}`)[0] ?? json.message);
  }
  return json;
}

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  const { email, password } = Object.fromEntries(new FormData(form));
  say("…");
  try {
    if (event.submitter?.value === "sign-up") await post("/api/users/", { email, password });
    begin(await post("/api/auth/login/", { email, password }));
    form.elements.password.value = "";
  } catch (error) {
    say(error.message);
  }
});

signedIn.querySelector("button").addEventListener("click", async () => {
  const token = ui.authSelectors.authorized().getIn(["accessToken", "value"]);
  end();
  try {
    await post("/api/auth/logout/", {}, token);
  } catch {
    // The token had expired: then there is nothing to end.
  }
});

function say(text) {
  message.textContent = text;
}
