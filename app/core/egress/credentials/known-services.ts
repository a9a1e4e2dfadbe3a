/** Hosts of chat, mail, clouds and counters: where their credentials stand when not in a header, and where logins happen. */
import { endpoints, words } from "./endpoints.ts";
import type { HostProfile } from "./profiles.ts";

const everywhere = endpoints(["/**"]);

export const SERVICES: readonly HostProfile[] = [
  { hosts: ["hooks.slack.com", "hooks.slack-gov.com"], pathKeys: everywhere },
  { hosts: ["files.slack.com"], pathKeys: endpoints(["/upload/**"]) },
  {
    hosts: ["slack.com", "*.slack.com"],
    key: { use: "bearer", env: "SLACK_TOKEN" },
    excluded: endpoints(
      words(
        "oauth.* auth.* admin.* apps.* tooling.* openid.* rtm.* team.* users.admin.* conversations.invite* conversations.acceptsharedinvite files.sharedpublicurl",
      ).map((method) => `/api/${method}`),
    ),
    logins: endpoints(["/api/oauth.*", "/api/openid.*", "/api/tooling.tokens.*"]),
    bodyKeys: new Set(["token", "clientsecret", "refreshtoken"]),
  },
  { hosts: ["api.telegram.org"], pathKeys: endpoints(["/bot*/**", "/file/bot*/**"]) },
  {
    hosts: ["discord.com", "discordapp.com", "canary.discord.com", "ptb.discord.com"],
    pathKeys: endpoints(["/api/webhooks/*/*/**", "/api/*/webhooks/*/*/**", "/api/interactions/*/*/**", "/api/*/interactions/*/*/**"]),
    logins: endpoints(["/api/oauth2/**", "/api/*/oauth2/**", "/api/auth/**", "/api/*/auth/**"]),
  },
  {
    hosts: ["*.webhook.office.com", "outlook.office.com", "*.logic.azure.com", "*.powerplatform.com"],
    pathKeys: endpoints(["/webhook*/**", "/workflows/**"]),
  },
  { hosts: ["hooks.zapier.com", "maker.ifttt.com", "hook.integromat.com", "hook.*.make.com"], pathKeys: everywhere },
  { hosts: ["open.feishu.cn", "open.larksuite.com"], pathKeys: endpoints(["/open-apis/bot/hook/*/**", "/open-apis/bot/v2/hook/*/**"]) },
  { hosts: ["webexapis.com", "api.ciscospark.com"], pathKeys: endpoints(["/v1/webhooks/incoming/*/**"]) },
  {
    hosts: ["events.pagerduty.com", "events.eu.pagerduty.com"],
    pathKeys: endpoints(["/integration/*/**", "/x-ere/*/**"]),
    bodyKeys: new Set(["routingkey", "servicekey"]),
  },
  { hosts: ["*.loggly.com"], pathKeys: endpoints(["/inputs/*/**", "/bulk/*/**"]) },
  { hosts: ["api.day.app", "sctapi.ftqq.com", "hc-ping.com", "*.quiknode.pro"], pathKeys: endpoints(["/*/**"]) },
  { hosts: ["*.infura.io"], pathKeys: endpoints(["/v3/*/**", "/ws/v3/*/**"]) },
  { hosts: ["*.g.alchemy.com"], pathKeys: endpoints(["/v2/*/**", "/v3/*/**", "/nft/*/*/**"]) },
  { hosts: ["chat.googleapis.com"], queryKeys: new Set(["key", "token"]) },
  {
    hosts: ["api.pushover.net", "graph.facebook.com", "api.vk.com", "api.dropboxapi.com", "api.twitter.com", "api.x.com"],
    bodyKeys: new Set(["token", "user", "accesstoken", "clientsecret", "refreshtoken", "appsecret", "apikey"]),
    queryKeys: new Set(["access_token", "token", "key"]),
  },
  {
    // counters of use: what is sent there belongs to whoever's key the body names
    hosts: [
      "api.mixpanel.com",
      "api-js.mixpanel.com",
      "api.amplitude.com",
      "api2.amplitude.com",
      "*.posthog.com",
      "api.segment.io",
      "www.google-analytics.com",
      "*.google-analytics.com",
      "api.honeycomb.io",
      "*.logs.datadoghq.com",
    ],
    bodyKeys: new Set(["token", "apikey", "writekey", "licensekey", "tid"]),
    queryKeys: new Set(["tid", "measurement_id", "api_secret", "ip_token", "firebase_app_id"]),
  },
  {
    hosts: [
      "oauth2.googleapis.com",
      "sts.googleapis.com",
      "iamcredentials.googleapis.com",
      "securetoken.googleapis.com",
      "identitytoolkit.googleapis.com",
      "accounts.google.com",
    ],
    reach: [],
    logins: everywhere,
  },
  { hosts: ["storage.googleapis.com"], queryKeys: new Set(["key", "access_token", "upload_id"]), signedForms: true },
  { hosts: ["*.googleapis.com"], queryKeys: new Set(["key", "access_token", "upload_id"]), logins: endpoints(["/oauth2/**"]) },
  {
    hosts: [
      "sts.amazonaws.com",
      "sts.*.amazonaws.com",
      "signin.aws.amazon.com",
      "cognito-idp.*.amazonaws.com",
      "cognito-identity.*.amazonaws.com",
    ],
    reach: [],
    logins: everywhere,
  },
  {
    hosts: [
      "*.s3.amazonaws.com",
      "s3.amazonaws.com",
      "s3.*.amazonaws.com",
      "*.s3.*.amazonaws.com",
      "*.s3-accelerate.amazonaws.com",
      "*.r2.cloudflarestorage.com",
      "*.digitaloceanspaces.com",
      "*.backblazeb2.com",
      "*.wasabisys.com",
      "*.storage.googleapis.com",
    ],
    signedForms: true,
  },
  { hosts: ["login.microsoftonline.com", "login.live.com", "login.windows.net"], reach: [], logins: everywhere },
  {
    hosts: ["api.stripe.com"],
    key: { use: "bearer", env: "STRIPE_API_KEY" },
    excluded: endpoints([
      ...words("webhook_endpoints ephemeral_keys account_links account_sessions external_accounts apps/secrets oauth apple_pay").map(
        (path) => `/v1/${path}/**`,
      ),
      ...words("/v1/accounts/*/login_links /v1/accounts/*/external_accounts/** /v1/accounts/*/persons/** /v2/**"),
    ]),
  },
];
