import { describe, expect, it } from "vitest";
import { presetRules } from "../policy/index.ts";
import { pick, request, secret, seeded, text, VALUE } from "./fixtures/cases.ts";
import { JSON_TYPE, MODELS, message, form as parts, REMOTE_BODIES, REMOTE_FORMS, SOUND } from "./fixtures/remote.ts";
import { type BodyFilter, HoldingRoom, type Passed, prepare, type Refusal } from "./index.ts";
import { profileOf } from "./profiles.ts";

const anthropic = secret("anthropic", VALUE, { hosts: ["api.anthropic.com"], use: "x-api-key" });
const form = secret("form", 'se cret/+"ü', { hosts: ["form.example.com", "slack.com"], use: "bearer", body: true });
const slack = secret("slack", `xoxb-${"1".repeat(12)}-${"a".repeat(24)}`, { hosts: ["slack.com"], use: "bearer" });
const github = secret("github", `ghp_${"Zy9".repeat(12)}`, { hosts: ["api.github.com"], use: "bearer" });
const SECRETS = [anthropic, form, slack, github];

type Given = Parameters<typeof request>[0];
const ask = (given: Given, rule: { credentials?: "guest" } = {}) => prepare(request({ method: "POST", ...given }), SECRETS, rule);

function open(given: Given, rule: { credentials?: "guest" } = {}, room = new HoldingRoom()): { plan: Passed["body"]; filter: BodyFilter } {
  const result = ask(given, rule);
  if (result.kind === "refuse") throw new Error(`${result.code} ${result.reason}`);
  if (result.body.kind !== "filter") throw new Error("the body passes unread");
  return { plan: result.body, filter: result.body.open(room) };
}

/** The body as it leaves, or why it does not. */
function send(given: Given, body: string | Buffer, rule: { credentials?: "guest" } = {}, cut: () => number = () => 1000): string | Refusal {
  const { filter } = open(given, rule);
  const bytes = Buffer.from(body);
  const out: Buffer[] = [];
  try {
    for (let at = 0; at < bytes.length; ) {
      const size = cut();
      const part = filter.push(bytes.subarray(at, at + size));
      if ("kind" in part) return part;
      out.push(part);
      at += size;
    }
    const rest = filter.end();
    if ("kind" in rest) return rest;
    return Buffer.concat([...out, rest]).toString();
  } finally {
    filter.close();
  }
}
const code = (result: string | Refusal) => (typeof result === "string" ? `passed: ${result.slice(0, 80)}` : result.code);

