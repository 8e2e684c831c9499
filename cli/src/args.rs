//! Command line arguments and their help texts. The commands' modules use the parsed values.

use std::net::{IpAddr, SocketAddr, ToSocketAddrs as _};
use std::path::PathBuf;
use std::str::FromStr;

use clap::{Parser, Subcommand, ValueEnum};
use sluice_crds::warning;
use sluice_wire::{Network, RequestPolicy};

/// Serves, validates and explains Sluice manifests without a cluster.
#[derive(Debug, Parser)]
#[command(
    name = "sluice",
    version,
    propagate_version = true,
    after_help = "\
Examples:
  sluice dev examples/quickstart       serve the quickstart and print curl lines to try it
  sluice dev DIR --service shop/orders:80=127.0.0.1:3000
                                       serve your manifests in front of a local program
  sluice lint DIR                      validate manifests, for example before a commit
  sluice explain GET http://127.0.0.1:8080/orders DIR
                                       show which rule, checks and limits decide about a request

Each flag can also be set in the environment: --listen is SLUICE_LISTEN."
)]
pub(crate) struct Args {
    /// Log level of the program's own log on standard error: error, warn, info, debug or trace.
    #[arg(long, env = "SLUICE_LOG", default_value = "warn", global = true, value_name = "LEVEL")]
    pub(crate) log: String,
    /// The command to run.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// First part of `sluice dev --help`.
const ABOUT_DEV: &str = "\
Serves a folder of manifests with the real proxy and the operator's translation, without a cluster.

Reads each .yaml, .yml and .json file below DIR and validates it as strictly as an API server. A saved file takes effect at
once and interrupts no request. A file that cannot be parsed is reported with line and column, and its last valid objects stay
in effect. An invalid object does not affect other objects.

An ApiKey or Principal without a Secret gets a generated key. A Service is forwarded to the address of --service, else to the EndpointSlices
in the folder, else to its externalName. A Service with the annotation sluice.dev/dev-server is served by this program:
`example-backend` responds with a description of each request, `identity-provider` issues tokens.";

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Serve a folder of manifests and follow its changes.
    #[command(long_about = ABOUT_DEV)]
    Dev(Dev),
    /// Validate a folder of manifests without serving it.
    Lint(Lint),
    /// Show what would happen to a request, without sending it.
    #[command(long_about = ABOUT_EXPLAIN)]
    Explain(Explain),
    /// Run one of the example servers of the quickstart.
    #[command(subcommand)]
    Example(Example),
}

/// Settings of `sluice dev`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  sluice dev examples/quickstart
  sluice dev deploy/ --listen 127.0.0.1:0 --service shop/orders:80=127.0.0.1:3000 --service shop/users:80=localhost:3001

Ctrl-C (SIGINT) or SIGTERM stops the program after the requests in progress.")]
pub(crate) struct Dev {
    /// The folder with the manifests.
    #[arg(value_name = "DIR")]
    pub(crate) folder: PathBuf,
    /// Address for HTTP; port 0 selects a free port, which is printed.
    #[arg(long, env = "SLUICE_LISTEN", default_value = "127.0.0.1:8080", value_name = "ADDR")]
    pub(crate) listen: SocketAddr,
    /// Address for TLS, for Stages with `tls`. Unset: no TLS.
    #[arg(long, env = "SLUICE_HTTPS", value_name = "ADDR")]
    pub(crate) https: Option<SocketAddr>,
    /// Address for /metrics, /healthz and /readyz.
    #[arg(long, env = "SLUICE_ADMIN", default_value = "127.0.0.1:9091", value_name = "ADDR")]
    pub(crate) admin: SocketAddr,
    /// Address of the token service for temporary credentials, which runs if a Principal has `trust`. On a loopback address.
    #[arg(long, env = "SLUICE_STS", default_value = "127.0.0.1:9092", value_name = "ADDR")]
    pub(crate) sts: SocketAddr,
    /// Address of a Service's port; can be repeated. In the environment, separated by commas.
    #[arg(long = "service", env = "SLUICE_SERVICE", value_delimiter = ',', value_name = "NAMESPACE/NAME:PORT=ADDR")]
    pub(crate) services: Vec<Mapping>,
    /// What happens to requests that two programs could interpret differently, as NAME=VALUE with the names and values of
    /// Stage.spec.requestPolicy, at Stages that do not set it; can be repeated. In the environment, separated by commas.
    #[arg(long, env = "SLUICE_REQUEST_POLICY", value_delimiter = ',', value_name = "NAME=VALUE")]
    pub(crate) request_policy: Vec<RequestPolicy>,
    /// Networks of proxies in front of this one, separated by commas: in requests from them, the client's address is the last
    /// one in X-Forwarded-For that is no trusted proxy. Example: 127.0.0.0/8, to try Stage.spec.source.
    #[arg(long, env = "SLUICE_TRUSTED_PROXIES", value_delimiter = ',', value_name = "NETWORK")]
    pub(crate) trusted_proxies: Vec<Network>,
}

