//! `sluice lint`.
pub(crate) fn run(settings: &crate::args::Lint) -> anyhow::Result<std::process::ExitCode> {
    anyhow::bail!("cannot check {}: reading manifests is not part of this build", settings.folder.display())
}
