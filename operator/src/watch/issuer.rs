//! Reads the cluster's issuer from the API server, again and again: its keys are rotated. A failure keeps the last known one.

use std::time::Duration;

use kube::Client;
use tokio::sync::watch;

use crate::cluster_issuer::{ClusterIssuer, InvalidIssuer};

/// How often the issuer is read.
const INTERVAL: Duration = Duration::from_secs(60);
/// How soon after a failure, while no issuer is known.
const RETRY: Duration = Duration::from_secs(2);
/// After this many failures the issuer is not waited for any more, unless the API server says that it has none.
const MAX_FAILURES: u32 = 5;
/// Timeout of one reading.
const TIMEOUT: Duration = Duration::from_secs(10);

/// What is known of the issuer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Known {
    /// It was not read yet.
    #[default]
    Nothing,
    /// Why there is none: a sentence.
    None(String),
    Issuer(ClusterIssuer),
}

#[derive(Debug, thiserror::Error)]
enum ReadError {
    #[error("the API server did not respond in time")]
    Timeout,
    #[error("{0}")]
    Client(#[from] kube::Error),
    #[error(transparent)]
    Invalid(#[from] InvalidIssuer),
}

impl ReadError {
    /// Whether the API server has responded, and another attempt has the same result.
    fn is_final(&self) -> bool {
        match self {
            Self::Timeout => false,
            Self::Client(kube::Error::Api(status)) => (400..500).contains(&status.code) && status.code != 429,
            Self::Client(_) => false,
            Self::Invalid(_) => true,
        }
    }
}

/// Reads the issuer until the receiver is closed.
pub(super) async fn follow(client: Client, known: watch::Sender<Known>) {
    let mut failures = 0;
    loop {
        let pause = match read(&client).await {
            Ok(issuer) => {
                known.send_if_modified(|known| {
                    let now = Known::Issuer(issuer);
                    let changed = *known != now;
                    if changed {
                        tracing::info!("read the key set of the cluster's issuer");
                        *known = now;
                    }
                    changed
                });
                failures = 0;
                INTERVAL
            }
            Err(error) => {
                failures += 1;
                let now = Known::None(error.to_string());
                let given_up = error.is_final() || failures >= MAX_FAILURES;
                known.send_if_modified(|known| {
                    let changed = given_up && !matches!(known, Known::Issuer(_)) && *known != now;
                    if changed {
                        tracing::warn!(%error, "cannot read the cluster's issuer of tokens for ServiceAccounts; retrying");
                        *known = now;
                    }
                    changed
                });
                if given_up { INTERVAL } else { RETRY }
            }
        };
        tokio::select! {
            () = known.closed() => return,
            () = tokio::time::sleep(pause) => {}
        }
    }
}

async fn read(client: &Client) -> Result<ClusterIssuer, ReadError> {
    let get = async |path: &str| {
        let request = http::Request::get(path).body(Vec::new()).map_err(kube::Error::HttpError)?;
        client.request_text(request).await
    };
    let both = async {
        let discovery = get("/.well-known/openid-configuration").await?;
        // `jwks_uri` may be an address that only clients outside of the cluster reach.
        let keys = get("/openid/v1/jwks").await?;
        Ok::<_, kube::Error>((discovery, keys))
    };
    let (discovery, keys) = tokio::time::timeout(TIMEOUT, both).await.map_err(|_| ReadError::Timeout)??;
    Ok(ClusterIssuer::parse(&discovery, &keys)?)
}
