//! Writes the CustomResourceDefinitions into directories, prints them, or checks that those in a
//! directory are up to date. `sluice_crds::manifest` generates them.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::ExitCode,
};

use sluice_crds::manifest::{Definition, definitions};

const USAGE: &str = "\
Usage: crdgen                   print the manifests
       crdgen --out DIR...      write them into every DIR
       crdgen --check DIR...    exit 1 when a DIR holds others
";

type Outcome = Result<(), Box<dyn std::error::Error>>;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("crdgen: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Outcome {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let definitions = definitions()?;
    match arguments.split_first() {
        None => print(&definitions),
        Some((flag, dirs)) if flag == "--out" && !dirs.is_empty() => {
            dirs.iter().try_for_each(|dir| write(Path::new(dir), &definitions))
        }
        Some((flag, dirs)) if flag == "--check" && !dirs.is_empty() => check(dirs, &definitions),
        Some(_) => Err(USAGE.into()),
    }
}

fn print(definitions: &[Definition]) -> Outcome {
    let mut out = std::io::stdout().lock();
    for definition in definitions {
        write!(out, "---\n{}", definition.yaml()?)?;
    }
    Ok(())
}

fn write(dir: &Path, definitions: &[Definition]) -> Outcome {
    fs::create_dir_all(dir).map_err(|error| format!("cannot create {}: {error}", dir.display()))?;
    for definition in definitions {
        let path = dir.join(definition.file_name());
        let text = definition.yaml()?;
        if fs::read_to_string(&path).is_ok_and(|current| current == text) {
            continue;
        }
        fs::write(&path, text).map_err(|error| format!("cannot write {}: {error}", path.display()))?;
    }
    Ok(())
}

fn check(dirs: &[String], definitions: &[Definition]) -> Outcome {
    let mut stale: Vec<PathBuf> = Vec::new();
    for dir in dirs {
        for definition in definitions {
            let path = Path::new(dir).join(definition.file_name());
            let text = definition.yaml()?;
            if !fs::read_to_string(&path).is_ok_and(|current| current == text) {
                stale.push(path);
            }
        }
    }
    if stale.is_empty() {
        return Ok(());
    }
    let names: Vec<String> = stale.iter().map(|path| path.display().to_string()).collect();
    Err(format!(
        "these manifests differ from those that crds/src generates: {}. Run `make generate` and commit them.",
        names.join(", ")
    )
    .into())
}