describe("E02: what makes a model API fetch, call or run something for the guest is refused", () => {
  it.each(REMOTE_BODIES)("%s %j", (api, body) => {
    const given = MODELS[api] ?? {};
    expect(code(send(given, JSON.stringify(body)))).toBe("request.remote-fetch");
    expect(code(send(given, JSON.stringify(body, undefined, 1), { credentials: "guest" }, () => 3))).toBe("request.remote-fetch");
    // the same with every character of every name escaped
    const escaped = JSON.stringify(body).replaceAll(
      /"([A-Za-z_]+)":/g,
      (_all, name: string) => `"${[...name].map((one) => `\\u00${one.charCodeAt(0).toString(16)}`).join("")}":`,
    );
    expect(code(send(given, escaped))).toBe("request.remote-fetch");
  });

  it.each<[string, unknown]>([
    ["anthropic", message('look at https://example.com and {"mcp_servers":[]}')],
    ["anthropic", message([{ type: "image", source: { type: "base64", media_type: "image/png", data: "A".repeat(500_000) } }])],
    [
      "anthropic",
      message([{ type: "document", source: { type: "text", media_type: "text/plain", data: "x" }, citations: { enabled: true } }]),
    ],
    [
      "anthropic",
      message([
        {
          type: "tool_use",
          id: "t",
          name: "n",
          input: { source: { type: "url", url: "https://x" }, file_id: "1", mcp_servers: [], container: 1 },
        },
      ]),
    ],
    ["anthropic", message([{ type: "search_result", source: "https://x", title: "t", content: [{ type: "text", text: "x" }] }])],
    [
      "anthropic",
      {
        ...message("x"),
        tools: [
          { name: "n", input_schema: { type: "object", properties: { container: { type: "url" }, type: { type: "string" } } } },
          { type: "custom", name: "c", input_schema: {} },
        ],
      },
    ],
    [
      "anthropic",
      {
        ...message("x"),
        tools: [
          { type: "bash_20250124", name: "bash" },
          { type: "text_editor_20250728", name: "e" },
          { type: "memory_20250818", name: "m" },
        ],
        container: null,
      },
    ],
    [
      "anthropic",
      {
        ...message("x"),
        thinking: { type: "enabled", budget_tokens: 1 },
        metadata: { user_id: "u" },
        stream: true,
        tool_choice: { type: "auto" },
      },
    ],
    ["anthropic", { requests: [{ custom_id: "1", params: message("x") }] }],
    ["anthropic", message(`my stand-in is ${anthropic.placeholder}`)],
    [
      "openai",
      {
        model: "gpt-5",
        input: [
          {
            type: "message",
            role: "user",
            content: [
              { type: "input_text", text: "https://x" },
              { type: "input_image", image_url: "data:image/png;base64,AAAA" },
            ],
          },
        ],
        tools: [
          {
            type: "function",
            name: "f",
            parameters: { type: "object", properties: { type: { type: "string" }, image_url: { url: "https://x" } } },
          },
          { type: "local_shell" },
          { type: "custom", name: "apply_patch", format: { type: "grammar", syntax: "lark", definition: "x" } },
        ],
        store: false,
        include: ["reasoning.encrypted_content"],
        reasoning: { effort: "high" },
      },
    ],
    [
      "openai",
      {
        model: "gpt-5",
        input: [
          { type: "function_call", arguments: '{"image_url":"https://x"}' },
          { type: "message", content: [{ type: "output_text", text: "x", annotations: [{ type: "url_citation", url: "https://x" }] }] },
        ],
      },
    ],
    [
      "openai",
      {
        model: "gpt-5",
        messages: [{ role: "user", content: "x" }],
        response_format: {
          type: "json_schema",
          json_schema: { name: "n", schema: { type: "object", properties: { file_url: { type: "string" } } } },
        },
      },
    ],
    ["openai", { model: "gpt", input: "x", tools: [{ type: "shell", environment: { type: "local" } }], web_search_options: null }],
    [
      "gemini",
      {
        contents: [
          {
            role: "user",
            parts: [
              { text: "https://x" },
              { inlineData: { mimeType: "image/png", data: "AAAA" } },
              { functionCall: { name: "f", args: { uri: "https://x", fileData: 1 } } },
              { functionResponse: { name: "f", response: { uri: "x" } } },
            ],
          },
        ],
        tools: [{ functionDeclarations: [{ name: "f", parameters: { type: "object", properties: { uri: { type: "string" } } } }] }],
        generationConfig: { temperature: 0 },
      },
    ],
  ])("control: %s, an ordinary request passes unchanged", (api, body) => {
    const json = JSON.stringify(body);
    expect(send(MODELS[api] ?? {}, json, {}, () => 4096)).toBe(json);
  });

  it.each<[string, Given, string | Buffer]>([
    ["a field twice", MODELS.anthropic ?? {}, '{"model":"m","model":"n"}'],
    ["what is no JSON", MODELS.anthropic ?? {}, "model=m"],
    ["a type of its own", { ...MODELS.anthropic, headers: { "content-type": "text/plain" } }, "{}"],
    ["no type", { ...MODELS.anthropic, headers: {} }, "{}"],
    ["another character set", { ...MODELS.anthropic, headers: { "content-type": "application/json; charset=utf-16" } }, "{}"],
    ["a multipart form", { ...MODELS.anthropic, headers: { "content-type": "multipart/form-data; boundary=x" } }, "--x--"],
    ["a form", { ...MODELS.openai, headers: { "content-type": "application/x-www-form-urlencoded" } }, "a=b"],
    ["two documents", MODELS.openai ?? {}, "{}{}"],
    ["half a document", MODELS.openai ?? {}, '{"a":'],
    ["more than an API takes", MODELS.openai ?? {}, `{}${" ".repeat(33 * 1024 * 1024)}`],
  ])("a body that cannot be read is refused: %s", (_name, given, body) => {
    expect(code(send(given, body, {}, () => 1 << 20))).toBe("request.unreadable-body");
  });

  it("a request without a body, whatever type it names, passes", () => {
    expect(send({ ...MODELS.openai, method: "GET", path: "/v1/models", headers: {} }, "")).toBe("");
  });

  it.each(SOUND)("sound is written down at %s, from a file and not from an address", (host, path) => {
    const given = (form: { type: string }) => ({ host, path, headers: { "content-type": form.type } });
    const whole = parts([
      ["model", "whisper"],
      ["prompt", "https://example.com is said often"],
      ["file", "\u0000RIFF--x\r\n-", "a.wav"],
    ]);
    for (const size of [1, 7, 4096]) expect(send(given(whole), whole.body, {}, () => size)).toBe(whole.body);
    for (const [what, form] of REMOTE_FORMS) expect([what, code(send(given(form), form.body))]).toEqual([what, "request.remote-fetch"]);
    expect(code(send({ host, path, headers: { "content-type": "application/json" } }, '{"file_url":"https://evil.example"}'))).toBe(
      "request.remote-fetch",
    );
  });

  const FORM = 'Content-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n';
  it.each([
    ["a part before the first mark", `x\r\n--b\r\n${FORM}x\r\n--b--\r\n`],
    ["a mark behind a bare line feed", `--b\r\n${FORM}x\n--b\nContent-Disposition: form-data; name="url"\n\nhttps://x\r\n--b--\r\n`],
    ["a mark of which only the beginning is bare", `--b\r\n${FORM}x\n--b\r\n${FORM}x\r\n--b--\r\n`],
    ["a mark within a line", `--b\r\n${FORM}x--b\r\n${FORM}x\r\n--b--\r\n`],
    ["a mark within a part's head", `--b\r\nContent-Disposition: form-data; name="--b"\r\n\r\nx\r\n--b--\r\n`],
    ["a part behind the last mark", `--b\r\n${FORM}x\r\n--b--\r\n--b\r\n${FORM}x\r\n--b--\r\n`],
    ["two names", `--b\r\nContent-Disposition: form-data; name="file"; name="url"\r\n\r\nx\r\n--b--\r\n`],
    ["a name twice", `--b\r\nContent-Disposition: form-data; name="file"\r\n${FORM}x\r\n--b--\r\n`],
    ["a quote in a name", '--b\r\nContent-Disposition: form-data; name="a\\"; name="url"\r\n\r\nx\r\n--b--\r\n'],
    ["a name in another coding", "--b\r\nContent-Disposition: form-data; name*=utf-8''url\r\n\r\nx\r\n--b--\r\n"],
    ["a part of another coding", `--b\r\nContent-Transfer-Encoding: base64\r\n${FORM}x\r\n--b--\r\n`],
    ["a folded head", `--b\r\nContent-Type: text/plain\r\n ; a\r\n${FORM}x\r\n--b--\r\n`],
    ["no end", `--b\r\n${FORM}x\r\n--b`],
    ["no part's end", `--b\r\n${FORM}x`],
    ["no head", "--b\r\nx\r\n--b--\r\n"],
    ["no part", "--b"],
  ])("a form that two servers could cut otherwise is refused: %s", (_, body) => {
    const at = (type: string): Given => ({
      host: "api.groq.com",
      path: "/openai/v1/audio/transcriptions",
      headers: { "content-type": type },
    });
    expect(code(send(at("multipart/form-data; boundary=b"), body))).toBe("request.unreadable-body");
    const whole = `--b\r\n${FORM}x\r\n--b--\r\n`;
    expect(send(at("multipart/form-data; boundary=b"), whole)).toBe(whole);
    const bare = (name: string) =>
      `--b\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Disposition: form-data; name=${name}; filename=a.wav; filename*=utf-8''a.wav\r\n\r\nx\r\n--b--`;
    expect(send(at('multipart/form-data; boundary="b"'), bare("file"))).toBe(bare("file"));
    expect(code(send(at("multipart/form-data; boundary=b"), bare("url")))).toBe("request.remote-fetch");
    for (const type of ["multipart/form-data", "multipart/form-data; boundary=b; boundary=c", "multipart/mixed; boundary=b"])
      expect([type, code(send(at(type), whole))]).toEqual([type, "request.unreadable-body"]);
  });

  it("a body of two types is refused, since servers differ in which they read", () => {
    for (const name of ["Content-Type", "content_type"]) {
      const rawHeaders = ["content-type", "application/json", name, "application/x-www-form-urlencoded"];
      expect(ask({ ...MODELS.openai, headers: {}, rawHeaders })).toMatchObject({ kind: "refuse", code: "request.unreadable-body" });
    }
  });

  it("every host of the preset models is known as a model API, so that what it is sent is read", () => {
    const hosts = new Set(presetRules("models").map(({ host }) => host));
    expect(hosts.size).toBeGreaterThan(10);
    expect([...hosts].filter((host) => profileOf(host)?.model === undefined)).toEqual([]);
  });

  it("nothing leaves before the verdict on the whole", () => {
    const { plan, filter } = open(MODELS.anthropic ?? {});
    expect(plan).toMatchObject({ held: true, length: "same" });
    expect(filter.push(Buffer.from(JSON.stringify(message("x")).slice(0, -1)))).toHaveLength(0);
    expect(filter.push(Buffer.from("}"))).toHaveLength(0);
    expect(String(filter.end())).toBe(JSON.stringify(message("x")));
    filter.close();
  });

  it("bodies that wait share one room, and leave it in every case", () => {
    const room = new HoldingRoom(1000);
    const body = Buffer.from(`["${"a".repeat(700)}"]`);
    const first = open(MODELS.anthropic ?? {}, {}, room).filter;
    expect(first.push(body)).toHaveLength(0);
    const second = open(MODELS.anthropic ?? {}, {}, room).filter;
    expect(code(second.push(body) as Refusal)).toBe("request.unreadable-body");
    second.close();
    first.close();
    const third = open(MODELS.anthropic ?? {}, {}, room).filter;
    expect(third.push(body)).toHaveLength(0);
    third.close();
    expect(room.take(1000)).toBe(true);
  });

  it("a hostile document never throws, and is judged the same however it is cut", () => {
    const random = seeded(77);
    const bodies = [message("x"), { ...message("x"), mcp_servers: [] }, message([{ source: { type: "url" } }])].map((body) =>
      JSON.stringify(body),
    );
    for (let round = 0; round < 1000; round++) {
      const bytes = [...pick(random, bodies)];
      for (let edits = random(3); edits > 0; edits--) bytes.splice(random(bytes.length), random(2), pick(random, [...'{}[]:,"\\ua0']));
      const body = bytes.join("");
      const given = MODELS.anthropic ?? {};
      expect(code(send(given, body, {}, () => 1 + random(9)))).toBe(code(send(given, body, {}, () => 1 << 20)));
    }
  });
});

