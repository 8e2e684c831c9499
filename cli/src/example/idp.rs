//! An identity provider for trials: OpenID Connect discovery, a key set, and endpoints for tokens, their introspection and
//! revocation; and the function of a Lambda authorizer. It does not authenticate clients. Its key is generated at the start and never leaves the process.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, bail};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{Method, StatusCode, header};
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde_json::{Value, json};
use sluice_operator::cluster_issuer::ClusterIssuer;
use sluice_operator::objects::ObjectKey;
use sluice_operator::sts::TokenError;
use sluice_wire::ServiceAccountUser;

use super::serve::{Call, Handler, Reply, json as json_reply, text};

/// Default lifetime of a token, in seconds.
const DEFAULT_LIFETIME: u64 = 3600;
/// Maximum lifetime of a token, in seconds.
const MAX_LIFETIME: u64 = 24 * 3600;
/// Revoked tokens that are known; the oldest are forgotten first.
const MAX_REVOKED: usize = 1024;

/// The identity provider.
pub(crate) struct Idp {
    issuer: String,
    audience: String,
    key: EncodingKey,
    verifies: DecodingKey,
    key_id: String,
    key_set: Value,
    revoked: Mutex<VecDeque<String>>,
}

impl Idp {
    /// Creates a provider with a new key.
    pub(crate) fn new(issuer: impl Into<String>, audience: impl Into<String>) -> anyhow::Result<Self> {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).context("cannot generate a signing key")?;
        let private = pair.to_pkcs8v1().context("cannot encode the signing key")?;
        // An uncompressed point: 4, then x and y of 32 bytes each (SEC 1, 2.3.3).
        let Some((x, y)) = pair.public_key().as_ref().get(1..).and_then(|point| point.split_at_checked(32)) else {
            bail!("the signing key has no public point");
        };
        let (x, y) = (URL_SAFE_NO_PAD.encode(x), URL_SAFE_NO_PAD.encode(y));
        let key_id: String = x.chars().take(12).collect();
        let key_set = json!({"keys": [{
            "kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": key_id,
            "x": x, "y": y,
        }]});
        Ok(Self {
            issuer: issuer.into(),
            audience: audience.into(),
            key: EncodingKey::from_ec_der(private.as_ref()),
            verifies: DecodingKey::from_ec_components(&x, &y).context("cannot use the signing key")?,
            key_id,
            key_set,
            revoked: Mutex::default(),
        })
    }

    /// Its name and keys.
    pub(crate) fn cluster_issuer(&self) -> anyhow::Result<ClusterIssuer> {
        Ok(ClusterIssuer::parse(&self.discovery().to_string(), &self.key_set.to_string())?)
    }

    fn discovery(&self) -> Value {
        json!({
            "issuer": self.issuer,
            "jwks_uri": format!("{}/jwks", self.issuer),
            "token_endpoint": format!("{}/token", self.issuer),
            "introspection_endpoint": format!("{}/introspect", self.issuer),
            "revocation_endpoint": format!("{}/revoke", self.issuer),
            "response_types_supported": ["token"],
            "grant_types_supported": ["client_credentials"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["ES256"],
        })
    }

    /// Issues a token for the form; returns it with its lifetime in seconds.
    fn token(&self, form: &BTreeMap<String, String>) -> anyhow::Result<(String, u64)> {
        let field = |name: &str, default: &str| form.get(name).cloned().unwrap_or_else(|| default.to_owned());
        let lifetime = match form.get("expires_in") {
            Some(text) => text.parse::<u64>().ok().filter(|seconds| (1..=MAX_LIFETIME).contains(seconds)),
            None => Some(DEFAULT_LIFETIME),
        };
        let lifetime = lifetime.with_context(|| format!("expires_in must be from 1 to {MAX_LIFETIME} seconds"))?;
        let grant = field("grant_type", "client_credentials");
        if grant != "client_credentials" {
            bail!("grant_type must be client_credentials");
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).context("the clock is before 1970")?.as_secs();
        let client = field("client_id", "newcomer");
        let mut claims = json!({
            "iss": self.issuer,
            "aud": field("audience", &self.audience),
            "sub": client,
            "client_id": client,
            "scope": field("scope", ""),
            "iat": now,
            "nbf": now,
            "exp": now + lifetime,
        });
        match form.get("token_use").map(String::as_str) {
            None => {}
            // As a Cognito user pool has them.
            Some(usage @ ("id" | "access")) => {
                claims["token_use"] = json!(usage);
                claims["cognito:groups"] = json!(field("groups", "customers").split(',').collect::<Vec<_>>());
                let (kept, removed) = if usage == "id" { ("aud", "client_id") } else { ("client_id", "aud") };
                claims[kept] = json!(client);
                if let Some(claims) = claims.as_object_mut() {
                    claims.remove(removed);
                }
            }
            Some(_) => bail!("token_use must be id or access"),
        }
        let head = Header { kid: Some(self.key_id.clone()), ..Header::new(Algorithm::ES256) };
        let token = jsonwebtoken::encode(&head, &claims, &self.key).context("cannot sign the token")?;
        Ok((token, lifetime))
    }
}

