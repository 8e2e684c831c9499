//! Believing a token: issuer, key, algorithm, signature, time, audience and claims, in that order.
//! Where keys come from is `sets`' business.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use foldhash::quality::RandomState;
use http::{HeaderMap, HeaderName};
use quick_cache::Weighter;
use quick_cache::sync::DefaultLifecycle;
use serde_json::Value;
use sluice_wire::{Algorithm, AuthorizerPart, Jwt};

use super::sets::{Found, KeySet, KeySets, SetId};
use super::token::{self, Source, Times, Token};
use super::{Caller, Refusal};

/// Verified tokens that are remembered, per authorizer.
const REMEMBERED: usize = 16_384;
const REMEMBERED_BYTES: u64 = 16 << 20;

/// What is known about a caller without waiting.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// Who it is.
    Ok(Arc<Caller>),
    /// Why not.
    Refused(Refusal),
    /// The issuer's keys must be fetched first: [`Authorizer::verify`] waits for them.
    NeedsKeys,
}

struct Issuer {
    issuer: String,
    audiences: Vec<String>,
    set: Arc<KeySet>,
}

struct Rules {
    issuers: Vec<Issuer>,
    algorithms: Vec<Algorithm>,
    sources: Vec<Source>,
    skew: Duration,
    required: BTreeMap<String, String>,
}

#[derive(Clone)]
struct Remembered {
    caller: Arc<Caller>,
    issuer: usize,
    generation: u64,
}

#[derive(Clone)]
struct Weigh;

impl Weighter<Box<str>, Remembered> for Weigh {
    fn weight(&self, token: &Box<str>, _: &Remembered) -> u64 {
        // Claims are the token's middle, taken apart.
        256 + 4 * token.len() as u64
    }
}

/// One Authorizer, compiled.
pub(crate) struct Authorizer {
    rules: Result<Rules, String>,
    /// Belongs to these rules only: a change of policy forgets every verdict.
    remembered: quick_cache::sync::Cache<Box<str>, Remembered, Weigh, RandomState>,
}

impl std::fmt::Debug for Authorizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Authorizer({} issuers)", self.rules.as_ref().map_or(0, |rules| rules.issuers.len()))
    }
}

enum Judged {
    Ok(Arc<Caller>),
    Refused(Refusal),
    NeedsKeys(Arc<KeySet>, Option<String>),
}

impl Authorizer {
    /// Prepares an Authorizer. One that cannot be used refuses everybody.
    pub(crate) fn compile(part: &AuthorizerPart, sets: &KeySets) -> Arc<Self> {
        let rules = match (&part.invalid, &part.jwt) {
            (Some(problem), _) => Err(problem.clone()),
            (None, Some(jwt)) => rules(jwt, sets),
            (None, None) => Err("The Authorizer has no settings for its type.".to_owned()),
        };
        let remembered = quick_cache::sync::Cache::with(
            REMEMBERED,
            REMEMBERED_BYTES,
            Weigh,
            RandomState::default(),
            DefaultLifecycle::default(),
        );
        Arc::new(Self { rules, remembered })
    }

    /// Why it cannot be used, in a sentence.
    pub(crate) fn problem(&self) -> Option<&str> {
        self.rules.as_ref().err().map(String::as_str)
    }

    /// Judges a request by what is known now.
    pub(crate) fn verify_now(&self, headers: &HeaderMap) -> Verdict {
        match self.judge(headers, SystemTime::now()) {
            Judged::Ok(caller) => Verdict::Ok(caller),
            Judged::Refused(refusal) => Verdict::Refused(refusal),
            Judged::NeedsKeys(..) => Verdict::NeedsKeys,
        }
    }

    /// Judges a request and waits, if it must, for one fetch of the issuer's keys.
    pub(crate) async fn verify(&self, headers: &HeaderMap) -> Result<Arc<Caller>, Refusal> {
        let (set, kid) = match self.judge(headers, SystemTime::now()) {
            Judged::Ok(caller) => return Ok(caller),
            Judged::Refused(refusal) => return Err(refusal),
            Judged::NeedsKeys(set, kid) => (set, kid),
        };
        set.fetched(kid.as_deref()).await;
        match self.judge(headers, SystemTime::now()) {
            Judged::Ok(caller) => Ok(caller),
            Judged::Refused(refusal) => Err(refusal),
            // Another fetch is due already: this caller has waited for his.
            Judged::NeedsKeys(set, _) if set.usable() => Err(Refusal::BadSignature),
            Judged::NeedsKeys(..) => Err(Refusal::Unavailable),
        }
    }

    /// The header in which a request's token stands.
    pub(crate) fn token_header(&self, headers: &HeaderMap) -> Option<&HeaderName> {
        let rules = self.rules.as_ref().ok()?;
        token::find(&rules.sources, headers).ok().map(|(_, header)| header)
    }

