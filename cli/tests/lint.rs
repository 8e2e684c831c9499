//! `sluice lint`: exit codes, and no problems in the examples.

use std::path::Path;
use std::process::{Command, Output};

use crate::harness::{Folder, examples};

fn lint(folder: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_sluice")).arg("lint").arg(folder).output().unwrap()
}

#[test]
fn every_example_is_clean() {
    let mut count = 0;
    for entry in std::fs::read_dir(examples()).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            let output = lint(&path);
            let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(0), "{}: {text}", path.display());
            count += 1;
        }
    }
    assert!(count >= 2);
}

#[test]
fn problems_of_files_and_objects_are_reported_with_exit_code_1() {
    for (from, to, named) in [
        ("path: /health", "path: [/health", "orders.yaml:"),
        ("  stages: [{name: prod}]", "  stages: [{name: prd}]", "StageNotFound"),
        ("methods: [GET]", "methods: [GTE]", "GTE"),
    ] {
        let folder = Folder::copy_of("quickstart");
        folder.write("orders.yaml", &folder.read("orders.yaml").replace(from, to));
        let output = lint(&folder.0);
        let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(text.contains(named), "{text}");
    }
}

#[test]
fn a_missing_folder_is_reported() {
    let output = lint(Path::new("/nowhere/at/all"));
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("/nowhere/at/all"));
}
