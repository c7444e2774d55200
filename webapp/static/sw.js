// Keeps the app of version {{.Version}} on this device, so that every route starts without the agent.
"use strict";

const CACHE = "muster-{{.Version}}";
const SHELL = "/";
const ASSETS = {{.Assets}};
// What is the agent's to answer, now or not at all.
const LIVE = /^\/(api|v1|sdapi|healthz|readyz|metrics)(\/|$)/;
// How long a navigation may wait for the agent before the kept page is shown.
const PATIENCE_MS = 1500;

// A version is complete or it is not there: when one file is missing, installing fails and the version before stays.
self.addEventListener("install", (event) => {
  event.waitUntil((async () => {
    const cache = await caches.open(CACHE);
    try {
      await cache.addAll([new Request(SHELL, { cache: "reload" }), ...ASSETS]);
    } catch (err) {
      await caches.delete(CACHE);
      throw err;
    }
    await self.skipWaiting();
  })());
});

self.addEventListener("activate", (event) => {
  event.waitUntil((async () => {
    for (const name of await caches.keys()) {
      if (name !== CACHE && name.startsWith("muster-")) await caches.delete(name);
    }
    await self.clients.claim();
  })());
});

self.addEventListener("fetch", (event) => {
  const request = event.request;
  const url = new URL(request.url);
  if (request.method !== "GET" || url.origin !== self.location.origin || LIVE.test(url.pathname) || url.pathname === "/sw.js") return;
  if (request.mode === "navigate") {
    event.respondWith(navigate(request));
  } else {
    event.respondWith(asset(request));
  }
});

// navigate prefers the agent's page, which is of its own version, and shows the kept one when the agent is away or slow.
async function navigate(request) {
  const kept = caches.match(SHELL, { ignoreSearch: true, ignoreVary: true });
  const fresh = fetch(request).then((response) => (response.ok ? response : kept.then((page) => page || response)));
  const late = new Promise((resolve) => setTimeout(resolve, PATIENCE_MS)).then(async () => (await kept) || fresh);
  try {
    return await Promise.race([fresh, late]);
  } catch {
    return (await kept) || Response.error();
  }
}

// Names of assets contain their hash: what is kept is right.
async function asset(request) {
  return (await caches.match(request, { ignoreVary: true })) || fetch(request);
}
