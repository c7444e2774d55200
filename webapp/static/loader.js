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

  async function start() {
    document.getElementById("crash-reload").addEventListener("click", () => location.reload());
    if ("serviceWorker" in navigator) {
      navigator.serviceWorker.register("/sw.js").catch((err) => console.warn("muster: no offline start:", err.message));
    }
    const label = document.getElementById("app-wasm-loader-label");
    try {
      const go = new Go();
      const { instance } = await instantiate(go.importObject, label);
      go.run(instance).then(() => crash("The program ended."), (err) => crash(String(err)));
    } catch (err) {
      label.textContent = "";
      document.getElementById("boot-bar").hidden = true;
      crash(String(err));
    }
  }

  // instantiate compiles while it downloads, and shows how far it is. The length is of the decompressed program.
  async function instantiate(imports, label) {
    const response = await fetch(own.wasm);
    if (!response.ok) throw new Error("the app could not be loaded (status " + response.status + ")");
    const bar = document.getElementById("boot-bar");
    const total = Number(own.bytes);
    let loaded = 0;
    const counted = response.body.pipeThrough(new TransformStream({
      transform(chunk, controller) {
        loaded += chunk.byteLength;
        const percent = Math.min(100, Math.round(100 * loaded / total));
        bar.value = percent;
        label.textContent = "Loading… " + percent + " %";
        controller.enqueue(chunk);
      },
    }));
    return WebAssembly.instantiateStreaming(new Response(counted, { headers: { "Content-Type": "application/wasm" } }), imports);
  }

  // crash leaves what is on the page readable, and offers the way out.
  function crash(detail) {
    document.getElementById("crash-detail").textContent = detail;
    document.getElementById("crash").hidden = false;
    document.getElementById("crash-reload").focus();
  }
})();
