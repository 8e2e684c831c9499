//! Checks that the modules of every package import in one direction: a module imports modules of a lower rank only, files do
//! not import each other in a circle, and every module has a rank. The ranks are tables in docs/architecture.md, so that the
//! page and the code cannot differ. Run by `tests/layers`, and by `cargo test`.

mod check;
mod imports;
mod package;
mod ranks;
mod tokens;

use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let violations = match package::check_repository(&root()) {
        Ok(violations) => violations,
        Err(error) => vec![error],
    };
    for violation in &violations {
        eprintln!("{violation}");
    }
    if violations.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn root() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

#[cfg(test)]
mod tests {
    #[test]
    fn modules_of_this_repository_import_in_one_direction() {
        let violations = super::package::check_repository(&super::root()).unwrap();
        assert!(violations.is_empty(), "{}", violations.join("\n"));
    }
}
