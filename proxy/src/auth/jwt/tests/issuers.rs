//! Key sets that are fetched from issuers: discovery, refresh, rotation, outages.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::future::BoxFuture;
use sluice_kit::eventually_async as eventually;
use tokio::sync::watch;

use super::super::key_sets::Timing;
use super::*;
use crate::auth::fetch::{Fetch, FetchError};

/// Issuers by URL, with the number of fetches.
#[derive(Clone)]
pub(super) struct Web {
    documents: Arc<Mutex<HashMap<String, String>>>,
    fetches: Arc<AtomicUsize>,
    /// How many responses may arrive; the documents of the others are read all the same.
    arriving: watch::Sender<usize>,
}

impl Default for Web {
    fn default() -> Self {
        Self { documents: Arc::default(), fetches: Arc::default(), arriving: watch::channel(usize::MAX).0 }
    }
}

impl Web {
    fn put(&self, url: &str, text: &str) {
        self.documents.lock().unwrap().insert(url.into(), text.into());
    }

    fn fail(&self) {
        self.documents.lock().unwrap().clear();
    }

    fn fetches(&self) -> usize {
        self.fetches.load(Ordering::SeqCst)
    }
}

impl Fetch for Web {
    fn get<'a>(&'a self, url: &'a str) -> BoxFuture<'a, Result<Vec<u8>, FetchError>> {
        let before = self.fetches.fetch_add(1, Ordering::SeqCst);
        let found = self.documents.lock().unwrap().get(url).cloned();
        let mut arriving = self.arriving.subscribe();
        Box::pin(async move {
            tokio::task::yield_now().await;
            drop(arriving.wait_for(|arriving| *arriving > before).await);
            found.map(String::into_bytes).ok_or(FetchError::Status(http::StatusCode::BAD_GATEWAY))
        })
    }
}

#[test]
fn two_issuers_with_equal_key_names_never_mix() {
    let foreign = "https://other.example";
    let web = Web::default();
    web.put("https://keys.example", &set(&[&EC.jwk]));
    web.put("https://other-keys.example", &set(&[&OTHER.jwk]));
    let mut two = jwt(KeySource::Uri("https://keys.example".into()));
    let keys = KeySource::Uri("https://other-keys.example".into());
    two.issuers.push(Issuer { issuer: foreign.into(), audiences: vec!["shop".into()], any_audience: false, keys });
    let authorizer = compiled(&part(two), &services(KeySets::new(runtime(), web)));
    let verify = |token: String| {
        let decision = block(authorize(&authorizer, &bearer(&token)));
        decision.map(|caller| issuer_of(&caller).to_owned())
    };
    for _ in 0..2 {
        assert_eq!(verify(EC.token(&claims())), Ok(ISSUER.into()));
        assert_eq!(verify(OTHER.token(&with("iss", json!(foreign)))), Ok(foreign.into()));
        assert_eq!(verify(OTHER.token(&claims())), Err("token_bad_signature"));
        assert_eq!(verify(EC.token(&with("iss", json!(foreign)))), Err("token_bad_signature"));
    }
}

#[test]
fn discovery_is_followed_once_and_only_for_its_own_issuer() {
    let web = Web::default();
    let configuration = format!("{ISSUER}/.well-known/openid-configuration");
    web.put("https://keys.example", &set(&[&EC.jwk]));
    for (document, expected) in [
        (json!({"issuer": ISSUER, "jwks_uri": "https://keys.example"}), None),
        (json!({"issuer": "https://other.example", "jwks_uri": "https://keys.example"}), Some("issuer_unavailable")),
        (json!({"issuer": ISSUER, "jwks_uri": "http://keys.example"}), Some("issuer_unavailable")),
        (json!({"issuer": ISSUER}), Some("issuer_unavailable")),
    ] {
        web.put(&configuration, &document.to_string());
        let sets = services(KeySets::new(runtime(), web.clone()));
        let authorizer = compiled(&part(jwt(KeySource::Discovery)), &sets);
        let decision = block(authorize(&authorizer, &bearer(&EC.token(&claims()))));
        assert_eq!(decision.err(), expected, "{document}");
    }
}

