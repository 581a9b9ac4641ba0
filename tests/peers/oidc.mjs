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

function keys() {
  const made = [['rsa', { modulusLength: 2048 }], ['ec', { namedCurve: 'P-256' }], ['ed25519', {}]];
  return made.map(([kind, options]) => ({
    ...generateKeyPairSync(kind, options).privateKey.export({ format: 'jwk' }), kid: randomUUID(), use: 'sig',
  }));
}

const names = ['preferred_username', 'roles', 'groups', 'realm_access', 'urn:zitadel:iam:org:project:roles'];
const provider = new Provider(issuer, {
  clients: [client],
  claims: { openid: ['sub', 'acr', 'amr', ...names] },
  // As Zitadel does: claims stand in the ID token, too, where the settings say so.
  conformIdTokenClaims: settings().userinfo_only ?? false,
  features: { devInteractions: { enabled: false }, userinfo: { enabled: true }, rpInitiatedLogout: { enabled: true } },
  findAccount: (_, id) => ({ accountId: id, claims: () => ({ ...settings().claims, sub: id }) }),
  pkce: { required: () => true },
  scopes: ['openid', 'profile', 'email', 'urn:zitadel:iam:org:projects:roles'],
  interactions: { url: (_, interaction) => `/person/${interaction.uid}` },
  renderError: (ctx, out) => { ctx.type = 'json'; ctx.body = out; },
  cookies: { keys: ['of a test alone'] },
  enabledJWA: { idTokenSigningAlgValues: ['RS256', 'PS256', 'ES256', 'EdDSA'] },
  // New keys at every start, one of each kind that the gateway verifies.
  jwks: { keys: keys() },
});

// The person: signs in and agrees at once, or declines.
async function person(request, response) {
  const { prompt, params, session, grantId } = await provider.interactionDetails(request, response);
  if (settings().declines) {
    return provider.interactionFinished(request, response, { error: 'access_denied' }, {});
  }
  if (prompt.name === 'login') {
    const { sub, acr, amr } = settings().claims;
    return provider.interactionFinished(request, response, { login: { accountId: sub, acr, amr } }, {});
  }
  const grant = grantId ? await provider.Grant.find(grantId)
    : new provider.Grant({ accountId: session.accountId, clientId: params.client_id });
  grant.addOIDCScope(params.scope);
  const consent = { grantId: await grant.save() };
  return provider.interactionFinished(request, response, { consent }, { mergeWithLastSubmission: true });
}

const answer = provider.callback();
createServer((request, response) => {
  const handled = request.url.startsWith('/person/') ? person(request, response) : answer(request, response);
  Promise.resolve(handled).catch((error) => response.writeHead(500).end(String(error)));
}).listen(port, '127.0.0.1', () => console.log('ready'));