/// Last part of `sluice lint --help`.
fn after_lint() -> String {
    let codes = warning::ALL.iter().map(|code| format!("  {:<24} {}\n", code.name, code.summary));
    format!(
        "\
Exit code 0 if each object is accepted and each reference is resolved, otherwise 1.

Each line of the output begins with a mark:
  !  an error: the object, or a part of it, is not served as written
  ?  a warning: valid, but probably not what was meant; the text says what to do
  -  a note

The annotation {}: CODE,CODE of an object silences warnings. The codes; docs/warnings.md has a section for each:
{}
Examples:
  sluice lint examples/quickstart
  sluice lint deploy/ && kubectl apply -f deploy/
  sluice lint --deny-warnings deploy/                  in CI",
        warning::SILENCE,
        codes.collect::<String>()
    )
}

/// Settings of `sluice lint`.
#[derive(Debug, clap::Args)]
#[command(after_help = after_lint())]
pub(crate) struct Lint {
    /// Exit with code 1 if there is a warning.
    #[arg(long, env = "SLUICE_DENY_WARNINGS")]
    pub(crate) deny_warnings: bool,
    /// The folder with the manifests.
    #[arg(value_name = "DIR")]
    pub(crate) folder: PathBuf,
}

/// First part of `sluice explain --help`.
const ABOUT_EXPLAIN: &str = "\
Shows what would happen to a request, without sending it: the Stage and the rule that match, each check with its result, what
rejects it and why, or the request that the integration would get.

The proxy's own code decides, with the manifests below DIR. The integration is not called, and the cache is neither read nor
filled. Servers that authorizers need (key sets, introspection, functions) are called, and limits have all their tokens. Besides
the given headers, the request has Host, and with a body Content-Length.";

/// Last part of `sluice explain --help`.
const AFTER_EXPLAIN: &str = "\
Exit code 0 if the request passes, 1 if the gateway rejects or redirects it, 2 if the manifests or the arguments are not valid.

Each line of the output has the result of a check: pass or REJECT. The last one has decided.

Examples:
  sluice explain GET http://127.0.0.1:8080/orders examples/policy
  sluice explain DELETE http://127.0.0.1:8080/orders examples/policy       which statement denies it
  sluice explain GET http://127.0.0.1:8080/reports examples/api-key -H 'x-api-key: example-key-of-globex'
  sluice explain GET http://127.0.0.1:8080/orders examples/iam --principal shop/reporting
  sluice explain POST https://api.shop.example/orders deploy/ -d @order.json --source 203.0.113.7
  sluice explain GET http://127.0.0.1:8080/orders deploy/ --output json | jq .rule

The value of an ApiKey of the manifests can be named, in the URL and in headers: -H 'x-api-key: {apiKey:shop/partner}'.
The output has no values of ApiKeys of the manifests.
A Service with the annotation sluice.dev/dev-server is expected at its port on 127.0.0.1, where `sluice dev` serves it.";

