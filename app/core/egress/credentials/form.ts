import { plainField } from "./json.ts";
import type { Refusal } from "./refusal.ts";

/**
 * A form with parts (RFC 7578), read as the strictest server reads it: what a more lenient one could cut otherwise is no form. So every
 * mark of a part stands at a line's beginning, and a part's head says nothing but its name, its file's name and its type.
 */
const TYPE = /^multipart\/form-data;[ \t]*boundary=(?:"([0-9A-Za-z'()+_,./:=?-]{1,70})"|([0-9A-Za-z'+_.-]{1,70}))$/i;
const TOKEN = "[0-9A-Za-z._-]{1,128}";
const NAME = new RegExp(
  `^content-disposition: ?form-data; ?name=(?:"([^"\\\\\\r\\n]{1,128})"|(${TOKEN}))(?:; ?filename=(?:"[^"\\\\\\r\\n]{0,512}"|${TOKEN}))?(?:; ?filename\\*=[^;" \\r\\n]{1,512})?$`,
  "i",
);
const HARMLESS = /^(?:content-type: ?[!-~][ -~]{0,255}|content-transfer-encoding: ?(?:7bit|8bit|binary)|content-length: ?[0-9]{1,10})$/i;
const MAX_PART_HEAD = 2048;
/** of a part's content, what a judge is shown */
const SHOWN = 64;

/**
 * Told of each part: its name in the form of `plainField`, without the brackets of a list, and how its content begins. Answers why the form cannot pass.
 * @param type the header, as it was sent
 */
export function judgeForm(
  body: Buffer,
  type: string,
  visit: (name: string, begins: string) => Refusal | undefined,
  unreadable: (why: string) => Refusal,
): Refusal | undefined {
  const [, quotedMark, plainMark] = TYPE.exec(type) ?? [];
  const no = () => unreadable("it is not a form with parts as every server reads it: name its file without quotes and backslashes");
  if (quotedMark === undefined && plainMark === undefined) return no();
  const mark = Buffer.from(`--${quotedMark ?? plainMark}`);
  if (!body.subarray(0, mark.length).equals(mark)) return no();
  for (let at = mark.length; ; ) {
    const behind = body.toString("latin1", at, at + 2);
    if (behind === "--") return /^(?:\r\n)?$/.test(body.toString("latin1", at + 2)) ? undefined : no();
    const end = body.indexOf("\r\n\r\n", at);
    const next = end === -1 ? -1 : body.indexOf(mark, at);
    if (behind !== "\r\n" || next < end + 6 || end - at > MAX_PART_HEAD || body.toString("latin1", next - 2, next) !== "\r\n") return no();
    const lines = body.toString("latin1", at + 2, end).split("\r\n");
    const names = lines.flatMap(
      (line) =>
        NAME.exec(line)
          ?.slice(1)
          .find((name) => name !== undefined) ?? [],
    );
    const name = names[0];
    if (name === undefined || names.length > 1 || lines.some((line) => !NAME.test(line) && !HARMLESS.test(line))) return no();
    const refusal = visit(plainField(name.replace(/\[.*$/, "")), body.toString("latin1", end + 4, Math.min(end + 4 + SHOWN, next - 2)));
    if (refusal) return refusal;
    at = next + mark.length;
  }
}
