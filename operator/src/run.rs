//! Builds the modules of the operator and connects them.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use k8s_openapi::jiff::Timestamp;
use kube::Client;
use kube::config::{KubeConfigOptions, Kubeconfig};
use prometheus::Registry;
use sluice_daemon::{Readiness, admin};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::cluster_state::ClusterState;
use crate::days;
use crate::metrics::Metrics;
use crate::objects::{Kind, ObjectKey};
use crate::publish::server::Server;
use crate::publish::{Admission, Certificate, CertificateFiles, KeyUses, Proxies, Publisher, Reviewer};
use crate::report::{Reporter, StatusCache};
use crate::settings::Settings;
use crate::sts::{StsServer, TokenService, Verifier};
use crate::translate::{SigningDays, Translator};
use crate::watch;

/// A running operator.
pub struct Operator {
    /// Where proxies fetch their configuration.
    pub stream: SocketAddr,
    /// Where metrics and probes are served.
    pub admin: SocketAddr,
    /// Where the token service listens; none: it does not.
    pub sts: Option<SocketAddr>,
    /// The connected proxies.
    pub proxies: Proxies,
    /// What is published.
    pub publisher: Publisher,
    stop: CancellationToken,
    tasks: JoinSet<()>,
    endpoint: admin::Admin,
}

impl Operator {
    /// Resolves when a task of the operator ended, which happens without `stop` only by an error.
    pub async fn ended(&mut self) {
        if let Some(Err(error)) = self.tasks.join_next().await {
            tracing::error!(%error, "a task of the operator failed");
        }
    }

    /// Stops everything and waits for it.
    pub async fn stop(mut self) {
        self.stop.cancel();
        while let Some(ended) = self.tasks.join_next().await {
            if let Err(error) = ended {
                tracing::error!(%error, "a task of the operator failed");
            }
        }
        drop(self.endpoint);
    }
}

/// A client for the API server of the settings.
///
/// # Errors
/// The kubeconfig cannot be read, or no cluster is configured.
pub async fn client(settings: &Settings) -> anyhow::Result<Client> {
    let mut config = match &settings.kubeconfig {
        Some(path) => {
            let kubeconfig = Kubeconfig::read_from(path).with_context(|| format!("cannot read {}", path.display()))?;
            let config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await;
            config.with_context(|| format!("cannot use {}", path.display()))?
        }
        None => kube::Config::infer().await.context("no cluster found: set --kubeconfig")?,
    };
    config.connect_timeout = Some(Duration::from_secs(10));
    config.read_timeout = Some(watch::READ_TIMEOUT);
    config.reset_reader_on_write = true;
    Client::try_from(config).context("cannot create a client for the API server")
}

