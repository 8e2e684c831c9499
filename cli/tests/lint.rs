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
            assert!(!text.lines().any(|line| line.starts_with('?')), "{}: {text}", path.display());
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

/// The output and exit code of `sluice lint` with these arguments.
fn lint_with(folder: &Path, more: &[&str]) -> (String, Option<i32>) {
    let output = Command::new(env!("CARGO_BIN_EXE_sluice")).arg("lint").args(more).arg(folder).output().unwrap();
    (String::from_utf8(output.stdout).unwrap(), output.status.code())
}

#[test]
fn likely_mistakes_are_warnings_with_a_place_a_remedy_and_a_code() {
    let folder = Folder::copy_of("quickstart");
    let orders = folder.read("orders.yaml");
    assert_eq!(lint_with(&folder.0, &["--deny-warnings"]).1, Some(0));
    folder.write(
        "orders.yaml",
        &orders.replace("path: /orders/{id}", "path: /orders/:id").replace("[request.path.id]", "[]"),
    );
    let (text, code) = lint_with(&folder.0, &[]);
    assert_eq!(code, Some(0), "{text}");
    let warnings: Vec<&str> = text.lines().filter(|line| line.starts_with("? ")).collect();
    let [path, keys] = warnings.as_slice() else { panic!("{text}") };
    assert!(path.contains("orders.yaml:2:1: ApiRoute shop/orders: spec.rules[0].path: the segment :id"), "{path}");
    assert!(path.contains("Write {id}") && path.ends_with("(LiteralPattern)"), "{path}");
    assert!(keys.ends_with("(CacheWithoutKeys)"), "{keys}");
    assert_eq!(lint_with(&folder.0, &["--deny-warnings"]).1, Some(1));
    let metadata = "metadata: {name: orders, namespace: shop";
    let silenced = format!("{metadata}, annotations: {{sluice.dev/silence: 'LiteralPattern,CacheWithoutKeys'}}");
    folder.write("orders.yaml", &folder.read("orders.yaml").replace(metadata, &silenced));
    let (text, code) = lint_with(&folder.0, &["--deny-warnings"]);
    assert!(code == Some(0) && !text.contains("? "), "{text}");
}

#[test]
fn the_help_lists_the_codes() {
    let output = Command::new(env!("CARGO_BIN_EXE_sluice")).args(["lint", "--help"]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    for code in sluice_crds::warning::ALL {
        assert!(text.contains(code.name), "{text}");
    }
    assert!(text.contains("sluice.dev/silence"), "{text}");
}

#[test]
fn json_manifests_are_read_and_other_files_are_named() {
    let folder = Folder::copy_of("matches");
    let stage = r#"{
\t"apiVersion": "sluice.dev/v1alpha1", "kind": "Stage",
\t"metadata": {"name": "json", "namespace": "default"},
\t"spec": {"basePath": "\/json"}
}"#;
    folder.write("stage.json", &stage.replace("\\t", "\t"));
    folder.write("package.json", r#"{"name": "shop"}"#);
    folder.write("api.yaml.orig", "kind: Stage");
    folder.write("broken.json", "{\n  \"kind\": \"Stage\",\n}");
    let (text, code) = lint_with(&folder.0, &[]);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("default/json"), "{text}");
    for line in [
        "broken.json:3:1: The file is not valid JSON",
        "package.json:1:1: The file is ignored: it has neither apiVersion nor kind",
        "api.yaml.orig:1:1: The file is ignored: manifests end in .yaml, .yml or .json.",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
}
