//! `sluice explain`: translates a folder of manifests as `sluice dev` does, and has the proxy explain one request. `request` builds
//! the request from the arguments, `text` writes the explanation for people.

mod request;
mod text;

use std::process::ExitCode;

use anyhow::{Context as _, bail};
use prometheus::Registry;
use serde::Serialize;
use sluice_operator::cluster_state::ClusterState;
use sluice_operator::manifests;
use sluice_operator::objects::ObjectKey;
use sluice_proxy::explain::{ExplainedOutcome, Explanation};
use sluice_proxy::run::{LogSink, NameFiles, Proxy, ProxyProtocol, Settings, Strictness, TrustedProxies};
use sluice_proxy::{Limits, Timeouts};

use crate::args::{self, OutputFormat};
use crate::dev::session::Session;
use crate::dev::{check_folder, cluster_state_of};
use crate::report;

/// The manifests or the arguments are not valid.
const INVALID: u8 = 2;

/// An explanation, with what only the manifests state.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Output {
    #[serde(flatten)]
    explanation: Explanation,
    /// The fleet of the Stage; none: no Stage matched.
    #[serde(skip_serializing_if = "Option::is_none")]
    fleet: Option<String>,
}

/// Explains a request. Exit code 0: it passes; 1: it is rejected; 2: the manifests or the arguments are not valid.
pub(crate) async fn run(settings: &args::Explain) -> ExitCode {
    match explain(settings).await {
        Ok(output) => {
            match settings.output {
                OutputFormat::Text => print!("{}", text::render(&output.explanation, output.fleet.as_deref())),
                OutputFormat::Json => match serde_json::to_string_pretty(&output) {
                    Ok(text) => println!("{text}"),
                    Err(error) => return invalid(&error.into()),
                },
            }
            match output.explanation.outcome {
                ExplainedOutcome::Forwarded | ExplainedOutcome::Responded => ExitCode::SUCCESS,
                ExplainedOutcome::Rejected | ExplainedOutcome::Unfinished => ExitCode::FAILURE,
            }
        }
        Err(error) => invalid(&error),
    }
}

fn invalid(error: &anyhow::Error) -> ExitCode {
    eprintln!("sluice: {error:#}");
    ExitCode::from(INVALID)
}

async fn explain(settings: &args::Explain) -> anyhow::Result<Output> {
    check_folder(&settings.folder)?;
    let loaded = manifests::load(&settings.folder);
    if loaded.has_errors() {
        report::of_files(&loaded).iter().filter(|line| line.starts_with('!')).for_each(|line| eprintln!("{line}"));
        bail!("the manifests of {} are not valid", settings.folder.display());
    }
    let mut session = Session::without_servers(&settings.services);
    let step = session.prepare(&cluster_state_of(&loaded)).await?;
    let request = request::build(settings, &session.cluster)?;
    let proxy = start_proxy(settings)?;
    // Applying compiles, and explaining waits for servers: both block.
    let ack = tokio::task::block_in_place(|| proxy.apply(step.delta.clone()));
    session.conclude(step, &ack)?;
    // They are in effect: what depends on them is rejected, and the explanation says so.
    report::of_objects(&session.statuses, &session.diagnostics, &loaded).iter().for_each(|line| eprintln!("{line}"));
    let mut explanation =
        tokio::task::block_in_place(|| proxy.explain(&request)).context("cannot explain the request")?;
    name_policy(&mut explanation, &session.cluster);
    let fleet = explanation.stage.as_ref().map(|stage| fleet(&session.cluster, &stage.name));
    Ok(Output { explanation, fleet })
}

/// The name of the policy of a Principal that has decided.
fn name_policy(explanation: &mut Explanation, cluster: &ClusterState) {
    let principal = explanation.caller.as_ref().and_then(|caller| caller.principal.as_deref());
    let Some((namespace, name)) = principal.and_then(|principal| principal.split_once('/')) else { return };
    let Some(principal) = cluster.principals.get(&ObjectKey::new(namespace, name)) else { return };
    if let Some(statement) = explanation.policy.as_mut().and_then(|policy| policy.statement.as_mut()) {
        let policy = statement.policy.and_then(|at| principal.spec.policies.get(at));
        statement.policy_name = policy.and_then(|policy| policy.name.clone());
    }
}

/// The fleet of a Stage, `namespace/name`.
fn fleet(cluster: &ClusterState, stage: &str) -> String {
    let key = stage.split_once('/').map(|(namespace, name)| ObjectKey::new(namespace, name));
    let fleet = key.and_then(|key| cluster.stages.get(&key)?.spec.fleet.clone());
    fleet.map_or_else(|| "default".to_owned(), |fleet| fleet.name)
}

/// A proxy that serves no connections.
fn start_proxy(settings: &args::Explain) -> anyhow::Result<Proxy> {
    let proxy = Proxy::start(Settings {
        http: None,
        https: None,
        threads: Some(1),
        access_log: LogSink::Off,
        registry: Registry::new(),
        // As for `sluice dev`.
        allow_loopback: true,
        extra_roots: Vec::new(),
        limits: Limits::default(),
        strictness: Strictness::default(),
        https_port: None,
        trusted_proxies: TrustedProxies { networks: settings.trusted_proxies.clone(), ..TrustedProxies::default() },
        proxy_protocol: ProxyProtocol::default(),
        tls_terminators: Vec::new(),
        request_policy: settings.request_policy.iter().copied().collect(),
        timeouts: Timeouts::default(),
        names: NameFiles::default(),
        runtime: tokio::runtime::Handle::current(),
    });
    proxy.context("cannot start the proxy")
}
