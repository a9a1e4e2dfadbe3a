/**
 * What a GraphQL document would do, as far as a key's default needs it: the names of the fields at the top of its operations. A document that cannot be
 * read gives nothing, and is refused.
 */
export interface Operations {
  /** top fields of mutations and subscriptions; queries change nothing */
  changes: string[];
}

const TOKEN =
  /[\s,\uFEFF]+|#[^\n\r]*|"""(?:\\"""|[\s\S])*?"""|"(?:\\.|[^"\\\n\r])*"|\.\.\.|[_A-Za-z][_0-9A-Za-z]*|-?[0-9][0-9.eE+-]*|[!$&()[\]{}:=@|]/y;

export function operations(document: string): Operations | undefined {
  const tokens = tokensOf(document);
  if (!tokens) return undefined;
  const changes: string[] = [];
  let at = 0;
  /** past a balanced group that begins here */
  const skip = (open: string, close: string): boolean => {
    let depth = 0;
    for (; at < tokens.length; at++) {
      if (tokens[at] === open) depth++;
      if (tokens[at] === close && --depth === 0) {
        at++;
        return true;
      }
    }
    return false;
  };
  while (at < tokens.length) {
    const word = tokens[at];
    const changing = word === "mutation" || word === "subscription";
    if (word !== "{" && word !== "query" && word !== "fragment" && !changing) return undefined;
    // name, variables and directives up to the selection
    while (at < tokens.length && tokens[at] !== "{") {
      if (tokens[at] !== "(") at++;
      else if (!skip("(", ")")) return undefined;
    }
    if (!changing) {
      if (!skip("{", "}")) return undefined;
      continue;
    }
    at++;
    while (tokens[at] !== "}") {
      if (at >= tokens.length) return undefined;
      const first = tokens[at++] ?? "";
      // a fragment at the top hides which fields are meant
      if (!/^[_A-Za-z]/.test(first)) return undefined;
      let name = first;
      if (tokens[at] === ":") {
        name = tokens[at + 1] ?? "";
        at += 2;
      }
      if (!/^[_A-Za-z]/.test(name)) return undefined;
      changes.push(name);
      while (tokens[at] === "(" || tokens[at] === "@" || tokens[at] === "{") {
        if (tokens[at] === "@") at += 2;
        else if (!(tokens[at] === "(" ? skip("(", ")") : skip("{", "}"))) return undefined;
      }
    }
    at++;
  }
  return { changes };
}

function tokensOf(document: string): string[] | undefined {
  const tokens: string[] = [];
  TOKEN.lastIndex = 0;
  while (TOKEN.lastIndex < document.length) {
    const token = TOKEN.exec(document)?.[0];
    if (token === undefined) return undefined;
    if (!/^[\s,#\uFEFF]/.test(token)) tokens.push(token.startsWith('"') ? '"' : token);
  }
  return tokens;
}

/** Changes that work on what people say about code, and grant nobody anything; code itself is pushed, where a rule names the repository. */
export const CONTENT_CHANGES: ReadonlySet<string> = new Set(
  `createPullRequest updatePullRequest closePullRequest reopenPullRequest markPullRequestReadyForReview convertPullRequestToDraft
  requestReviews addPullRequestReview updatePullRequestReview submitPullRequestReview
  addPullRequestReviewThread addPullRequestReviewThreadReply addPullRequestReviewComment updatePullRequestReviewComment
  resolveReviewThread unresolveReviewThread markFileAsViewed unmarkFileAsViewed
  createIssue updateIssue closeIssue reopenIssue addComment updateIssueComment pinIssue unpinIssue
  addSubIssue removeSubIssue addLabelsToLabelable removeLabelsFromLabelable clearLabelsFromLabelable createLabel updateLabel
  addAssigneesToAssignable removeAssigneesFromAssignable addReaction removeReaction minimizeComment unminimizeComment
  createDiscussion updateDiscussion addDiscussionComment updateDiscussionComment
  addProjectV2ItemById addProjectV2DraftIssue updateProjectV2ItemFieldValue clearProjectV2ItemFieldValue`.split(/\s+/),
);
