// Starts the app, and says so where it cannot go on. It runs before the first paint for the choice of colours, then waits for
// the page. Everything comes from this origin.
"use strict";

(function () {
  const own = document.getElementById("loader").dataset;

  try {
    const theme = localStorage.getItem("muster.theme");
    if (theme === "light" || theme === "dark") document.documentElement.setAttribute("data-theme", theme);
  } catch { /* a browser that forbids storage follows the system */ }

  document.addEventListener("DOMContentLoaded", start);

  // A one-time link that is opened where the page is open already changes the fragment alone, which loads nothing by itself.
  addEventListener("hashchange", () => {
    if (location.hash.startsWith("#pair=")) location.reload();
  });

  async function start() {
    document.getElementById("crash-reload").addEventListener("click", () => location.reload());
    if ("serviceWorker" in navigator) {
      navigator.serviceWorker.register("/sw.js").catch((err) => console.warn("muster: no offline start:", err.message));
    }
    try {
      const go = new Go();
      // The response itself, untouched: only then the browser keeps the compiled program for the next start.
      const { instance } = await WebAssembly.instantiateStreaming(fetch(own.wasm), go.importObject);
      go.run(instance).then(() => crash("The program ended."), (err) => crash(String(err)));
    } catch (err) {
      document.getElementById("app-wasm-loader").hidden = true;
      crash(String(err));
    }
  }

  // crash leaves what is on the page readable, and offers the way out.
  function crash(detail) {
    document.getElementById("crash-detail").textContent = detail;
    document.getElementById("crash").hidden = false;
    document.getElementById("crash-reload").focus();
  }
})();
