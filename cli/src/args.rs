//! What can be written on the command line, and the help that teaches it.
//! What the settings lead to is each command's.

use std::net::{SocketAddr, ToSocketAddrs as _};
use std::path::PathBuf;
use std::str::FromStr;

use clap::{Parser, Subcommand};

/// An API gateway for Kubernetes, on your desk.
#[derive(Debug, Parser)]
#[command(
    name = "sluice",
    version,
    propagate_version = true,
    after_help = "\
Examples:
  sluice dev examples/quickstart       serve the quickstart and print curl lines to try it
  sluice dev DIR --service shop/orders:80=127.0.0.1:3000
                                       serve your manifests in front of a program on your desk
  sluice lint DIR                      check manifests, for example before a commit

Each flag can be set in the environment as well: --listen is SLUICE_LISTEN."
)]
pub(crate) struct Args {
    /// What the program's own log shows: error, warn, info, debug or trace. It goes to standard error.
    #[arg(long, env = "SLUICE_LOG", default_value = "warn", global = true, value_name = "LEVEL")]
    pub(crate) log: String,
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What `sluice dev --help` begins with.
const ABOUT_DEV: &str = "\
Serves a folder of manifests with the real proxy, configured by the operator's own translation, without a cluster.

Every .yaml, .yml and .json file below DIR is read, as strictly as an API server reads it. A saved file takes effect at once
and costs no request. A file that cannot be read is reported with line and column, and its objects stay as they last were; an
object that cannot work is refused alone.

What a cluster would add is made here: the key of an ApiKey without a Secret, and where a Service is. A Service leads to the
address that --service gives, else to the EndpointSlices in the folder, else to its externalName. A Service that carries the
annotation sluice.dev/dev-server is served by this program itself: `example-backend` says what reached it,
`identity-provider` gives out tokens.";

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Serve a folder of manifests, and every change to it.
    #[command(long_about = ABOUT_DEV)]
    Dev(Dev),
    /// Check a folder of manifests without serving it.
    Lint(Lint),
    /// Run one of the small servers behind the quickstart.
    #[command(subcommand)]
    Example(Example),
}

/// Settings of `sluice dev`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  sluice dev examples/quickstart
  sluice dev deploy/ --listen 127.0.0.1:0 --service shop/orders:80=127.0.0.1:3000 --service shop/users:80=localhost:3001

It stops on Ctrl-C (SIGINT) or SIGTERM, after the requests that are being answered.")]
pub(crate) struct Dev {
    /// The folder with the manifests.
    #[arg(value_name = "DIR")]
    pub(crate) folder: PathBuf,
    /// Where the API is served; port 0 takes a free one, which is printed.
    #[arg(long, env = "SLUICE_LISTEN", default_value = "127.0.0.1:8080", value_name = "ADDR")]
    pub(crate) listen: SocketAddr,
    /// Where the API is served over TLS, for Stages with `tls`. Unset: nowhere.
    #[arg(long, env = "SLUICE_HTTPS", value_name = "ADDR")]
    pub(crate) https: Option<SocketAddr>,
    /// Where /metrics, /healthz and /readyz are served.
    #[arg(long, env = "SLUICE_ADMIN", default_value = "127.0.0.1:9091", value_name = "ADDR")]
    pub(crate) admin: SocketAddr,
    /// Where a Service is; can be given several times. In the environment, separated by commas.
    #[arg(long = "service", env = "SLUICE_SERVICE", value_delimiter = ',', value_name = "NAMESPACE/NAME:PORT=ADDR")]
    pub(crate) services: Vec<Mapping>,
}

/// Settings of `sluice lint`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Exit code 0 when every object is accepted and finds what it names, 1 otherwise.

Examples:
  sluice lint examples/quickstart
  sluice lint deploy/ && kubectl apply -f deploy/")]
pub(crate) struct Lint {
    /// The folder with the manifests.
    #[arg(value_name = "DIR")]
    pub(crate) folder: PathBuf,
}

