use std::time::{Duration, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;

use super::*;

#[tokio::test]
async fn only_the_right_secret_is_accepted() {
    let admission = Admission::secret("s3cret-s3cret\n");
    assert!(admission.admit(Some("Bearer s3cret-s3cret"), 0).await.is_ok());
    for bad in [None, Some(""), Some("Bearer "), Some("Bearer x"), Some("Basic s3cret-s3cret"), Some("s3cret-s3cret")] {
        assert!(admission.admit(bad, 0).await.is_err(), "{bad:?}");
    }
    assert!(!format!("{admission:?}").contains("s3cret"));
}

#[tokio::test]
async fn a_changed_secret_applies_after_a_reload_and_an_invalid_one_does_not() {
    let path = std::env::temp_dir().join(format!("sluice-secret-{}", std::process::id()));
    let (old, new) = ("old-old-old-old-old", "new-new-new-new-new");
    tokio::fs::write(&path, old).await.unwrap();
    let admission = Admission::secret_file(path.clone()).await.unwrap();
    let copy = admission.clone();
    let good = async |secret: &str| copy.admit(Some(&format!("Bearer {secret}")), 0).await.is_ok();
    assert!(good(old).await && !good(new).await);
    tokio::fs::write(&path, new).await.unwrap();
    admission.reload().await;
    assert!(good(new).await && !good(old).await);
    tokio::fs::write(&path, "short").await.unwrap();
    admission.reload().await;
    assert!(good(new).await);
    tokio::fs::remove_file(&path).await.unwrap();
    assert!(Admission::secret_file(path).await.is_err());
}

const PROXY: &str = "system:serviceaccount:sluice:proxy";

fn by_token(api_server: &str) -> Admission {
    let client = kube::Client::try_from(kube::Config::new(api_server.parse().unwrap())).unwrap();
    let account: Account = "sluice/proxy".parse().unwrap();
    Admission::token(client, "stream".into(), vec![account.into()])
}

fn bearer(claims: &serde_json::Value, signature: &str) -> String {
    format!("Bearer e30.{}.{signature}", URL_SAFE_NO_PAD.encode(claims.to_string()))
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

#[tokio::test]
async fn a_token_that_cannot_be_valid_causes_no_request_to_the_api_server() {
    let admission = by_token("http://127.0.0.1:1");
    let valid = json!({"sub": PROXY, "aud": ["other", "stream"], "exp": now() + 600});
    let with = |name: &str, value: serde_json::Value| {
        let mut claims = valid.clone();
        claims[name] = value;
        bearer(&claims, "x")
    };
    for (bearer, reviewed) in [
        ("Bearer nonsense".to_owned(), false),
        ("Bearer e30.e30".to_owned(), false),
        ("Bearer e30.!.x".to_owned(), false),
        (bearer(&valid, ""), false),
        (bearer(&valid, "x.y"), false),
        (bearer(&json!({}), "x"), false),
        (bearer(&json!({"sub": PROXY}), "x"), false),
        (with("sub", json!("system:serviceaccount:sluice:operator")), false),
        (with("aud", json!("streams")), false),
        (with("aud", json!([])), false),
        (with("aud", json!({"stream": 1})), false),
        (with("exp", json!(now() - 120)), false),
        (with("exp", json!("soon")), false),
        (with("exp", json!(now() - 30)), true),
        (with("exp", json!(u64::MAX)), true),
        (with("aud", json!("stream")), true),
        (bearer(&valid, "x"), true),
    ] {
        let error = admission.admit(Some(&bearer), 0).await.unwrap_err();
        assert_eq!(matches!(error, AuthError::Review(_) | AuthError::Timeout), reviewed, "{bearer}: {error}");
    }
}

/// An API server that needs a moment for each review, and accepts tokens whose signature is `genuine`.
fn api_server(moment: Duration) -> (sluice_kit::Backend, Admission) {
    let server = sluice_kit::Backend::start(move |_, body| {
        std::thread::sleep(moment); // what is tested is a slow API server
        let status = if body.contains(".genuine") {
            json!({"authenticated": true, "audiences": ["stream"], "user": {"username": PROXY}})
        } else {
            json!({"authenticated": false})
        };
        let review = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "metadata": {},
            "spec": {}, "status": status})
        .to_string();
        let length = review.len();
        format!("HTTP/1.1 201 Created\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{review}")
    });
    let admission = by_token(&format!("http://{}", server.address));
    (server, admission)
}

#[tokio::test]
async fn forged_tokens_of_one_source_delay_no_proxy_of_another() {
    let (server, admission) = api_server(Duration::from_millis(20));
    let claims = json!({"sub": PROXY, "aud": "stream", "exp": now() + 600});
    let forged: Vec<_> = (0..200)
        .map(|n| {
            let (admission, token) = (admission.clone(), bearer(&claims, &format!("forged{n}")));
            tokio::spawn(async move { admission.admit(Some(&token), 1).await })
        })
        .collect();
    sluice_kit::eventually_async("the forged tokens are reviewed", || server.requests() > 0).await;
    let genuine = bearer(&claims, "genuine");
    for source in 2..20 {
        let admitted = tokio::time::timeout(Duration::from_secs(2), admission.admit(Some(&genuine), source)).await;
        assert!(admitted.expect("admitted at once").is_ok());
    }
    // Two places, each occupied for 250 ms after a rejection: the others are not reviewed within 5 s.
    let mut outcomes = Vec::new();
    for one in forged {
        outcomes.push(one.await.unwrap().unwrap_err());
    }
    let busy = outcomes.iter().filter(|error| matches!(error, AuthError::Busy)).count();
    assert!(busy >= 100, "{busy} of 200");
    assert!(outcomes.iter().all(|error| matches!(error, AuthError::Busy | AuthError::NotAuthenticated)));
}

#[tokio::test]
async fn many_proxies_behind_one_address_are_all_admitted() {
    let (_server, admission) = api_server(Duration::ZERO);
    let genuine = bearer(&json!({"sub": PROXY, "aud": "stream"}), "genuine");
    let proxies = (0..100).map(|_| admission.admit(Some(&genuine), 1));
    assert!(futures::future::join_all(proxies).await.iter().all(Result::is_ok));
}

#[test]
fn an_account_is_namespace_and_name() {
    assert!("sluice/proxy".parse::<Account>().is_ok());
    for bad in ["", "a", "/a", "a/", "a/b/c"] {
        assert!(bad.parse::<Account>().is_err(), "{bad}");
    }
}

#[test]
fn an_account_joins_the_fleets_that_it_is_listed_with_and_any_when_it_is_listed_without() {
    let accounts: Vec<ProxyAccount> =
        ["sluice/edge=edge", "sluice/both=edge", "sluice/both=inner", "sluice/any", "sluice/any=edge"]
            .map(|text| text.parse().unwrap())
            .into();
    let may = |name: &str, fleet: &str| {
        let (account, fleets) = own(&accounts, &format!("system:serviceaccount:sluice:{name}")).unwrap();
        assert_eq!(account.name, name);
        Admitted { pod: None, fleets }.may_join(&fleet.parse().unwrap())
    };
    assert!(may("edge", "edge") && !may("edge", "default"));
    assert!(may("both", "edge") && may("both", "inner") && !may("both", "default"));
    assert!(may("any", "default") && may("any", "edge"));
    assert!(own(&accounts, "system:serviceaccount:other:edge").is_none());
    for bad in ["sluice", "sluice/", "sluice/a=", "sluice/a=B", "sluice/a=b=c"] {
        assert!(bad.parse::<ProxyAccount>().is_err(), "{bad}");
    }
}