const QUICK: Timing = Timing {
    refresh_every: Duration::from_secs(3600),
    keep_for: Duration::from_secs(3600),
    min_interval: Duration::from_secs(3600),
    unknown_for: Duration::from_secs(3600),
    first_retry: Duration::from_secs(3600),
    longest_retry: Duration::from_secs(3600),
};

fn fetched(web: &Web, timing: Timing) -> Arc<Authorizer> {
    let sets = services(KeySets::with_timing(runtime(), web.clone(), timing));
    compiled(&part(jwt(KeySource::Uri("https://keys.example".into()))), &sets)
}

#[test]
fn a_storm_of_unknown_keys_is_one_fetch_and_a_rotated_key_is_found() {
    let web = Web::default();
    web.put("https://keys.example", &set(&[&EC.jwk]));
    let authorizer = fetched(&web, QUICK);
    block(async {
        assert!(authorize(&authorizer, &bearer(&EC.token(&claims()))).await.is_ok());
        assert_eq!(web.fetches(), 1);
        web.put("https://keys.example", &set(&[&EC.jwk, &ED.jwk]));
        // A hundred callers with the new key at once: all wait for the one fetch, and all pass.
        let token = ED.token(&claims());
        let callers = (0..100).map(|_| async { authorize(&authorizer, &bearer(&token)).await.is_ok() });
        assert!(futures::future::join_all(callers).await.into_iter().all(|ok| ok));
        assert_eq!(web.fetches(), 2);
        for kid in 0..100 {
            let token = EC.sign(&json!({"alg": "ES256", "kid": kid.to_string()}), &claims());
            assert_eq!(authorize(&authorizer, &bearer(&token)).await.err(), Some("token_bad_signature"));
        }
        assert_eq!(web.fetches(), 2);
    });
}

#[test]
fn a_key_that_a_fetch_under_way_cannot_have_seen_is_fetched_by_the_next_one() {
    let web = Web::default();
    web.put("https://keys.example", &set(&[&EC.jwk]));
    web.arriving.send_replace(1);
    let authorizer = fetched(&web, Timing { refresh_every: Duration::from_millis(10), ..QUICK });
    block(async {
        assert!(authorize(&authorizer, &bearer(&EC.token(&claims()))).await.is_ok());
        // It has read the set before the key is in it.
        eventually("a refresh under way", || web.fetches() == 2).await;
        web.put("https://keys.example", &set(&[&EC.jwk, &ED.jwk]));
        let token = bearer(&ED.token(&claims()));
        let mut callers = futures::future::join_all((0..100).map(|_| authorize(&authorizer, &token)));
        assert!((&mut callers).now_or_never().is_none(), "they wait");
        web.arriving.send_replace(2);
        eventually("another fetch", || web.fetches() == 3).await;
        assert!((&mut callers).now_or_never().is_none(), "they wait for the fetch that began after them");
        web.arriving.send_replace(usize::MAX);
        assert!(callers.await.into_iter().all(|verdict| verdict.is_ok()));
    });
}

#[test]
fn a_key_that_was_not_there_is_not_asked_for_again_soon() {
    let web = Web::default();
    web.put("https://keys.example", &set(&[&EC.jwk]));
    let authorizer = fetched(&web, Timing { min_interval: Duration::ZERO, ..QUICK });
    block(async {
        assert!(authorize(&authorizer, &bearer(&EC.token(&claims()))).await.is_ok());
        for _ in 0..50 {
            let token = EC.sign(&json!({"alg": "ES256", "kid": "gone"}), &claims());
            assert_eq!(authorize(&authorizer, &bearer(&token)).await.err(), Some("token_bad_signature"));
        }
        assert_eq!(web.fetches(), 2);
    });
}

#[test]
fn an_issuer_that_is_down_at_first_is_reported_and_waited_for_once() {
    let web = Web::default();
    let authorizer = fetched(&web, QUICK);
    block(async {
        for _ in 0..3 {
            assert_eq!(authorize(&authorizer, &bearer(&EC.token(&claims()))).await.err(), Some("issuer_unavailable"));
        }
        assert_eq!(web.fetches(), 1);
    });
}

