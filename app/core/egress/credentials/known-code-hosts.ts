/** Hosts of code, packages and their downloads: a key works on content, and not on who else may. */
import { endpoints, words } from "./endpoints.ts";
import type { HostProfile } from "./profiles.ts";

/** The path itself and everything below it. */
const deep = (folders: readonly string[], paths: readonly string[]) =>
  folders.flatMap((folder) => paths.map((path) => `${folder}/${path}/**`));

const GITHUB_USER = words(
  `keys gpg_keys ssh_signing_keys email emails public_emails memberships repository_invitations codespaces installations migrations`,
);
const GITHUB_REPOSITORY = words(`keys hooks collaborators invitations transfer teams codespaces environments/*/secrets rulesets
  actions/secrets actions/organization-secrets actions/runners actions/oidc dependabot/secrets branches/*/protection`);
const GITHUB_ORGANIZATION =
  words(`hooks members memberships invitations outside_collaborators public_members teams team installations codespaces
  credential-authorizations organization-roles security-managers private-registries personal-access-tokens personal-access-token-requests rulesets
  actions/secrets actions/runners actions/runner-groups actions/oidc dependabot/secrets`);
const GITHUB = words(
  "teams applications app app-manifests authorizations installation installations enterprises scim admin hub credentials",
);

const GITLAB =
  words(`access_tokens personal_access_tokens impersonation_tokens deploy_keys deploy_tokens keys gpg_keys ssh_keys hooks members invitations
  access_requests runners triggers variables integrations services remote_mirrors share cluster_agents job_token_scope applications registration
  protected_branches protected_tags push_rule secure_files saml ldap_group_links tokens emails users oauth batched_background_migrations`);

const GIT = ["/**/info/refs", "/**/git-upload-pack", "/**/git-receive-pack", "/**/info/lfs/**"];

export const CODE_HOSTS: readonly HostProfile[] = [
  {
    hosts: ["api.github.com"],
    key: { use: "bearer", env: "GITHUB_TOKEN" },
    excluded: endpoints([
      ...deep(["/user"], GITHUB_USER),
      // repositories and organizations are known by number too
      ...deep(["/repos/*/*", "/repositories/*"], GITHUB_REPOSITORY),
      ...deep(["/orgs/*", "/organizations/*"], GITHUB_ORGANIZATION),
      ...deep([""], GITHUB),
    ]),
    graphql: endpoints(["/graphql"]),
  },
  {
    // a token is good for the whole site, so that it reaches git and large files only
    hosts: ["github.com"],
    key: { use: "bearer", env: "GITHUB_TOKEN" },
    reach: endpoints(GIT),
    logins: endpoints(["/login/**", "/session", "/sessions/**"]),
  },
  {
    hosts: ["gitlab.com"],
    key: { use: "bearer", env: "GITLAB_TOKEN" },
    excluded: endpoints([
      ...deep(["/api/v4/**"], GITLAB),
      "/api/v4/user/**",
      "/api/v4/session/**",
      "/oauth/**",
      "/users/**",
      "/-/**",
      "/**/-/settings/**",
    ]),
    graphql: endpoints(["/api/graphql"]),
    logins: endpoints(["/oauth/**", "/users/sign_in", "/api/v4/session", "/jwt/auth"]),
  },
  {
    hosts: ["codeberg.org", "bitbucket.org", "git.sr.ht"],
    key: { use: "basic", env: "GIT_TOKEN" },
    reach: endpoints(GIT),
    logins: endpoints(["/user/login", "/login/**", "/site/oauth2/**", "/account/**"]),
  },
  {
    hosts: ["registry.npmjs.org", "registry.yarnpkg.com", "npm.pkg.github.com"],
    key: { use: "bearer", env: "NPM_TOKEN" },
    // a package's revision is how its owners are changed
    excluded: endpoints([
      ...deep(["/-"], words("npm/v1/tokens npm/v1/user npm/v1/hooks npm/v1/oidc user org team v1/login v1/done")),
      ...words("/-/package/**/access /-/package/**/collaborators /-/package/**/trust /*/-rev/** /*/*/-rev/**"),
    ]),
    logins: endpoints(deep(["/-"], words("user v1/login v1/done npm/v1/oidc npm/v1/tokens"))),
  },
  {
    hosts: ["pypi.org", "test.pypi.org", "upload.pypi.org"],
    key: { use: "basic", env: "TWINE_PASSWORD" },
    reach: endpoints(["/legacy", "/simple/**", "/pypi/**"]),
    logins: endpoints(["/_/**", "/account/**", "/manage/**"]),
  },
  {
    hosts: ["crates.io"],
    key: { use: "header:authorization", env: "CARGO_REGISTRY_TOKEN" },
    excluded: endpoints([
      ...deep(["/api/v1"], words("me users confirm trusted_publishing github_issues crates/*/owners")),
      "/api/private/**",
    ]),
    logins: endpoints(["/api/private/session/**", "/api/v1/trusted_publishing/tokens"]),
  },
  {
    hosts: ["huggingface.co"],
    key: { use: "bearer", env: "HF_TOKEN" },
    excluded: endpoints([
      ...words("/api/settings/** /api/organizations/** /api/webhooks/** /api/*/*/webhooks /api/jobs/** /settings/** /oauth/**"),
      // secrets of a running space, who may see a gated repository, and tokens of the store behind it
      ...words(
        "/api/spaces/*/*/secrets/** /api/spaces/*/*/variables/** /api/**/user-access-request/** /api/**/xet-write-token/** /api/**/xet-read-token/**",
      ),
    ]),
    logins: endpoints(["/oauth/**", "/login", "/join"]),
  },
  {
    hosts: ["hub.docker.com", "auth.docker.io", "index.docker.io"],
    reach: [],
    logins: endpoints(["/v2/users/login", "/v2/users/2fa-login", "/v2/auth/**", "/v2/access-tokens/**", "/v1/users/**"]),
  },
  // what Homebrew sends when it has no login, as the registry asks of it
  { hosts: ["ghcr.io"], anonymous: new Set(["Bearer QQ=="]) },
  {
    // stores that large downloads are redirected to; nothing is uploaded there
    hosts: [
      "release-assets.githubusercontent.com",
      "objects.githubusercontent.com",
      "github-cloud.githubusercontent.com",
      "github-cloud.s3.amazonaws.com",
      "pkg-containers.githubusercontent.com",
      "cdn-lfs.huggingface.co",
      "cdn-lfs.hf.co",
      "cdn-lfs-us-1.hf.co",
      "cdn-lfs-eu-1.hf.co",
      "cas-bridge.xethub.hf.co",
      "production.cloudflare.docker.com",
      "docker-images-prod.6aa30f8b08e16409b46e0173d6de2f56.r2.cloudflarestorage.com",
      "cdn.quay.io",
      "cdn01.quay.io",
      "cdn02.quay.io",
      "cdn03.quay.io",
    ],
    reach: [],
    signedDownloads: true,
    signedForms: true,
  },
];
