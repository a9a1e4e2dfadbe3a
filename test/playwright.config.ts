/** The browser suites' door, beside vitest's; the one suite there is has its configuration in its folder. */
export { default } from "./e2e/web/playwright.config.ts";
