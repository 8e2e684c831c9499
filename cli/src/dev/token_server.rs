//! The token service of `sluice dev`: the operator's, with tokens of the local identity providers.

use std::net::SocketAddr;

use anyhow::Context as _;
use prometheus::Registry;
use sluice_operator::metrics::Metrics;
use sluice_operator::sts::{StsServer, TokenService, Verifier};
use tokio_util::sync::CancellationToken;

use super::local::Providers;
use super::session::Session;

/// The audience that the SDKs of AWS expect.
pub(crate) const AUDIENCE: &str = "sts.amazonaws.com";

/// The token service, which starts when there is a role.
pub(crate) struct TokenServer {
    wanted: SocketAddr,
    service: TokenService,
    metrics: Metrics,
    address: Option<SocketAddr>,
    stop: CancellationToken,
}

impl TokenServer {
    pub(crate) fn new(wanted: SocketAddr, providers: Providers) -> anyhow::Result<Self> {
        // The metrics of `sluice dev` are those of a proxy.
        let metrics = Metrics::new(&Registry::new()).context("cannot register metrics")?;
        let verifier = Verifier::local(move |token| providers.account(token, AUDIENCE));
        let service = TokenService::new(verifier, metrics.clone());
        Ok(Self { wanted, service, metrics, address: None, stop: CancellationToken::new() })
    }

    /// Where it listens; none: there is no role yet.
    pub(crate) fn address(&self) -> Option<SocketAddr> {
        self.address
    }

    /// Takes over what is served now.
    pub(crate) async fn update(&mut self, session: &Session) -> anyhow::Result<()> {
        self.service.update(&session.translated);
        let has_role = session.cluster.principals.values().any(|principal| !principal.spec.trust.is_empty());
        if self.address.is_none() && has_role {
            let server = StsServer::bind(self.wanted, None, self.metrics.clone()).await;
            let server = server.with_context(|| "cannot start the token service; set another address with --sts")?;
            self.address = Some(server.address());
            tokio::spawn(server.serve(self.service.clone(), self.stop.clone()));
        }
        Ok(())
    }
}

impl Drop for TokenServer {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}