describe("fields of a body that are credentials at that host", () => {
  const at = (type: string): Given => ({ host: "slack.com", path: "/api/chat.postMessage", headers: { "content-type": type } });
  const FORM = "application/x-www-form-urlencoded";
  it.each<[string, string]>([
    ["application/json", '{"channel":"c","token":"xoxb-of-somebody"}'],
    ["application/json; charset=utf-8", '{"tok\\u0065n":"x"}'],
    [FORM, "channel=c&token=xoxb"],
    [FORM, "channel=c&%74oken=xoxb"],
    [FORM, "a=b;token=x"],
    [FORM, "auth[token]=x"],
    ["application/json", JSON.stringify({ token: slack.placeholder })],
  ])("a foreign one is refused: %s %s", (type, body) => {
    expect(code(send(at(type), body))).toBe("credential.foreign");
    const own = ask(at(type), { credentials: "guest" });
    // control: under a rule for the guest's own keys it is not even read, but for the key that may be put in
    expect(own).toMatchObject({ kind: "pass", body: { held: false } });
  });

  it("an alarm's routing key is one, and what it tells is none", () => {
    const alarm: Given = { host: "events.pagerduty.com", path: "/v2/enqueue", headers: JSON_TYPE };
    expect(code(send(alarm, '{"routing_key":"x","event_action":"trigger"}'))).toBe("credential.foreign");
    expect(code(send(alarm, '{"routingKey":"x"}'))).toBe("credential.foreign");
    expect(ask(alarm, { credentials: "guest" })).toMatchObject({ kind: "pass", body: { kind: "forward" } });
    const plain = '{"event_action":"trigger","dedup_key":"x"}';
    expect(send(alarm, plain)).toBe(plain);
  });

  it("a stand-in becomes the key where its binding says so", () => {
    expect(send(at("application/json"), JSON.stringify({ token: form.placeholder, text: "x" }))).toBe(
      JSON.stringify({ token: form.value, text: "x" }),
    );
    expect(send(at(FORM), `token=${encodeURIComponent(form.placeholder)}&text=x`)).toBe(`token=${encodeURIComponent(form.value)}&text=x`);
  });

  it.each<[string, string]>([
    ["multipart/form-data; boundary=x", "--x--"],
    ["application/octet-stream", "x"],
    ["application/json", "[1,]"],
  ])("what cannot be read is refused: %s", (type, body) => expect(code(send(at(type), body))).toBe("request.unreadable-body"));

  it("control: a body without any passes", () =>
    expect(send(at("application/json"), '{"channel":"c","text":"token"}')).toBe('{"channel":"c","text":"token"}'));
});