impl Handler for Idp {
    fn respond(&self, call: &Call) -> Reply {
        let get = matches!(*call.method(), Method::GET | Method::HEAD);
        match call.uri().path() {
            "/healthz" => text(StatusCode::OK, "ok\n"),
            "/.well-known/openid-configuration" if get => json_reply(StatusCode::OK, &self.discovery()),
            "/jwks" | "/.well-known/jwks.json" if get => json_reply(StatusCode::OK, &self.key_set),
            "/token" if call.method() == Method::POST => self.token_reply(call),
            "/introspect" if call.method() == Method::POST => self.introspection_reply(call),
            "/revoke" if call.method() == Method::POST => self.revocation_reply(call),
            "/authorize" if call.method() == Method::POST => self.decision_reply(call),
            "/jwks" | "/.well-known/jwks.json" | "/.well-known/openid-configuration" => {
                text(StatusCode::METHOD_NOT_ALLOWED, "use GET\n")
            }
            "/token" | "/introspect" | "/revoke" | "/authorize" => text(StatusCode::METHOD_NOT_ALLOWED, "use POST\n"),
            _ => text(
                StatusCode::NOT_FOUND,
                "known paths: /.well-known/openid-configuration, /.well-known/jwks.json, /jwks, /token, /introspect, /revoke, /authorize\n",
            ),
        }
    }
}

impl Idp {
    fn token_reply(&self, call: &Call) -> Reply {
        let plain = call.headers().get(header::ACCEPT).is_some_and(|accept| accept.as_bytes() == b"text/plain");
        let made = std::str::from_utf8(call.body())
            .context("the body is not UTF-8 text")
            .map(parse_form)
            .and_then(|form| Ok((self.token(&form)?, form.get("scope").cloned().unwrap_or_default())));
        match made {
            Ok(((token, _), _)) if plain => text(StatusCode::OK, token),
            Ok(((token, lifetime), scope)) => json_reply(
                StatusCode::OK,
                &json!({"access_token": token, "token_type": "Bearer", "expires_in": lifetime, "scope": scope}),
            ),
            Err(error) => json_reply(
                StatusCode::BAD_REQUEST,
                &json!({"error": "invalid_request", "error_description": format!("{error:#}")}),
            ),
        }
    }
}

impl Idp {
    /// RFC 7662. A client must name itself; each one is accepted.
    fn introspection_reply(&self, call: &Call) -> Reply {
        let form = parse_form(&String::from_utf8_lossy(call.body()));
        if !call.headers().contains_key(header::AUTHORIZATION) && !form.contains_key("client_secret") {
            return json_reply(StatusCode::UNAUTHORIZED, &json!({"error": "invalid_client"}));
        }
        let token = form.get("token").map_or("", String::as_str);
        json_reply(StatusCode::OK, &self.introspect(token))
    }

