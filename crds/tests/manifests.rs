//! The committed manifests say what the types say.

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
    let (fresh, told) = crdgen(&[Path::new("--check"), &manifests, &chart]);
    assert!(fresh, "{told}");
}

#[test]
fn a_stale_manifest_is_reported_with_the_command_to_run() {
    let dir = std::env::temp_dir().join(format!("sluice-crdgen-{}", std::process::id()));
    let (written, told) = crdgen(&[Path::new("--out"), &dir]);
    assert!(written, "{told}");
    let (fresh, told) = crdgen(&[Path::new("--check"), &dir]);
    assert!(fresh, "{told}");
    let stage = dir.join("stages.sluice.dev.yaml");
    let text = std::fs::read_to_string(&stage).unwrap();
    std::fs::write(&stage, text.replacen("basePath", "basepath", 1)).unwrap();
    let (fresh, told) = crdgen(&[Path::new("--check"), &dir]);
    assert!(!fresh);
    assert!(told.contains("stages.sluice.dev.yaml") && told.contains("make generate"), "{told}");
    assert!(!told.contains("apiroutes"), "{told}");
    std::fs::remove_dir_all(&dir).unwrap();
}

#[test]
fn an_unknown_flag_teaches() {
    let (done, told) = crdgen(&[Path::new("--chek")]);
    assert!(!done);
    assert!(told.contains("--check DIR"), "{told}");
}

#[test]
fn a_manifest_reads_back_as_what_was_meant() {
    for definition in sluice_crds::manifest::definitions().unwrap() {
        let yaml = definition.yaml().unwrap();
        let read: serde_json::Value = serde_saphyr::from_str(&yaml).unwrap();
        assert_eq!(read, definition.object, "{}", definition.plural);
    }
}
