/** The diff of one change, fetched in slices; hunks can be taken or left. For a conflict, what happened in the folder stands beside it. */
import { useEffect, useMemo, useState } from "react";
import { type ChangeView, type DiffSlice, type Problem, toProblem } from "../../contract/index.ts";
import { useActions } from "../page.ts";
import { ProblemNote } from "../parts/ProblemNote.tsx";
import { bytes, text } from "../text.ts";
import { visible } from "../visible.ts";
import type { ChosenHunks } from "./ChangeItem.tsx";
import { type Row, rowsOf } from "./unified.ts";

type Side = "change" | "theirs";
type Props = Readonly<{ task: string; folder: string; change: ChangeView; choose: (hunks: ChosenHunks | undefined) => void }>;

interface Loaded {
  readonly first: DiffSlice;
  /** what was fetched so far, whole characters only at its end when `next` is undefined */
  readonly parts: readonly Uint8Array[];
  readonly next: number | undefined;
}

export function DiffPane({ task, folder, change, choose }: Props) {
  const [side, setSide] = useState<Side>("change");
  const { loaded, problem, more } = useDiff(task, folder, change, side);
  return (
    <div className="diff">
      {change.conflict && (
        <fieldset className="sides">
          <legend>{text.changes.sides}</legend>
          {(["change", "theirs"] as const).map((each) => (
            <label key={each}>
              <input type="radio" name={`side-${change.id}`} checked={side === each} onChange={() => setSide(each)} />
              {text.changes.side[each]}
            </label>
          ))}
        </fieldset>
      )}
      {problem && <ProblemNote problem={problem} />}
      {!loaded && !problem && <p role="status">{text.changes.reading}</p>}
      {loaded && <Content loaded={loaded} choose={side === "change" && change.kind === "modified" ? choose : undefined} />}
      {loaded?.next !== undefined && (
        <button type="button" onClick={more}>
          {text.changes.moreDiff(bytes(loaded.next), bytes(loaded.first.totalBytes))}
        </button>
      )}
    </div>
  );
}

function useDiff(task: string, folder: string, change: ChangeView, side: Side) {
  const { diff } = useActions();
  const [loaded, setLoaded] = useState<Loaded>();
  const [problem, setProblem] = useState<Problem>();
  const { id, token } = change;
  // biome-ignore lint/correctness/useExhaustiveDependencies: a new token is another diff
  useEffect(() => {
    let gone = false;
    setLoaded(undefined);
    setProblem(undefined);
    diff({ task, folder, id, side, offset: 0 }).then(
      (first) => gone || setLoaded({ first, parts: [fromBase64(first.bytes)], next: first.next }),
      (error) => gone || setProblem(toProblem(error)),
    );
    return () => {
      gone = true;
    };
  }, [task, folder, id, token, side, diff]);
  const more = async () => {
    if (loaded?.next === undefined) return;
    try {
      const slice = await diff({ task, folder, id, side, offset: loaded.next });
      // The change moved on between two slices: what is shown would be of two diffs.
      if (slice.token !== loaded.first.token)
        setProblem({ code: "share.change-moved-on", message: text.changes.movedOn, next: [text.changes.movedOnNext] });
      else setLoaded({ ...loaded, parts: [...loaded.parts, fromBase64(slice.bytes)], next: slice.next });
    } catch (error) {
      setProblem(toProblem(error));
    }
  };
  return { loaded, problem, more };
}

type ContentProps = Readonly<{ loaded: Loaded; choose: ((hunks: ChosenHunks | undefined) => void) | undefined }>;

function Content({ loaded, choose }: ContentProps) {
  const { first, parts } = loaded;
  const rows = useMemo(() => withoutHead(rowsOf(decode(parts))), [parts]);
  switch (first.kind) {
    case "none":
      return <p className="hint">{text.changes.noDiff}</p>;
    case "binary":
    case "too-large": {
      const { oldSizeBytes, newSizeBytes, oldSha256, newSha256 } = first.summary;
      return (
        <>
          <p>{text.changes[first.kind === "binary" ? "binary" : "tooLarge"](bytes(oldSizeBytes), bytes(newSizeBytes))}</p>
          {[oldSha256, newSha256].map((hash, at) =>
            // biome-ignore lint/suspicious/noArrayIndexKey: before and after, always in this order
            hash === undefined ? null : <code key={at}>{text.changes.hash(at === 0, hash)}</code>,
          )}
          {/* modes and names stand there whatever the content is */}
          {rows.length > 0 && <Hunks rows={rows} count={0} token={first.token} choose={undefined} />}
        </>
      );
    }
    case "link":
    case "text":
      return <Hunks rows={rows} count={first.hunks.length} token={first.token} choose={first.kind === "text" ? choose : undefined} />;
  }
}

type HunksProps = Readonly<{ rows: readonly Row[]; count: number; token: string; choose: ContentProps["choose"] }>;

function Hunks({ rows, count, token, choose }: HunksProps) {
  const [left, setLeft] = useState<ReadonlySet<number>>(new Set());
  const toggle = (hunk: number) => {
    const fresh = new Set(left);
    if (!fresh.delete(hunk)) fresh.add(hunk);
    setLeft(fresh);
    choose?.({ hunks: Array.from({ length: count }, (_, at) => at).filter((at) => !fresh.has(at)), of: count, token });
  };
  return (
    // biome-ignore lint/a11y/noNoninteractiveTabindex: a region that scrolls must be reachable with the keyboard
    <section className="rows" tabIndex={0} aria-label={text.changes.diff}>
      <table>
        <tbody>
          {rows.map((row, at) => (
            // biome-ignore lint/suspicious/noArrayIndexKey: the rows of one diff never move
            <tr key={at} className={`row-${row.kind}`}>
              {row.kind === "hunk" ? (
                <td colSpan={4}>
                  {choose && count > 1 ? (
                    <label>
                      <input type="checkbox" checked={!left.has(row.hunk)} onChange={() => toggle(row.hunk)} />{" "}
                      {text.changes.part(row.hunk + 1, count)}
                    </label>
                  ) : null}{" "}
                  <code>{visible(row.text)}</code>
                </td>
              ) : row.kind === "note" ? (
                <td colSpan={4}>{visible(row.text)}</td>
              ) : (
                <>
                  <td className="number">{row.old}</td>
                  <td className="number">{row.fresh}</td>
                  <td className="sign">
                    <span aria-hidden="true">{SIGN[row.kind]}</span>
                    <span className="unseen">{text.changes.line[row.kind]}</span>
                  </td>
                  <td className="code">{visible(row.text)}</td>
                </>
              )}
            </tr>
          ))}
        </tbody>
      </table>
    </section>
  );
}

/** The two lines of names that every unified diff begins with; the name stands above already. */
const withoutHead = (rows: readonly Row[]) => rows.filter((row, at) => at > 1 || row.kind !== "note" || !/^(---|\+\+\+) /.test(row.text));

const SIGN = { same: " ", added: "+", removed: "−" } as const;

const fromBase64 = (encoded: string) => Uint8Array.from(atob(encoded), (character) => character.charCodeAt(0));

/** Slices may cut a character in two, so they are decoded as one stream; bytes that are no text show as replacement characters. */
function decode(parts: readonly Uint8Array[]): string {
  const decoder = new TextDecoder();
  return parts.map((part) => decoder.decode(part, { stream: true })).join("") + decoder.decode();
}
