// provider.mjs PORT METHOD: issues opaque tokens for the resource urn:shop, introspects and revokes them. METHOD is how the client of
// the gateway authenticates.
import Provider from 'oidc-provider';

const [port, method] = process.argv.slice(2);
const client = { grant_types: ['client_credentials'], redirect_uris: [], response_types: [] };
const shop = { scope: 'orders.read', audience: 'urn:shop', accessTokenFormat: 'opaque', accessTokenTTL: 300 };
const provider = new Provider(`http://127.0.0.1:${port}`, {
  clients: [
    { ...client, client_id: 'app', client_secret: 'app-secret' },
    { ...client, client_id: 'shop gateway', client_secret: 's3cret:+/ x', token_endpoint_auth_method: method },
  ],
  scopes: ['orders.read'],
  features: {
    clientCredentials: { enabled: true },
    devInteractions: { enabled: false },
    introspection: { enabled: true, allowedPolicy: () => true },
    revocation: { enabled: true, allowedPolicy: () => true },
    resourceIndicators: { enabled: true, defaultResource: () => 'urn:shop', getResourceServerInfo: () => shop },
  },
});
provider.listen(Number(port), '127.0.0.1');
