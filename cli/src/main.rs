//! The `sluice` command: serves, validates and explains folders of manifests without a cluster. It combines the operator's
//! translation with the proxy.

use std::process::ExitCode;

use clap::Parser as _;

mod args;
mod dev;
mod example;
mod explain;
mod lint;
mod report;
mod table;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let args = args::Args::parse();
    match run(args) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("sluice: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: args::Args) -> anyhow::Result<ExitCode> {
    sluice_daemon::logging::init(&args.log)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let code = runtime.block_on(async {
        match args.command {
            args::Command::Dev(settings) => dev::run(settings).await,
            args::Command::Lint(settings) => lint::run(&settings),
            args::Command::Explain(settings) => Ok(explain::run(&settings).await),
            args::Command::Example(example) => serve_example(example).await,
        }
    })?;
    Ok(code)
}

/// Runs an example server until a signal to stop arrives.
async fn serve_example(example: args::Example) -> anyhow::Result<ExitCode> {
    use anyhow::Context as _;

    let cannot_listen = |address| format!("cannot listen on {address}");
    let server = match example {
        args::Example::Backend { listen, name } => {
            let backend = example::backend::Backend::new(name);
            example::Server::start(listen, backend).await.with_context(|| cannot_listen(listen))?
        }
        args::Example::Idp { listen, issuer, audience } => {
            let issuer = issuer.unwrap_or_else(|| format!("http://{listen}"));
            let idp = example::idp::Idp::new(issuer, audience)?;
            example::Server::start(listen, idp).await.with_context(|| cannot_listen(listen))?
        }
    };
    println!("listening on http://{}", server.address());
    sluice_daemon::signals::shutdown().await.context("cannot wait for signals")?;
    Ok(ExitCode::SUCCESS)
}
