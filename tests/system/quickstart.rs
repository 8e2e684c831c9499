//! The quickstart in a cluster: every object is Programmed, and all proxies return the responses in the README.

use base64::Engine as _;
use http::Method;
use serde_json::Value;

use crate::fixtures;
use crate::harness::api_server::ApiServer;
use crate::harness::backend::Backend;
use crate::harness::identity::Identity;
use crate::harness::objects::{Space, current};
use crate::harness::programs::Fleet;
use sluice_kit::client::{Call, get};

const HOST: &str = "quickstart.example";

#[tokio::test]
async fn the_quickstart_runs_on_both_proxies_as_its_objects_say() -> anyhow::Result<()> {
    let fleet = Fleet::shared().await?;
    let server = ApiServer::shared().await?;
    let space = Space::new(server.client().await?, "quickstart").await?;
    let (backend, identity) = (Backend::start("orders")?, Identity::new()?);
    fixtures::quickstart(&space, HOST, &backend, &identity).await?;

    let objects = [
        ("Stage", "prod"),
        ("ApiRoute", "orders"),
        ("Authorizer", "customers"),
        ("UsagePlan", "gold"),
        ("ApiKey", "acme"),
    ];
    for (kind, name) in objects {
        let programmed = space.programmed(kind, name).await?;
        assert!(programmed.message.contains("2 of 2 proxies"), "{kind} {name}: {programmed:?}");
        assert_eq!(programmed.reason, "Programmed");
        let object = space.get(kind, name).await?;
        for type_ in ["Accepted", "ResolvedRefs"] {
            let condition = current(&object, type_)?;
            assert_eq!((condition.status.as_str(), condition.reason.as_str()), ("True", type_), "{kind} {name}");
        }
    }
    let stage = space.get("Stage", "prod").await?;
    assert_eq!(stage["status"]["proxies"]["summary"], "2/2");
    assert_eq!(stage["status"]["rules"], 5);

    responses(fleet, &space, &backend, &identity).await?;
    kubectl_get_has_the_columns(server).await
}