/// Starts the operator.
///
/// # Errors
/// A file cannot be read or an address cannot be listened on.
pub async fn start(settings: Settings, client: Client) -> anyhow::Result<Operator> {
    // Connected proxies and as many other clients need one each.
    sluice_daemon::files::raise_limit();
    let registry = Registry::new();
    let metrics = Metrics::new(&registry).context("cannot register metrics")?;
    let readiness = Readiness::default();
    let mut blocker = Some(readiness.block("the first complete list of all objects"));
    let certificate = certificate(&settings)?;
    let admission = admission(&settings, &client).await?;
    let server = Server::bind(settings.stream_listen, certificate.clone(), admission, metrics.clone()).await?;
    let sts = match settings.sts_listen {
        None => None,
        Some(address) => {
            let certificate = Certificate::load(certificate, b"http/1.1").await?;
            Some(StsServer::bind(address, Some(certificate), metrics.clone()).await?)
        }
    };
    let endpoint = admin::serve(settings.admin, registry, readiness).await;
    let endpoint = endpoint.with_context(|| format!("cannot listen on {} for metrics and probes", settings.admin))?;
    let key_uses = KeyUses::default();
    let server = server.with_reviewer(Reviewer::new(client.clone())).with_key_uses(key_uses.clone());
    let publisher = Publisher::new(metrics.clone());
    let proxies = Proxies::new(metrics.clone());
    let cache = StatusCache::default();
    let stop = CancellationToken::new();
    let stream = server.address();
    let settle = Duration::from_secs(settings.fleet_settle_seconds);
    let current = publisher.subscribe();
    let reporter =
        Reporter::new(client.clone(), current.clone(), proxies.clone(), cache.clone(), metrics.clone(), settle);
    let reporter = reporter.with_key_uses(key_uses);
    let mut tasks = JoinSet::new();
    let sts_address = sts.as_ref().map(StsServer::address);
    if let Some(sts) = sts {
        let service = TokenService::new(Verifier::api_server(client.clone(), &settings.sts_audience), metrics.clone());
        tasks.spawn(service.clone().follow(current.clone(), stop.clone()));
        tasks.spawn(sts.serve(service, stop.clone()));
    }
    tasks.spawn(server.serve(current, proxies.clone(), stop.clone()));
    tasks.spawn(reporter.run(stop.clone()));
    let wake = Arc::new(Notify::new());
    tasks.spawn(days::follow(settings.signing_key_days, wake.clone(), stop.clone()));
    let mut translator = Translator::new();
    let to = publisher.clone();
    let show = move |state: &ClusterState, changed: &BTreeSet<(Kind, ObjectKey)>| {
        let _change = tracing::info_span!("configuration change", objects.changed = changed.len()).entered();
        cache.update(state, changed);
        let translation = tracing::info_span!("translate").in_scope(|| {
            translator.set_days(SigningDays::around(Timestamp::now(), settings.signing_key_days));
            let timer = metrics.translate_duration.start_timer();
            // The first state is published even when it is empty: proxies wait for a first configuration.
            let first = blocker.take().map(|_| translator.translate(state));
            let translation = first.or_else(|| translator.translate_changed(state, changed));
            // Most changes are statuses that the operator has written, and nothing is translated.
            if translation.is_some() {
                timer.observe_duration();
            } else {
                timer.stop_and_discard();
            }
            tracing::debug!(objects.translated = translator.translated(), "translated");
            translation
        });
        if let Some(translation) = translation {
            metrics.problems(translation.statuses.problems());
            tracing::info_span!("publish").in_scope(|| to.publish(translation));
        }
    };
    let watching = stop.clone();
    let watched = watch::WatchSettings { wake, ..watch::WatchSettings::default() };
    tasks.spawn(async move { watch::run(client, watched, watching, show).await });
    let (admin_address, sts_shown) = (endpoint.address(), sts_address.map(tracing::field::display));
    tracing::info!(stream.address = %stream, admin.address = %admin_address, sts.address = sts_shown, "operator started");
    Ok(Operator { stream, admin: admin_address, sts: sts_address, proxies, publisher, stop, tasks, endpoint })
}

fn certificate(settings: &Settings) -> anyhow::Result<CertificateFiles> {
    match (&settings.stream_tls_dir, &settings.stream_cert, &settings.stream_key) {
        (Some(dir), _, _) => Ok(CertificateFiles { chain: dir.join("tls.crt"), key: dir.join("tls.key") }),
        (None, Some(chain), Some(key)) => Ok(CertificateFiles { chain: chain.clone(), key: key.clone() }),
        _ => anyhow::bail!("the stream needs a certificate: set --stream-cert and --stream-key, or --stream-tls-dir"),
    }
}

async fn admission(settings: &Settings, client: &Client) -> anyhow::Result<Admission> {
    if let Some(path) = &settings.stream_secret_file {
        return Ok(Admission::secret_file(path.clone()).await?);
    }
    match (&settings.proxy_token_audience, settings.proxy_service_account.as_slice()) {
        (Some(audience), accounts) if !accounts.is_empty() => {
            Ok(Admission::token(client.clone(), audience.clone(), accounts.to_vec()))
        }
        _ => Ok(Admission::Open),
    }
}
