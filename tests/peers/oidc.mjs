// An OpenID provider that is not ours: npm oidc-provider, certified by the OpenID Foundation, told what to do on its
// command line. It prints `ready` once it listens. A person who signs in is whoever the settings say, without a form.
import { createServer } from 'node:http';
import { readFileSync } from 'node:fs';
import { generateKeyPairSync, randomUUID } from 'node:crypto';
import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';

// Nobody reads the standard output past `ready`.
console.info = console.error;

const [settingsFile, modules] = process.argv.slice(2);
const { Provider } = await import(pathToFileURL(createRequire(`${modules}/`).resolve('oidc-provider')).href);
// Read at every sign-in, so that a test may change who the person is and what is said of them.
const settings = () => JSON.parse(readFileSync(settingsFile, 'utf8'));
const { issuer, port, client } = settings();
// A program that asks for access tokens of its own; its client id is their subject unless the settings say otherwise.
const app = {
  client_id: 'app', client_secret: 'the-secret-of-the-app', grant_types: ['client_credentials'], redirect_uris: [],
  response_types: [], token_endpoint_auth_method: 'client_secret_post',
};

function keys() {
  const made = [['rsa', { modulusLength: 2048 }], ['ec', { namedCurve: 'P-256' }], ['ed25519', {}]];
  return made.map(([kind, options]) => ({
    ...generateKeyPairSync(kind, options).privateKey.export({ format: 'jwk' }), kid: randomUUID(), use: 'sig',
  }));
}

const names = ['preferred_username', 'roles', 'groups', 'realm_access', 'urn:zitadel:iam:org:project:roles'];
const provider = new Provider(issuer, {
  clients: [client, app],
  claims: { openid: ['sub', 'acr', 'amr', ...names] },
  // As Zitadel does: claims stand in the ID token, too, where the settings say so.
  conformIdTokenClaims: settings().userinfo_only ?? false,
  features: {
    devInteractions: { enabled: false },
    userinfo: { enabled: true },
    pushedAuthorizationRequests: {
      enabled: settings().pushed !== undefined, requirePushedAuthorizationRequests: settings().pushed === 'required',
    },
    introspection: { enabled: true },
    revocation: { enabled: true },
    rpInitiatedLogout: {
      enabled: true,
      // Asks whoever comes without an ID token of this person; one that it does not recognise it refuses by itself. What it
      // shows without asking sends itself in a browser.
      logoutSource: (ctx, form) => {
        const known = ctx.oidc.entities.IdTokenHint?.payload.sub === ctx.oidc.session.accountId;
        const sent = '<input type="hidden" name="logout" value="yes" form="op.logoutForm"><p>You are being signed out.</p>';
        ctx.body = `<!DOCTYPE html>${form}${known ? sent : '<p>Do you want to sign out?</p>'}`;
      },
    },
    backchannelLogout: { enabled: true },
    clientCredentials: { enabled: true },
    resourceIndicators: {
      enabled: true,
      getResourceServerInfo: (_, resource) => ({
        scope: 'docs sheet', audience: resource, accessTokenTTL: 300, accessTokenFormat: settings().access_token_format ?? 'jwt',
        jwt: { sign: { alg: settings().access_token_alg ?? 'ES256' } },
      }),
    },
  },
  // What an opaque one says when it is asked about.
  extraTokenClaims: () => settings().token_claims,
  formats: { customizers: { jwt: (_, token, jwt) => { Object.assign(jwt.payload, settings().token_claims); } } },
  // It tells the gateway of the end of a session, which here is on loopback; by itself it would not speak to that.
  fetch: (url, { dispatcher, ...options }) => fetch(url, options),
  findAccount: (_, id) => ({ accountId: id, claims: () => ({ ...settings().claims, sub: id }) }),
  pkce: { required: () => true },
  // A new refresh token with each answer; an old one that comes again ends the family.
  rotateRefreshToken: true,
  scopes: ['openid', 'offline_access', 'profile', 'email', 'urn:zitadel:iam:org:projects:roles'],
  interactions: { url: (_, interaction) => `/person/${interaction.uid}` },
  renderError: (ctx, out) => { ctx.type = 'json'; ctx.body = out; },
  cookies: { keys: ['of a test alone'] },
  enabledJWA: { idTokenSigningAlgValues: ['RS256', 'PS256', 'ES256', 'EdDSA'] },
  // New keys at every start, one of each kind that the gateway verifies.
  jwks: { keys: keys() },
});

provider.on('backchannel.error', (_, error) => console.error('back-channel logout:', error));

const asked = {};
const count = (path) => { asked[path] = (asked[path] ?? 0) + 1; };
for (const [event, end] of [['grant.success', 'taken'], ['grant.error', 'refused']]) {
  provider.on(event, (ctx) => count(`/grant/${ctx.oidc.params?.grant_type}/${end}`));
}
let refreshToken = '';
provider.on('refresh_token.saved', ({ jti }) => { refreshToken = jti; });
// Says that its access tokens live as long as the settings say, whatever they do.
provider.use(async (ctx, next) => {
  await next();
  const { expires_in } = settings();
  if (expires_in !== undefined && ctx.body?.expires_in) ctx.body = { ...ctx.body, expires_in };
});

// The person: signs in and agrees at once, or declines.
async function person(request, response) {
  const { prompt, params, session, grantId } = await provider.interactionDetails(request, response);
  if (settings().declines) {
    return provider.interactionFinished(request, response, { error: 'access_denied' }, {});
  }
  if (prompt.name === 'login') {
    const { sub, acr, amr } = settings().claims;
    // One that proves what it is asked for says the first name of it; when, is now unless the settings say otherwise.
    const asked = settings().steps_up ? params.acr_values?.split(' ')[0] : undefined;
    const login = { accountId: sub, acr: asked ?? acr, amr, ts: settings().login_ts ?? undefined };
    return provider.interactionFinished(request, response, { login }, {});
  }
  const grant = grantId ? await provider.Grant.find(grantId)
    : new provider.Grant({ accountId: session.accountId, clientId: params.client_id });
  grant.addOIDCScope(params.scope);
  const consent = { grantId: await grant.save() };
  return provider.interactionFinished(request, response, { consent }, { mergeWithLastSubmission: true });
}

const answer = provider.callback();
createServer((request, response) => {
  if (request.url.startsWith('/test/asked/')) return response.end(String(asked[request.url.slice(11)] ?? 0));
  if (request.url === '/test/refresh-token') return response.end(refreshToken);
  count(request.url);
  const handled = request.url.startsWith('/person/') ? person(request, response) : answer(request, response);
  Promise.resolve(handled).catch((error) => response.writeHead(500).end(String(error)));
}).listen(port, '127.0.0.1', () => console.log('ready'));
