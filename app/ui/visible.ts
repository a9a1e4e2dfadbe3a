/**
 * Text that a guest or a file name brought, made safe to read: characters that would move, hide or reorder what stands beside
 * them are spelled out. React shows it as text; nothing here or elsewhere makes HTML of it.
 */
// Controls, line and paragraph separators, zero-width and bidirectional formatting, tag characters.
const UNSEEN =
  /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\u{e0000}-\u{e007f}]/gu;

export function visible(text: string): string {
  return text.replace(UNSEEN, (character) => `‹U+${(character.codePointAt(0) ?? 0).toString(16).toUpperCase().padStart(4, "0")}›`);
}
