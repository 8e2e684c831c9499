//! Compares what files import with the ranks of their modules, and looks for circles.

use std::collections::{BTreeMap, BTreeSet};

use crate::imports;
use crate::ranks::Ranks;
use crate::tokens;

/// The files of one crate: text by path below `src`.
pub(crate) type Files = BTreeMap<String, String>;

type Module = Vec<String>;

/// Every violation, as a line for the author.
pub(crate) fn violations(folder: &str, files: &Files, ranks: &Ranks) -> Vec<String> {
    let (modules, test_only) = modules(files);
    let exported = exported(&modules, files);
    let mut found = unranked(folder, &modules, ranks);
    let mut graph: BTreeMap<&str, BTreeMap<&str, usize>> = BTreeMap::new();
    for (module, file) in &modules {
        if module.is_empty() || test_only.iter().any(|tests| module.starts_with(tests)) {
            continue;
        }
        let (tokens, _) = tokens::of_programs(&files[*file]);
        for import in imports::of(&tokens) {
            let Some(mut target) = resolve(&modules, module, &import.path) else { continue };
            let item = import.path.iter().find(|segment| !matches!(segment.as_str(), "crate" | "super" | "self"));
            if target.is_empty()
                && let Some(module) = item.and_then(|item| exported.get(item))
            {
                target.clone_from(module);
            }
            if target == *module {
                continue;
            }
            let line = import.line;
            let Some(top) = target.first() else {
                found.push(format!(
                    "{folder}/{file}:{line}: `{}` is imported from the crate's root; name its module",
                    import.path.join("::")
                ));
                continue;
            };
            let own = &module[0];
            if let (Some(from), Some(to)) = (ranks.get(own), ranks.get(top))
                && own != top
                && to >= from
            {
                found.push(format!(
                    "{folder}/{file}:{line}: upward import: `{own}` has rank {from} and must not import `{top}` of rank {to}"
                ));
            }
            graph.entry(file).or_default().entry(modules[&target]).or_insert(line);
        }
    }
    found.extend(circles(folder, &graph));
    found.dedup();
    found
}

/// Files by module; and modules that only tests compile.
fn modules(files: &Files) -> (BTreeMap<Module, &str>, Vec<Module>) {
    let mut modules = BTreeMap::new();
    for file in files.keys() {
        let mut module: Module = file.trim_end_matches(".rs").split('/').map(str::to_owned).collect();
        if module.last().is_some_and(|name| name == "mod" || (module.len() == 1 && name == "lib")) {
            module.pop();
        }
        // A program is a crate of its own, above the library.
        if module.first().is_some_and(|first| first == "main" || first == "bin") && modules_of_library(files) {
            continue;
        }
        if module.len() == 1 && module[0] == "main" {
            module.clear();
        }
        modules.insert(module, file.as_str());
    }
    let mut test_only = Vec::new();
    for (module, file) in &modules {
        let (_, declared) = tokens::of_programs(&files[*file]);
        test_only.extend(declared.into_iter().map(|name| [module.as_slice(), &[name]].concat()));
    }
    (modules, test_only)
}

fn modules_of_library(files: &Files) -> bool {
    files.contains_key("lib.rs")
}

fn unranked(folder: &str, modules: &BTreeMap<Module, &str>, ranks: &Ranks) -> Vec<String> {
    let tops: BTreeSet<&String> = modules.keys().filter_map(|module| module.first()).collect();
    let unknown = tops.iter().filter(|top| !ranks.contains_key(**top));
    let mut found: Vec<String> =
        unknown.map(|top| format!("{folder}: the module `{top}` has no rank in docs/architecture.md")).collect();
    let gone = ranks.keys().filter(|name| !tops.contains(name));
    found.extend(gone.map(|name| format!("{folder}: docs/architecture.md ranks `{name}`, which does not exist")));
    found
}

/// The module that a path in `module` names, as far as it names modules of this crate.
fn resolve(modules: &BTreeMap<Module, &str>, module: &Module, path: &[String]) -> Option<Module> {
    let mut at = module.clone();
    let mut rest = path;
    match path.first().map(String::as_str)? {
        "crate" => {
            at.clear();
            rest = &path[1..];
        }
        "self" => rest = &path[1..],
        "super" => {
            while rest.first().is_some_and(|segment| segment == "super") {
                at.pop();
                rest = &rest[1..];
            }
        }
        // Another crate, an item, or a module declared in this file.
        first => {
            at.push(first.to_owned());
            if !modules.contains_key(&at) {
                return None;
            }
            rest = &path[1..];
        }
    }
    for segment in rest {
        at.push(segment.clone());
        if !modules.contains_key(&at) {
            at.pop();
            break;
        }
    }
    modules.contains_key(&at).then_some(at)
}

/// The modules of items that the crate's root exports under their own names.
fn exported(modules: &BTreeMap<Module, &str>, files: &Files) -> BTreeMap<String, Module> {
    let mut exported = BTreeMap::new();
    for root in ["lib.rs", "main.rs"].iter().filter_map(|name| files.get(*name)) {
        for import in imports::of(&tokens::of_programs(root).0) {
            let target = resolve(modules, &Module::new(), &import.path).filter(|target| !target.is_empty());
            if let (Some(target), Some(item)) = (target, import.path.last()) {
                exported.entry(item.clone()).or_insert(target);
            }
        }
    }
    exported
}