    fn judge(&self, headers: &HeaderMap, now: SystemTime) -> Judged {
        let Ok(rules) = &self.rules else { return Judged::Refused(Refusal::InvalidConfig) };
        let text = match token::find(&rules.sources, headers) {
            Ok((text, _)) => text,
            Err(refusal) => return Judged::Refused(refusal),
        };
        if let Some(caller) = self.remembered(rules, text, now) {
            return Judged::Ok(caller);
        }
        match rules.verify(text, now) {
            Ok(Verified::Caller(remembered)) => {
                let caller = Arc::clone(&remembered.caller);
                self.remembered.insert(text.into(), remembered);
                Judged::Ok(caller)
            }
            Ok(Verified::NeedsKeys(set, kid)) => Judged::NeedsKeys(set, kid),
            Err(refusal) => Judged::Refused(refusal),
        }
    }

    fn remembered(&self, rules: &Rules, text: &str, now: SystemTime) -> Option<Arc<Caller>> {
        let known = self.remembered.get(text)?;
        let set = &rules.issuers.get(known.issuer)?.set;
        let alive = now.checked_sub(rules.skew).is_none_or(|early| known.caller.expires > early);
        if alive && set.generation() == Some(known.generation) {
            return Some(known.caller);
        }
        self.remembered.remove(text);
        None
    }
}

enum Verified {
    Caller(Remembered),
    NeedsKeys(Arc<KeySet>, Option<String>),
}

impl Rules {
    fn verify(&self, text: &str, now: SystemTime) -> Result<Verified, Refusal> {
        let token = Token::parse(text)?;
        // Policy ∩ key, and the token only says which of them: it chooses nothing.
        let algorithm = token.algorithm.filter(|a| self.algorithms.contains(a)).ok_or(Refusal::BadSignature)?;
        let said = token.issuer()?;
        let mut issuers = self.issuers.iter().enumerate();
        let (index, issuer) = issuers.find(|(_, known)| known.issuer == said).ok_or(Refusal::UnknownIssuer)?;
        let (keys, generation) = match issuer.set.find(token.kid.as_deref()) {
            Found::Keys(keys, generation) => (keys, generation),
            Found::Fetch => return Ok(Verified::NeedsKeys(Arc::clone(&issuer.set), token.kid)),
            Found::Unknown => return Err(Refusal::BadSignature),
            Found::Unavailable => return Err(Refusal::Unavailable),
        };
        let mut fitting = keys.matching(token.kid.as_deref()).filter(|key| key.algorithms.contains(&algorithm));
        let confirmed = match token.kid {
            Some(_) => fitting.any(|key| key.confirms(algorithm, token.message, token.signature)),
            // Without a name only an only key is meant.
            None => match (fitting.next(), fitting.next()) {
                (Some(key), None) => key.confirms(algorithm, token.message, token.signature),
                _ => false,
            },
        };
        if !confirmed {
            return Err(Refusal::BadSignature);
        }
        let times = Times::of(&token.claims)?;
        times.check(now, self.skew)?;
        if !token::audience_fits(&token.claims, &issuer.audiences)? {
            return Err(Refusal::WrongAudience);
        }
        let caller = token::caller(&issuer.issuer, token.claims, times.expires)?;
        if !self.required.iter().all(|(name, text)| caller.claims.get(name).is_some_and(|claim| says(claim, text))) {
            return Err(Refusal::MissingClaim);
        }
        Ok(Verified::Caller(Remembered { caller: Arc::new(caller), issuer: index, generation }))
    }
}

/// Whether a claim is `text`; of a list, whether one element is. What has no text of its own is nobody's.
fn says(claim: &Value, text: &str) -> bool {
    let is = |value: &Value| match value {
        Value::String(said) => said == text,
        Value::Number(number) => number.to_string() == text,
        Value::Bool(said) => text == if *said { "true" } else { "false" },
        _ => false,
    };
    claim.as_array().map_or_else(|| is(claim), |list| list.iter().any(is))
}

fn rules(jwt: &Jwt, sets: &KeySets) -> Result<Rules, String> {
    if jwt.issuers.is_empty() || jwt.algorithms.is_empty() || jwt.token_from.is_empty() {
        return Err("The Authorizer needs at least one issuer, one algorithm and one place for the token.".to_owned());
    }
    let mut issuers = Vec::with_capacity(jwt.issuers.len());
    for issuer in &jwt.issuers {
        let set = sets.get(SetId::of(issuer))?;
        issuers.push(Issuer { issuer: issuer.issuer.clone(), audiences: issuer.audiences.clone(), set });
    }
    let sources: Option<Vec<Source>> = jwt.token_from.iter().map(Source::compile).collect();
    Ok(Rules {
        issuers,
        algorithms: jwt.algorithms.clone(),
        sources: sources.ok_or("The Authorizer names a header that cannot exist.")?,
        skew: Duration::from_secs(jwt.clock_skew_s),
        required: jwt.required_claims.clone(),
    })
}
