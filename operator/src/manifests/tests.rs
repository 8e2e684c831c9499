//! Directories and documents as people write them, and the problems that are reported.

use std::{
    fs,
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use futures::StreamExt as _;

use super::*;

const STAGE: &str = "apiVersion: sluice.dev/v1alpha1\nkind: Stage\nmetadata: {name: prod, namespace: shop}\nspec: {}\n";

/// A directory that goes away with its owner.
struct Dir(PathBuf);

impl Dir {
    fn new() -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let name = format!("sluice-files-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

/// The problems of one file, as `line:column: message`.
fn messages(text: &str) -> Vec<String> {
    let manifest = parse(Path::new("x.yaml"), text);
    manifest.problems.iter().map(|problem| problem.to_string().replacen("x.yaml:", "", 1)).collect()
}

fn identities(loaded: &Loaded) -> Vec<String> {
    loaded
        .objects()
        .map(|located| {
            let (kind, key) = located.object.identity();
            let broken = if matches!(located.object, Object::Unparsable(..)) { " (broken)" } else { "" };
            format!("{kind} {key}{broken}")
        })
        .collect()
}

#[test]
fn a_directory_is_read_with_its_directories_and_nothing_else() {
    let dir = Dir::new();
    dir.write("a.yaml", STAGE);
    dir.write("sub/b.yml", &STAGE.replace("prod", "dev"));
    dir.write("notes.txt", "not: [yaml");
    dir.write(".hidden.yaml", "not: [yaml");
    dir.write(".git/c.yaml", "not: [yaml");
    let loaded = load(&dir.0);
    let notes: Vec<String> = loaded.problems().iter().map(|note| note.to_string()).collect();
    assert!(
        !loaded.has_errors() && notes.len() == 1 && notes[0].contains("notes.txt:1:1: The file is ignored"),
        "{notes:?}"
    );
    assert_eq!(identities(&loaded), ["Stage shop/prod", "Stage shop/dev"]);
    assert_eq!(loaded.location(Kind::Stage, &ObjectKey::new("shop", "dev")).unwrap().line, 1);
}

#[test]
fn a_missing_directory_is_reported() {
    let loaded = load(Path::new("/nonexistent/sluice"));
    assert!(loaded.has_errors());
    assert!(loaded.problems()[0].to_string().starts_with("/nonexistent/sluice:1:1: Cannot read the directory"));
}

#[test]
fn a_misspelt_field_is_reported_with_its_place_and_a_suggestion() {
    let text =
        "apiVersion: sluice.dev/v1alpha1\nkind: Stage\nmetadata:\n  name: prod\nspec:\n  hostname:\n  - a.example\n";
    assert_eq!(messages(text), ["6:3: There is no field spec.hostname. Did you mean hostnames?"]);
}

#[test]
fn each_error_of_an_object_is_reported_at_its_own_place() {
    let text = "\
apiVersion: sluice.dev/v1alpha1
kind: ApiRoute
metadata: {name: orders}
spec:
  stages: [{name: prod}]
  authorization: {type: none}
  rules:
  - name: get-order
    methods: [get]
    path: orders
    integration:
      type: Service
      service: {name: orders, port: http}
";
    assert_eq!(
        messages(text),
        [
            "6:25: spec.authorization.type cannot be \"none\": it must be one of Authorizer or None. Did you mean None?",
            "9:15: spec.rules[0].methods[0] cannot be \"get\": it must be one of ANY, GET, HEAD, POST, PUT, PATCH, DELETE or OPTIONS. \
             Did you mean GET?",
            "10:11: spec.rules[0].path cannot be \"orders\": a path begins with /, has no spaces, ? or #, and has \
             parameters in braces. Write /orders.",
            "13:37: spec.rules[0].integration.service.port must be an integer, but it is \"http\". Example: 80.",
        ]
    );
}

#[test]
fn a_violated_schema_rule_is_reported_at_its_object() {
    let text = "\
apiVersion: sluice.dev/v1alpha1
kind: Authorizer
metadata: {name: customers}
spec:
  type: Jwt
  jwt:
    issuers:
    - issuer: partner
      audiences: [shop]
";
    assert_eq!(
        messages(text),
        [
            "8:7: spec.jwt.issuers[0]: an issuer that is not an http or https URL has no discovery document: add jwksUri or jwks."
        ]
    );
}

#[test]
fn a_broken_object_is_named_and_those_beside_it_are_read() {
    let dir = Dir::new();
    let broken = STAGE.replace("spec: {}", "spec: {basePath: x, tls: {}}").replace("prod", "dev");
    dir.write("a.yaml", &format!("{STAGE}---\n{broken}"));
    let loaded = load(&dir.0);
    assert_eq!(identities(&loaded), ["Stage shop/prod", "Stage shop/dev (broken)"]);
    let Object::Unparsable(_, _, unparsable) = &loaded.objects().nth(1).unwrap().object else { panic!() };
    assert!(unparsable.why.starts_with("spec.basePath cannot be \"x\""), "{}", unparsable.why);
    assert!(unparsable.why.ends_with("(1 more errors)"), "{}", unparsable.why);
    assert!(loaded.files.values().all(|manifest| manifest.complete));
}

#[test]
fn a_broken_file_keeps_its_last_objects_and_does_not_affect_others() {
    let dir = Dir::new();
    dir.write("a.yaml", STAGE);
    let path = dir.write("b.yaml", &STAGE.replace("prod", "dev"));
    let before = load(&dir.0);
    assert_eq!(identities(&before), ["Stage shop/prod", "Stage shop/dev"]);

    fs::write(&path, "apiVersion: sluice.dev/v1alpha1\nkind: Stage\nmetadata: {name: dev\nspec: {}\n").unwrap();
    let mut after = load(&dir.0);
    assert_eq!(identities(&after), ["Stage shop/prod"]);
    assert!(!after.files[&path].complete);
    let problem = after.problems()[0].to_string();
    assert!(problem.contains("b.yaml:") && problem.contains("This is not YAML"), "{problem}");
    after.keep_from(&before);
    assert_eq!(identities(&after), ["Stage shop/prod", "Stage shop/dev"]);
    assert!(after.has_errors());

    fs::remove_file(&path).unwrap();
    let mut gone = load(&dir.0);
    gone.keep_from(&after);
    assert_eq!(identities(&gone), ["Stage shop/prod"]);
}

#[test]
fn an_unchanged_file_is_not_validated_again() {
    let dir = Dir::new();
    dir.write("a.yaml", STAGE);
    let path = dir.write("b.yaml", &STAGE.replace("prod", "dev"));
    let before = load(&dir.0);
    fs::write(&path, STAGE.replace("prod", "dev").replace("spec: {}", "spec: {basePath: /x}")).unwrap();
    let after = reload(&dir.0, &before);
    let stages = |loaded: &Loaded| -> Vec<Arc<sluice_crds::Stage>> {
        let stages = loaded.objects().filter_map(|located| match &located.object {
            Object::Stage(stage) => Some(Arc::clone(stage)),
            _ => None,
        });
        stages.collect()
    };
    let (before, again) = (stages(&before), stages(&after));
    assert!(Arc::ptr_eq(&before[0], &again[0]), "the same object, not an equal one");
    assert_eq!(again[1].spec.base_path, "/x");

    fs::write(&path, "a: [").unwrap();
    let mut broken = reload(&dir.0, &after);
    for _ in 0..2 {
        assert!(broken.has_errors());
        assert_eq!(identities(&broken), ["Stage shop/prod", "Stage shop/dev"]);
        broken = reload(&dir.0, &broken);
    }
}

#[cfg(unix)]
#[test]
fn unreadable_files_keep_their_objects_and_deleted_files_lose_them() {
    let dir = Dir::new();
    let kept = dir.write("sub/a.yaml", STAGE);
    let gone = dir.write("b.yaml", &STAGE.replace("prod", "dev"));
    let before = load(&dir.0);
    // A dangling link is a manifest that cannot be read.
    fs::remove_file(&kept).unwrap();
    std::os::unix::fs::symlink("nowhere", &kept).unwrap();
    fs::remove_file(&gone).unwrap();
    let after = reload(&dir.0, &before);
    assert_eq!(identities(&after), ["Stage shop/prod"]);
    assert!(after.has_errors());

    fs::remove_dir_all(&dir.0).unwrap();
    let nothing = reload(&dir.0, &after);
    assert_eq!(identities(&nothing), ["Stage shop/prod"], "the directory itself cannot be read");
}

#[test]
fn the_same_object_twice_names_both_places_and_the_first_counts() {
    let dir = Dir::new();
    dir.write("a.yaml", &STAGE.replace("spec: {}", "spec: {basePath: /a}"));
    dir.write("b.yaml", &format!("# again\n---\n{STAGE}"));
    let loaded = load(&dir.0);
    assert_eq!(identities(&loaded), ["Stage shop/prod"]);
    let Object::Stage(stage) = &loaded.objects().next().unwrap().object else { panic!() };
    assert_eq!(stage.spec.base_path, "/a");
    let problem = loaded.problems()[0].to_string();
    assert!(problem.contains("b.yaml:3:1: Stage shop/prod is already defined in"), "{problem}");
    assert!(problem.contains("a.yaml:1:1, which is used"), "{problem}");
}

#[test]
fn unknown_kinds_are_noted_and_misspelt_ones_reported() {
    let note = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: orders}\n";
    assert_eq!(messages(note), ["1:1: Deployment orders is ignored here; a cluster runs it."]);
    assert_eq!(parse(Path::new("x"), note).problems[0].severity, Severity::Note);
    assert!(messages("apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n").is_empty());
    assert_eq!(
        messages("apiVersion: sluice.dev/v1alpha1\nkind: ApiRuote\nmetadata: {name: a}\n"),
        ["2:7: There is no kind ApiRuote in sluice.dev/v1alpha1. Did you mean ApiRoute?"]
    );
    assert_eq!(
        messages("apiVersion: sluice.io/v1\nkind: ApiRoute\nmetadata: {name: a}\n"),
        ["1:13: ApiRoute does not exist in sluice.io/v1: use apiVersion: sluice.dev/v1alpha1."]
    );
    assert_eq!(
        messages("kind: Secret\nmetadata: {name: a}\n"),
        ["1:1: The object has no apiVersion: use apiVersion: v1."]
    );
    assert_eq!(messages("apiVersion: v1\n"), ["1:1: The object has no kind, for example kind: ApiRoute."]);
    assert_eq!(messages("- a\n"), ["1:1: A manifest must be a mapping with apiVersion, kind and metadata."]);
    assert!(messages("---\n---\n# nothing\n").is_empty());
    assert!(
        messages("apiVersion: serving.knative.dev/v1\nkind: Service\nmetadata: {name: a}\n")[0]
            .contains("ignored here")
    );
}

#[test]
fn a_secret_is_read_as_an_api_server_stores_it_and_its_content_is_never_printed() {
    let text = "apiVersion: v1\nkind: Secret\nmetadata: {name: k}\nstringData: {api-key: hello}\ndata:\n  other: |\n    aGVs\n    bG8=\n";
    let manifest = parse(Path::new("x"), text);
    assert_eq!(manifest.problems, []);
    let Object::Secret(secret) = &manifest.objects[0].object else { panic!() };
    assert_eq!(secret.metadata.namespace.as_deref(), Some("default"));
    let data = secret.data.as_ref().unwrap();
    assert_eq!(data["api-key"].0, b"hello");
    assert_eq!(data["other"].0, b"hello");

    let broken = "apiVersion: v1\nkind: Secret\nmetadata: {name: k}\ndata: {api-key: 's3cret!'}\n";
    assert_eq!(messages(broken), ["4:17: data.api-key is not Base64. Use stringData for plain text."]);
    let number = "apiVersion: v1\nkind: Secret\nmetadata: {name: k}\nstringData: {api-key: 31337}\n";
    assert_eq!(messages(number), ["4:23: stringData.api-key must be a string. Put it in quotes."]);
    let list = "apiVersion: v1\nkind: Secret\nmetadata: {name: k}\nstringData: s3cret\n";
    assert!(!messages(list)[0].contains("s3cret"), "{:?}", messages(list));
}

#[test]
fn services_and_their_endpoints_are_read_and_validated() {
    let text = "\
apiVersion: v1
kind: List
items:
- apiVersion: v1
  kind: Service
  metadata: {name: orders}
  spec: {selector: {app: orders}, ports: [{port: 80, targetPort: http}]}
- apiVersion: discovery.k8s.io/v1
  kind: EndpointSlice
  metadata: {name: orders-1, labels: {kubernetes.io/service-name: orders}}
  addressType: IPv4
  ports: [{port: 8080}]
  endpoints: [{addresses: [127.0.0.1], conditions: {ready: true}}]
- apiVersion: v1
  kind: ConfigMap
  metadata: {name: keys}
  data: {jwks.json: '{}'}
";
    let manifest = parse(Path::new("x"), text);
    assert_eq!(manifest.problems, []);
    assert_eq!(manifest.objects.len(), 3);
    assert_eq!(
        messages("apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {ports: [{prot: 80}]}\n"),
        [
            "4:16: spec.ports[0] requires the field port. Example: 80.",
            "4:17: There is no field spec.ports[0].prot. Did you mean port?"
        ]
    );
}

#[test]
fn a_field_that_stands_twice_breaks_its_object_alone() {
    let text = format!("{STAGE}spec: {{basePath: /x}}\n---\n{}", STAGE.replace("prod", "dev"));
    let manifest = parse(Path::new("x"), &text);
    assert!(matches!(manifest.objects[0].object, Object::Unparsable(Kind::Stage, ..)));
    assert!(matches!(manifest.objects[1].object, Object::Stage(_)));
    assert_eq!(manifest.problems.len(), 1);
    assert_eq!((manifest.problems[0].location.line, manifest.problems[0].location.column), (5, 1));
}

#[test]
fn syntax_errors_are_reported_with_their_place() {
    for (text, place) in [
        ("a: {b: 1\nc: 2\n", "2:"),
        ("a: 'x\nb: 2\n", "1:"),
        ("a: b: c\n", "1:"),
        ("a:\n- b\n c: 1\n", "3:"),
        ("a: 1\n b: 2\n", "2:"),
        ("a: *missing\n", "1:"),
        ("a: @x\n", "1:"),
        ("a: \"\\q\"\n", "1:"),
        ("spec:\n\tb: 2\n", "2:1:"),
        ("a\n", "1:"),
    ] {
        let found = messages(text);
        assert!(found.len() == 1 && found[0].starts_with(place), "{text:?}: {found:?}");
    }
}

#[test]
fn a_status_in_a_file_is_not_an_error() {
    assert!(messages(&format!("{STAGE}status: {{whatever: 1}}\n")).is_empty());
}

#[test]
fn large_files_and_other_encodings_are_rejected() {
    let dir = Dir::new();
    let path = dir.write("large.yaml", &format!("{STAGE}# {}\n", "x".repeat(1 << 20)));
    let latin = dir.0.join("latin.yaml");
    fs::write(&latin, b"# one\n# two \xe4\n").unwrap();
    let loaded = load(&dir.0);
    assert!(loaded.files[&path].problems[0].message.contains("larger than 1 MiB"));
    assert_eq!(loaded.files[&latin].problems[0].location.line, 2);
    assert!(loaded.files[&latin].problems[0].message.contains("UTF-8"));
}

#[cfg(unix)]
#[test]
fn links_are_followed_within_the_directory_only() {
    use std::os::unix::fs::symlink;
    let outside = Dir::new();
    outside.write("secret.yaml", STAGE);
    let dir = Dir::new();
    // As a mounted ConfigMap looks.
    dir.write("..2026/a.yaml", STAGE);
    symlink("..2026", dir.0.join("..data")).unwrap();
    symlink("..data/a.yaml", dir.0.join("a.yaml")).unwrap();
    symlink(".", dir.0.join("loop")).unwrap();
    symlink(&outside.0, dir.0.join("out")).unwrap();
    symlink("nowhere.yaml", dir.0.join("dangling.yaml")).unwrap();
    let loaded = load(&dir.0);
    assert_eq!(identities(&loaded), ["Stage shop/prod"]);
    let found: Vec<String> = loaded.problems().iter().map(ToString::to_string).collect();
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[0].contains("dangling.yaml:1:1: Cannot read the file"), "{found:?}");
    assert!(found[1].contains("out:1:1: This link points outside of the directory"), "{found:?}");
}

#[tokio::test]
async fn a_change_is_reported_once_after_files_stop_changing() {
    let dir = Dir::new();
    let path = dir.write("a.yaml", STAGE);
    let mut changes = Box::pin(watch(&dir.0));
    let unchanged = tokio::time::timeout(Duration::from_millis(400), changes.next()).await;
    assert!(unchanged.is_err(), "nothing changed");

    let started = Instant::now();
    fs::write(&path, STAGE.replace("spec: {}", "spec: {basePath: /x}")).unwrap();
    tokio::time::timeout(Duration::from_secs(10), changes.next()).await.unwrap().unwrap();
    assert!(started.elapsed() < Duration::from_secs(5));
    assert_eq!(identities(&load(&dir.0)), ["Stage shop/prod"]);

    dir.write("sub/b.yaml", &STAGE.replace("prod", "dev"));
    tokio::time::timeout(Duration::from_secs(10), changes.next()).await.unwrap().unwrap();
    fs::remove_file(&path).unwrap();
    tokio::time::timeout(Duration::from_secs(10), changes.next()).await.unwrap().unwrap();
    assert_eq!(identities(&load(&dir.0)), ["Stage shop/dev"]);
}

#[test]
fn the_examples_are_read_without_problems() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
    let mut read = 0;
    for example in fs::read_dir(&examples).unwrap() {
        let path = example.unwrap().path();
        if !path.is_dir() {
            continue;
        }
        let loaded = load(&path);
        let problems = loaded.problems();
        let errors: Vec<_> = problems.iter().filter(|problem| problem.severity == Severity::Error).collect();
        assert!(errors.is_empty(), "{errors:#?}");
        read += loaded.objects().count();
    }
    assert!(read > 0, "there are examples");
}