/// One violation for each group of files that import each other in a circle.
fn circles(folder: &str, graph: &BTreeMap<&str, BTreeMap<&str, usize>>) -> Vec<String> {
    let reach = |from: &str| {
        let mut seen: BTreeSet<&str> = BTreeSet::new();
        let mut next: Vec<&str> = graph.get(from).into_iter().flat_map(BTreeMap::keys).copied().collect();
        while let Some(file) = next.pop() {
            if seen.insert(file) {
                next.extend(graph.get(file).into_iter().flat_map(BTreeMap::keys));
            }
        }
        seen
    };
    let reached: BTreeMap<&str, BTreeSet<&str>> = graph.keys().map(|file| (*file, reach(file))).collect();
    let mut reported: BTreeSet<&str> = BTreeSet::new();
    let mut found = Vec::new();
    for (file, from) in &reached {
        if !from.contains(file) || reported.contains(file) {
            continue;
        }
        let group: BTreeSet<&str> =
            from.iter().filter(|other| reached.get(*other).is_some_and(|back| back.contains(file))).copied().collect();
        reported.extend(&group);
        let edges: Vec<String> = group
            .iter()
            .flat_map(|from| {
                let inside = graph[from].iter().filter(|(to, _)| group.contains(*to));
                inside.map(move |(to, line)| format!("  {folder}/{from}:{line} imports {to}"))
            })
            .collect();
        found.push(format!("{folder}: {} files import each other in a circle:\n{}", group.len(), edges.join("\n")));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(files: &[(&str, &str)], ranks: &[(&str, u32)]) -> Vec<String> {
        let files = files.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect();
        let ranks = ranks.iter().map(|(name, rank)| ((*name).to_owned(), *rank)).collect();
        violations("p/src", &files, &ranks)
    }

    const RANKS: &[(&str, u32)] = &[("low", 0), ("high", 1)];

    #[test]
    fn downward_imports_pass() {
        let files = [
            ("lib.rs", "mod low; mod high; pub use high::B;"),
            ("low.rs", "pub(crate) struct A; #[cfg(test)] mod tests { use crate::high::B; }"),
            ("high/mod.rs", "mod child; use crate::low::A; use child::C; #[cfg(test)] mod tests;"),
            ("high/child.rs", "use super::other::D; fn f() { crate::low::f() }"),
            ("high/other.rs", "use std::io;"),
            ("high/tests.rs", "use super::*;"),
            ("main.rs", "use p::high::B;"),
        ];
        assert_eq!(check(&files, RANKS), Vec::<String>::new());
    }

    #[test]
    fn an_upward_import_fails_in_every_form() {
        for text in [
            "use crate::high::B;",
            "use crate::{low::x, high::B};",
            "pub(crate) use crate::high as h;",
            "fn f() {\n crate::high::f() }",
            "use super::high::B;",
            "use super::super::high::B;",
        ] {
            let file = if text.contains("super::super") { "low/inner.rs" } else { "low.rs" };
            let found = check(&[("lib.rs", ""), ("low.rs", ""), (file, text), ("high.rs", "")], RANKS);
            assert_eq!(found.len(), 1, "{text}: {found:?}");
            assert!(found[0].contains("upward import") && found[0].starts_with(&format!("p/src/{file}:")), "{found:?}");
        }
    }

    #[test]
    fn modules_of_one_rank_must_not_import_each_other() {
        let files = [("lib.rs", ""), ("a.rs", "use crate::b::X;"), ("b.rs", "")];
        assert!(check(&files, &[("a", 0), ("b", 0)])[0].contains("upward import"));
    }

    #[test]
    fn a_circle_of_files_inside_a_module_fails() {
        let files = [
            ("lib.rs", ""),
            ("low/mod.rs", "mod a; mod b; pub(crate) use a::A;"),
            ("low/a.rs", "use super::b::B;"),
            ("low/b.rs", "fn f() { super::A::new() }"),
        ];
        let found = check(&files, &[("low", 0)]);
        assert!(found.len() == 1 && found[0].contains("3 files import each other in a circle"), "{found:?}");
        assert!(found[0].contains("p/src/low/b.rs:1 imports low/mod.rs"), "{found:?}");
    }

    #[test]
    fn a_circle_of_modules_fails() {
        let files = [("lib.rs", ""), ("low.rs", "use crate::high::B;"), ("high.rs", "use crate::low::A;")];
        let found = check(&files, RANKS);
        assert!(found.iter().any(|line| line.contains("in a circle")), "{found:?}");
    }

    #[test]
    fn a_module_without_a_rank_and_a_rank_without_a_module_fail() {
        let found = check(&[("lib.rs", ""), ("low.rs", ""), ("new.rs", "")], RANKS);
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[0].contains("`new` has no rank") && found[1].contains("ranks `high`"), "{found:?}");
    }

    #[test]
    fn an_import_through_the_root_is_one_from_the_module_that_has_the_item() {
        let files = [("lib.rs", "pub use high::{A, B};"), ("low.rs", "fn f() { crate::B::new() }"), ("high.rs", "")];
        let found = check(&files, RANKS);
        assert!(found.len() == 1 && found[0].contains("`low` has rank 0 and must not import `high`"), "{found:?}");
        let found = check(&[("lib.rs", "pub struct A;"), ("low.rs", ""), ("high.rs", "use crate::A;")], RANKS);
        assert!(found.len() == 1 && found[0].contains("the crate's root"), "{found:?}");
    }
}
