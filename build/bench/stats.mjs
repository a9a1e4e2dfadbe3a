// Samples, and the table made of them.

export const ms = (from) => performance.now() - from;

export function median(samples) {
  const sorted = [...samples].sort((a, b) => a - b);
  const middle = Math.floor(sorted.length / 2);
  return sorted.length % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

/** Numbers as the JSON has them: what was measured, unrounded sums aside. */
export const summary = (samples) => ({
  median: median(samples),
  min: Math.min(...samples),
  samples: samples.map((x) => Number(x.toFixed(3))),
});

const UNITS = {
  ms: (x) => (x < 10 ? `${x.toFixed(2)} ms` : x < 1000 ? `${x.toFixed(0)} ms` : `${(x / 1000).toFixed(2)} s`),
  MB: (x) => `${x.toFixed(0)} MB`,
  "%": (x) => `${x.toFixed(2)} %`,
  "/s": (x) => `${x.toFixed(0)} /s`,
  "MB/s": (x) => `${x.toFixed(0)} MB/s`,
};

/** What of a row its target is for, and on which side of it that has to be. */
const JUDGES = {
  ratio: { of: (r) => r.ratio, met: (value, target) => value <= target, words: (target) => `≤ ${target.toFixed(1)}x` },
  speed: { of: (r) => r.ratio, met: (value, target) => value >= target, words: (target) => `≥ ${target.toFixed(1)}x` },
  ours: { of: (r) => r.ours.median, met: (value, target) => value <= target, words: (target, unit) => `≤ ${UNITS[unit](target)}` },
  added: {
    of: (r) => r.ours.median - r.base.median,
    met: (value, target) => value <= target,
    words: (target, unit) => `≤ +${UNITS[unit](target)}`,
  },
};

/**
 * One measured thing. `ours` and `base` are sample lists; the verdict compares what `judge` names with the target: the ratio of the
 * medians (of times `ratio`, of speeds `speed`), what ours has `added`, or ours alone, which is what is judged where there is no base.
 */
export function row(section, name, { unit = "ms", ours, base, baseName = "", target, judge = base ? "ratio" : "ours" }) {
  const made = { section, name, unit, ours: summary(ours), ...(baseName ? { baseName } : {}) };
  if (base) Object.assign(made, { base: summary(base), ratio: median(ours) / median(base) });
  if (judge === "added") made.added = JUDGES.added.of(made);
  if (target !== undefined) Object.assign(made, { target, judge, met: JUDGES[judge].met(JUDGES[judge].of(made), target) });
  return made;
}

export function formatTable(rows) {
  const cell = (s, unit) => (s ? `${UNITS[unit](s.median)} (${UNITS[unit](s.min)})` : "");
  const lines = rows.map((r) => [
    r.name,
    cell(r.ours, r.unit),
    cell(r.base, r.unit),
    r.baseName ?? "",
    r.added !== undefined ? `+${UNITS[r.unit](r.added)}` : r.ratio === undefined ? "" : `${r.ratio.toFixed(2)}x`,
    r.target === undefined ? "" : JUDGES[r.judge].words(r.target, r.unit),
    r.met === undefined ? "" : r.met ? "met" : "MISSED",
  ]);
  return formatColumns([["", "ours: median (min)", "floor or peer", "which", "ratio", "target", "verdict"], ...lines]);
}

export function formatColumns(lines) {
  const widths = lines[0].map((_, i) => Math.max(...lines.map((line) => [...line[i]].length)));
  return lines
    .map((line) =>
      line
        .map((text, i) => text + " ".repeat(widths[i] - [...text].length))
        .join("  ")
        .trimEnd(),
    )
    .join("\n");
}

/** Parts that add up to a whole, each as the median over rounds. */
export function formatSplit(title, parts) {
  const names = Object.keys(parts[0]);
  const lines = names.map((name) => [`  ${name}`, UNITS.ms(median(parts.map((p) => p[name])))]);
  return `${title}\n${formatColumns(lines)}`;
}
