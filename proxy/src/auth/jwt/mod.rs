//! JSON Web Tokens (RFC 7519). A token is verified by issuer, algorithm, key, signature, times, audience and claims, in that
//! order. `token` parses tokens; `key_sets` holds the keys of issuers.

mod key_sets;
mod keys;
mod token;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde_json::{Map, Value};
use sluice_wire::{Algorithm, ServiceAccountUser};

use super::claims::{self, Times};
use super::credential::Source;
use super::identity::Identity;
use super::remembered::Grant;
use super::token_error::TokenError;
pub(crate) use key_sets::KeySets;
use key_sets::{KeyLookup, KeySet, SetId};
use token::Token;

/// Keys that are tried for one token.
const MAX_TRIES: usize = 16;

struct Issuer {
    issuer: String,
    /// None: tokens for every audience are accepted.
    audiences: Option<Vec<String>>,
    set: Arc<KeySet>,
}

/// The claim with which a user pool distinguishes its tokens, and its values.
const TOKEN_USE: &str = "token_use";
const ACCESS: &str = "access";
const ID: &str = "id";

/// Whether a token of a user pool is one for rules with scopes, an access token, or for those without, an ID token.
pub(super) fn is_for_use(identity: &Identity, with_scopes: bool) -> bool {
    let wanted = if with_scopes { ACCESS } else { ID };
    identity.attributes.get(TOKEN_USE).is_some_and(|usage| usage == wanted)
}

/// The caller as a ServiceAccount, with the groups that Kubernetes gives it.
fn service_account(mut identity: Identity) -> Result<Identity, TokenError> {
    let user = identity.id.as_deref().and_then(ServiceAccountUser::parse).ok_or(TokenError::NotServiceAccount)?;
    let groups = user.groups().map(Value::String).to_vec();
    identity.attributes.insert("groups".to_owned(), Value::Array(groups));
    identity.kind = "ServiceAccount";
    Ok(identity)
}

/// The policy of one authorizer.
pub(super) struct Jwt {
    issuers: Vec<Issuer>,
    algorithms: Vec<Algorithm>,
    sources: Vec<Source>,
    skew: Duration,
    required: BTreeMap<String, String>,
    types: Vec<String>,
    tokens: Tokens,
}

/// Whose tokens they are.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Tokens {
    /// Of any issuers.
    Any,
    /// Of Cognito user pools.
    UserPools,
    /// Of ServiceAccounts of a cluster.
    ServiceAccounts,
}

/// What verifying a token results in.
pub(super) enum Verified {
    Grant(Grant),
    /// The issuer's keys must be fetched first.
    Wait(KeyWait),
}

/// A fetch of an issuer's keys that a token needs.
pub(super) struct KeyWait {
    set: Arc<KeySet>,
    kid: Option<String>,
    /// The keys that were tried.
    tried: Option<u64>,
}

impl KeyWait {
    /// Waits for the fetch, and causes it where none is under way.
    pub(super) async fn ready(&self, at_most: Duration) {
        self.set.fetched(self.kid.as_deref(), self.tried, at_most).await;
    }

    /// Why the token is not accepted when its request has waited already.
    pub(super) fn given_up(&self) -> TokenError {
        if self.set.usable() { TokenError::BadSignature } else { TokenError::Unavailable }
    }
}

impl Jwt {
    pub(super) fn compile(part: &sluice_wire::Jwt, sets: &KeySets) -> Result<Self, String> {
        if part.issuers.is_empty() || part.algorithms.is_empty() || part.token_from.is_empty() {
            return Err(
                "The Authorizer needs at least one issuer, one algorithm and one place for the token.".to_owned()
            );
        }
        let mut issuers = Vec::with_capacity(part.issuers.len());
        for issuer in &part.issuers {
            let set = sets.get(SetId::of(issuer))?;
            let audiences = (!issuer.any_audience).then(|| issuer.audiences.clone());
            issuers.push(Issuer { issuer: issuer.issuer.clone(), audiences, set });
        }
        let sources: Option<Vec<Source>> = part.token_from.iter().map(Source::compile).collect();
        Ok(Self {
            issuers,
            algorithms: part.algorithms.clone(),
            sources: sources.ok_or("The Authorizer names a header that is not valid.")?,
            skew: Duration::from_secs(part.clock_skew_s),
            required: part.required_claims.clone(),
            tokens: Tokens::Any,
            types: part.token_types.iter().map(|text| sluice_wire::normalized_token_type(text)).collect(),
        })
    }