async fn responses(fleet: &Fleet, space: &Space, backend: &Backend, identity: &Identity) -> anyhow::Result<()> {
    for health in fleet.all(&get(HOST, "/health")).await? {
        assert_eq!((health.status, health.body.as_str()), (200, r#"{"status":"ok"}"#));
        assert_eq!(health.header("content-type"), Some("application/json"));
    }
    assert_eq!(fleet.status(&get(HOST, "/nowhere")).await?, 404);
    assert_eq!(fleet.status(&get("elsewhere.example", "/health")).await?, 404);

    let order = get(HOST, "/orders/42");
    let reader = identity.bearer("ada", "orders.read")?;
    assert_eq!(fleet.status(&order).await?, 401);
    assert_eq!(fleet.status(&order.clone().header("authorization", "Bearer nonsense")).await?, 401);
    let stranger = Identity::new()?.bearer("ada", "orders.read")?;
    assert_eq!(fleet.status(&order.clone().header("authorization", stranger)).await?, 401);
    assert_eq!(fleet.status(&order.clone().header("authorization", identity.bearer("ada", "other")?)).await?, 403);
    assert_eq!(backend.requests(), 0, "a rejected request reached the backend");

    let read = order.header("authorization", reader.as_str());
    for response in fleet.all(&read).await? {
        assert_eq!(response.status, 200, "{response:?}");
        let echo = response.json();
        assert_eq!((&echo["name"], &echo["path"]), (&Value::from("orders"), &Value::from("/orders/42")));
        assert_eq!(echo["headers"]["x-customer"], "ada");
    }
    let before = backend.requests();
    assert_eq!(before, 2, "each proxy has a cache of its own");
    assert_eq!(fleet.status(&read).await?, 200);
    assert_eq!(backend.requests(), before, "the second read did not come from the cache");
    let bob = get(HOST, "/orders/42").header("authorization", identity.bearer("bob", "orders.read")?);
    for response in fleet.all(&bob).await? {
        assert_eq!(response.json()["headers"]["x-customer"], "bob", "another caller's response");
    }

    let create = get(HOST, "/orders").method(Method::POST);
    assert_eq!(fleet.status(&create.clone().header("authorization", reader)).await?, 403);
    assert_eq!(fleet.status(&create.header("authorization", identity.bearer("ada", "orders.write")?)).await?, 200);

    let catalog = get(HOST, "/catalog");
    assert_eq!(fleet.status(&catalog).await?, 403);
    assert_eq!(fleet.status(&catalog.clone().header("x-api-key", "guess")).await?, 403);
    assert_eq!(fleet.status(&catalog.header("x-api-key", generated_key(space).await?)).await?, 200);

    for proxy in &fleet.proxies {
        let mut statuses = Vec::new();
        for _ in 0..8 {
            statuses.push(get(HOST, "/burst").send(proxy.http).await?.status);
        }
        assert_eq!(statuses.first(), Some(&200), "{statuses:?}");
        assert!(statuses.contains(&429), "{statuses:?}");
        assert!(statuses.iter().all(|status| [200, 429].contains(status)), "{statuses:?}");
    }
    preflight(fleet).await
}

async fn preflight(fleet: &Fleet) -> anyhow::Result<()> {
    let preflight = |origin: &str| -> Call {
        get(HOST, "/orders/42")
            .method(Method::OPTIONS)
            .header("origin", origin)
            .header("access-control-request-method", "GET")
            .header("access-control-request-headers", "authorization")
    };
    for response in fleet.all(&preflight("https://shop.example")).await? {
        assert!((200..300).contains(&response.status), "{response:?}");
        assert_eq!(response.header("access-control-allow-origin"), Some("https://shop.example"));
    }
    for response in fleet.all(&preflight("https://evil.example")).await? {
        assert_eq!(response.header("access-control-allow-origin"), None, "{response:?}");
    }
    Ok(())
}

async fn generated_key(space: &Space) -> anyhow::Result<String> {
    let secret = space.get_of("v1", "Secret", "acme-api-key").await?;
    let encoded = secret["data"]["api-key"].as_str().unwrap_or_default();
    Ok(String::from_utf8(base64::engine::general_purpose::STANDARD.decode(encoded)?)?)
}

async fn kubectl_get_has_the_columns(server: &ApiServer) -> anyhow::Result<()> {
    let columns = async |kind: &str| -> anyhow::Result<Vec<(String, String)>> {
        let table = server.kubectl(&["get", kind, "-n", "quickstart"]).await?;
        let (head, row) = (table.lines().next().unwrap_or_default(), table.lines().nth(1).unwrap_or_default());
        let (head, row): (Vec<char>, Vec<char>) = (head.chars().collect(), row.chars().collect());
        // A column begins where its name does; names may hold one space, and cells may be empty.
        let blank = |at: usize| head.get(at).is_none_or(|letter| *letter == ' ');
        let begins = |&at: &usize| !blank(at) && (at == 0 || at > 1 && blank(at - 1) && blank(at - 2));
        let mut edges: Vec<usize> = (0..head.len()).filter(begins).collect();
        edges.push(usize::MAX);
        let cell = |line: &[char], from: usize, to: usize| -> String {
            line.iter().take(to).skip(from).collect::<String>().trim().to_owned()
        };
        let columns = edges.iter().zip(edges.iter().skip(1));
        Ok(columns.map(|(&from, &to)| (cell(&head, from, to), cell(&row, from, to))).collect())
    };
    let has =
        |columns: &[(String, String)], name: &str, value: &str| columns.contains(&(name.to_owned(), value.to_owned()));
    let stage = columns("stages").await?;
    assert!(has(&stage, "NAME", "prod") && has(&stage, "HOSTS", r#"["quickstart.example"]"#), "{stage:?}");
    assert!(
        has(&stage, "PROGRAMMED", "True") && has(&stage, "PROXIES", "2/2") && has(&stage, "RULES", "5"),
        "{stage:?}"
    );
    let route = columns("apiroutes").await?;
    assert!(has(&route, "STAGE", "prod") && has(&route, "AUTHORIZER", "customers"), "{route:?}");
    for kind in ["apiroutes", "authorizers", "apikeys", "usageplans"] {
        let columns = columns(kind).await?;
        for column in ["ACCEPTED", "RESOLVEDREFS", "PROGRAMMED"] {
            assert!(has(&columns, column, "True"), "{kind}: {columns:?}");
        }
        assert!(has(&columns, "REASON", ""), "{kind}: {columns:?}");
    }
    Ok(())
}
