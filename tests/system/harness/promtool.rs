//! Prometheus' own judge of metric names, types and help texts. What the metrics mean is the cases' business.

use std::path::PathBuf;
use std::process::Stdio;

use anyhow::Context as _;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use super::api_server::build;

/// `promtool check metrics`, or the linter that it is, alone.
pub(crate) struct Promtool {
    program: PathBuf,
    arguments: &'static [&'static str],
}

impl Promtool {
    /// The one on the PATH, else the linter, which is built the first time.
    pub(crate) async fn find() -> anyhow::Result<Self> {
        let version = Command::new("promtool").arg("--version").output().await;
        if version.is_ok_and(|output| output.status.success()) {
            return Ok(Self { program: PathBuf::from("promtool"), arguments: &["check", "metrics"] });
        }
        let folder = tokio::task::spawn_blocking(|| build("promlint")).await??;
        Ok(Self { program: folder.join("promlint"), arguments: &[] })
    }

    /// Fails with its words when it complains about a page of metrics.
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
        // It reads to the end before it says anything.
        input.write_all(page.as_bytes()).await?;
        drop(input);
        let output = child.wait_with_output().await?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        anyhow::ensure!(output.status.success() && said.trim().is_empty(), "the linter ({}): {said}", output.status);
        Ok(())
    }
}