describe("a stand-in in a body whose binding puts it there", () => {
  const at = (type: string): Given => ({ host: "form.example.com", path: "/x", headers: { "content-type": type } });
  it.each<[string, string, string]>([
    ["application/json", `{"k":"${form.placeholder}"}`, `{"k":${JSON.stringify(form.value)}}`],
    ["application/x-www-form-urlencoded", `a=1&k=${form.placeholder}&b=2`, `a=1&k=${encodeURIComponent(form.value)}&b=2`],
    ["text/plain", `<${form.placeholder}${form.placeholder}>`, `<${form.value}${form.value}>`],
  ])("becomes the key as %s writes it, however it is cut", (type, body, expected) => {
    for (const size of [1, 2, 7, 1000]) expect(send(at(type), body, {}, () => size)).toBe(expected);
    const { plan, filter } = open(at(type));
    expect(plan).toMatchObject({ held: false, length: "changes" });
    filter.push(Buffer.from(body));
    filter.end();
    expect([...filter.swapped]).toEqual(["form"]);
    filter.close();
  });

  it("its value is looked for in the answer", () => {
    const result = ask(at("text/plain"));
    expect(result).toMatchObject({ kind: "pass", values: [form.value], swapped: [] });
  });

  it("and what is not a stand-in streams by unchanged, kept back no longer than it has to be", () => {
    const random = seeded(5);
    const { filter } = open(at("text/plain"));
    const noise = text(random, 5000);
    expect(String(filter.push(Buffer.from(`${noise}!`)))).toBe(`${noise}!`);
    expect(String(filter.push(Buffer.from(form.placeholder.slice(0, 5))))).toBe("");
    expect(String(filter.push(Buffer.from("!")))).toBe(`${form.placeholder.slice(0, 5)}!`);
    expect(String(filter.end())).toBe("");
    filter.close();
  });

  it("passes as it is where no binding puts it: it is worth nothing there", () => {
    expect(ask({ host: "other.example.com", path: "/x" })).toMatchObject({ kind: "pass", body: { kind: "forward" }, values: [] });
    expect(ask({ ...at("text/plain"), scheme: "http" })).toMatchObject({ kind: "pass", body: { kind: "forward" }, values: [] });
  });
});

