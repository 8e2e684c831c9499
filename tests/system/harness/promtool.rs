//! Prometheus' linter for metric names, types and help texts. The tests check the values of the metrics.

use std::path::PathBuf;
use std::process::Stdio;

use anyhow::Context as _;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use super::api_server::build;

/// `promtool check metrics`, or a program with its linter alone.
pub(crate) struct Promtool {
    program: PathBuf,
    arguments: &'static [&'static str],
}

impl Promtool {
    /// promtool on the PATH, else the linter, which is built the first time.
    pub(crate) async fn find() -> anyhow::Result<Self> {
        let version = Command::new("promtool").arg("--version").output().await;
        if version.is_ok_and(|output| output.status.success()) {
            return Ok(Self { program: PathBuf::from("promtool"), arguments: &["check", "metrics"] });
        }
        let folder = tokio::task::spawn_blocking(|| build("promlint")).await??;
        Ok(Self { program: folder.join("promlint"), arguments: &[] })
    }

    /// Fails with its output if it reports a problem of a page of metrics.
    pub(crate) async fn check_metrics(&self, page: &str) -> anyhow::Result<()> {
        let mut child = Command::new(&self.program)
            .args(self.arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot start {}", self.program.display()))?;
        let mut input = child.stdin.take().context("promtool has no input")?;
        // It reads all input before it writes output.
        input.write_all(page.as_bytes()).await?;
        drop(input);
        let output = child.wait_with_output().await?;
        let report = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        anyhow::ensure!(
            output.status.success() && report.trim().is_empty(),
            "the linter ({}): {report}",
            output.status
        );
        Ok(())
    }
}
