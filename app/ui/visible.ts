/**
 * Text that a guest or a file name brought, made safe to read: characters that would move, hide or reorder what stands beside
 * them are spelled out. React shows it as text; nothing here or elsewhere makes HTML of it.
 */
// Controls, all formatting (zero-width, bidirectional, tags), line and paragraph separators, and letters and marks that show nothing:
// a name of a variable may be made of those. The selectors of an emoji's look (U+FE00 to U+FE0F) stay.
const UNSEEN =
  /(?![\t\n])(?:[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\u115f\u1160\u2800\u3164\uffa0]|\u034f|\u17b4|\u17b5|[\u180b-\u180f]|[\u{e0100}-\u{e01ef}])/gu;

export function visible(text: string): string {
  return text.replace(UNSEEN, (character) => `‹U+${(character.codePointAt(0) ?? 0).toString(16).toUpperCase().padStart(4, "0")}›`);
}
