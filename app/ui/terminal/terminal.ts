/**
 * The terminal, with everything that would let the guest's bytes reach past it turned off: no links (OSC 8), no clipboard
 * (OSC 52), no title (OSC 0, 1, 2), no window reports or operations, no notification sequences. What remains is text and colour.
 */
import { FitAddon } from "@xterm/addon-fit";
import { type ITheme, Terminal } from "@xterm/xterm";
import { openStyleSafe } from "./styles.ts";

/** Operating system commands that end here, unread: titles, working directory, links, notifications, clipboard, iTerm2's own. */
const SWALLOWED_OSC = [0, 1, 2, 7, 8, 9, 52, 99, 777, 1337];
const SCROLLBACK_LINES = 5_000;

const LIGHT: ITheme = {
  background: "#fbfbf9",
  foreground: "#24292a",
  cursor: "#24292a",
  cursorAccent: "#fbfbf9",
  selectionBackground: "#c9ddd2",
  black: "#24292a",
  red: "#a8323a",
  green: "#23704c",
  yellow: "#7d5a00",
  blue: "#2a5db0",
  magenta: "#8a3d8f",
  cyan: "#14707a",
  white: "#5d6667",
  brightBlack: "#6d7677",
  brightRed: "#b83e46",
  brightGreen: "#2b7d56",
  brightYellow: "#8a6400",
  brightBlue: "#3369c2",
  brightMagenta: "#984a9d",
  brightCyan: "#1b7a85",
  brightWhite: "#24292a",
};
const DARK: ITheme = {
  background: "#15191a",
  foreground: "#dfe5e3",
  cursor: "#dfe5e3",
  cursorAccent: "#15191a",
  selectionBackground: "#345446",
  black: "#15191a",
  red: "#ef8a8f",
  green: "#7fc8a3",
  yellow: "#e0b964",
  blue: "#8db4f2",
  magenta: "#d3a0d8",
  cyan: "#7cc7cf",
  white: "#c3cbc9",
  brightBlack: "#8b9594",
  brightRed: "#f6a5a9",
  brightGreen: "#9adbb8",
  brightYellow: "#efcf8a",
  brightBlue: "#abc8f7",
  brightMagenta: "#e0b9e4",
  brightCyan: "#9adbe1",
  brightWhite: "#ffffff",
};

export interface OpenTerminal {
  readonly terminal: Terminal;
  fit(): void;
  dispose(): void;
}

/** `leave`: the person pressed Ctrl+F6 to get out with the keyboard. */
export function openTerminal(parent: HTMLElement, leave: () => void): OpenTerminal {
  const scheme = matchMedia("(prefers-color-scheme: dark)");
  const terminal = new Terminal({
    theme: scheme.matches ? DARK : LIGHT,
    fontFamily: 'ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace',
    fontSize: 13,
    scrollback: SCROLLBACK_LINES,
    minimumContrastRatio: 4.5,
    windowOptions: {},
    linkHandler: { activate: () => {}, allowNonHttpProtocols: false },
    logLevel: "off",
  });
  for (const code of SWALLOWED_OSC) terminal.parser.registerOscHandler(code, () => true);
  const fit = new FitAddon();
  terminal.loadAddon(fit);
  openStyleSafe(terminal, parent);

  terminal.attachCustomKeyEventHandler((event) => {
    if (event.type === "keydown" && event.ctrlKey && event.key === "F6") {
      leave();
      return false;
    }
    if (event.type === "keydown" && event.ctrlKey && event.shiftKey && event.code === "KeyC") {
      event.preventDefault();
      if (terminal.hasSelection()) void navigator.clipboard.writeText(terminal.getSelection());
      return false;
    }
    return true;
  });
  const onScheme = () => {
    terminal.options.theme = scheme.matches ? DARK : LIGHT;
  };
  scheme.addEventListener("change", onScheme);
  const observer = new ResizeObserver(() => fit.fit());
  observer.observe(parent);
  fit.fit();
  return {
    terminal,
    fit: () => fit.fit(),
    dispose() {
      observer.disconnect();
      scheme.removeEventListener("change", onScheme);
      terminal.dispose();
    },
  };
}
