//! What `sluice dev` says: a table of what it serves, lines to try it, and news after each change.
//! The words of a problem are the operator's and the proxy's.

use std::net::SocketAddr;
use std::path::Path;

use sluice_operator::manifests::Loaded;

use super::curl;
use super::session::{News, Session};
use crate::report::{self, Statuses};

/// Where everything is.
pub(crate) struct Places<'a> {
    /// The folder.
    pub(crate) folder: &'a Path,
    /// Where the API is served: `http://127.0.0.1:8080`.
    pub(crate) base: &'a str,
    /// The same over TLS, if it is.
    pub(crate) https: Option<SocketAddr>,
    /// Where metrics are.
    pub(crate) admin: SocketAddr,
}

/// Everything, once the folder is served for the first time.
pub(crate) fn start(places: &Places<'_>, session: &Session, loaded: &Loaded) {
    println!("Serving {} at {}\n", places.folder.display(), places.base);
    if let Some(address) = places.https {
        println!("Over TLS at https://{address}\n");
    }
    println!("{}", report::objects(&session.statuses, &session.refusals));
    println!("{}", report::urls(&session.world, places.base));
    for (port, address) in session.local.servers() {
        println!("Service {}/{}:{} runs here, at http://{address}", port.namespace, port.name, port.port);
    }
    report::say(&report::of_files(loaded));
    problems(session, &session.statuses, loaded);
    let lines = curl::lines(&curl::Context { world: &session.world, local: &session.local, base: places.base });
    if !lines.is_empty() {
        println!("\nTry it in another terminal:\n");
        lines.iter().for_each(|line| println!("  {line}"));
    }
    println!("\nMetrics are at http://{}/metrics. A saved file is served at once. Ctrl-C ends it.", places.admin);
}

/// What a change brought.
pub(crate) fn change(session: &Session, news: &News, loaded: &Loaded) {
    if loaded.has_errors() {
        println!("\nThe folder changed. It is served as it is now, but for what is marked with !");
    } else {
        println!("\nThe folder changed and is served as it is now.");
    }
    if !news.changed.is_empty() {
        println!("\n{}", report::objects(&news.changed, &session.refusals));
    }
    news.gone.iter().for_each(|object| println!("{object} is gone."));
    // Notes were told at the start.
    let errors: Vec<String> = report::of_files(loaded).into_iter().filter(|line| line.starts_with('!')).collect();
    report::say(&errors);
    problems(session, &news.changed, loaded);
}

fn problems(session: &Session, statuses: &Statuses, loaded: &Loaded) {
    session.server_problems.iter().for_each(|problem| println!("! {problem}"));
    report::say(&report::of_objects(statuses, &session.refusals, loaded));
}