mod properties {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_text_breaks_the_reader(text in "[ -~\n\t&*!|>%@`äöü{}\\[\\]:,-]{0,200}") {
            let manifest = parse(Path::new("x"), &text);
            let lines = text.split('\n').count();
            for problem in &manifest.problems {
                prop_assert!(problem.location.line >= 1 && problem.location.line <= lines + 1);
                prop_assert!(!problem.message.is_empty());
            }
        }

        #[test]
        fn no_cut_of_a_manifest_is_taken_for_another_object(cut in 0..300_usize) {
            let text = format!("{STAGE}---\n{}", STAGE.replace("prod", "dev"));
            let cut: String = text.chars().take(cut).collect();
            let manifest = parse(Path::new("x"), &cut);
            for located in &manifest.objects {
                let (kind, key) = located.object.identity();
                prop_assert_eq!(kind, Kind::Stage);
                prop_assert!("prod".starts_with(&key.name) || "dev".starts_with(&key.name), "{}", key);
            }
        }
    }
}

#[test]
fn json_is_read_with_places_tabs_and_escapes() {
    let parsed = |text: &str| parse(Path::new("a.json"), text);
    let stage = |spec: &str| {
        format!(
            "{{\n\t\"apiVersion\": \"sluice.dev/v1alpha1\",\n\t\"kind\": \"Stage\",\n\t\"metadata\": {{\"name\": \"prod\"}},\n\t\"spec\": {spec}\n}}"
        )
    };
    for spec in
        ["{}", "{\"basePath\": \"\\/v1\"}", "{\"basePath\": \"\\u002fv1\"}", "{\t\"hostnames\":\t[\"a.example\"]}"]
    {
        let manifest = parsed(&stage(spec));
        assert!(
            manifest.complete && manifest.problems.is_empty() && manifest.objects.len() == 1,
            "{spec}: {manifest:?}"
        );
    }
    let wrong = parsed(&stage("{\"hostname\": []}").replace('\t', "  "));
    assert_eq!(wrong.problems[0].to_string(), "a.json:5:12: There is no field spec.hostname. Did you mean hostnames?");
    let list = format!("{{\"apiVersion\": \"v1\", \"kind\": \"List\", \"items\": [{}]}}", stage("{}"));
    assert_eq!(parsed(&list).objects.len(), 1);
    for other in ["{\"name\": \"shop\", \"version\": \"1\"}", "[1, 2]", "\"text\"", "{}"] {
        let manifest = parsed(other);
        let [note] = manifest.problems.as_slice() else { panic!("{other}: {:?}", manifest.problems) };
        assert!(note.severity == Severity::Note && note.message.contains("not a manifest"), "{other}: {note}");
    }
    for broken in ["{", "{\"kind\": \"Stage\",}", "kind: Stage", ""] {
        let manifest = parsed(broken);
        assert!(
            !manifest.complete && manifest.problems[0].message.contains("not valid JSON"),
            "{broken}: {manifest:?}"
        );
    }
}
