//! The committed manifests are those that the types generate.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_path_buf()
}

fn crdgen(arguments: &[&Path]) -> (bool, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_crdgen")).args(arguments).output().unwrap();
    (output.status.success(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn the_committed_manifests_are_fresh() {
    let manifests = root().join("manifests");
    let chart = root().join("../charts/sluice-crds/templates");
    let (fresh, output) = crdgen(&[Path::new("--check"), &manifests, &chart]);
    assert!(fresh, "{output}");
}

#[test]
fn a_stale_manifest_is_reported_with_the_command_to_run() {
    let dir = std::env::temp_dir().join(format!("sluice-crdgen-{}", std::process::id()));
    let (written, output) = crdgen(&[Path::new("--out"), &dir]);
    assert!(written, "{output}");
    let (fresh, output) = crdgen(&[Path::new("--check"), &dir]);
    assert!(fresh, "{output}");
    let stage = dir.join("stages.sluice.dev.yaml");
    let text = std::fs::read_to_string(&stage).unwrap();
    std::fs::write(&stage, text.replacen("basePath", "basepath", 1)).unwrap();
    let (fresh, output) = crdgen(&[Path::new("--check"), &dir]);
    assert!(!fresh);
    assert!(output.contains("stages.sluice.dev.yaml") && output.contains("make generate"), "{output}");
    assert!(!output.contains("apiroutes"), "{output}");
    std::fs::remove_dir_all(&dir).unwrap();
}

#[test]
fn an_unknown_flag_teaches() {
    let (done, output) = crdgen(&[Path::new("--chek")]);
    assert!(!done);
    assert!(output.contains("--check DIR"), "{output}");
}

#[test]
fn a_manifest_reads_back_as_what_was_meant() {
    for definition in sluice_crds::manifest::definitions().unwrap() {
        let yaml = definition.yaml().unwrap();
        let read: serde_json::Value = serde_saphyr::from_str(&yaml).unwrap();
        assert_eq!(read, definition.object, "{}", definition.plural);
    }
}