/// Settings of `sluice explain`.
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER_EXPLAIN)]
pub(crate) struct Explain {
    /// The method.
    #[arg(value_name = "METHOD")]
    pub(crate) method: String,
    /// The URL: http or https, host, path and query.
    #[arg(value_name = "URL")]
    pub(crate) url: String,
    /// The folder with the manifests.
    #[arg(value_name = "DIR")]
    pub(crate) folder: PathBuf,
    /// A header of the request; can be repeated.
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE")]
    pub(crate) headers: Vec<String>,
    /// The body, or @FILE.
    #[arg(short = 'd', long, value_name = "BODY")]
    pub(crate) data: Option<String>,
    /// The address of the client.
    #[arg(long, env = "SLUICE_SOURCE", default_value = "127.0.0.1", value_name = "ADDRESS")]
    pub(crate) source: IpAddr,
    /// A PEM file with the certificate of the client and its private key, for https.
    #[arg(long, env = "SLUICE_CLIENT_CERTIFICATE", value_name = "FILE")]
    pub(crate) client_certificate: Option<PathBuf>,
    /// Signs the request (AWS Signature Version 4) with the access key of this Principal, for the
    /// Iam Authorizer of the rule.
    #[arg(long, env = "SLUICE_PRINCIPAL", value_name = "NAMESPACE/NAME")]
    pub(crate) principal: Option<String>,
    /// Text for people, or JSON for programs.
    #[arg(long, env = "SLUICE_OUTPUT", default_value = "text", value_name = "FORMAT")]
    pub(crate) output: OutputFormat,
    /// Address of a Service's port; can be repeated. In the environment, separated by commas.
    #[arg(long = "service", env = "SLUICE_SERVICE", value_delimiter = ',', value_name = "NAMESPACE/NAME:PORT=ADDR")]
    pub(crate) services: Vec<Mapping>,
    /// What happens to requests that two programs could interpret differently, as for `sluice dev`; can be repeated. In the
    /// environment, separated by commas.
    #[arg(long, env = "SLUICE_REQUEST_POLICY", value_delimiter = ',', value_name = "NAME=VALUE")]
    pub(crate) request_policy: Vec<RequestPolicy>,
    /// Networks of proxies in front of this one, separated by commas, as for `sluice dev`.
    #[arg(long, env = "SLUICE_TRUSTED_PROXIES", value_delimiter = ',', value_name = "NETWORK")]
    pub(crate) trusted_proxies: Vec<Network>,
}

/// The format of an explanation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum OutputFormat {
    /// For people.
    Text,
    /// For programs.
    Json,
}

/// The example servers.
#[derive(Debug, Subcommand)]
pub(crate) enum Example {
    /// A server that responds to each request with a JSON description of it.
    Backend {
        /// Address to listen on.
        #[arg(long, env = "SLUICE_LISTEN", default_value = "127.0.0.1:8081", value_name = "ADDR")]
        listen: SocketAddr,
        /// Name of the server in its responses.
        #[arg(long, env = "SLUICE_NAME", default_value = "example backend", value_name = "NAME")]
        name: String,
    },
    /// An identity provider that issues a token to every client. For trials only; it protects nothing.
    #[command(after_help = "\
Examples:
  sluice example idp --listen 127.0.0.1:9400
  curl -H 'accept: text/plain' -d client_id=me -d scope=orders.read http://127.0.0.1:9400/token

POST /token has the optional form fields client_id, scope, audience and expires_in. The response is JSON (OAuth 2.0), or the
token alone with `accept: text/plain`. POST /introspect (RFC 7662) and /revoke (RFC 7009) have the form field token. /jwks
returns the public key, which is generated at the start.
/.well-known/openid-configuration is the discovery document.")]
    Idp {
        /// Address to listen on.
        #[arg(long, env = "SLUICE_LISTEN", default_value = "127.0.0.1:9400", value_name = "ADDR")]
        listen: SocketAddr,
        /// `iss` of the tokens. Unset: http:// and the address.
        #[arg(long, env = "SLUICE_ISSUER", value_name = "URL")]
        issuer: Option<String>,
        /// `aud` of the tokens if a request has no audience.
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
    /// The port in the Service's `ports`.
    pub(crate) port: u16,
}

/// The address of a Service's port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mapping {
    /// The port.
    pub(crate) service: ServicePort,
    /// The address that requests are forwarded to.
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

/// Resolves an address. IPv4 is preferred, because most local programs listen on it.
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
