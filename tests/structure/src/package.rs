//! Reads the repository: the page with the tables, the sources of every package, and which package depends on which.

use std::fs;
use std::path::Path;

use crate::check::{self, Files};
use crate::ranks::{self, Ranks};

/// The table of packages: ranks by folder.
const PACKAGES: &str = "the workspace";

/// Every violation in the repository at `root`.
pub(crate) fn check_repository(root: &Path) -> Result<Vec<String>, String> {
    let page = read(&root.join("docs/architecture.md"))?;
    let mut tables = ranks::of_page(&page)?;
    let packages = tables.remove(PACKAGES).ok_or("docs/architecture.md has no table of packages")?;
    let mut found = Vec::new();
    let members = members(&read(&root.join("Cargo.toml"))?);
    let mut manifests = Vec::new();
    for folder in &members {
        manifests.push((folder.as_str(), read(&root.join(folder).join("Cargo.toml"))?));
        let source = format!("{folder}/src");
        let Some(ranks) = tables.remove(&source) else {
            found.push(format!("{source}: docs/architecture.md has no table of its modules"));
            continue;
        };
        let mut files = Files::new();
        collect(&root.join(&source), "", &mut files)?;
        found.extend(check::violations(&source, &files, &ranks));
    }
    found.extend(
        tables.keys().map(|folder| format!("docs/architecture.md has a table of `{folder}`, which is no package")),
    );
    found.extend(of_packages(&manifests, &packages));
    found.extend(missing(&page, |path| fs::read_to_string(root.join(path)).ok()));
    Ok(found)
}

/// Files that the page names by their path and that do not exist, and functions (`Type::function`) that are in none of the
/// files that it names. `read` returns the text of a file.
fn missing(page: &str, read: impl Fn(&str) -> Option<String>) -> Vec<String> {
    let quoted: Vec<&str> = page.split('`').skip(1).step_by(2).collect();
    let is_file = |text: &&&str| text.contains('/') && text.ends_with(".rs") && !text.contains(char::is_whitespace);
    let (mut found, mut sources) = (Vec::new(), String::new());
    for path in quoted.iter().filter(is_file) {
        match read(path) {
            Some(text) => sources.push_str(&text),
            None => found.push(format!("docs/architecture.md names `{path}`, which does not exist")),
        }
    }
    let is_name = |text: &str| !text.is_empty() && text.chars().all(|c| c == '_' || c.is_ascii_alphanumeric());
    for text in quoted {
        let Some((owner, function)) = text.split_once("::") else { continue };
        if is_name(owner) && is_name(function) && !sources.contains(&format!("fn {function}")) {
            found.push(format!("docs/architecture.md names the function `{text}`, which is in none of its files"));
        }
    }
    found
}

/// Dependencies between packages: downwards only.
fn of_packages(manifests: &[(&str, String)], ranks: &Ranks) -> Vec<String> {
    let named: Vec<(&str, &str)> =
        manifests.iter().filter_map(|(folder, text)| Some((*folder, package_name(text)?))).collect();
    let mut found = Vec::new();
    for (folder, text) in manifests {
        let Some(from) = ranks.get(*folder) else {
            found.push(format!("the package `{folder}` has no rank in docs/architecture.md"));
            continue;
        };
        for dependency in dependencies(text) {
            let Some((to_folder, _)) = named.iter().find(|(_, name)| *name == dependency) else { continue };
            if ranks.get(*to_folder).is_some_and(|to| to >= from) {
                found.push(format!("{folder}/Cargo.toml: upward dependency on `{to_folder}`"));
            }
        }
    }
    found
}

fn package_name(manifest: &str) -> Option<&str> {
    let line = manifest.lines().find(|line| line.starts_with("name = "))?;
    Some(line.trim_start_matches("name = ").trim_matches('"'))
}

/// Names in `[dependencies]` and `[build-dependencies]`; tests may use more.
fn dependencies(manifest: &str) -> Vec<&str> {
    let mut inside = false;
    let mut names = Vec::new();
    for line in manifest.lines() {
        if line.starts_with('[') {
            inside = matches!(line, "[dependencies]" | "[build-dependencies]");
        } else if inside && let Some((name, _)) = line.split_once('=') {
            names.push(name.trim());
        }
    }
    names
}

/// Folders of the workspace's members.
fn members(manifest: &str) -> Vec<String> {
    let list =
        manifest.split_once("members = [").and_then(|(_, rest)| rest.split_once(']')).map_or("", |(list, _)| list);
    list.split(',').map(|name| name.trim().trim_matches('"').to_owned()).filter(|name| !name.is_empty()).collect()
}

fn collect(folder: &Path, below: &str, files: &mut Files) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("cannot read {}: {error}", folder.display());
    for entry in fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = if below.is_empty() { name.clone() } else { format!("{below}/{name}") };
        if entry.file_type().map_err(failed)?.is_dir() {
            collect(&entry.path(), &path, files)?;
        } else if name.ends_with(".rs") {
            files.insert(path, read(&entry.path())?);
        }
    }
    Ok(())
}

fn read(path: &Path) -> Result<String, String> {
    fs::read_to_string(path).map_err(|error| format!("cannot read {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_depend_on_lower_ones() {
        let low = "[package]\nname = \"low\"\n".to_owned();
        let high = "[package]\nname = \"high\"\n[dependencies]\nlow = { workspace = true }\n[dev-dependencies]\nother = \"1\"\n".to_owned();
        let ranks = |low: u32, high: u32| Ranks::from([("l".to_owned(), low), ("h".to_owned(), high)]);
        let manifests = [("l", low), ("h", high)];
        assert!(of_packages(&manifests, &ranks(0, 1)).is_empty());
        assert!(of_packages(&manifests, &ranks(0, 0))[0].contains("upward dependency on `l`"));
        assert!(of_packages(&manifests, &Ranks::from([("l".to_owned(), 0)]))[0].contains("`h` has no rank"));
    }

    #[test]
    fn files_and_functions_that_the_page_names_exist() {
        let page = "See `a/src/x.rs`, `Type::function` and `b/src/y.rs`, `Type::other`.";
        let read = |path: &str| (path == "a/src/x.rs").then(|| "fn function() {}".to_owned());
        let found = missing(page, read);
        assert!(found.len() == 2 && found[0].contains("b/src/y.rs") && found[1].contains("Type::other"), "{found:?}");
    }

    #[test]
    fn members_are_read_from_the_workspace() {
        assert_eq!(members("[workspace]\nmembers = [\"a\", \"b/c\"]\n"), ["a", "b/c"]);
    }
}
