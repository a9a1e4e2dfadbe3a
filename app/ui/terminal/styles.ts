/**
 * xterm 6.0.0 under a policy without `unsafe-inline`. It styles itself in three ways: through `element.style` (allowed), through
 * `<style>` elements and through `setAttribute("style", …)` (both refused). This file turns the last two into what is allowed:
 * a `<style>` becomes a constructed style sheet, a style attribute becomes `element.style`.
 *
 * xterm's `documentOverride` would be the place for that, but its viewport and its row factory take `window.document` whatever
 * it says. So while `open` runs, in which all its style elements are made, `document.createElement` is ours; and a style
 * attribute set by script goes through `element.style` in the whole page, which means the same and is what the policy wants.
 */
import type { Terminal } from "@xterm/xterm";

const { setAttribute } = Element.prototype;

Element.prototype.setAttribute = function (this: Element, name: string, value: string): void {
  if (name === "style" && this instanceof HTMLElement) this.style.cssText = value;
  else setAttribute.call(this, name, value);
};

/** Stands where a style element would; its text goes to a style sheet that lives until the element is removed. */
function sheetElement(): HTMLElement {
  const element = Document.prototype.createElement.call(document, "template");
  const sheet = new CSSStyleSheet();
  document.adoptedStyleSheets.push(sheet);
  return Object.defineProperties(element, {
    textContent: { set: (css: string) => sheet.replaceSync(css) },
    remove: {
      value: () => {
        document.adoptedStyleSheets = document.adoptedStyleSheets.filter((adopted) => adopted !== sheet);
        Element.prototype.remove.call(element);
      },
    },
  });
}

export function openStyleSafe(terminal: Terminal, parent: HTMLElement): void {
  const create = (tag: string) => (tag === "style" ? sheetElement() : Document.prototype.createElement.call(document, tag));
  document.createElement = create as typeof document.createElement;
  try {
    terminal.open(parent);
  } finally {
    Reflect.deleteProperty(document, "createElement");
  }
}
