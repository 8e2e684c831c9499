//! The operator's command line flags. Each flag has an environment variable.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Parser;

use crate::publish::ProxyAccount;

/// See [`Settings::signing_key_days`].
pub const DEFAULT_SIGNING_KEY_DAYS: u8 = 7;

/// Translates Sluice objects into configuration for the proxies and writes the objects' status.
#[derive(Clone, Debug, Parser)]
#[command(name = "sluice-operator", version, about)]
pub struct Settings {
    /// Address of the configuration stream for proxies.
    #[arg(long, env = "SLUICE_STREAM_LISTEN", default_value = "0.0.0.0:9443")]
    pub stream_listen: SocketAddr,
    /// Certificate chain of the stream, as a PEM file; reloaded when it changes.
    #[arg(long, env = "SLUICE_STREAM_CERT", requires = "stream_key")]
    pub stream_cert: Option<PathBuf>,
    /// Private key of the stream's certificate, as a PEM file.
    #[arg(long, env = "SLUICE_STREAM_KEY", requires = "stream_cert")]
    pub stream_key: Option<PathBuf>,
    /// Directory with tls.crt and tls.key, instead of --stream-cert and --stream-key.
    #[arg(long, env = "SLUICE_STREAM_TLS_DIR", conflicts_with_all = ["stream_cert", "stream_key"])]
    pub stream_tls_dir: Option<PathBuf>,
    /// File with the shared secret of the proxies, at least 16 characters; reloaded when it changes.
    #[arg(long, env = "SLUICE_STREAM_SECRET_FILE", conflicts_with_all = ["proxy_token_audience", "proxy_service_account"])]
    pub stream_secret_file: Option<PathBuf>,
    /// Audience of the proxies' service account tokens.
    #[arg(long, env = "SLUICE_PROXY_TOKEN_AUDIENCE", requires = "proxy_service_account")]
    pub proxy_token_audience: Option<String>,
    /// Service account of proxies: NAMESPACE/NAME, or NAMESPACE/NAME=FLEET for proxies that may join this fleet only. Can be
    /// repeated, or separated by commas.
    #[arg(long, env = "SLUICE_PROXY_SERVICE_ACCOUNT", value_delimiter = ',', requires = "proxy_token_audience")]
    pub proxy_service_account: Vec<ProxyAccount>,
    /// Address of the token service, which issues temporary credentials to ServiceAccounts (AssumeRoleWithWebIdentity), with the
    /// certificate of the stream. Unset: there is none.
    #[arg(long, env = "SLUICE_STS_LISTEN")]
    pub sts_listen: Option<SocketAddr>,
    /// Audience of the tokens that the token service accepts.
    #[arg(long, env = "SLUICE_STS_AUDIENCE", default_value = "sts.amazonaws.com")]
    pub sts_audience: String,
    /// Address for /metrics, /healthz and /readyz.
    #[arg(long, env = "SLUICE_ADMIN", default_value = "0.0.0.0:9090")]
    pub admin: SocketAddr,
    /// Kubeconfig file. Unset: the default kubeconfig, or the Pod's service account.
    #[arg(long, env = "SLUICE_KUBECONFIG")]
    pub kubeconfig: Option<PathBuf>,
    /// Log level: error, warn, info, debug or trace.
    #[arg(long, env = "SLUICE_LOG", default_value = "info")]
    pub log: String,
    /// Seconds after a start in which `Programmed` is not changed, while proxies reconnect.
    #[arg(long, env = "SLUICE_FLEET_SETTLE_SECONDS", default_value_t = 15)]
    pub fleet_settle_seconds: u64,
    /// Days for which proxies get signing keys in advance, besides today and the 7 days before: for so long they verify signatures of
    /// Principals without the operator, and what they hold is worth so long. From 1 to 30.
    #[arg(long, env = "SLUICE_SIGNING_KEY_DAYS", default_value_t = DEFAULT_SIGNING_KEY_DAYS, value_parser = clap::value_parser!(u8).range(1..=30))]
    pub signing_key_days: u8,
}
