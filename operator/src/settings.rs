//! The operator's settings as flags; each flag has an environment variable. What they lead to is `run`'s.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Parser;

use crate::publish::Account;

/// Turns Sluice's objects into configuration for its proxies, and reports what became of them.
#[derive(Clone, Debug, Parser)]
#[command(name = "sluice-operator", version, about)]
pub struct Settings {
    /// Where proxies fetch their configuration.
    #[arg(long, env = "SLUICE_STREAM_LISTEN", default_value = "0.0.0.0:9443")]
    pub stream_listen: SocketAddr,
    /// The stream's certificate chain, as PEM; read again when it changes.
    #[arg(long, env = "SLUICE_STREAM_CERT", requires = "stream_key")]
    pub stream_cert: Option<PathBuf>,
    /// The key of the stream's certificate, as PEM.
    #[arg(long, env = "SLUICE_STREAM_KEY", requires = "stream_cert")]
    pub stream_key: Option<PathBuf>,
    /// A directory with tls.crt and tls.key, instead of --stream-cert and --stream-key.
    #[arg(long, env = "SLUICE_STREAM_TLS_DIR", conflicts_with_all = ["stream_cert", "stream_key"])]
    pub stream_tls_dir: Option<PathBuf>,
    /// A file with the secret that proxies present; read again when it changes.
    #[arg(long, env = "SLUICE_STREAM_SECRET_FILE", conflicts_with_all = ["proxy_token_audience", "proxy_service_account"])]
    pub stream_secret_file: Option<PathBuf>,
    /// The audience of the tokens that proxies present.
    #[arg(long, env = "SLUICE_PROXY_TOKEN_AUDIENCE", requires = "proxy_service_account")]
    pub proxy_token_audience: Option<String>,
    /// The proxies' service account, as NAMESPACE/NAME.
    #[arg(long, env = "SLUICE_PROXY_SERVICE_ACCOUNT", requires = "proxy_token_audience")]
    pub proxy_service_account: Option<Account>,
    /// Where /metrics, /healthz and /readyz are served.
    #[arg(long, env = "SLUICE_ADMIN", default_value = "0.0.0.0:9090")]
    pub admin: SocketAddr,
    /// A kubeconfig file, instead of the Pod's service account or the usual places.
    #[arg(long, env = "SLUICE_KUBECONFIG")]
    pub kubeconfig: Option<PathBuf>,
    /// How much is logged: error, warn, info, debug or trace.
    #[arg(long, env = "SLUICE_LOG", default_value = "info")]
    pub log: String,
    /// How many seconds after a start statuses keep what they said about the fleet, while proxies connect again.
    #[arg(long, env = "SLUICE_FLEET_SETTLE_SECONDS", default_value_t = 15)]
    pub fleet_settle_seconds: u64,
}