describe("GraphQL with a key that has no paths of its own", () => {
  const given: Given = {
    host: "api.github.com",
    path: "/graphql",
    headers: { ...JSON_TYPE, authorization: `bearer ${github.placeholder}` },
  };
  const query = (document: string) => JSON.stringify({ query: document, variables: {} });
  it.each([
    "query { viewer { login } }",
    "{ viewer { login } }",
    'query Q($a: Int = 1) @x(a: 1) { a(s: "mutation { addKey }") { b } } fragment F on T { mutation }',
    "# mutation { a }\nquery { a }",
    "mutation M($i: X!) { createPullRequest(input: $i) { pullRequest { url } } }",
    "mutation { x: addComment(input: {}) { clientMutationId } y: closeIssue(input: {}) @skip(if: false) { clientMutationId } }",
    'mutation { addComment(input: {body: """a } { """}) { clientMutationId } }',
  ])("passes: %s", (document) => expect(send(given, query(document))).toBe(query(document)));

  it.each([
    "mutation { addEnterpriseAdmin(input: {}) { clientMutationId } }",
    "mutation { closeIssue: inviteEnterpriseAdmin(input: {}) { clientMutationId } }",
    "mutation { closeIssue(input: {}) { x } createSponsorship(input: {}) { x } }",
    "query { a } mutation { updateEnterprise(input: {}) { x } }",
    "subscription { a }",
    "\ufeffmutation { a }",
    "mutation{a}",
  ])("is refused: %s", (document) => expect(code(send(given, query(document)))).toBe("credential.excluded"));

  it.each([
    "mutation { ...F } fragment F on Mutation { addKey }",
    "mutation { ... on Mutation { a } }",
    "mutation {",
    "}",
    "mutation { a( }",
    "?",
    "schema { a: B }",
    'query { a(s: "x }',
  ])("is refused as unreadable: %s", (document) => expect(code(send(given, query(document)))).toBe("request.unreadable-body"));

  it.each(["[]", "null", "{}", '{"query":1}', `[${query("{a}")}]`, '{"query":"{a}","query":"mutation{b}"}', ""])(
    "is refused without a document: %s",
    (body) => {
      if (body === "") expect(send(given, body)).toBe("");
      else expect(code(send(given, body))).toBe("request.unreadable-body");
    },
  );

  it("a key that is bound to the path by name is not judged, nor is a request without a key", () => {
    const named = { ...github, binding: { ...github.binding, paths: ["/graphql"] } };
    expect(prepare(request({ method: "POST", ...given }), [named], {})).toMatchObject({ kind: "pass", body: { kind: "forward" } });
    expect(ask({ ...given, headers: JSON_TYPE })).toMatchObject({ kind: "pass", body: { kind: "forward" } });
    expect(ask({ ...given, method: "GET", query: "query=mutation%7Ba%7D" })).toMatchObject({ kind: "refuse", code: "credential.excluded" });
  });
});