    /// RFC 7009.
    fn revocation_reply(&self, call: &Call) -> Reply {
        let form = parse_form(&String::from_utf8_lossy(call.body()));
        let Some(token) = form.get("token") else {
            return json_reply(StatusCode::BAD_REQUEST, &json!({"error": "invalid_request"}));
        };
        let mut revoked = self.revoked.lock().unwrap_or_else(PoisonError::into_inner);
        revoked.truncate(MAX_REVOKED - 1);
        revoked.push_front(token.clone());
        text(StatusCode::OK, "")
    }

    fn decision_reply(&self, call: &Call) -> Reply {
        let event = serde_json::from_slice::<Value>(call.body()).unwrap_or_default();
        json_reply(StatusCode::OK, &self.decide(&event))
    }

    /// The function of a Lambda authorizer, for tokens: the policy allows GET, and with the scope `orders.write` everything. The API
    /// key of a client is `example-key-of-CLIENT`.
    fn decide(&self, event: &Value) -> Value {
        let token = event["authorizationToken"].as_str().unwrap_or_default();
        let claims = self.introspect(token.strip_prefix("Bearer ").unwrap_or(token));
        if claims["active"] != json!(true) {
            return json!({"errorMessage": "Unauthorized"});
        }
        // arn:aws:execute-api:REGION:ACCOUNT:API/STAGE/METHOD/PATH
        let stage: Vec<&str> = event["methodArn"].as_str().unwrap_or_default().splitn(3, '/').take(2).collect();
        let writes = claims["scope"].as_str().is_some_and(|scopes| scopes.split(' ').any(|one| one == "orders.write"));
        let methods = if writes { "*" } else { "GET/*" };
        let statement = json!({
            "Effect": "Allow",
            "Action": "execute-api:Invoke",
            "Resource": format!("{}/{methods}", stage.join("/")),
        });
        json!({
            "principalId": claims["sub"],
            "policyDocument": {"Version": "2012-10-17", "Statement": [statement]},
            "context": {"scope": claims["scope"]},
            "usageIdentifierKey": claims["sub"].as_str().map(|client| format!("example-key-of-{client}")),
        })
    }

    /// The ServiceAccount whose token it is, for this audience.
    pub(crate) fn account(&self, token: &str, audience: &str) -> Result<ObjectKey, TokenError> {
        let mut validation = Validation::new(Algorithm::ES256);
        validation.set_audience(&[audience]);
        let valid = jsonwebtoken::decode::<Value>(token, &self.verifies, &validation);
        let valid = valid.map_err(|error| match error.kind() {
            ErrorKind::ExpiredSignature => TokenError::Expired,
            ErrorKind::InvalidAudience => TokenError::Audience,
            _ => TokenError::Invalid,
        })?;
        let user = valid.claims["sub"].as_str().and_then(ServiceAccountUser::parse).ok_or(TokenError::Invalid)?;
        Ok(ObjectKey::new(user.namespace, user.name))
    }

    fn introspect(&self, token: &str) -> Value {
        let mut validation = Validation::new(Algorithm::ES256);
        validation.validate_aud = false;
        let revoked = self.revoked.lock().unwrap_or_else(PoisonError::into_inner).iter().any(|other| other == token);
        match jsonwebtoken::decode::<Value>(token, &self.verifies, &validation) {
            Ok(mut valid) if !revoked && valid.claims.is_object() => {
                valid.claims["active"] = json!(true);
                valid.claims["token_type"] = json!("Bearer");
                valid.claims
            }
            _ => json!({"active": false}),
        }
    }
}

/// Parses a form (application/x-www-form-urlencoded). The last field of a name wins.
fn parse_form(body: &str) -> BTreeMap<String, String> {
    let pairs = body.split('&').filter(|pair| !pair.is_empty());
    pairs.map(|pair| pair.split_once('=').unwrap_or((pair, ""))).map(|(k, v)| (decode(k), decode(v))).collect()
}

