/** Builds the page into `.build/ui` (or `CLOCHE_UI_OUT`): plain files, nothing inline, so that the host's policy needs no exception. */
import react from "@vitejs/plugin-react";
import { defineConfig } from "vite";

export default defineConfig({
  root: import.meta.dirname,
  base: "/",
  plugins: [react()],
  build: {
    outDir: process.env.CLOCHE_UI_OUT ?? new URL("../../.build/ui", import.meta.url).pathname,
    emptyOutDir: true,
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    target: "es2024",
    chunkSizeWarningLimit: 1500,
  },
});