    /// The issuers are Cognito user pools, and the audiences are the ids of their app clients.
    pub(super) fn of_user_pools(part: &sluice_wire::Jwt, sets: &KeySets) -> Result<Self, String> {
        Ok(Self { tokens: Tokens::UserPools, ..Self::compile(part, sets)? })
    }

    /// The issuer is that of a cluster, and its tokens are those of ServiceAccounts.
    pub(super) fn of_service_accounts(part: &sluice_wire::Jwt, sets: &KeySets) -> Result<Self, String> {
        Ok(Self { tokens: Tokens::ServiceAccounts, ..Self::compile(part, sets)? })
    }

    /// The places that may have a token.
    pub(super) fn sources(&self) -> &[Source] {
        &self.sources
    }

    /// Which keys of an issuer are in use.
    pub(super) fn generation(&self, issuer: usize) -> Option<u64> {
        self.issuers.get(issuer)?.set.generation()
    }

    /// Whether a token is for one of these audiences.
    fn is_for(&self, claims: &Map<String, Value>, accepted: &[String]) -> Result<bool, TokenError> {
        if self.tokens != Tokens::UserPools {
            return claims::audience_fits(claims, accepted);
        }
        // An access token can have the URL of an API in `aud`.
        let name = if claims.get(TOKEN_USE).is_some_and(|usage| usage == ACCESS) { "client_id" } else { "aud" };
        let client = claims::text(claims, name, TokenError::InvalidAudience)?;
        Ok(client.is_some_and(|client| accepted.iter().any(|known| known == client)))
    }

    /// Verifies a token.
    pub(super) fn verify(&self, text: &str, now: SystemTime) -> Result<Verified, TokenError> {
        let token = Token::parse(text)?;
        if !token.is_of(&self.types) {
            return Err(TokenError::WrongType);
        }
        // Policy and key decide: the token only selects one of the permitted algorithms.
        let algorithm = token.algorithm.filter(|a| self.algorithms.contains(a)).ok_or(TokenError::WrongAlgorithm)?;
        let claimed = token.issuer()?;
        let mut issuers = self.issuers.iter().enumerate();
        let (source, issuer) = issuers.find(|(_, known)| known.issuer == claimed).ok_or(TokenError::UnknownIssuer)?;
        let kid = token.kid.as_deref();
        let wait = |tried| {
            let (set, kid) = (Arc::clone(&issuer.set), kid.map(str::to_owned));
            Ok(Verified::Wait(KeyWait { set, kid, tried }))
        };
        let mut lookup = issuer.set.find();
        let generation = loop {
            let (keys, generation) = match lookup {
                KeyLookup::Keys(keys, generation) => (keys, generation),
                KeyLookup::Fetch => return wait(None),
                KeyLookup::Unknown => return Err(TokenError::BadSignature),
                KeyLookup::Unavailable => return Err(TokenError::Unavailable),
            };
            let fitting = keys.candidates(kid).filter(|key| key.algorithms.contains(&algorithm));
            if fitting.take(MAX_TRIES).any(|key| key.verifies(algorithm, token.message, token.signature)) {
                break generation;
            }
            lookup = issuer.set.missing(kid, generation);
            if matches!(lookup, KeyLookup::Fetch) {
                return wait(Some(generation));
            }
        };
        let times = Times::of(&token.claims)?;
        let expires = times.expires().ok_or(TokenError::NoExpiry)?;
        times.check(now, self.skew)?;
        if let Some(accepted) = &issuer.audiences
            && !self.is_for(&token.claims, accepted)?
        {
            return Err(TokenError::WrongAudience);
        }
        if claims::is_key_bound(&token.claims) {
            return Err(TokenError::KeyBound);
        }
        let names_key = token.kid.is_some();
        let accepted_until = expires.checked_add(self.skew).unwrap_or(expires);
        let identity = match self.tokens {
            Tokens::ServiceAccounts => service_account(token::identity(&issuer.issuer, token.claims, accepted_until)?)?,
            Tokens::Any | Tokens::UserPools => token::identity(&issuer.issuer, token.claims, accepted_until)?,
        };
        if !claims::has_all(&identity, &self.required) {
            return Err(TokenError::MissingClaim);
        }
        Ok(Verified::Grant(Grant::new(identity, source, generation, names_key)))
    }
}

#[cfg(test)]
mod tests;
