/**
 * xterm under a policy without `unsafe-inline`. It styles itself in three ways: through `element.style` (allowed), through
 * `<style>` elements and through `setAttribute("style", …)` (both refused). This file turns the last two into what is allowed:
 * a `<style>` becomes a constructed style sheet, a style attribute becomes `element.style`.
 *
 * xterm takes a document of ours (`documentOverride`) for most elements; its viewport takes `window.document` whatever we say
 * (CoreBrowserTerminal.ts of 6.0.0), so while `open` runs, the real document's `createElement` is ours too.
 */
import type { Terminal } from "@xterm/xterm";

const realCreate = Document.prototype.createElement;

/** Stands where a style element would; its text goes to a style sheet that lives as long as the element is in the page. */
function sheetElement(): HTMLElement {
  const element = realCreate.call(document, "template");
  const sheet = new CSSStyleSheet();
  document.adoptedStyleSheets.push(sheet);
  const remove = element.remove.bind(element);
  return Object.defineProperties(element, {
    textContent: { set: (css: string) => sheet.replaceSync(css) },
    remove: {
      value: () => {
        document.adoptedStyleSheets = document.adoptedStyleSheets.filter((adopted) => adopted !== sheet);
        remove();
      },
    },
  });
}

function create(tag: string): HTMLElement {
  if (tag === "style") return sheetElement();
  const element = realCreate.call(document, tag);
  const setAttribute = element.setAttribute.bind(element);
  element.setAttribute = (name, value) => {
    if (name === "style") element.style.cssText = value;
    else setAttribute(name, value);
  };
  return element;
}

/** The document for `documentOverride`. */
export function styleSafeDocument(): Document {
  return new Proxy(document, {
    get(target, name) {
      if (name === "createElement") return create;
      const value: unknown = Reflect.get(target, name, target);
      return typeof value === "function" ? value.bind(target) : value;
    },
  });
}

export function openStyleSafe(terminal: Terminal, parent: HTMLElement): void {
  document.createElement = create as typeof document.createElement;
  try {
    terminal.open(parent);
  } finally {
    Reflect.deleteProperty(document, "createElement");
  }
}