#[test]
fn the_last_valid_key_set_is_used_while_the_issuer_is_down_but_not_forever() {
    let web = Web::default();
    web.put("https://keys.example", &set(&[&EC.jwk]));
    let often = Duration::from_millis(10);
    let keep_for = Duration::from_millis(1500);
    let authorizer =
        fetched(&web, Timing { refresh_every: often, first_retry: often, longest_retry: often, keep_for, ..QUICK });
    block(async {
        let token = bearer(&EC.token(&claims()));
        assert!(authorize(&authorizer, &token).await.is_ok());
        web.fail();
        let before = web.fetches();
        eventually("more attempts", || web.fetches() > before + 3).await;
        assert!(authorize_now(&authorizer, &token).is_ok());
        // The remembered decision is removed with the keys.
        eventually("an end", || rejected(&authorizer, &token) == Some("issuer_unavailable")).await;
        web.put("https://keys.example", &set(&[&EC.jwk]));
        eventually("a return", || authorize_now(&authorizer, &token).is_ok()).await;
    });
}

#[test]
fn a_set_without_a_usable_key_does_not_replace_one_with() {
    let web = Web::default();
    let often = Duration::from_millis(10);
    let timing = Timing { refresh_every: often, first_retry: often, longest_retry: often, ..QUICK };
    for bad in [set(&[]), set(&[&json!({"kty": "oct", "kid": "ec", "k": "c2VjcmV0"})]), "<html>".to_owned()] {
        web.put("https://keys.example", &set(&[&EC.jwk]));
        let authorizer = fetched(&web, timing);
        block(async {
            let token = bearer(&EC.token(&claims()));
            assert!(authorize(&authorizer, &token).await.is_ok());
            web.put("https://keys.example", &bad);
            let before = web.fetches();
            eventually("more attempts", || web.fetches() > before + 3).await;
            assert!(authorize_now(&authorizer, &token).is_ok(), "{bad}");
            web.put("https://keys.example", &set(&[&OTHER.jwk]));
            let is_rejected = || rejected(&authorizer, &token) == Some("token_bad_signature");
            eventually("a rejection", is_rejected).await;
        });
        // Without any good set the caller is not to blame.
        web.put("https://keys.example", &bad);
        let authorizer = fetched(&web, QUICK);
        let decision = block(authorize(&authorizer, &bearer(&EC.token(&claims()))));
        assert_eq!(decision.err(), Some("issuer_unavailable"), "{bad}");
    }
}

#[test]
fn a_key_that_was_taken_away_takes_its_remembered_tokens_along() {
    let web = Web::default();
    web.put("https://keys.example", &set(&[&EC.jwk]));
    let authorizer = fetched(&web, Timing { refresh_every: Duration::from_millis(10), ..QUICK });
    block(async {
        let token = bearer(&EC.token(&claims()));
        assert!(authorize(&authorizer, &token).await.is_ok());
        web.put("https://keys.example", &set(&[&OTHER.jwk]));
        eventually("a rejection", || rejected(&authorizer, &token) == Some("token_bad_signature")).await;
    });
}

#[test]
fn a_rotated_key_is_found_for_a_token_without_its_name() {
    let web = Web::default();
    web.put("https://keys.example", &set(&[&EC.jwk]));
    let authorizer = fetched(&web, QUICK);
    block(async {
        let nameless =
            |signer: &Signer| bearer(&signer.sign(&json!({"alg": format!("{:?}", signer.algorithm)}), &claims()));
        assert!(authorize(&authorizer, &nameless(&EC)).await.is_ok());
        assert_eq!(web.fetches(), 1);
        web.put("https://keys.example", &set(&[&EC.jwk, &ED.jwk]));
        assert!(authorize(&authorizer, &nameless(&ED)).await.is_ok());
        assert_eq!(web.fetches(), 2);
        // A storm of tokens that no key verifies causes no more.
        for _ in 0..100 {
            assert_eq!(authorize(&authorizer, &nameless(&OTHER)).await.err(), Some("token_bad_signature"));
        }
        assert_eq!(web.fetches(), 2);
    });
}
