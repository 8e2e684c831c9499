//! The output of `sluice dev`: tables of objects and URLs, example calls, and the changes after each save.

use std::net::SocketAddr;
use std::path::Path;

use sluice_operator::manifests::Loaded;

use super::curl;
use super::session::{Changes, Session};
use crate::report::{self, Statuses};

/// Addresses to print.
pub(crate) struct Places<'a> {
    /// The folder that is served.
    pub(crate) folder: &'a Path,
    /// The URL of the API: `http://127.0.0.1:8080`.
    pub(crate) base: &'a str,
    /// The address for TLS, if any.
    pub(crate) https: Option<SocketAddr>,
    /// The address of the admin endpoint.
    pub(crate) admin: SocketAddr,
    /// The address of the token service, if there is a role.
    pub(crate) sts: Option<SocketAddr>,
}

/// Prints the complete state after the first load.
pub(crate) fn start(places: &Places<'_>, session: &Session, loaded: &Loaded) {
    println!("Serving {} at {}\n", places.folder.display(), places.base);
    if let Some(address) = places.https {
        println!("TLS at https://{address}\n");
    }
    if let Some(address) = places.sts {
        println!("Token service (AWS_ENDPOINT_URL_STS) at http://{address}\n");
    }
    println!("{}", report::objects(&session.statuses, &session.diagnostics));
    println!("{}", report::urls(&session.cluster, places.base));
    for (port, address) in session.local.servers() {
        println!(
            "Service {}/{}:{} is served by an example server at http://{address}",
            port.namespace, port.name, port.port
        );
    }
    report::print(&report::of_files(loaded));
    problems(session, &session.statuses, loaded);
    report::print(&report::of_warnings(&session.statuses, loaded));
    let context = curl::Context {
        cluster: &session.cluster,
        local: &session.local,
        statuses: &session.statuses,
        reach: &session.reach,
        base: places.base,
        https: places.https,
        sts: places.sts,
    };
    let lines = curl::lines(&context);
    if !lines.is_empty() {
        println!("\nTry it in another terminal:\n");
        lines.iter().for_each(|line| println!("  {line}"));
    }
    println!("\nMetrics: http://{}/metrics. Saved files take effect at once. Press Ctrl-C to stop.", places.admin);
}

/// Prints what a change of the folder changed.
pub(crate) fn change(session: &Session, changes: &Changes, loaded: &Loaded) {
    if loaded.has_errors() {
        println!("\nThe folder changed. The new state is served, except for the errors marked with !");
    } else {
        println!("\nThe folder changed. The new state is served.");
    }
    if !changes.changed.is_empty() {
        println!("\n{}", report::objects(&changes.changed, &session.diagnostics));
    }
    changes.gone.iter().for_each(|object| println!("{object} was removed."));
    // Notes were printed at the start.
    let errors: Vec<String> = report::of_files(loaded).into_iter().filter(|line| line.starts_with('!')).collect();
    report::print(&errors);
    problems(session, &changes.changed, loaded);
    report::print(&report::of_warnings(&changes.changed, loaded));
}

fn problems(session: &Session, statuses: &Statuses, loaded: &Loaded) {
    let others = session.server_problems.iter().chain(&session.reach.problems);
    others.for_each(|problem| println!("! {problem}"));
    report::print(&report::of_objects(statuses, &session.diagnostics, loaded));
}
