//! Reviews of tokens of ServiceAccounts: asks the API server, and no more often than it can stand.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, UserInfo};
use kube::api::{Api, PostParams};
use serde::Deserialize;
use tokio::sync::Semaphore;

const REVIEW_TIMEOUT: Duration = Duration::from_secs(5);
/// Token reviews at a time, and those of one source.
const REVIEWS: usize = 8;
const REVIEWS_OF_SOURCE: usize = 2;
/// After a rejected review, its source's place for reviews stays occupied for this time, so that clients with invalid tokens
/// cannot load the API server.
const PENALTY: Duration = Duration::from_millis(250);
/// How far the clocks of the operator and the API server may be apart.
const CLOCK_SKEW: Duration = Duration::from_secs(60);

/// Why authentication failed. For the log only; the client does not get it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AuthError {
    #[error("no bearer token")]
    Missing,
    #[error("the shared secret is wrong")]
    WrongSecret,
    #[error("the API server rejected the token")]
    NotAuthenticated,
    #[error("the token belongs to {0}, not to the proxies' service account")]
    OtherAccount(String),
    #[error("the token has another audience")]
    OtherAudience,
    #[error("the token has expired")]
    Expired,
    #[error("the API server did not respond in time")]
    Timeout,
    #[error("too many pending token reviews")]
    Busy,
    #[error("the token review failed")]
    Review(#[from] kube::Error),
}

/// The places for concurrent reviews. Each source has a part of them, so that the tokens of one client do not delay those of
/// others.
#[derive(Clone)]
pub struct Reviews {
    all: Arc<Semaphore>,
    sources: Arc<Mutex<HashMap<u128, Weak<Semaphore>>>>,
}

impl Reviews {
    pub(crate) fn new() -> Self {
        Self { all: Arc::new(Semaphore::new(REVIEWS)), sources: Arc::default() }
    }

    /// The places of one source.
    fn of(&self, source: u128) -> Arc<Semaphore> {
        let mut sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = sources.get(&source).and_then(Weak::upgrade) {
            return own;
        }
        sources.retain(|_, own| own.strong_count() > 0);
        let own = Arc::new(Semaphore::new(REVIEWS_OF_SOURCE));
        sources.insert(source, Arc::downgrade(&own));
        own
    }

    /// Runs a review when there is a place for it. After a rejection the source's place stays occupied for a moment, also if the
    /// client has disconnected: otherwise a client that does not wait could send many.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        source: u128,
        review: impl Future<Output = Result<T, AuthError>> + Send + 'static,
    ) -> Result<T, AuthError> {
        let (own, all) = (self.of(source), self.all.clone());
        let places = async { (own.acquire_owned().await, all.acquire_owned().await) };
        let (of_source, of_all) = tokio::time::timeout(REVIEW_TIMEOUT, places).await.map_err(|_| AuthError::Busy)?;
        let reviewing = tokio::spawn(async move {
            let outcome = review.await;
            drop(of_all);
            if outcome.is_err() {
                tokio::time::sleep(PENALTY).await;
            }
            drop(of_source);
            outcome
        });
        // A review that panics decides nothing.
        reviewing.await.unwrap_or(Err(AuthError::Timeout))
    }
}

/// The unverified claims of a token.
#[derive(Deserialize)]
pub(crate) struct TokenClaims {
    pub(crate) sub: String,
    exp: Option<u64>,
    aud: Option<Audiences>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audiences {
    One(String),
    Several(Vec<String>),
}

impl TokenClaims {
    /// What the API server would reject in any case.
    pub(crate) fn check(&self, audience: &str, now: SystemTime) -> Result<(), AuthError> {
        let has_audience = match &self.aud {
            None => false,
            Some(Audiences::One(one)) => one == audience,
            Some(Audiences::Several(several)) => several.iter().any(|one| one == audience),
        };
        if !has_audience {
            return Err(AuthError::OtherAudience);
        }
        let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        if self.exp.is_some_and(|exp| Duration::from_secs(exp).saturating_add(CLOCK_SKEW) < now) {
            return Err(AuthError::Expired);
        }
        Ok(())
    }
}

/// The claims of a token with a header, a payload and a signature.
pub(crate) fn claims(token: &str) -> Option<TokenClaims> {
    let mut parts = token.split('.');
    let (header, payload, signature) = (parts.next()?, parts.next()?, parts.next()?);
    if header.is_empty() || signature.is_empty() || parts.next().is_some() {
        return None;
    }
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).ok()?).ok()
}

/// The user whose token it is, if the API server accepts it for the audience.
pub(crate) async fn review(client: kube::Client, audience: String, token: String) -> Result<UserInfo, AuthError> {
    let spec = TokenReviewSpec { token: Some(token), audiences: Some(vec![audience.clone()]) };
    let review = TokenReview { spec, ..TokenReview::default() };
    let api: Api<TokenReview> = Api::all(client);
    let parameters = PostParams::default();
    let reviewed = tokio::time::timeout(REVIEW_TIMEOUT, api.create(&parameters, &review)).await;
    let status = reviewed.map_err(|_| AuthError::Timeout)??.status.unwrap_or_default();
    if status.authenticated != Some(true) {
        return Err(AuthError::NotAuthenticated);
    }
    // An API server that ignores audiences responds without them: the token could have any audience.
    if !status.audiences.unwrap_or_default().contains(&audience) {
        return Err(AuthError::OtherAudience);
    }
    Ok(status.user.unwrap_or_default())
}