/// Decodes a form value. Invalid escapes are kept.
fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let escaped = (byte == b'%').then(|| after.get(..2)).flatten();
        let escaped = escaped.and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        match (byte, escaped) {
            (_, Some(value)) => {
                bytes.push(value);
                rest = after.get(2..).unwrap_or_default();
                continue;
            }
            (b'+', None) => bytes.push(b' '),
            (other, None) => bytes.push(other),
        }
        rest = after;
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use jsonwebtoken::jwk::JwkSet;

    use super::*;

    #[test]
    fn a_form_is_decoded() {
        let form = parse_form("scope=orders.read+orders.write&client_id=a%26b%c3%a4&x&%=%zz");
        assert_eq!(form["scope"], "orders.read orders.write");
        assert_eq!(form["client_id"], "a&bä");
        assert_eq!(form["x"], "");
        assert_eq!(form["%"], "%zz");
    }

    #[test]
    fn a_token_verifies_with_the_published_key_set_and_has_the_requested_claims() {
        let idp = Idp::new("http://idp.example", "shop").unwrap();
        let form = parse_form("client_id=acme&scope=orders.read");
        let (token, lifetime) = idp.token(&form).unwrap();
        assert_eq!(lifetime, DEFAULT_LIFETIME);
        let keys: JwkSet = serde_json::from_value(idp.key_set.clone()).unwrap();
        let key = keys.find(&idp.key_id).unwrap();
        let mut validation = Validation::new(Algorithm::ES256);
        validation.set_audience(&["shop"]);
        validation.set_issuer(&["http://idp.example"]);
        let key = DecodingKey::from_jwk(key).unwrap();
        let claims = jsonwebtoken::decode::<Value>(&token, &key, &validation).unwrap().claims;
        assert_eq!((claims["sub"].as_str(), claims["scope"].as_str()), (Some("acme"), Some("orders.read")));
    }

    #[test]
    fn a_token_is_active_until_it_is_revoked() {
        let idp = Idp::new("http://idp.example", "shop").unwrap();
        let (token, _) = idp.token(&parse_form("client_id=acme&scope=orders.read")).unwrap();
        let call = |path: &str, body: String, authorization: Option<&str>| {
            let mut call = http::Request::post(path);
            if let Some(value) = authorization {
                call = call.header("authorization", value);
            }
            idp.respond(&call.body(body.into()).unwrap()).status()
        };
        assert_eq!(call("/introspect", format!("token={token}"), None), StatusCode::UNAUTHORIZED);
        assert_eq!(call("/introspect", format!("token={token}"), Some("Basic Zzpz")), StatusCode::OK);
        let active = idp.introspect(&token);
        assert_eq!((&active["active"], &active["sub"], &active["aud"]), (&json!(true), &json!("acme"), &json!("shop")));
        assert_eq!(idp.introspect("x"), json!({"active": false}));
        assert_eq!(call("/revoke", format!("token={token}"), None), StatusCode::OK);
        assert_eq!(idp.introspect(&token), json!({"active": false}));
    }

    #[test]
    fn a_function_decides_by_the_token() {
        let idp = Idp::new("http://idp.example", "shop").unwrap();
        let arn = "arn:aws:execute-api:eu-west-1:111122223333:api/prod/GET/orders";
        let decide = |token: &str| -> Value {
            let event = json!({"type": "TOKEN", "authorizationToken": format!("Bearer {token}"), "methodArn": arn});
            idp.decide(&event)
        };
        for (scope, methods) in [("orders.read", "GET/*"), ("orders.write", "*")] {
            let (token, _) = idp.token(&parse_form(&format!("client_id=acme&scope={scope}"))).unwrap();
            let output = decide(&token);
            assert_eq!((&output["principalId"], &output["context"]["scope"]), (&json!("acme"), &json!(scope)));
            let resource = format!("arn:aws:execute-api:eu-west-1:111122223333:api/prod/{methods}");
            assert_eq!(output["policyDocument"]["Statement"][0]["Resource"], json!(resource));
            assert_eq!(output["usageIdentifierKey"], "example-key-of-acme");
        }
        assert_eq!(decide("x"), json!({"errorMessage": "Unauthorized"}));
    }

    #[test]
    fn a_lifetime_out_of_bounds_is_rejected() {
        let idp = Idp::new("http://idp.example", "shop").unwrap();
        for bad in ["expires_in=0", "expires_in=86401", "expires_in=x", "grant_type=password"] {
            assert!(idp.token(&parse_form(bad)).is_err(), "{bad}");
        }
    }
}
