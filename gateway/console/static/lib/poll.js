// Reading again: what the gateway does not tell by itself. Owns the pace and that nobody is asked while the page is hidden.

/**
 * Call `read()` now and every `every_ms` after it ended, while the page is seen, until `signal` is aborted. `failed(error)`
 * hears of a failure once, until a reading succeeds again. Returns a function that reads at once.
 */
export function poll(read, { signal, every_ms = 3000, failed = () => {} }) {
  let timer = 0, bad = false, running = null;
  async function turn() {
    clearTimeout(timer);
    try {
      running ??= read();
      await running;
      bad = false;
    } catch (error) {
      if (signal.aborted || error.name === "AbortError") return;
      if (!bad) failed(error);
      bad = true;
    } finally { running = null; }
    if (!signal.aborted && !document.hidden) timer = setTimeout(turn, every_ms);
  }
  document.addEventListener("visibilitychange", () => { if (!document.hidden && !signal.aborted) turn(); }, { signal });
  signal.addEventListener("abort", () => clearTimeout(timer), { once: true });
  return turn;
}