/// The example servers.
#[derive(Debug, Subcommand)]
pub(crate) enum Example {
    /// A server that answers every request with what it saw of it.
    Backend {
        /// Where it listens.
        #[arg(long, env = "SLUICE_LISTEN", default_value = "127.0.0.1:8081", value_name = "ADDR")]
        listen: SocketAddr,
        /// What it calls itself in its answers.
        #[arg(long, env = "SLUICE_NAME", default_value = "example backend", value_name = "NAME")]
        name: String,
    },
    /// An identity provider that gives a token to everybody who asks. For trying out, never to guard anything.
    #[command(after_help = "\
Examples:
  sluice example idp --listen 127.0.0.1:9400
  curl -H 'accept: text/plain' -d client_id=me -d scope=orders.read http://127.0.0.1:9400/token

POST /token takes the form fields client_id, scope, audience and expires_in, all optional, and answers in JSON as OAuth 2.0
has it, or with the bare token where `accept: text/plain` is asked for. /jwks has the key, which is made at the start;
/.well-known/openid-configuration describes it all.")]
    Idp {
        /// Where it listens.
        #[arg(long, env = "SLUICE_LISTEN", default_value = "127.0.0.1:9400", value_name = "ADDR")]
        listen: SocketAddr,
        /// The tokens' `iss`. Unset: http:// and the address.
        #[arg(long, env = "SLUICE_ISSUER", value_name = "URL")]
        issuer: Option<String>,
        /// The tokens' `aud` when a request names none.
        #[arg(long, env = "SLUICE_AUDIENCE", default_value = "shop", value_name = "NAME")]
        audience: String,
    },
}

/// A port of a Service.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ServicePort {
    /// The Service's namespace.
    pub(crate) namespace: String,
    /// Its name.
    pub(crate) name: String,
    /// The port as the Service lists it.
    pub(crate) port: u16,
}

/// Where a port of a Service is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mapping {
    /// The port.
    pub(crate) service: ServicePort,
    /// Where it leads.
    pub(crate) address: SocketAddr,
}

impl FromStr for Mapping {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let shape = || "write NAMESPACE/NAME:PORT=ADDR, for example shop/orders:80=127.0.0.1:3000".to_owned();
        let (service, address) = text.split_once('=').ok_or_else(shape)?;
        let (namespace, rest) = service.split_once('/').ok_or_else(shape)?;
        let (name, port) = rest.split_once(':').ok_or_else(shape)?;
        let port = port.parse::<u16>().ok().filter(|port| *port > 0).ok_or_else(shape)?;
        if namespace.is_empty() || name.is_empty() {
            return Err(shape());
        }
        let address = resolve(address).ok_or_else(|| {
            format!("{address:?} is not an address: write IP:PORT or HOST:PORT, for example 127.0.0.1:3000")
        })?;
        let service = ServicePort { namespace: namespace.to_owned(), name: name.to_owned(), port };
        Ok(Self { service, address })
    }
}

/// The address that a text names; IPv4 is preferred, for that is what most programs on a desk listen on.
fn resolve(text: &str) -> Option<SocketAddr> {
    let found: Vec<SocketAddr> = text.to_socket_addrs().ok()?.filter(|address| address.port() > 0).collect();
    found.iter().find(|address| address.is_ipv4()).or(found.first()).copied()
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn a_mapping_names_a_port_of_a_service_and_an_address() {
        let mapping: Mapping = "shop/orders:80=127.0.0.1:3000".parse().unwrap();
        assert_eq!(mapping.service.port, 80);
        assert_eq!(mapping.address, SocketAddr::from(([127, 0, 0, 1], 3000)));
        for bad in [
            "shop/orders=1.2.3.4:5",
            "orders:80=1.2.3.4:5",
            "a/b:80",
            "a/b:0=1.2.3.4:5",
            "a/b:80=1.2.3.4",
            "/b:1=[::1]:2",
        ] {
            assert!(bad.parse::<Mapping>().is_err(), "{bad}");
        }
    }
}
